"""Parents known by their features: targets, heads, losses, and what a person does with the result."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vfmerge import losses, model
from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.errors import InputError
from vfmerge.features.gather import nearest_map
from vfmerge.features.grid import match
from vfmerge.features.head import LearntHead
from vfmerge.features.parent import FeatureParent
from vfmerge.features.settings import Distill

ONE_MAP = FeatureSpec(channels=(16,), strides=(16,), heads=2)
PYRAMID = FeatureSpec(channels=(8, 12, 16, 20), strides=(4, 8, 16, 32), summary=10)


class Trunk(nn.Module):
    """Cells of 8 pixels and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 8, 8)

    def forward(self, images: Tensor) -> Features:
        maps = self.conv(images)
        return Features(maps=(maps,), summary=maps.mean((2, 3)))


class Eye(FeatureParent):
    """A parent of one convolution."""

    interface = 2
    features = FeatureSpec(channels=(6,), strides=(8,), summary=6)

    def trunk(self) -> nn.Module:
        return Trunk()

    def fill(self, trunk: nn.Module) -> None:
        """It is random."""

    def portable(self) -> dict[str, Any]:
        return self.portable_features()


def batch(images: int = 4, size: int = 32) -> Batch:
    torch.manual_seed(1)
    return Batch(
        images=torch.rand(images, 3, size, size),
        keys=tuple(range(images)),
        names=("picture",) * images,
    )


