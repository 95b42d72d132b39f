"""The cache of frozen features and targets: it gives what the networks gave, or it is not used."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vfmerge import cache, check, column, engine, parts, plugins, recipe, signals, weights
from vfmerge.adapter import Batch, Features
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError, RunError, Stopped
from vfmerge.flow import Flow, open_flow
from vfmerge.model import Network
from vfmerge.recipe import Kept
from vfmerge.session import Session, begin

# B samples

_LABELLED = """\
base: sam
parents:
  sam: {adapter: sam, options: {variant: tiny, random: true, geometry: {depth: 2, global_blocks: [1], image_size: 32}}}
  clip: {adapter: open_clip, options: {model: tiny, layers: 1}}
tasks:
  naming: {adapter: naming}
data:
  scenes: {kind: shapes, layout: several, count: 8, size: 32}
stages:
  names:
    steps: 2
    train: {heads.naming: 1e-2, heads.clip: 1e-3}
    cache: targets
    streams:
      - {data: scenes, size: 32, batch: 4, fit: pad, tasks: {naming: 1, clip: 1}}
      - {data: scenes, size: 32, batch: 4, fit: pad, tasks: {naming: 1}}
"""


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
    return Batch(images=images, keys=(0,) * count, names=("x",) * count)


OF = {"trunk": "t", "data": "d"}


def quiet() -> None:
    """Nobody asks to stop."""


def holds(folder: Path, wanted: dict[str, Any] = OF) -> bool:
    return cache.holds(folder, wanted, poll=quiet)


def open_filler(
    folder: Path, *, length: int, trunk: nn.Module | None, of: dict[str, Any] | None = None
) -> cache.Filler:
    teachers = {"pair": Network(Pyramid(), Pair()), "bare": Network(Pyramid(), Bare())}
    return cache.Filler(folder, length=length, trunk=trunk, teachers=teachers, of=of or OF, poll=quiet)


def add(filler: cache.Filler, images: Tensor, *, until: int) -> None:
    """The images from where the filler is, two at a time; of the second pair there is a note."""
    for first in range(filler.done, until, 2):
        filler.add(batch(images[first : first + 2]), notes=[{"index": first}] if first == 2 else [])


def fill(folder: Path, images: Tensor, *, finish: bool = True, factor: float = 1.0) -> None:
    """A cache of these images."""
    filler = open_filler(folder, length=len(images), trunk=Pyramid(factor))
    add(filler, images, until=len(images))
    if finish:
        filler.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_gives_what_it_was_given(tmp_path: Path) -> None:
    """Maps, summary and targets of any samples in any order, to half precision, in the form they had; notes too."""
    images = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    fill(tmp_path / "c", images)
    read = cache.Cache(tmp_path / "c", size=4, device=torch.device("cpu"))
    features, targets, told = read.features((4, 0, 4)), read.targets((4, 0, 4)), read.blank((4, 0, 4), (7, 8, 9))
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
    assert holds(tmp_path / "c")
    assert not holds(tmp_path / "c", {"trunk": "u", "data": "d"})
    assert not holds(tmp_path / "c", {"trunk": "t", "data": "e"})
    assert not holds(tmp_path / "absent")


def blank(path: Path) -> None:
    """Zeros from the middle on, as of a write that was lost."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def flip(path: Path) -> None:
    """One bit of the last byte."""
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "blank": blank,
    "flipped": flip,
    "gone": Path.unlink,
    "unreadable": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", ["complete.json", "map-1.npy", "target-bare-0.npy"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_cache_is_none(tmp_path: Path, how: str, name: str) -> None:
    """Whatever happened to one of its files, it is not used, and filled again it is what it was."""
    images = torch.rand(4, 3, 4, 4)
    fill(tmp_path / "c", images)
    whole = contents(tmp_path / "c")
    assert holds(tmp_path / "c")
    DAMAGE[how](tmp_path / "c" / name)
    assert not holds(tmp_path / "c")
    fill(tmp_path / "c", images)
    assert contents(tmp_path / "c") == whole


