"""SAM learnt by its image embedding, and SAM on other models' trunks: other strides, widths, pyramids, sizes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.sam.network import EmbeddingHead, Head, MaskHead

import vfmerge
from vfmerge import engine, options, recipe
from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.errors import InputError
from vfmerge.features.settings import Distill
from vfmerge.features.standard import PHIS
from vfmerge.model import MergedModel, Network

SMALL = {"depth": 2, "width": 32, "heads": 2, "global_blocks": [1], "decoder_width": 16, "decoder_mlp": 32}
SMALL |= {"decoder_heads": 2}
PYRAMID = FeatureSpec(channels=(8, 12, 16, 20), strides=(4, 8, 16, 32), summary=20)
SPECS = {
    "finer": FeatureSpec(channels=(48,), strides=(4,)),
    "coarser": FeatureSpec(channels=(48,), strides=(14,), heads=3),
    "pyramid": PYRAMID,
    "one size": FeatureSpec(channels=(48,), strides=(16,), fixed_size=64),
}
SIDES = {"finer": 96, "coarser": 98, "pyramid": 96, "one size": 64}  # of an input of 96 pixels
CELLS = {"finer": 12, "coarser": 12, "pyramid": 12, "one size": 8}  # of 8 pixels, as SAM has them


def sam(**changes: Any) -> SAM:
    return SAM(variant="tiny", random=True, geometry=SMALL, **{"learn": "features"} | changes)


class Trunk(nn.Module):
    """A trunk that gives what a spec says: patches at each stride."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        pairs = zip(spec.channels, spec.strides, strict=True)
        self.patches = nn.ModuleList([nn.Conv2d(3, width, stride, stride=stride) for width, stride in pairs])
        self.only = spec.fixed_size

    def forward(self, images: Tensor) -> Features:
        assert self.only in (None, images.shape[-1])
        return Features(maps=tuple(patch(images) for patch in self.patches))


def on_trunk(adapter: SAM, name: str) -> tuple[Network, Network]:
    """The head on another trunk, started, and the teacher."""
    torch.manual_seed(0)
    trunk, teacher, head = Trunk(SPECS[name]), adapter.teacher(), adapter.head(SPECS[name])
    adapter.start(head, trunk, teacher)
    return Network(trunk, head).eval(), teacher


def batch(size: int = 96) -> Batch:
    """Two images with a mask each."""
    masks = torch.zeros(2, size, size, dtype=torch.bool)
    masks[0, 10:40, 20:60], masks[1, 30:60, 30:60] = True, True
    return Batch(
        images=torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)),
        keys=(11, 12),
        names=("a", "b"),
        masks=masks,
        owner=torch.tensor([0, 1]),
    )


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


BOXES = torch.tensor([[5.0, 8.0, 40.0, 30.0], [30.0, 10.0, 65.0, 45.0]])


@torch.no_grad()
def test_the_target_is_the_librarys_embedding() -> None:
    """What `segment_anything`'s own image encoder gives, at the parent's own size whatever the batch's is."""
    adapter = sam()
    teacher = adapter.teacher()
    images = torch.rand(2, 3, 96, 96)
    encoder = SAM(variant="tiny", random=True, geometry=SMALL).teacher()
    expected = encoder.head.neck(encoder.trunk(images).maps[-1])
    assert torch.equal(teacher(dataclasses.replace(batch(), images=images)), expected)
    assert teacher(batch(size=64)).shape == (2, 16, 12, 12)
    assert sam(size=64).teacher()(batch()).shape == (2, 16, 8, 8)
    assert not adapter.needs_masks
    assert sam(learn="masks").needs_masks


@torch.no_grad()
@pytest.mark.parametrize("learn", ["masks", "features"])
def test_an_untrained_merge_equals_its_base(learn: str) -> None:
    """SAM as base, whatever it is rehearsed by: the loss is zero, and the masks are the parent's."""
    adapter = sam(learn=learn)
    teacher = adapter.teacher().requires_grad_(False)  # torch rounds trainable ones otherwise
    model = MergedModel({"sam": adapter}, base="sam")
    model.start({"sam": teacher})
    model.eval().requires_grad_(False)
    terms = adapter.loss(model.network("sam")(batch()), teacher(batch()), batch())
    assert set(terms) == ({"cells"} if learn == "features" else {"focal", "dice"})
    assert all(values.shape == (2,) and values.abs().max() < 1e-6 for values in terms.values())
    ours, theirs = (each.set_image(picture()) for each in (model.sam, adapter.capability(teacher)))
    for mine, parents in zip(ours.predict(boxes=BOXES), theirs.predict(boxes=BOXES), strict=True):
        assert torch.equal(mine, parents)


