"""The cache of frozen features and targets: it gives what the networks gave, or it is not used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vfmerge import cache, engine, parts, recipe, signals
from vfmerge.adapter import Batch, Features
from vfmerge.data.world import Shapes
from vfmerge.errors import RunError
from vfmerge.flow import open_flow
from vfmerge.model import Network
from vfmerge.session import Session, begin

# B samples


class Pyramid(nn.Module):
    """Two maps and a summary of an image [B, 3, 4, 4], times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: Tensor) -> Features:
        images = images * self.factor
        return Features(maps=(images, images.mean((2, 3), keepdim=True)), summary=images.flatten(1))


class Pair(nn.Module):
    """A target of two parts."""

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        return features.maps[0].sum(1), features.maps[1][:, 0, 0, 0]


class Bare(nn.Module):
    """A target that is one tensor."""

    def forward(self, features: Features, batch: Batch) -> Tensor:
        return features.maps[0].amax((2, 3))


def batch(images: Tensor) -> Batch:
    count = len(images)
    return Batch(images=images, sizes=torch.full((count, 2), 4), keys=(0,) * count, names=("x",) * count)


def fill(folder: Path, images: Tensor, *, finish: bool = True, factor: float = 1.0) -> None:
    """A cache of these images, two at a time."""
    teachers = {"pair": Network(Pyramid(), Pair()), "bare": Network(Pyramid(), Bare())}
    filler = cache.Filler(folder, length=len(images), trunk=Pyramid(factor), teachers=teachers)
    for first in range(0, len(images), 2):
        filler.add(batch(images[first : first + 2]), notes=[{"index": first}] if first == 2 else [])
    if finish:
        filler.finish({"trunk": "t", "data": "d"})


