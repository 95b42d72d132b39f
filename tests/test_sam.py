"""The SAM adapter against `segment_anything` itself: real classes, real file format, random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from vfmerge_adapters.promptable.positions import positions
from vfmerge_adapters.promptable.prompts import boxes_of, points_in, simulate
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.sam.geometry import VARIANTS, build
from vfmerge_adapters.sam.network import MaskHead, Trunk

from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.errors import CheckpointError, InputError


def shake(sam: Sam) -> Sam:
    """Random values where the library starts with zeros, so that no term is trivially equal."""
    torch.manual_seed(0)
    for name, parameter in sam.named_parameters():
        if "pos" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.05)
    return sam


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene_batch(size: int = 96, images: int = 3) -> Batch:
    """Three images with two, none and one mask."""
    masks = torch.zeros(3, size, size, dtype=torch.bool)
    masks[0, 10:40, 20:70], masks[1, 50:60, 5:9], masks[2, 30:90, 30:90] = True, True, True
    return Batch(
        images=torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(1)),
        keys=(11, 12, 13),
        names=("a", "b", "c"),
        masks=masks,
        owner=torch.tensor([0, 0, 2]),
    )


@pytest.fixture(scope="module")
def tiny() -> Sam:
    return shake(build(VARIANTS["tiny"]))


def test_vit_b_at_1024_gives_the_predictors_masks(tmp_path: Path) -> None:
    """A `vit_b` .pth through the adapter gives SamPredictor's logits and IoU scores, from boxes, points and masks."""
    sam = shake(sam_model_registry["vit_b"]()).eval()
    torch.save(sam.state_dict(), tmp_path / "sam_vit_b.pth")
    adapter = SAM(variant="vit_b", checkpoint=str(tmp_path / "sam_vit_b.pth"))
    image = picture(300, 450)
    predictor = SamPredictor(sam)
    predictor.set_image(image)
    ours = adapter.capability(adapter.teacher()).set_image(image)
    boxes = torch.tensor([[30.0, 40.0, 200.0, 250.0], [5.0, 5.0, 449.0, 299.0]])
    points, labels = torch.tensor([[[60.0, 80.0], [10.0, 200.0]]] * 2), torch.tensor([[1, 0]] * 2)
    rough = torch.randn(2, 1, 256, 256)
    for multimask in (True, False):
        for given in ({"boxes": boxes}, {"points": points, "labels": labels}, {"boxes": boxes, "masks": rough}):
            theirs = _predict(predictor, given, multimask=multimask)
            logits, ious = ours.predict(**given, multimask=multimask)
            assert (logits - theirs[0]).abs().max() <= 1e-4
            assert (ious - theirs[1]).abs().max() <= 1e-4