@torch.no_grad()
@pytest.mark.parametrize("learn", ["masks", "features"])
@pytest.mark.parametrize("name", SPECS)
def test_another_trunk_is_prompted_in_its_own_square(name: str, learn: str) -> None:
    """The nearest size that it takes, SAM's own cells whatever its are, and masks at the picture's size."""
    adapter = sam(learn=learn)
    network, _ = on_trunk(adapter, name)
    capability = adapter.capability(network)
    assert capability.fixed_size == SIDES[name]
    image = capability.set_image(picture())
    assert image.mask_side == 4 * CELLS[name]
    logits, ious = image.predict(boxes=BOXES, multimask=True)
    assert (logits.shape, ious.shape) == ((2, 3, 50, 70), (2, 3))
    points, labels = torch.tensor([[[20.0, 20.0]]]), torch.tensor([[1]])
    rough = torch.randn(1, 1, image.mask_side, image.mask_side)
    assert image.predict(points=points, labels=labels, masks=rough)[0].shape == (1, 1, 50, 70)


@torch.no_grad()
def test_prompts_mean_the_same_place_on_any_trunk() -> None:
    """On a trunk that sees what SAM sees, at other cells, the parent's decoder gives nearly the parent's masks."""
    adapter = SAM(variant="tiny", learn="features")
    teacher = adapter.teacher()

    class Finer(nn.Module):
        def forward(self, images: Tensor) -> Features:
            (cells,) = teacher.trunk(images[..., :96, :96]).maps
            return Features(maps=(cells.repeat_interleave(2, 2).repeat_interleave(2, 3),))

    head = adapter.head(FeatureSpec(channels=(128,), strides=(4,)))
    adapter.start(head, nn.Identity(), teacher)
    ours = adapter.capability(Network(Finer(), head).eval())
    scene = np.zeros((60, 90, 3), dtype=np.uint8)
    scene[20:50, 15:55] = (200, 40, 40)
    box = torch.tensor([[15.0, 20.0, 54.0, 49.0]])
    masks = [each.set_image(scene).predict(boxes=box)[0] > 0 for each in (ours, adapter.capability(teacher))]
    assert masks[1].any()
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.95


@pytest.mark.parametrize("learn", ["masks", "features"])
@pytest.mark.parametrize("name", ["coarser", "pyramid"])
def test_it_is_learnt_on_another_trunk(name: str, learn: str) -> None:
    """One number a mask or an image; gradients reach every map and the neck; ten steps bring the answer nearer."""
    adapter = sam(learn=learn)
    network, teacher = on_trunk(adapter, name)
    some = batch(96 if name == "pyramid" else 98)
    teacher.size = 96
    with torch.no_grad():
        target = teacher(some)
    network.train()
    adam = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    history = []
    for _ in range(10):
        terms = adapter.loss(network(some), target, some)
        assert all(values.shape == (2,) for values in terms.values())
        loss = torch.stack([values.mean() for values in terms.values()]).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(loss.item())
    assert history[-1] < 0.9 * history[0]
    head = network.head
    learning = [*network.trunk.parameters(), *head.neck.parameters(), *head.approach.parameters()]
    assert all(parameter.grad is not None for parameter in learning)
    assert (head.mask_decoder.iou_token.weight.grad is None) == (learn == "features")
    assert all(parameter.grad is None for parameter in head.prompt_encoder.parameters())


def test_decoder_and_prompts_stay_the_parents() -> None:
    """When features are learnt they are frozen copies, on SAM's own trunk too, and travel with the model."""
    adapter = sam()
    network, teacher = on_trunk(adapter, "pyramid")
    for head in (network.head, adapter.own_head()):
        assert isinstance(head, EmbeddingHead)
        frozen = {name.split(".")[0] for name, p in head.named_parameters() if not p.requires_grad}
        assert frozen == {"prompt_encoder", "mask_decoder"}
    theirs = teacher.head.mask_decoder.state_dict()
    assert all(torch.equal(theirs[name], t) for name, t in network.head.mask_decoder.state_dict().items())
    assert isinstance(sam(learn="masks").own_head(), MaskHead)


def test_layers_come_before_the_neck() -> None:
    """As many as asked for, copies of the trunk's last block where that is such a layer; the own head has none."""
    adapter = sam(distill=Distill(cells="mse", layers=2))
    teacher = adapter.teacher()
    other = SAM(variant="tiny", random=True, geometry=SMALL | {"patch_size": 16})
    trunk, head = other.trunk(), adapter.head(other.features)
    adapter.start(head, trunk, teacher)
    assert len(head.approach.layers) == 2
    assert torch.equal(head.approach.layers[1].qkv.weight, trunk.blocks[-1].attn.qkv.weight)
    assert head(trunk(batch().images), batch()).parts["cells"].shape == (2, 16, 12, 12)
    assert not len(adapter.own_head().approach.layers)


def test_statistics_of_features_run_by_what_is_observed() -> None:
    """On another trunk and on its own, whose neck may be frozen; a SAM that is learnt by masks keeps none."""
    adapter = sam(distill=Distill(cells="mse", standardise="running", momentum=0.5))
    target = adapter.teacher()(batch()).detach()
    for head in (on_trunk(adapter, "finer")[0].head, adapter.own_head()):
        adapter.observe(head, target)
        torch.testing.assert_close(head.standard.mean, 0.5 * target.mean((0, 2, 3)))


