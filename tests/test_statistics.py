"""What is kept beside weights: when statistics of targets and of batches go on, and when they stay."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vfmerge import engine, recipe
from vfmerge.session import Session

RECIPE = """\
base: net
parents:
  net:
    adapter: timm
    options: {model: resnet10t, random: true, size: 64, distill: {summary: none, standardise: running, pictures: 8}}
  dino: {adapter: timm, options: {model: tiny_dino, random: true, distill: {standardise: running, pictures: 8}}}
data:
  images: {kind: shapes, layout: mixed, split: train, count: 24, size: 64, masks: false}
stages:
  learn:
    steps: 5
    train: {trunk: 1e-3, heads.dino: 1e-3}
    streams:
      - {data: images, size: 64, batch: 4, tasks: {net: 1, dino: 1}}
save_steps: 2
"""

Start = Callable[..., Session]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A trunk with batch norms, and two heads whose statistics of targets run: the base's own, and one that learns."""
    path = tmp_path / "running.yaml"
    path.write_text(RECIPE)
    return path


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def states(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The whole model after each step that is yet to come."""
    found: list[dict[str, Tensor]] = []
    record = engine.record

    def note(session: Session, **line: Any) -> None:
        found.append(state(session.model))
        record(session, **line)

    monkeypatch.setattr(engine, "record", note)
    return found


def train(session: Session, *, steps: int) -> None:
    engine.train_stage(session, "learn", session.recipe.stages["learn"], steps=steps, start=0, saved=None)


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}


def test_statistics_run_in_every_step(written: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a base's own head too, which has nothing to learn; towards what is seen, by the momentum."""
    session = start(of=written)
    found = states(session, monkeypatch)
    seen: list[Tensor] = []
    session.teachers["net"].register_forward_hook(lambda module, inputs, target: seen.append(target[0]))
    train(session, steps=3)
    assert not list(session.model.heads["net"].parameters())
    for before, after in itertools.pairwise(found):
        for name in ("net.standards.cells", "dino.standards.cells", "dino.standards.summary"):
            assert {f"heads.{name}.mean", f"heads.{name}.deviation"} <= moved(before, after)
    first, second = (each["heads.net.standards.cells.mean"] for each in found[:2])
    batch = seen[-2].mean((0, 2, 3))  # of the second of three steps; before the first, scales were fitted
    torch.testing.assert_close(second, first.lerp(batch, 0.01))


def test_a_step_that_is_not_made_leaves_no_trace(written: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One target that is not finite costs one step: no statistics of it or its batch stay, and learning goes on."""
    session = start(of=written)
    found = states(session, monkeypatch)

    def spoil(module: nn.Module, inputs: Any, target: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(each * math.inf for each in target) if len(found) == 2 else target

    session.teachers["dino"].register_forward_hook(spoil)
    train(session, steps=4)
    statistics = {name for name in found[0] if "running_" in name or "standards" in name or "num_batches" in name}
    assert len(statistics) > 20
    assert statistics <= moved(found[0], found[1])
    assert moved(found[1], found[2]) == set()
    assert statistics <= moved(found[2], found[3])
    assert all(torch.isfinite(tensor).all() for tensor in found[3].values())
    assert session.skipped == 1


def test_frozen_layers_keep_their_batches_statistics(written: Path, start: Start) -> None:
    """Where a part of the trunk learns, all else of it stays bit for bit as it was."""
    layer = "trunk.model.layer4"
    session = start(f"stages.learn.train={{{layer}: 1e-3, heads.dino: 1e-3}}", of=written)
    before = state(session.model)
    train(session, steps=2)
    changed = {name for name in moved(before, state(session.model)) if name.startswith("trunk.")}
    assert any("running_mean" in name for name in changed)
    assert [name for name in changed if not name.startswith(f"{layer}.")] == []


@pytest.mark.parametrize(
    ("changes", "frozen"),
    [
        (["stages.learn.train={trunk: 1e-3}"], "heads.dino."),
        (["stages.learn.train={heads.dino: 1e-3}", "stages.learn.streams.0.tasks={dino: 1}"], "heads.net."),
    ],
)
def test_a_frozen_head_keeps_its_statistics(
    written: Path, start: Start, monkeypatch: pytest.MonkeyPatch, changes: list[str], frozen: str
) -> None:
    """Its answers would be others with them: of a head that could learn and does not, or that nobody teaches."""
    session = start(*changes, of=written)
    found = states(session, monkeypatch)
    train(session, steps=2)
    assert {name for name in found[0] if name.startswith(frozen) and "standards" in name}
    assert not {name for name in moved(*found) if name.startswith(frozen)}
    assert {name for name in moved(*found) if "standards" in name}


def test_it_goes_on_to_the_same_bits(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut and begun again, all statistics are where they were."""
    plan = recipe.load(str(written))
    engine.merge(plan, tmp_path / "whole", name="running")
    keep = engine.keep

    def cut(session: Session, adamw: Any, *, step: int) -> None:
        keep(session, adamw, step=step)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "keep", cut)
        with pytest.raises(KeyboardInterrupt):
            engine.merge(plan, tmp_path / "cut", name="running")
    engine.merge(plan, tmp_path / "cut", name="running")
    for name in ("merged/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len([json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]) == 5