def test_looking_through_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece of a large cache, whether it is whole or was only begun."""
    monkeypatch.setattr(column, "PIECE", 100)
    images = torch.rand(4, 3, 4, 4)
    fill(tmp_path / "c", images)
    polled: list[None] = []
    assert cache.holds(tmp_path / "c", OF, poll=lambda: polled.append(None))
    assert len(polled) == column.pieces(tmp_path / "c") == 21
    filler = open_filler(tmp_path / "begun", length=4, trunk=Pyramid())
    add(filler, images, until=2)
    filler.keep()

    def stop() -> None:
        raise Stopped("enough")

    with pytest.raises(Stopped):
        cache.holds(tmp_path / "c", OF, poll=stop)
    with pytest.raises(Stopped):
        cache.Filler(tmp_path / "begun", length=4, trunk=Pyramid(), teachers={}, of=OF, poll=stop)


def test_an_interrupted_fill_is_none(tmp_path: Path) -> None:
    """Until it is finished it holds nothing, and it cannot be finished early; a new one replaces it."""
    images = torch.rand(4, 3, 4, 4)
    fill(tmp_path / "c", images, finish=False)
    assert not holds(tmp_path / "c")
    filler = open_filler(tmp_path / "c", length=4, trunk=Pyramid())
    add(filler, images, until=2)
    with pytest.raises(AssertionError):
        filler.finish()
    targets = [f"target-{name}.npy" for name in ("bare-0", "pair-0", "pair-1")]
    assert sorted(contents(tmp_path / "c")) == ["map-0.npy", "map-1.npy", "summary.npy", *targets]


def test_what_was_kept_is_not_computed_again(tmp_path: Path) -> None:
    """A fill that was killed goes on after the samples it kept, not those it lost, and ends with the same bytes."""
    images = torch.rand(7, 3, 4, 4)
    fill(tmp_path / "whole", images)
    filler = open_filler(tmp_path / "c", length=7, trunk=Pyramid())
    add(filler, images, until=4)
    filler.keep()
    add(filler, images, until=6)  # and it is killed
    assert not holds(tmp_path / "c")
    filler = open_filler(tmp_path / "c", length=7, trunk=Pyramid())
    assert filler.done == 4
    add(filler, images, until=7)
    filler.finish()
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def test_what_was_kept_of_something_else(tmp_path: Path) -> None:
    """It is not gone on with, and does not stay."""
    images = torch.rand(4, 3, 4, 4)
    filler = open_filler(tmp_path / "c", length=4, trunk=Pyramid())
    add(filler, images, until=2)
    filler.keep()
    filler = open_filler(tmp_path / "c", length=4, trunk=Pyramid(), of=OF | {"trunk": "u"})
    assert filler.done == 0
    assert contents(tmp_path / "c") == {}


@pytest.mark.parametrize("name", ["progress.json", "summary.npy"])
@pytest.mark.parametrize("how", DAMAGE)
def test_what_was_kept_and_is_damaged(tmp_path: Path, how: str, name: str) -> None:
    """It is not gone on with: neither zeros nor other numbers stand in the place of what was kept."""
    images = torch.rand(4, 3, 4, 4)
    fill(tmp_path / "whole", images)
    filler = open_filler(tmp_path / "c", length=4, trunk=Pyramid())
    add(filler, images, until=2)
    filler.keep()
    DAMAGE[how](tmp_path / "c" / name)
    filler = open_filler(tmp_path / "c", length=4, trunk=Pyramid())
    assert filler.done == 0
    add(filler, images, until=4)
    filler.finish()
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def test_targets_alone(tmp_path: Path) -> None:
    """Without a trunk there are no features, and the targets are the same."""
    images = torch.rand(5, 3, 4, 4)
    fill(tmp_path / "both", images)
    filler = open_filler(tmp_path / "c", length=5, trunk=None)
    add(filler, images, until=5)
    filler.finish()
    there, both = contents(tmp_path / "c"), contents(tmp_path / "both")
    assert there.keys() == {"complete.json"} | {name for name in both if name.startswith("target-")}
    assert all(both[name] == content for name, content in there.items() if name != "complete.json")
    read = cache.Cache(tmp_path / "c", size=4, device=torch.device("cpu"))
    with torch.no_grad():
        wanted = Bare()(Pyramid()(images), batch(images))
    torch.testing.assert_close(read.targets((3, 1))["bare"], wanted[[3, 1]], rtol=1e-3, atol=1e-3)


def test_a_full_disk(tmp_path: Path) -> None:
    """Is a fault that names the file and the reason."""
    (tmp_path / "a.npy").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"a.npy: cannot be written: No space left on device; make room, then run again"):
        column.Column(tmp_path / "a.npy", shape=(2, 3))


@pytest.mark.parametrize("factor", [1e6, float("nan")])
def test_values_that_half_precision_has_not(tmp_path: Path, factor: float) -> None:
    """Better no cache than a wrong one: a fault that names the array and the way out."""
    with pytest.raises(RunError, match="map-0 exceeds half precision; set cache: false"):
        fill(tmp_path / "c", torch.rand(2, 3, 4, 4) + 1, factor=factor)


def test_a_fingerprint_sees_every_number() -> None:
    """The same weights have the same one; a parameter or a buffer that moved by a bit has another."""
    torch.manual_seed(0)
    module = nn.BatchNorm2d(3)
    before = weights.fingerprint(module)
    assert weights.fingerprint(nn.BatchNorm2d(3)) == before
    assert module.running_mean is not None
    module.running_mean[1] = torch.finfo(torch.float32).tiny
    assert weights.fingerprint(module) != before


@pytest.fixture
def session(small: Path, tmp_path: Path) -> Iterator[Session]:
    plan = recipe.load(str(small))
    adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
    device = torch.device("cpu")
    opened = begin(plan, tmp_path, device=device, adapters=adapters, sources=sources, request=signals.Request())
    yield opened
    opened.close()


def open_kept(session: Session, kept: Kept, **stream: Any) -> Flow:
    """The first stage's stream with so much of it cached, and changed so."""
    stage = session.recipe.stages["probe"]
    changed = stage.streams[0].model_copy(update=stream)
    stage = stage.model_copy(update={"cache": kept, "streams": (changed,)})
    return open_flow(session, "probe", stage, number=0, start=0)


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