def test_features_are_compared_on_their_scale() -> None:
    """PHI-S is fitted to the parent's embeddings, is no part of what is decoded, and leaves the answer as it is."""
    adapter = sam(distill=Distill(cells="mse", standardise="phi_s", pictures=4))
    network, teacher = on_trunk(adapter, "finer")
    with torch.no_grad():
        target = teacher(batch())
        before = network(batch()).parts["cells"]
        adapter.calibrate(network.head, iter([target, target, target]))
        answer = network(batch())
    scale = network.head.standard
    assert isinstance(scale, PHIS)
    assert torch.equal(adapter.target(answer), before)
    scaled = scale(target.flatten(2).transpose(1, 2))
    torch.testing.assert_close(scaled.flatten(0, 1).var(0, correction=0), torch.ones(16), atol=0.05, rtol=0)
    expected = (scale(before.flatten(2).transpose(1, 2)) - scaled).square().mean((1, 2))
    torch.testing.assert_close(adapter.loss(answer, target, batch())["cells"], expected)
    assert adapter.loss(answer, before, batch())["cells"].max() < 1e-10


def test_other_losses_and_grids() -> None:
    """AM-RADIO's loss by the same option; where the stream is smaller than the parent's size, the coarser grid."""
    adapter = sam(distill=Distill())
    network, teacher = on_trunk(adapter, "finer")
    small = batch(64)
    with torch.no_grad():
        answer, target = network(small), teacher(small)
    assert (answer.parts["cells"].shape[-1], target.shape[-1]) == (8, 12)
    loss = adapter.loss(answer, target, small)["cells"]
    assert loss.shape == (2,)
    given, wanted = (
        answer.parts["cells"],
        nn.functional.interpolate(target, size=(8, 8), mode="bilinear", antialias=True),
    )
    cosine = 1 - nn.functional.cosine_similarity(given, wanted, dim=1).mean((1, 2))
    smooth = nn.functional.smooth_l1_loss(given, wanted, reduction="none").mean((1, 2, 3))
    torch.testing.assert_close(loss, 0.9 * cosine + 0.1 * smooth, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"learn": "masks", "distill": Distill()}, "distill: says how features are learnt"),
        ({"distill": Distill(cells="none")}, "distill.cells"),
        ({"size": 100}, "size: 100"),
    ],
)
def test_options_that_contradict_are_refused(given: dict[str, Any], word: str) -> None:
    """In one line that names the option."""
    with pytest.raises(InputError, match=word):
        sam(**given)


def test_options_come_back_as_they_were() -> None:
    """Through JSON and the check of options, for both ways to learn."""
    for adapter in (sam(distill=Distill(standardise="phi_s", layers=1), size=64), sam(learn="masks"), sam()):
        plain = json.loads(json.dumps(adapter.portable()))
        again = SAM(**options.check_options(SAM, plain, where="here"))
        assert again.portable() == adapter.portable()
        assert [n for n, _ in again.head(PYRAMID).named_parameters()] == [
            n for n, _ in adapter.head(PYRAMID).named_parameters()
        ]


RECIPE = """\
# The tiny CLIP, a ResNet, learns where things are from SAM's embedding, on pictures without masks
base: clip
parents:
  clip: {adapter: open_clip, options: {model: tiny}}
  sam:
    adapter: sam
    options: {variant: tiny, learn: features, distill: {summary: none, cells: mse, standardise: fixed, pictures: 8}}
data:
  images: {kind: shapes, layout: mixed, count: 24, size: 64, masks: false}
  held_out: {kind: shapes, layout: several, split: held-out, count: 2, size: 96}
stages:
  probe:
    steps: 2
    train: {heads.sam: 1e-3}
    cache: true
    streams:
      - {data: images, size: 64, batch: 4, tasks: {sam: 1}}
  distill:
    steps: 2
    train: {trunk: 1e-4, heads.clip: 1e-4, heads.sam: 1e-4}
    streams:
      - {data: images, size: [64, 96], batch: 4, tasks: {sam: 1, clip: 1}}
evaluate:
  prompts: {benchmark: promptable, data: held_out}
"""


def test_a_clip_learns_sam_without_masks(tmp_path: Path) -> None:
    """One shared stream: embeddings are cached, learnt and scaled; the saved model is prompted without any file."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    engine.run(recipe.load(str(path)), tmp_path / "run", name="features")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {term for line in lines for term in line if term.startswith("loss.")} == {
        "loss.0.sam.cells",
        "loss.0.clip.cosine",
    }
    rows = json.loads((tmp_path / "run" / "retention.json").read_text())
    assert {row["parent"] for row in rows} == {"sam"}
    model = vfmerge.load(tmp_path / "run" / "merged")
    assert isinstance(model.heads["sam"], Head)
    assert model.heads["sam"].standard.deviation.std() > 0  # fitted, and saved
    assert model.sam.set_image(picture()).predict(boxes=BOXES)[0].shape == (2, 1, 50, 70)
