"""CLIP2SAM upon a real small CLIP and SAM: against the library's decoder, on the shapes world, and in a person's hands.

Axis letters: B images, M masks of all images together, T classes.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import MaskDecoder
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from vfmerge_adapters.clip2sam import CLIP2SAM
from vfmerge_adapters.clip2sam.fpn import FPN
from vfmerge_adapters.clip2sam.head import Head, edges_of
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.promptable.prompts import simulate
from vfmerge_adapters.sam import SAM

from vfmerge.adapter import Batch
from vfmerge.capability import PromptableRecognition, Vocabulary
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.model import MergedModel, Network, count
from vfmerge.options import check_options
from vfmerge.recipe import Stream
from vfmerge.stream import Steps
from vfmerge.templates import embed_sentences

SMALL = {"depth": 1, "width": 32, "heads": 2, "global_blocks": [0], "decoder_width": 32, "decoder_mlp": 32}
CLASSES = ("circle", "square", "star")


def adapters(**options: Any) -> dict[str, Any]:
    """A CLIP as base, a SAM, and the task upon them."""
    sam = SAM(variant="tiny", random=True, learn="features", geometry=SMALL | {"decoder_heads": 2})
    return {"clip": OpenCLIP(model="tiny"), "sam": sam, "things": CLIP2SAM(**{"templates": "plain"} | options)}


def merge(*, base: str = "clip", **parts: Any) -> MergedModel:
    """A merged model with its first weights. parts: adapters by name, in the place of those of `adapters`."""
    torch.manual_seed(0)
    given = adapters() | parts
    model = MergedModel(given, base=base)
    model.start({name: given[name].teacher() for name in ("clip", "sam")})
    return model.eval()


@pytest.fixture(scope="module")
def merged() -> MergedModel:
    """Untrained, of the default options but for its templates; not to be changed."""
    return merge().requires_grad_(False)


@pytest.fixture(scope="module")
def scenes() -> Batch:
    """Three pictures of the shapes world with their masks and labels."""
    source = Shapes(layout="several", count=3, size=64)
    stream = Stream.model_validate(
        {"data": "scenes", "size": 64, "batch": 3, "masks": 4, "fit": "pad", "tasks": {"things": 1}}
    )
    batch, _ = Steps(source, stream, seed=0, place="test")[0]
    return dataclasses.replace(batch.to("cpu"), classes=source.classes)


def vocabulary(merged: MergedModel, seen: tuple[bool, ...] = (True, True, False)) -> Vocabulary:
    words = embed_sentences(merged.capability("clip"), CLASSES, templates="plain")
    return Vocabulary(words=words, seen=torch.tensor(seen))


def recogniser(merged: MergedModel, *, task: str = "things") -> PromptableRecognition:
    capability = merged.capability(task)
    assert isinstance(capability, PromptableRecognition)
    return capability


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rows(batch: Batch, chosen: list[int], **changes: Any) -> Batch:
    """The batch with some of its masks."""
    assert batch.masks is not None
    assert batch.owner is not None
    assert batch.labels is not None
    kept = {"masks": batch.masks[chosen], "owner": batch.owner[chosen], "labels": batch.labels[chosen]}
    return dataclasses.replace(batch, **kept | changes)


def test_parameters_at_full_size_are_the_published_ones() -> None:
    """On RN50x16 and ViT-H the pyramid has 3.8 M and the decoder, its label branch included, 4.0 M parameters."""
    clip, sam = OpenCLIP(model="RN50x16", random=True), SAM(variant="vit_h", random=True, learn="features")
    with torch.device("meta"):
        heads = {"image_text": (clip, clip.own_head()), "promptable": (sam, sam.head(clip.features))}
        upon = {role: each.capability(Network(nn.Identity(), head)) for role, (each, head) in heads.items()}
        head = CLIP2SAM().head(clip.features, upon)
    assert count(head.get_submodule("fpn")) == pytest.approx(3.8e6, rel=0.02)
    assert count(head.get_submodule("decoder")) == pytest.approx(4.0e6, rel=0.02)
    assert count(head) == count(head.get_submodule("fpn")) + count(head.get_submodule("decoder"))


def test_the_pyramid_is_torchvisions() -> None:
    """With the same weights, the maps of torchvision's feature pyramid, of odd sides too."""
    channels, sides = (8, 16, 24), (13, 7, 4)
    ours, theirs = FPN(channels, width=12), FeaturePyramidNetwork(list(channels), 12)
    for level in range(3):
        theirs.inner_blocks[level][0].load_state_dict(ours.lateral[level].state_dict())
        theirs.layer_blocks[level][0].load_state_dict(ours.output[level].state_dict())
    maps = [torch.randn(2, width, side, side) for width, side in zip(channels, sides, strict=True)]
    wanted = theirs({str(level): each for level, each in enumerate(maps)}).values()
    for found, each in zip(ours(maps), wanted, strict=True):
        torch.testing.assert_close(found, each, atol=1e-5, rtol=1e-5)