def features(spec: FeatureSpec, *, images: int = 4, size: int = 64) -> Features:
    """What a trunk of that kind might give."""
    torch.manual_seed(2)
    maps = [torch.rand(images, c, size // s, size // s) for c, s in zip(spec.channels, spec.strides, strict=True)]
    return Features(maps=tuple(maps), summary=None if spec.summary is None else torch.rand(images, spec.summary))


def test_a_target_is_the_parents_summary_and_cells() -> None:
    """As its trunk gives them, at the stream's size or at its own."""
    asked = batch(size=32)
    teacher = Eye().teacher()
    summary, cells = teacher(asked)
    seen = teacher.encode(asked.images)
    assert torch.equal(cells, seen.maps[0])
    assert torch.equal(summary, seen.summary)
    assert Eye(size=64).teacher()(asked)[1].shape == (4, 6, 8, 8)


def test_parts_can_be_left_out() -> None:
    """Targets, heads and terms then have the other alone."""
    eye = Eye(distill=Distill(summary="none"))
    target = eye.teacher()(batch())
    assert [part.dim() for part in target] == [4]
    terms = eye.loss(eye.head(ONE_MAP)(features(ONE_MAP), batch()), target, batch())
    assert list(terms) == ["cells"]


def test_a_random_parent_is_the_same_each_time() -> None:
    """And leaves the global generator where it was."""
    torch.manual_seed(5)
    first = Eye().teacher().state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == drawn
    assert all(torch.equal(tensor, first[name]) for name, tensor in Eye().teacher().state_dict().items())


@pytest.mark.parametrize("spec", [ONE_MAP, PYRAMID])
@pytest.mark.parametrize("layers", [0, 2])
def test_a_head_answers_in_the_parents_shapes(spec: FeatureSpec, layers: int) -> None:
    """On any trunk, with layers or without; the grid is the trunk's."""
    head = Eye(distill=Distill(layers=layers)).head(spec)
    answer = head(features(spec), batch())
    assert answer.parts["summary"].shape == (4, 6)
    assert answer.parts["cells"].shape[:2] == (4, 6)


def test_every_map_of_a_pyramid_counts() -> None:
    """Each changes the answer, whose grid is that of the nearest one."""
    head, seen = Eye().head(PYRAMID), features(PYRAMID)
    before = head.see(seen).maps[0]
    assert before.shape[-2:] == (8, 8)
    for number in range(4):
        maps = tuple(each + (place == number) for place, each in enumerate(seen.maps))
        assert not torch.equal(head.see(Features(maps=maps, summary=seen.summary)).maps[0], before)


def test_the_grid_of_the_nearest_stride_is_taken() -> None:
    """Of a pyramid, for parents of patches; of two as near, the coarser."""
    assert [nearest_map(PYRAMID, stride) for stride in (8, 14, 16, 64)] == [1, 2, 2, 3]
    assert nearest_map(FeatureSpec(channels=(1, 1), strides=(8, 32)), 16) == 1


def test_a_trunks_summary_counts() -> None:
    """Where the trunk has one, a summary is read off it too."""
    head, seen = Eye().head(PYRAMID), features(PYRAMID)
    other = Features(maps=seen.maps, summary=seen.summary + 1)  # type: ignore[operator]
    assert not torch.equal(head.see(seen).summary, head.see(other).summary)
    assert torch.equal(head.see(seen).maps[0], head.see(other).maps[0])


def test_layers_start_as_the_trunks_last_block() -> None:
    """As SAM-CLIP's do, where the trunk has such blocks."""
    from timm.models.vision_transformer import Block

    trunk = nn.ModuleList([Block(16, 2, qkv_bias=True), Block(16, 2, qkv_bias=True)])
    eye = Eye(distill=Distill(layers=2))
    head = eye.head(ONE_MAP)
    assert isinstance(head, LearntHead)
    eye.start(head, trunk, eye.teacher())
    for layer in head.layers:
        assert torch.equal(layer.qkv.weight, trunk[1].attn.qkv.weight)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_layer_computes_what_the_block_does(scale: float | None) -> None:
    """That it was copied from, also where the block scales channels as DINOv2's do."""
    from timm.models.vision_transformer import Block

    from vfmerge.layers import Layer, start_from

    torch.manual_seed(3)
    block = Block(16, 2, qkv_bias=True, init_values=scale).eval()
    layers = nn.ModuleList([Layer(width=16, heads=2)])
    start_from(nn.ModuleList([block]), layers)
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(layers[0](x), block(x))


def test_losses_are_means_over_cells_for_each_image() -> None:
    """Against the definition, image by image."""
    answer, target = torch.randn(3, 6, 4, 4), torch.randn(3, 6, 4, 4)
    x, goal = (each.flatten(2).transpose(1, 2) for each in (answer, target))
    cosine = (1 - torch.cosine_similarity(x, goal, dim=-1)).mean(1)
    huber = torch.where((x - goal).abs() < 1, 0.5 * (x - goal) ** 2, (x - goal).abs() - 0.5).mean((1, 2))
    torch.testing.assert_close(losses.feature(x, goal, kind="cosine"), cosine)
    torch.testing.assert_close(losses.feature(x, goal, kind="smooth_l1"), huber)
    torch.testing.assert_close(losses.feature(x, goal, kind="mse"), (x - goal).square().mean((1, 2)))
    torch.testing.assert_close(losses.feature(x, goal, kind="cosine_smooth_l1"), 0.9 * cosine + 0.1 * huber)
    half = losses.feature(x, goal, kind="cosine_smooth_l1", cosine_share=0.5)
    torch.testing.assert_close(half, 0.5 * cosine + 0.5 * huber)


def test_grids_meet_on_the_coarser() -> None:
    """Whichever of the two it is; equal ones are left alone."""
    fine, coarse = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 4)
    for pair in ((fine, coarse), (coarse, fine)):
        assert [each.shape[-2:] for each in match(*pair)] == [(4, 4), (4, 4)]
    assert match(fine, coarse)[1] is coarse
    flat = torch.full((1, 1, 8, 8), 2.0)
    torch.testing.assert_close(match(flat, coarse[:1, :1])[0], torch.full((1, 1, 4, 4), 2.0))


@pytest.mark.parametrize("kind", ["none", "running", "fixed", "phi_s"])
def test_ten_steps_lower_the_loss_on_every_scale(kind: Any) -> None:
    """And the head answers in the parent's own space."""
    eye = Eye(distill=Distill(standardise=kind, summary="mse", cells="mse", pictures=8))
    teacher, head, seen, asked = eye.teacher(), eye.head(ONE_MAP), features(ONE_MAP, size=64), batch(size=32)
    eye.calibrate(head, itertools.repeat(teacher(asked)))
    adam = torch.optim.Adam(head.parameters(), lr=3e-2)
    totals = []
    for _ in range(40):
        terms = eye.loss(head(seen, asked), teacher(asked), asked)
        total = torch.stack([values.mean() for values in terms.values()]).sum()
        totals.append(total.item())
        adam.zero_grad()
        total.backward()
        adam.step()
    assert totals[9] < totals[0]
    error = (head.see(seen).summary - teacher(asked)[0]).square().mean()
    assert error < 0.2 * teacher(asked)[0].var()


@pytest.mark.parametrize("kind", ["running", "fixed", "phi_s"])
def test_marking_changes_nothing(kind: Any) -> None:
    """A head is to the bit what it was, however often it is marked, learning or not."""
    eye = Eye(distill=Distill(standardise=kind, pictures=8))
    teacher, head, asked = eye.teacher(), eye.head(ONE_MAP).train(), batch()
    eye.calibrate(head, itertools.repeat(teacher(asked)))
    before = {name: each.clone() for name, each in head.state_dict().items()}
    eye.loss(head(features(ONE_MAP), asked), tuple(3 * each for each in teacher(asked)), asked)
    assert all(torch.equal(each, before[name]) for name, each in head.state_dict().items())


def test_statistics_run_by_what_a_head_observes() -> None:
    """Each part's own, by all cells of a batch; on a trunk of the parent's or of another stride alike."""
    eye = Eye(distill=Distill(standardise="running", momentum=0.5))
    summary, cells = target = eye.teacher()(batch())
    for head in (eye.own_head(), eye.head(ONE_MAP)):
        eye.observe(head, target)
        torch.testing.assert_close(head.standards["summary"].mean, 0.5 * summary.mean(0))
        torch.testing.assert_close(head.standards["cells"].mean, 0.5 * cells.mean((0, 2, 3)))


def test_statistics_are_of_just_so_many_pictures() -> None:
    """Targets are asked for batch by batch, and no more of them."""
    eye = Eye(distill=Distill(standardise="fixed", pictures=10))
    target, asked = eye.teacher()(batch()), []
    eye.calibrate(eye.head(ONE_MAP), (asked.append(n) or target for n in itertools.count()))  # type: ignore[func-returns-value]
    assert asked == [0, 1, 2]


def test_a_parent_without_a_scale_asks_for_no_target() -> None:
    """The iterator is not touched."""
    eye, targets = Eye(), itertools.count()
    eye.calibrate(eye.head(ONE_MAP), targets)  # type: ignore[arg-type]
    assert next(targets) == 0


def test_a_base_answers_with_its_own_features() -> None:
    """Untrained, its loss is zero on every scale."""
    eye = Eye(distill=Distill(standardise="phi_s", summary="mse", cells="mse"))
    teacher, own = eye.teacher(), eye.own_head()
    target = teacher(batch())
    eye.calibrate(own, itertools.repeat(target))
    terms = eye.loss(own(teacher.encode(batch().images), batch()), target, batch())
    assert all(values.abs().max() < 1e-8 for values in terms.values())


def test_pictures_of_any_size_are_looked_at_whole() -> None:
    """By parent and merged model through the same code; the default side is a multiple of the trunk's stride."""
    eye, picture = Eye(), np.zeros((50, 70, 3), dtype=np.uint8)
    parent = eye.capability(eye.teacher())
    assert parent.encode_cells([picture]).shape == (1, 6, 28, 28)
    assert parent.encode_image([picture, picture], size=32).shape == (2, 6)
    with pytest.raises(InputError, match="multiples of 8"):
        parent.encode_cells([picture], size=30)


def test_probes_see_a_learnt_head_as_a_model_of_its_own() -> None:
    """Features come from the head, and are not taken for the trunk's."""
    from vfmerge.benchmarks.features import trunks

    eye = Eye()
    network = model.Network(eye.teacher().trunk, eye.head(eye.features))
    learnt, other = eye.capability(network), eye.capability(model.Network(network.trunk, eye.own_head()))
    images = batch().images
    assert torch.equal(learnt.features(images).maps[0], network.head.see(network.encode(images)).maps[0])
    assert len(trunks({"one": learnt, "two": other}, None)) == 2


def test_portable_options_make_the_same_head() -> None:
    """Plain as JSON: what a merged model is rebuilt from."""
    from vfmerge import options

    eye = Eye(size=48, distill=Distill(layers=1, hidden=5, standardise="fixed"))
    again = Eye(**options.check_options(Eye, eye.portable()))
    shapes = [{name: each.shape for name, each in one.head(ONE_MAP).state_dict().items()} for one in (eye, again)]
    assert shapes[0] == shapes[1]


def test_wrong_settings_name_the_option() -> None:
    """With the place inside `distill`, and a proposal."""
    from vfmerge import options

    with pytest.raises(InputError, match=r"distill.standardize.*standardise"):
        options.check_options(Eye, {"distill": {"standardize": "phi_s"}})
    with pytest.raises(InputError, match=r"distill.cells"):
        options.check_options(Eye, {"distill": {"cells": "l7"}})