def test_it_gives_what_it_was_given(tmp_path: Path) -> None:
    """Maps, summary and targets of any samples in any order, to half precision, in the form they had; notes too."""
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    fill(tmp_path / "c", images)
    read = cache.Cache(tmp_path / "c", size=4, device=torch.device("cpu"))
    features, targets, told = read.read((4, 0, 4), (7, 8, 9))
    with torch.no_grad():
        wanted = Pyramid()(images[[4, 0, 4]])
    assert len(features.maps) == 2
    for one, other in zip((*features.maps, features.summary), (*wanted.maps, wanted.summary), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    both, bare = targets["pair"], targets["bare"]
    torch.testing.assert_close(both[0], wanted.maps[0].sum(1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(both[1], wanted.maps[1][:, 0, 0, 0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(bare, wanted.maps[0].amax((2, 3)), rtol=1e-3, atol=1e-3)
    assert (told.keys, tuple(told.images.shape), told.images.dtype) == ((7, 8, 9), (3, 3, 4, 4), torch.float32)
    assert read.notes == [{"index": 2}]


def test_it_is_a_cache_of_one_thing(tmp_path: Path) -> None:
    """Another trunk or other data, and it is not what is wanted; nor is a folder that is not there."""
    fill(tmp_path / "c", torch.rand(4, 3, 4, 4))
    assert cache.holds(tmp_path / "c", {"trunk": "t", "data": "d"})
    assert not cache.holds(tmp_path / "c", {"trunk": "u", "data": "d"})
    assert not cache.holds(tmp_path / "c", {"trunk": "t", "data": "e"})
    assert not cache.holds(tmp_path / "absent", {"trunk": "t", "data": "d"})


def test_an_interrupted_fill_is_none(tmp_path: Path) -> None:
    """Until it is finished it holds nothing, and it cannot be finished early; a new one replaces it."""
    images = torch.rand(4, 3, 4, 4)
    fill(tmp_path / "c", images, finish=False)
    assert not cache.holds(tmp_path / "c", {"trunk": "t", "data": "d"})
    filler = cache.Filler(tmp_path / "c", length=4, trunk=Pyramid(), teachers={})
    filler.add(batch(images[:2]), notes=[])
    with pytest.raises(AssertionError):
        filler.finish({"trunk": "t", "data": "d"})
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["map-0.npy", "map-1.npy", "summary.npy"]


@pytest.mark.parametrize("factor", [1e6, float("nan")])
def test_values_that_half_precision_has_not(tmp_path: Path, factor: float) -> None:
    """Better no cache than a wrong one: a fault that names the array and the way out."""
    with pytest.raises(RunError, match="map-0 exceeds half precision; set cache: false"):
        fill(tmp_path / "c", torch.rand(2, 3, 4, 4) + 1, factor=factor)


def test_a_fingerprint_sees_every_number() -> None:
    """The same weights have the same one; a parameter or a buffer that moved by a bit has another."""
    torch.manual_seed(0)
    module = nn.BatchNorm2d(3)
    before = cache.fingerprint(module)
    assert cache.fingerprint(nn.BatchNorm2d(3)) == before
    assert module.running_mean is not None
    module.running_mean[1] = torch.finfo(torch.float32).tiny
    assert cache.fingerprint(module) != before


@pytest.fixture
def session(small: Path, tmp_path: Path) -> Iterator[Session]:
    plan = recipe.load(str(small))
    adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
    device = torch.device("cpu")
    opened = begin(plan, tmp_path, device=device, adapters=adapters, sources=sources, request=signals.Request())
    yield opened
    opened.close()


def first(session: Session) -> tuple[Features | None, dict[str, Any], Batch]:
    flow = open_flow(session, "probe", session.recipe.stages["probe"], number=0, start=0)
    return next(flow.steps(0, 1))


def test_a_moved_trunk_fills_it_again(session: Session) -> None:
    """Opened twice the trunk runs once; after the trunk has moved, the features are the new one's."""
    passes: list[int] = []
    session.model.trunk.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    one, _, _ = first(session)
    assert sum(passes) == 24
    again, _, _ = first(session)
    assert sum(passes) == 24
    with torch.no_grad():
        session.model.trunk.pos_embed.add_(1)
    other, _, _ = first(session)
    assert sum(passes) == 48
    assert one is not None
    assert again is not None
    assert other is not None
    assert torch.equal(one.maps[0], again.maps[0])
    assert not torch.allclose(one.maps[0], other.maps[0], atol=0.01)


def test_other_data_fills_it_again(session: Session) -> None:
    """As many pictures, but others: the features are those of the new ones."""
    one, _, _ = first(session)
    session.sources["images"] = Shapes(layout="mixed", count=24, size=32, masks=False, seed=1)
    other, _, _ = first(session)
    assert one is not None
    assert other is not None
    assert not torch.allclose(one.maps[0], other.maps[0], atol=0.01)


def test_every_size_has_its_own(session: Session) -> None:
    """A cached stream of two sizes draws from both, each with maps of its own side."""
    stage = session.recipe.stages["probe"]
    stage = stage.model_copy(update={"streams": (stage.streams[0].model_copy(update={"size": (32, 48)}),)})
    flow = open_flow(session, "probe", stage, number=0, start=0)
    sides = [
        (batch.images.shape[-1], features.maps[0].shape[-1]) for features, _, batch in flow.steps(0, 8) if features
    ]
    assert sides == [(flow.items.plan(step).size, flow.items.plan(step).size // 8) for step in range(8)]
    assert set(sides) == {(32, 4), (48, 6)}


def test_cached_steps_cost_what_others_do(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cache and without, each step has the same loss and gradient, to half precision."""
    out = tmp_path / "run"
    changes = ["stages.probe.cache=false", "evaluate={}", "stages.distill.steps=2"]
    monkeypatch.delattr(cache, "Filler")  # it is not asked
    engine.run(recipe.load(str(small), changes), out, name="small")
    uncached, cached = (
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()[:5]]
        for folder in (out, finished)
    )
    for one, other in zip(uncached, cached, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-3)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=2e-2)
    assert [line["loss"] for line in uncached] != [line["loss"] for line in cached]