@pytest.mark.parametrize("other", ["precision", "fit"])
def test_other_features_fill_it_again(session: Session, other: str) -> None:
    """Those in another precision, or of pictures made square in another way, are others."""
    asked: list[object] = []
    session.teachers["clip"].register_forward_pre_hook(lambda module, inputs: asked.append(module))
    for expected in (6, 6):
        open_kept(session, True)
        assert len(asked) == expected
    if other == "precision":
        session.recipe = session.recipe.model_copy(update={"precision": "bf16"})
    open_kept(session, True, **({"fit": "pad"} if other == "fit" else {}))
    assert len(asked) == 12


def test_loading_processes_read_what_it_is_filled_with(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what heads are calibrated by: not one picture is read by the run itself, and all is as if it did."""
    here, plain = open_kept(session, "targets"), open_kept(session, False)
    session.recipe = session.recipe.model_copy(update={"workers": 1})
    wanted = next(plain.targets("clip"))
    monkeypatch.setattr(Shapes, "read", None)  # in this process, and none that it starts
    assert next(plain.targets("clip")).equal(wanted)
    shutil.move(session.out / "cache", session.out / "before")
    there = open_kept(session, "targets")
    assert next(there.targets("clip")).equal(next(here.targets("clip")))
    files = [contents(session.out / folder / "probe-0-32") for folder in ("before", "cache")]
    assert files[0] == files[1]


def test_every_size_has_its_own(session: Session) -> None:
    """A cached stream of two sizes draws from both, each with maps of its own side."""
    flow = open_kept(session, True, size=(32, 48))
    sides = [
        (batch.images.shape[-1], features.maps[0].shape[-1]) for features, _, batch in flow.steps(0, 8) if features
    ]
    assert sides == [(flow.items.plan(step).size, flow.items.plan(step).size // 8) for step in range(8)]
    assert set(sides) == {(32, 4), (48, 6)}


def test_cached_targets_come_with_whole_batches(session: Session) -> None:
    """Pictures and all else are those of the uncached stream, to the bit; targets are the teacher's in half precision.

    The teacher is not asked again, and the trunk is left to the step, however it moves.
    """
    stream = {"size": (32, 48), "data": "masks"}  # whose masks nobody learns from
    plain = list(open_kept(session, False, **stream).steps(0, 6))
    flow = open_kept(session, "targets", **stream)
    session.teachers.clear()
    with torch.no_grad():
        session.model.trunk.pos_embed.add_(1)
    again = list(flow.steps(0, 6))
    assert {one.images.shape[-1] for _, _, one in again} == {32, 48}
    for (_, wanted, one), (features, targets, other) in zip(plain, again, strict=True):
        assert features is None
        assert targets["clip"].equal(wanted["clip"].half().float())
        for field in dataclasses.fields(Batch):
            before, after = getattr(one, field.name), getattr(other, field.name)
            assert torch.equal(before, after) if torch.is_tensor(before) else before == after
    assert again[0][2].masks is not None


def test_heads_are_calibrated_by_cached_targets(session: Session) -> None:
    """What `calibrate` sees are the targets of the steps to come, read and not computed."""
    flow = open_kept(session, "targets")
    session.teachers.clear()
    seen = list(itertools.islice(flow.targets("clip"), 3))
    assert all(one.equal(targets["clip"]) for one, (_, targets, _) in zip(seen, flow.steps(0, 3), strict=True))


@pytest.mark.parametrize("kept", [False, "targets"])
def test_calibrating_ends_on_request(
    session: Session, kept: Kept, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the next target, which may take long; until then one sees how far it is."""
    monkeypatch.setattr("vfmerge.flow._EVERY", 8)
    flow = open_kept(session, kept)
    asked: list[object] = []
    session.teachers["clip"].register_forward_pre_hook(lambda module, inputs: asked.append(module))
    capsys.readouterr()
    targets = flow.targets("clip")
    for _ in range(3):
        next(targets)
    assert [line.split()[:4] for line in capsys.readouterr().err.splitlines()] == [
        ["probe:", "calibrating", "clip", "8"]
    ]
    session.request.name = "SIGTERM"
    with pytest.raises(Stopped, match=r"^SIGTERM: stopped while calibrating; run again to go on$"):
        next(targets)
    assert len(asked) == (0 if kept else 3)  # a kept one is read


def test_looking_through_a_cache_ends_on_request(session: Session) -> None:
    """It takes minutes for a large one."""
    open_kept(session, "targets")
    session.request.name = "SIGUSR1"
    with pytest.raises(Stopped, match=r"^SIGUSR1: stopped while looking through a cache; run again to go on$"):
        open_kept(session, "targets")


def test_a_stopped_fill_is_gone_on_with(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked to stop, or killed: the parents are not asked again for what was kept."""
    passes: list[int] = []
    session.teachers["clip"].register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0].names)))
    session.recipe = session.recipe.model_copy(update={"save_minutes": 1e-9})  # after every batch
    add = cache.Filler.add

    def interrupted(filler: cache.Filler, *given: Any, **more: Any) -> None:
        add(filler, *given, **more)
        if sum(passes) == 8:
            session.request.name = "SIGTERM"
        if sum(passes) == 16:
            raise RuntimeError("killed")

    monkeypatch.setattr(cache.Filler, "add", interrupted)
    with pytest.raises(Stopped, match="SIGTERM: stopped while filling a cache"):
        open_kept(session, "targets")
    session.request.name = None
    with pytest.raises(RuntimeError, match="killed"):
        open_kept(session, "targets")
    kept = sum(passes)
    open_kept(session, "targets")
    assert (kept, sum(passes)) == (16, 28)  # of 24 samples; the last batch before the kill is all that is done again


def test_a_task_without_a_teacher(tmp_path: Path) -> None:
    """Beside a parent's cached target its own is none, and the batch has the labels; beside features it is refused."""
    with plugins.lend({}):
        plugins.add_file(Path(__file__).parent / "fakes" / "labelled.py")
        path = tmp_path / "labelled.yaml"
        path.write_text(_LABELLED)
        plan = recipe.load(str(path))
        adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
        check.require(plan, adapters, sources)
        text = "stages.names.cache: naming is learnt from labels, which are not kept beside features; write targets"
        with pytest.raises(InputError, match=text):
            check.require(recipe.load(str(path), ["stages.names.cache=true"]), adapters, sources)
        cpu = torch.device("cpu")
        opened = begin(plan, tmp_path, device=cpu, adapters=adapters, sources=sources, request=signals.Request())
        with contextlib.closing(opened):
            mixed, alone = (open_flow(opened, "names", plan.stages["names"], number=n, start=0) for n in (0, 1))
            _, targets, told = next(mixed.steps(0, 1))
            assert (targets["naming"], len(targets["clip"])) == (None, 4)
            assert told.labels is not None
            assert not alone.caches
            assert next(alone.steps(0, 1))[1] == {"naming": None}


def test_bad_samples_are_counted_as_without(small: Path, tmp_path: Path) -> None:
    """Where pictures are read at each step, what cannot be used is listed then, and nothing for the cache's sake.

    A sample's target is that of the one in its place.
    """
    (tmp_path / "pictures").mkdir()
    for number in range(24):
        path = tmp_path / "pictures" / f"{number:03}.png"
        Image.fromarray(np.full((32, 32, 3), 10 * number, np.uint8)).save(path)
        if number in (3, 8, 15):
            path.write_bytes(path.read_bytes()[:40])
    found = {}
    for kept in ("targets", "false"):
        out = tmp_path / kept
        changes = [f"data.images={{kind: folder, path: {tmp_path}/pictures}}", "bad_samples=0.5", "evaluate={}"]
        changes += [f"stages.probe.cache={kept}", "stages.distill.steps=2", "stages.adapt.steps=1"]
        changes += ["stages.adapt.epochs=null"]
        engine.run(recipe.load(str(small), changes), out, name="small")
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        found[kept] = (out / "bad_samples.jsonl").read_text(), [line["loss"] for line in lines[:5]]
    assert found["targets"][0] == found["false"][0] != ""
    assert found["targets"][1] == pytest.approx(found["false"][1], rel=2e-3)
    assert found["targets"][1] != found["false"][1]


def test_the_trunk_may_learn_beside_cached_targets(small: Path) -> None:
    """Not beside its own features."""
    assert recipe.load(str(small), ["stages.probe.cache=targets", "stages.probe.train.trunk=1e-5"])
    with pytest.raises(InputError, match=r"stages.probe.cache: the trunk learns"):
        recipe.load(str(small), ["stages.probe.train.trunk=1e-5"])
    with pytest.raises(InputError, match=r"stages.probe.cache: not a choice: 'features'; write 'targets'"):
        recipe.load(str(small), ["stages.probe.cache=features"])


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