def test_the_decoder_begins_as_sams_single_mask(merged: MergedModel, scenes: Batch) -> None:
    """SAM's own decoder class with one mask token, and the label token for its IoU token, gives the same logits.

    Not those of the whole SAM decoder: there the queries attend to three further mask tokens, and to an IoU token that
    is not this label token.
    """
    head = merged.heads["things"]
    whole = head.sam.mask_decoder
    cut = MaskDecoder(num_multimask_outputs=0, transformer_dim=32, transformer=whole.transformer).eval()
    cut.output_upscaling, cut.output_hypernetworks_mlps[0] = whole.output_upscaling, whole.output_hypernetworks_mlps[0]
    cut.mask_tokens.weight = nn.Parameter(whole.mask_tokens.weight[:1])
    cut.iou_token.weight = nn.Parameter(head.decoder.label_token)
    prompts = simulate(scenes.masks, owner=scenes.owner, keys=scenes.keys, frame=(64, 64))
    with torch.no_grad():
        seen = head.look(merged.trunk(scenes.images))
        ours, tokens = head.decode(seen, prompts, (64, 64))
        encoder = head.sam.prompt_encoder
        encoder.input_image_size, encoder.image_embedding_size = (64, 64), (8, 8)
        for row, image in enumerate(scenes.owner.tolist()):
            coords, labels = prompts.coords[row : row + 1], prompts.labels[row : row + 1]
            boxed = bool((labels == 2).any())
            points = None if boxed else (coords[:, :1], labels[:, :1])
            sparse, dense = encoder(points=points, boxes=coords.flatten(1) if boxed else None, masks=None)
            embedding, position = seen.embedding[image : image + 1], encoder.get_dense_pe()
            theirs, _ = cut.predict_masks(embedding, position, sparse, dense)
            torch.testing.assert_close(ours[row], theirs[0, 0], atol=1e-5, rtol=1e-5)
    assert tokens.shape == (len(scenes.owner), 32)


@pytest.mark.parametrize("ways", [(True, False), (False, True), (True, True)], ids=["region", "token", "both"])
def test_training_lowers_every_loss(scenes: Batch, ways: tuple[bool, bool]) -> None:
    """A few steps on one batch, whatever things are named by; gradients reach nothing of the parents."""
    things = CLIP2SAM(fpn=ways[0], use_label_token=ways[1], points=128, templates="plain")
    model = merge(base="sam", sam=SAM(variant="tiny", learn="features"), things=things)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("heads.things.") and name not in model.fixed)
    head, features = model.heads["things"], model.trunk(scenes.images)
    learnt = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=1e-3)
    history = []
    for _ in range(9):
        terms = things.loss(head(features, scenes), None, scenes)
        history.append({name: each.mean() for name, each in terms.items()})
        optimizer.zero_grad()
        torch.stack(list(history[-1].values())).sum().backward()
        assert all(parameter.grad is not None for parameter in learnt)
        optimizer.step()
    assert all(history[-1][name] < 0.7 * history[0][name] for name in ("names", "masks", "dice"))
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if "things" not in name)


def test_the_head_owns_nothing_of_its_parents(merged: MergedModel) -> None:
    """Neither tensors nor modules; what it has shares no memory with the SAM's decoder that it begins as."""
    head = merged.heads["things"]
    assert {name.split(".")[0] for name in head.state_dict()} == {"fpn", "decoder"}
    others = {id(module) for name in ("clip", "sam") for module in merged.heads[name].modules()}
    assert others.isdisjoint(id(module) for module in head.modules())
    own = {parameter.data_ptr() for parameter in head.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in merged.heads["sam"].parameters())


def test_what_reads_the_label_token_learns_only_where_it_is_heard(merged: MergedModel) -> None:
    """By default it is there, as in the published code, and no stage may train it."""
    idle = {name for name in merged.fixed if name.startswith("heads.things.")}
    assert idle == {
        f"heads.things.decoder.branch.read.layers.{n}.{kind}" for n in range(3) for kind in ("weight", "bias")
    }
    heard = MergedModel(adapters(use_label_token=True), base="clip")
    assert not any(name.startswith("heads.things.") for name in heard.fixed)