def _predict(
    predictor: SamPredictor, given: dict[str, torch.Tensor], *, multimask: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    size = predictor.original_size
    boxes, points = given.get("boxes"), given.get("points")
    logits, ious, _ = predictor.predict_torch(
        point_coords=None if points is None else predictor.transform.apply_coords_torch(points, size),
        point_labels=given.get("labels"),
        boxes=None if boxes is None else predictor.transform.apply_boxes_torch(boxes, size),
        mask_input=given.get("masks"),
        multimask_output=multimask,
        return_logits=True,
    )
    return logits, ious


def test_many_images_decode_as_one_by_one(tiny: Sam) -> None:
    """Prompts of several images in one batch give what the library's own decoder gives image by image."""
    head, batch = MaskHead(tiny), scene_batch()
    prompts = simulate(batch.masks, owner=batch.owner, keys=batch.keys, frame=(96, 96))
    with torch.no_grad():
        embedding = tiny.image_encoder((batch.images - 0.5) / 0.2)
        together, scores = head.decode((embedding,), prompts, (96, 96))
        for row in range(3):
            image = int(batch.owner[row])
            labels, coords = prompts.labels[row : row + 1], prompts.coords[row : row + 1]
            boxed = bool((labels == 2).any())
            sparse, dense = tiny.prompt_encoder(
                points=None if boxed else (coords[:, :1], labels[:, :1]),
                boxes=coords.flatten(1) if boxed else None,
                masks=None,
            )
            masks, ious = tiny.mask_decoder.predict_masks(
                embedding[image : image + 1], tiny.prompt_encoder.get_dense_pe(), sparse, dense
            )
            torch.testing.assert_close(together[row], masks[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(scores[row], ious[0], atol=1e-5, rtol=1e-5)


def test_trunk_is_the_encoder_without_its_neck_at_the_original_size(tiny: Sam) -> None:
    """Trunk and neck together equal `image_encoder` bit for bit."""
    images = torch.rand(2, 3, 96, 96)
    trunk = Trunk(tiny.image_encoder)
    with torch.no_grad():
        ours = tiny.image_encoder.neck(trunk(images).maps[0])
        theirs = tiny.image_encoder((images - trunk.mean) / trunk.std)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (160, 32)])
def test_trunk_takes_any_multiple_of_the_patch(tiny: Sam, size: tuple[int, int]) -> None:
    """Other sizes and shapes give a map of that many cells."""
    with torch.no_grad():
        features = Trunk(tiny.image_encoder)(torch.rand(1, 3, *size))
    assert features.maps[0].shape == (1, 128, size[0] // 8, size[1] // 8)
    assert torch.isfinite(features.maps[0]).all()


def test_interpolated_positions_follow_the_picture(tiny: Sam) -> None:
    """At twice the size the position embedding is the original's, enlarged."""
    trunk = Trunk(tiny.image_encoder)
    with torch.no_grad():
        large = positions(trunk.pos_embed, 24, 24)
        back = torch.nn.functional.avg_pool2d(large.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    correlation = torch.corrcoef(torch.stack([back.flatten(), trunk.pos_embed.detach().flatten()]))[0, 1]
    assert correlation > 0.9


def test_simulated_prompts_are_fixed_by_keys_and_lie_in_the_masks() -> None:
    """Same keys, same prompts; other keys, others; points hit their masks and boxes stay near them."""
    batch = scene_batch()
    assert batch.masks is not None
    assert batch.owner is not None
    seen = set()
    for key in range(40):
        prompts = simulate(batch.masks, owner=batch.owner, keys=(key, key, key), frame=(96, 96))
        again = simulate(batch.masks, owner=batch.owner, keys=(key, key, key), frame=(96, 96))
        assert torch.equal(prompts.coords, again.coords)
        boxes = boxes_of(batch.masks)
        for row in range(3):
            kind = tuple(prompts.labels[row].tolist())
            seen.add(kind)
            x, y = prompts.coords[row, 0].tolist()
            if kind == (1, -1):
                assert batch.masks[row, round(y), round(x)]
            else:
                assert (prompts.coords[row].flatten() - boxes[row]).abs().max() <= 20 / 1024 * 96 + 1e-4
        seen.add(tuple(prompts.coords.flatten().tolist()))
    assert {(1, -1), (2, 3)} < seen
    assert len(seen) == 42


def test_prompts_scale_to_the_frame() -> None:
    """Masks at a quarter of the image's size give the image's pixels."""
    masks = torch.zeros(1, 24, 24, dtype=torch.bool)
    masks[0, 6:12, 3:9] = True
    for key in range(20):
        prompts = simulate(masks, owner=torch.tensor([0]), keys=(key,), frame=(96, 96))
        if prompts.labels[0, 0] == 2:
            wanted = torch.tensor([12.0, 24.0, 35.0, 47.0])
            assert (prompts.coords[0].flatten() - wanted).abs().max() <= 20 / 1024 * 96 + 1e-4
        else:
            x, y = prompts.coords[0, 0].tolist()
            assert 12 <= x <= 35
            assert 24 <= y <= 47


def test_points_are_uniform_over_the_mask() -> None:
    """Every quantile is another pixel of the mask, all of them are reached."""
    masks = torch.zeros(1, 5, 7, dtype=torch.bool)
    masks[0, 1, 2], masks[0, 3, 4], masks[0, 4, 0] = True, True, True
    points = [tuple(points_in(masks, torch.tensor([chance]))[0].tolist()) for chance in (0.0, 0.4, 0.99)]
    assert points == [(2.0, 1.0), (4.0, 3.0), (0.0, 4.0)]


def test_rehearsal_loss_is_zero_at_the_parent_and_spares_the_prompt_encoder() -> None:
    """The parent's own answer costs nothing; another's costs, with gradients in trunk, neck and decoder only."""
    torch.manual_seed(0)
    adapter = SAM(variant="tiny", random=True, iou=1.0)
    teacher, batch = adapter.teacher(), scene_batch()
    trunk, head = adapter.trunk(), adapter.head(adapter.features)
    with torch.no_grad():
        target = teacher(batch)
    same = adapter.loss(target, target, batch)
    assert {name: values.shape for name, values in same.items()} == dict.fromkeys(("focal", "dice", "iou"), (3,))
    assert all(values.abs().max() < 1e-6 for values in same.values())
    terms = adapter.loss(head(trunk(batch.images), batch), target, batch)
    loss = torch.stack([values.mean() for values in terms.values()]).sum()
    loss.backward()
    assert loss > 0.01
    assert all(parameter.grad is None for parameter in head.prompt_encoder.parameters())
    assert all(parameter.grad is not None for parameter in [*trunk.parameters(), *head.neck.parameters()])


def test_sam_can_be_taught_to_another_trunk() -> None:
    """As an auxiliary on a trunk of another width and stride: its decoder the parent's, on the parent's grid."""
    adapter, batch = SAM(variant="tiny", random=True), scene_batch()
    teacher = adapter.teacher()
    head = adapter.head(FeatureSpec(channels=(48,), strides=(16,)))
    adapter.start(head, torch.nn.Identity(), teacher)
    own, new = teacher.head.state_dict(), head.state_dict()
    assert all(torch.equal(own[name], new[name]) for name in own if not name.startswith("neck.0"))
    logits, ious = head(Features(maps=(torch.rand(3, 48, 6, 6),)), batch)
    assert logits.shape == (3, 4, 48, 48)
    assert ious.shape == (3, 4)


def test_a_batch_without_masks_gives_an_empty_loss() -> None:
    """No mask in any picture: no terms to average, no error."""
    adapter = SAM(variant="tiny", random=True)
    batch = dataclasses.replace(
        scene_batch(), masks=torch.zeros(0, 96, 96, dtype=torch.bool), owner=torch.zeros(0, dtype=torch.long)
    )
    answer = adapter.teacher()(batch)
    assert adapter.loss(answer, answer, batch)["focal"].shape == (0,)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """A tiny SAM's file for a vit_b is one line that names the file, before anything is trained."""
    torch.save(build(VARIANTS["tiny"]).state_dict(), tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match=r"small\.pth") as error:
        SAM(variant="vit_b", checkpoint=str(tmp_path / "small.pth")).teacher()
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"variant": "vit_b"}, "checkpoint"),
        ({"variant": "vit_b", "checkpoint": "x.pth", "random": True}, "random"),
        ({"variant": "tiny", "random": True, "geometry": {"widht": 3}}, "widht"),
        ({"variant": "tiny", "random": True, "geometry": {"heads": 5}}, "heads"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, object], word: str) -> None:
    """What is wrong with the options is said before a weight is read."""
    with pytest.raises(InputError, match=word):
        SAM(**options)  # type: ignore[arg-type]


def test_prompts_without_anything_are_refused(tiny: Sam) -> None:
    """A prompt needs boxes, points with labels, or masks."""
    adapter = SAM(variant="tiny", random=True)
    image = adapter.capability(adapter.teacher()).set_image(picture(50, 70))
    with pytest.raises(InputError, match="no prompt; give boxes"):
        image.predict()
