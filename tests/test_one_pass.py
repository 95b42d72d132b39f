"""One pass of the trunk for several heads: when it is saved, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge.adapter import Features
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.benchmarks.two_heads import TwoHeads
from vfmerge.data.shapes import SHAPES
from vfmerge.model import MergedModel
from vfmerge.shared_trunk import SharedTrunk
from vfmerge.store import Store

SIDE = 96  # of the tiny SAM's input


class Trunk(nn.Module):
    """A linear trunk that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0
        self.mix = nn.Linear(3, 4)
        self.register_buffer("shift", torch.zeros(4))

    def forward(self, images: Tensor) -> Features:
        self.passes += 1
        return Features(maps=((self.mix(images.movedim(1, -1)) + self.shift).movedim(-1, 1),))


@pytest.fixture
def trunk() -> Trunk:
    return Trunk().eval()


@pytest.fixture
def merged() -> MergedModel:
    """A merged model that was not trained."""
    adapters = {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny")}
    torch.manual_seed(0)
    model = MergedModel(adapters, base="sam")
    model.start({name: adapter.teacher() for name, adapter in adapters.items()})
    return model.eval()


def picture(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def count_passes(model: MergedModel) -> list[torch.Size]:
    """A list to which every pass of the model's trunk adds the shape of its images."""
    passes: list[torch.Size] = []
    model.trunk.register_forward_hook(lambda module, given, answer: passes.append(given[0].shape))
    return passes


@torch.no_grad()
def test_equal_images_are_seen_once(trunk: Trunk) -> None:
    """The same values in another tensor are the same images; other values, shapes or types are not."""
    shared, images = SharedTrunk(trunk), torch.rand(2, 3, 4, 4)
    first = shared(images)
    assert shared(images.clone()) is first
    assert trunk.passes == 1
    for other in (images + 1, images[:1], images.transpose(2, 3)):
        assert shared(other) is not first
    trunk.double()
    shared(images.double())
    assert trunk.passes == 5


@torch.no_grad()
def test_one_batch_is_remembered(trunk: Trunk) -> None:
    """After other images the first are seen anew, and nothing keeps their features alive."""
    import weakref

    shared, images = SharedTrunk(trunk), torch.rand(1, 3, 4, 4)
    kept = weakref.ref(shared(images).maps[0])
    assert kept() is not None
    shared(images + 1)
    assert kept() is None
    shared(images)
    assert trunk.passes == 3


@torch.no_grad()
def test_images_that_are_written_to_are_other_images(trunk: Trunk) -> None:
    """A buffer that its owner fills again does not look like what it held before."""
    shared, images = SharedTrunk(trunk), torch.rand(1, 3, 4, 4)
    before = shared(images).maps[0]
    images += 1
    assert not torch.equal(shared(images).maps[0], before)


@torch.no_grad()
@pytest.mark.parametrize("change", ["step", "load", "buffer", "swap"])
def test_changed_weights_see_anew(trunk: Trunk, change: str) -> None:
    """Whichever way weights change, features of before are not given."""
    shared, images = SharedTrunk(trunk), torch.rand(1, 3, 4, 4)
    before = shared(images).maps[0]
    match change:
        case "step":
            trunk.mix.weight.add_(1.0)
        case "load":
            trunk.load_state_dict(Trunk().state_dict())
        case "buffer":
            trunk.shift.fill_(3.0)
        case "swap":
            trunk.mix.weight.data = trunk.mix.weight.data + 1
    after = shared(images).maps[0]
    assert not torch.equal(after, before)
    assert torch.equal(after, trunk(images).maps[0])


def test_nothing_is_remembered_while_training(trunk: Trunk) -> None:
    """Every pass is run and has its graph, in training mode and wherever gradients are wanted."""
    shared, images = SharedTrunk(trunk), torch.rand(1, 3, 4, 4)
    for _ in range(2):
        assert shared(images).maps[0].requires_grad
    assert trunk.passes == 2
    with torch.no_grad():
        shared(images)
        trunk.train()
        shared(images)
        shared(images)
        assert trunk.passes == 5
        trunk.eval()
        shared(images)
    assert trunk.passes == 6


@torch.no_grad()
def test_precision_is_part_of_what_is_asked(trunk: Trunk) -> None:
    """Features of half precision are not given to who wants whole ones."""
    shared, images = SharedTrunk(trunk), torch.rand(1, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = shared(images).maps[0]
    whole = shared(images).maps[0]
    assert not torch.equal(whole, half)
    assert torch.equal(whole, trunk(images).maps[0])


def test_two_heads_look_once(merged: MergedModel) -> None:
    """On a square of the trunk's size, labelling by two heads takes one pass, and gives what two passes give."""
    passes = count_passes(merged)
    together, apart = merged.capabilities(), {task: merged.capability(task) for task in merged.heads}
    benchmark = ZeroShotSegmentation(size=SIDE, two_head_size=SIDE, templates="plain", threshold=0.0)
    labels = []
    for model, expected in ((together, 1), (apart, 2)):
        labeller = benchmark.labeller(model, SHAPES, store=Store())
        assert isinstance(labeller, TwoHeads)
        passes.clear()
        labels.append(labeller.label(picture(), name="x"))
        assert passes == [(1, 3, SIDE, SIDE)] * expected
    assert np.array_equal(*labels)


def test_capabilities_answer_as_they_do_alone(merged: MergedModel) -> None:
    """Embeddings, cells and masks are equal bit for bit, in any order, on pictures of any shape."""
    together = merged.capabilities()
    boxes = torch.tensor([[5.0, 5.0, 60.0, 40.0]])
    for shown in (picture(), picture(64, 80), picture()):
        assert torch.equal(
            together["clip"].encode_cells([shown], size=SIDE), merged.clip.encode_cells([shown], size=SIDE)
        )
        for ours, theirs in zip(
            together["sam"].set_image(shown).predict(boxes=boxes),
            merged.sam.set_image(shown).predict(boxes=boxes),
            strict=True,
        ):
            assert torch.equal(ours, theirs)
        assert torch.equal(
            together["clip"].encode_image([shown], size=SIDE), merged.clip.encode_image([shown], size=SIDE)
        )


def test_the_trunk_is_one_object_with_the_models_weights(merged: MergedModel) -> None:
    """All capabilities have the same trunk by identity, made of the model's own parameters; its names do not change."""
    names = list(merged.state_dict())
    trunks = {id(capability.network.trunk): capability.network.trunk for capability in merged.capabilities().values()}
    (shared,) = trunks.values()
    assert {id(parameter) for parameter in shared.parameters()} == {id(p) for p in merged.trunk.parameters()}
    assert list(merged.state_dict()) == names
    assert merged.network("clip").trunk is merged.trunk