def test_portable_options_rebuild_the_model(merged: MergedModel) -> None:
    """Through JSON and the check of options, without any file: the same shapes, and filled, the same answers."""
    options = {name: json.loads(json.dumps(each.portable())) for name, each in merged.adapters.items()}
    parts = {name: type(each)(**check_options(type(each), options[name])) for name, each in merged.adapters.items()}
    again = MergedModel(parts, base="clip").eval()
    again.load_state_dict(merged.state_dict())
    assert again.adapters["things"].portable() == options["things"]
    box = torch.tensor([[8.0, 8.0, 50.0, 40.0]])
    ours, theirs = (
        recogniser(each).set_image(picture(64, 80)).recognise(vocabulary(each), boxes=box) for each in (merged, again)
    )
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.scores, theirs.scores)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"fpn": False}, "fpn"),
        ({"side": 0}, "side"),
        ({"points": 0}, "points"),
        ({"oversample": 0.5}, "oversample"),
        ({"importance": 1.5}, "importance"),
        ({"alpha": -0.1}, "alpha"),
        ({"beta": 2}, "beta"),
        ({"names": -1}, "names"),
        ({"scale": 100}, "scale"),
        ({"templates": "imagenet"}, "templates"),
        ({"templates": ["a photo"]}, "templates"),
        ({"prompts": 3}, "prompts"),
    ],
)
def test_wrong_options_are_refused_in_a_line(options: dict[str, Any], told: str) -> None:
    """That names the option."""
    with pytest.raises(InputError) as refused:
        CLIP2SAM(**check_options(CLIP2SAM, options))
    assert told in str(refused.value).split(":")[0]
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("role", ["promptable", "image_text"])
def test_heads_of_another_library_are_refused(merged: MergedModel, role: str) -> None:
    """In a line that names the option and the parent."""
    parents = {"promptable": "sam", "image_text": "clip"}
    other = merged.capability(parents[role])
    other.network = Network(nn.Identity(), nn.Identity())
    upon = {each: merged.capability(name) for each, name in parents.items()} | {role: other}
    with pytest.raises(InputError, match=rf"^{role}: {parents[role]}"):
        CLIP2SAM().head(merged.adapters["clip"].features, upon)


def test_a_clip_without_regions_cannot_be_fused(merged: MergedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when the model is built; without fusion it will do."""
    upon = {"promptable": merged.capability("sam"), "image_text": merged.capability("clip")}
    monkeypatch.setattr(type(merged.heads["clip"].projection), "regional", False)
    spec = merged.adapters["clip"].features
    with pytest.raises(InputError, match=r"^fuse: clip"):
        CLIP2SAM().head(spec, upon)
    assert CLIP2SAM(fuse=False).head(spec, upon) is not None


@pytest.mark.parametrize("kind", ["box", "point", "points"])
def test_prompts_get_masks_and_names(merged: MergedModel, kind: str) -> None:
    """At the picture's own size, which is no square; a row of scores for each prompt."""
    given = {
        "box": {"boxes": torch.tensor([[8.0, 8.0, 50.0, 40.0], [0.0, 0.0, 79.0, 47.0]])},
        "point": {"points": torch.tensor([[[20.0, 20.0]], [[70.0, 5.0]]]), "labels": torch.ones(2, 1)},
        "points": {"points": torch.tensor([[[20.0, 20.0], [3.0, 3.0]]] * 2), "labels": torch.tensor([[1, 0]] * 2)},
    }[kind]
    found = recogniser(merged).set_image(picture(48, 80)).recognise(vocabulary(merged), **given)
    assert (found.logits.shape, found.ious.shape, found.scores.shape) == ((2, 48, 80), (2,), (2, 3))
    assert torch.isfinite(found.logits).all()
    for values in (found.ious, found.scores, found.scores.sum(1)):
        assert ((values >= 0) & (values <= 1)).all()


def test_what_is_named_is_in_the_prompts_box_or_in_that_of_the_predicted_mask(
    merged: MergedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A box is brought to pixels of the input, its far pixels inside; a point's is that of its low-resolution mask."""
    boxes = []

    class Spy(Head):
        def decode(self, *given: Any) -> tuple[Tensor, Tensor]:
            low, tokens = super().decode(*given)
            low = torch.full_like(low, -5)
            low[:, 10:20, 6:12] = 5
            return low, tokens

        def embed(self, *given: Any, **named: Tensor) -> Tensor:
            boxes.append(named["boxes"])
            return super().embed(*given, **named)

    monkeypatch.setattr(merged.heads["things"], "__class__", Spy)
    image, words = recogniser(merged).set_image(picture(48, 64)), vocabulary(merged)  # as 72 x 96 in the input
    image.recognise(words, boxes=torch.tensor([[8.0, 10.0, 23.0, 29.0]]))
    found = image.recognise(words, points=torch.tensor([[[30.0, 20.0]]]), labels=torch.ones(1, 1))
    torch.testing.assert_close(boxes[0], torch.tensor([[12.0, 15.0, 36.0, 45.0]]))
    torch.testing.assert_close(boxes[1], torch.tensor([[12.0, 20.0, 24.0, 40.0]]))
    assert 0 < found.ious.item() < 1


def test_edges_of_masks_are_pixels_of_the_frame() -> None:
    """Far edges exclusive, scaled to the input; of an empty mask the whole input."""
    masks = torch.zeros(2, 24, 24, dtype=torch.bool)
    masks[0, 6:12, 3:9] = True
    assert edges_of(masks, (96, 48)).tolist() == [[6.0, 24.0, 18.0, 48.0], [0.0, 0.0, 48.0, 96.0]]
    assert edges_of(masks[:0], (96, 48)).shape == (0, 4)


def test_fusion_hears_clip_and_can_be_left_out(merged: MergedModel) -> None:
    """With no share for CLIP, fused scores are the branch's own; with shares they are not. Masks are the same."""
    boxes, image = torch.tensor([[8.0, 8.0, 50.0, 40.0]]), picture(64, 64)
    fused = recogniser(merged)
    alone = fused.alone()
    assert alone is not None
    assert alone.alone() is None
    deaf = CLIP2SAM(alpha=0.0, beta=0.0).capability(merged.network("things"))
    unfused = CLIP2SAM(fuse=False).capability(merged.network("things"))
    ours, own, none, never = (
        each.set_image(image).recognise(vocabulary(merged), boxes=boxes) for each in (fused, alone, deaf, unfused)
    )
    torch.testing.assert_close(own.scores, none.scores)
    assert torch.equal(own.scores, never.scores)
    assert (ours.scores - own.scores).abs().max() > 1e-3
    assert torch.equal(ours.logits, own.logits)


def test_seen_classes_hear_less_of_clip(merged: MergedModel) -> None:
    """The same picture with all classes seen, and with none, is not scored the same."""
    image, boxes = recogniser(merged).set_image(picture(64, 64)), torch.tensor([[8.0, 8.0, 50.0, 40.0]])
    seen, unseen = (image.recognise(vocabulary(merged, (each,) * 3), boxes=boxes).scores for each in (True, False))
    assert (seen - unseen).abs().max() > 1e-3


def test_a_batch_without_masks_costs_nothing(scenes: Batch) -> None:
    """Pictures of empty scenes give terms of no masks, whose sum has a gradient."""
    model = merge()
    head, adapter = model.heads["things"], model.adapters["things"]
    empty = rows(scenes, [], labels=None)
    answer = head(model.trunk(scenes.images), empty)
    assert answer[1].shape == (0, len(scenes.classes) + 1)
    terms = adapter.loss(answer, None, empty)
    assert all(each.shape == (0,) for each in terms.values())
    torch.stack([each.sum() for each in terms.values()]).sum().backward()


def test_rough_masks_teach_names_alone(merged: MergedModel, scenes: Batch) -> None:
    """They cost no mask loss, and the mean over all masks is that over the sharp ones."""
    _require_the_others_mean(merged, scenes, {"rough": True}, spared=("masks", "dice"), marked=("names",))


def test_things_without_a_class_teach_masks_alone(merged: MergedModel, scenes: Batch) -> None:
    """They cost no naming loss, and the mean over all masks is that over those with a class."""
    _require_the_others_mean(merged, scenes, {"labels": -1}, spared=("names",), marked=("masks", "dice"))


def _require_the_others_mean(
    merged: MergedModel, scenes: Batch, change: dict[str, int], *, spared: tuple[str, ...], marked: tuple[str, ...]
) -> None:
    """The last masks changed so that they are spared: others are marked as if alone, by their mean."""
    head, adapter = merged.heads["things"], CLIP2SAM(points=64)
    assert scenes.labels is not None
    few, total = 2, len(scenes.labels)
    assert total > few
    (field, value), after = *change.items(), torch.arange(total) >= few
    whole: Tensor = torch.zeros(total, dtype=torch.bool) if field == "rough" else scenes.labels
    changed = dataclasses.replace(scenes, **{field: whole.masked_fill(after, value)})
    features = merged.trunk(scenes.images)
    partly, fully = (adapter.loss(head(features, each), None, each) for each in (changed, scenes))
    part = rows(scenes, list(range(few)))
    first = adapter.loss(head(features, part), None, part)
    for name in spared:
        assert partly[name][few:].eq(0).all()
        torch.testing.assert_close(partly[name].mean(), first[name].mean())
    for name in marked:
        torch.testing.assert_close(partly[name], fully[name])


def test_a_batch_of_rough_masks_has_no_mask_loss(merged: MergedModel, scenes: Batch) -> None:
    """Nothing to take a mean of is zero, not undefined."""
    rough = dataclasses.replace(scenes, rough=torch.ones(len(scenes.owner), dtype=torch.bool))
    terms = CLIP2SAM(points=64).loss(merged.heads["things"](merged.trunk(scenes.images), rough), None, rough)
    assert terms["masks"].eq(0).all()
    assert terms["dice"].eq(0).all()
    assert (terms["names"] > 0).all()


def test_points_are_drawn_from_keys(merged: MergedModel, scenes: Batch) -> None:
    """The same keys give the same loss, others another; two masks of an image are looked at in other places."""
    answer = merged.heads["things"](merged.trunk(scenes.images), scenes)
    adapter = CLIP2SAM(points=64)
    again = dataclasses.replace(scenes, keys=tuple(key + 1 for key in scenes.keys))
    one, same, other = (adapter.loss(answer, None, each)["masks"] for each in (scenes, scenes, again))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    twice = rows(scenes, [0, 0])
    first, second = adapter.loss((answer[0][[0, 0]], answer[1][[0, 0]]), None, twice)["masks"]
    assert first != second


def test_logits_are_scaled_cosines_to_the_nearest_sentence(scenes: Batch) -> None:
    """A thing's logit of a class is exp(scale) times its largest cosine to a sentence, and the background's is 0."""
    sentences = ("a photo of a {}.", "a drawing of a {}.")
    model = merge(things=CLIP2SAM(templates=sentences, scale=2.0))
    head = model.heads["things"]
    embeddings = torch.randn(5, head.clip.embedding)
    clip = model.capability("clip")
    words = torch.stack([clip.encode_text([each.format(name) for each in sentences]) for name in scenes.classes])
    wanted = torch.einsum("md,tsd->mts", nn.functional.normalize(embeddings, dim=1), words).amax(2) * np.exp(2.0)
    found = head.compare(embeddings, head.vocabulary(scenes.classes))
    torch.testing.assert_close(found[:, :-1], wanted)
    assert found[:, -1].eq(0).all()


def test_a_copy_stands_by_itself(merged: MergedModel) -> None:
    """A deep copy of the model is built upon its own parents, and answers the same."""
    twin = copy.deepcopy(merged)
    assert twin.heads["things"].sam is twin.heads["sam"]
    assert twin.heads["things"].clip is twin.heads["clip"]
    boxes = torch.tensor([[8.0, 8.0, 50.0, 40.0]])
    ours, theirs = (
        recogniser(each).set_image(picture(64, 64)).recognise(vocabulary(merged), boxes=boxes)
        for each in (merged, twin)
    )
    assert torch.equal(ours.logits, theirs.logits)


def test_the_path_of_an_answer_is_counted_whole(merged: MergedModel) -> None:
    """Its own parts and what it asks of its parents; CLIP's projection where it is heard, and never its text tower."""
    head, clip = merged.heads["things"], merged.heads["clip"]
    fused, alone = CLIP2SAM().path(head), CLIP2SAM(fuse=False).path(head)
    needed = [head.fpn, head.decoder, head.sam.approach, head.sam.neck, head.sam.prompt_encoder]
    assert {id(each) for each in alone} == {id(each) for each in needed}
    assert {id(each) for each in fused} == {id(each) for each in [*needed, clip.projection]}


def test_one_pass_of_the_trunk_serves_all_prompts(merged: MergedModel) -> None:
    """Masks, names and CLIP's own opinion are of the same features."""
    passes: list[int] = []
    hook = merged.trunk.register_forward_hook(lambda *_: passes.append(1))
    image, words = recogniser(merged).set_image(picture(64, 64)), vocabulary(merged)
    for _ in range(2):
        image.recognise(words, boxes=torch.tensor([[8.0, 8.0, 50.0, 40.0]]))
    hook.remove()
    assert len(passes) == 1
