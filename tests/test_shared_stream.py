"""Several parents on one stream: statistics before the first step, balancing, dropping, and going on exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vfmerge import engine, optimizer, recipe, statistics
from vfmerge.balance import Balance
from vfmerge.flow import open_flow
from vfmerge.recipe import Recipe
from vfmerge.session import Session

DINO = (
    "{adapter: timm, options: {model: tiny_dino, random: true, distill: {standardise: SCALE, pictures: 6, layers: 1}}}"
)


def shared(scale: str = "running") -> list[str]:
    """A third parent on CLIP's stream of `small`."""
    return [
        f"parents.dino={DINO.replace('SCALE', scale)}",
        "stages.distill.train={trunk: 5e-4, heads.sam: 5e-4, heads.clip: 2e-3, heads.dino: 2e-3}",
        "stages.distill.streams.0.tasks={clip: 1, dino: 1}",
        "evaluate={}",
    ]


def plan(small: Path, *changes: str, scale: str = "running") -> Recipe:
    """`small` with a third parent on CLIP's stream."""
    return recipe.load(str(small), [*shared(scale), *changes])


def lines(run: Path) -> list[dict[str, Any]]:
    """What a run wrote of each step of its stage `distill`."""
    written = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in written if line["stage"] == "distill"]


@pytest.mark.parametrize("scale", ["fixed", "phi_s"])
def test_statistics_are_taken_once_before_the_first_step(
    scale: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every adapter, in the first stage that teaches its task, from its teacher's targets; never again."""
    from vfmerge_adapters.open_clip import OpenCLIP
    from vfmerge_adapters.sam import SAM
    from vfmerge_adapters.timm import Timm

    asked: list[tuple[str, int]] = []
    steps: list[int] = []
    for kind in (SAM, OpenCLIP, Timm):
        whole = kind.calibrate

        def note(self: Any, head: Any, targets: Any, whole: Any = whole, kind: type = kind) -> None:
            asked.append((kind.__name__, len(steps)))
            whole(self, head, targets)

        monkeypatch.setattr(kind, "calibrate", note)
    record = engine.record
    monkeypatch.setattr(engine, "record", lambda *a, **k: (steps.append(1), record(*a, **k))[1])
    engine.merge(plan(small, scale=scale), tmp_path / "run", name="shared")
    assert asked == [("OpenCLIP", 0), ("Timm", 5), ("SAM", 5)]
    import vfmerge

    scales = vfmerge.load(tmp_path / "run" / "merged").heads["dino"].standards
    assert all(torch.count_nonzero(each.mean) > 1 for each in scales.values())


def pulls(start: Callable[..., Session], *changes: str) -> dict[str, float]:
    """Norms of the gradients of both heads on the shared stream, at the stage's first step."""
    session = start(*shared(), *changes)
    stage = session.recipe.stages["distill"]
    session.balance = Balance() if stage.balance else None
    optimizer.freeze(session.model, stage)
    flow = open_flow(session, "distill", stage, number=0, start=0)
    statistics.calibrate(session, "distill", [flow])
    engine.learn(session, flow.plan, *next(flow.steps(0, 1)), number=0)
    gradients = {
        task: [each.grad for each in session.model.heads[task].parameters() if each.grad is not None]
        for task in flow.plan.tasks
    }
    return {task: torch.nn.utils.get_total_norm(each).item() for task, each in gradients.items()}


@pytest.mark.parametrize("balance", ["true", "false"])
def test_a_weight_says_how_hard_a_task_pulls(start: Callable[..., Session], balance: str) -> None:
    """Ten times the weight is ten times the gradient, balanced or not; the other task's stays."""
    once, often = (
        pulls(start, f"stages.distill.balance={balance}", f"stages.distill.streams.0.tasks.clip={weight}")
        for weight in (1, 10)
    )
    assert often == pytest.approx({"clip": 10 * once["clip"], "dino": once["dino"]}, rel=1e-4)


def test_balanced_tasks_pull_alike_whatever_their_units(
    start: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss in units a thousand times as large pulls as hard as before; without balancing, a thousand times."""
    from vfmerge_adapters.open_clip import OpenCLIP

    loss = OpenCLIP.loss
    norms = {}
    for unit in (1, 1000):
        monkeypatch.setattr(
            OpenCLIP, "loss", lambda *given, unit=unit: {name: unit * each for name, each in loss(*given).items()}
        )
        for balance in ("true", "false"):
            norms[balance, unit] = pulls(start, f"stages.distill.balance={balance}")
    assert norms["true", 1000] == pytest.approx(norms["true", 1], rel=1e-3)
    assert norms["false", 1000]["clip"] == pytest.approx(1000 * norms["false", 1]["clip"], rel=1e-3)


def test_what_is_written_of_balanced_losses_is_not_balanced(small: Path, tmp_path: Path) -> None:
    """Curves show the losses themselves, whose first values are those of the plain run."""
    for balance in ("false", "true"):
        engine.merge(plan(small, f"stages.distill.balance={balance}"), tmp_path / balance, name="shared")
    plain, balanced = (lines(tmp_path / balance)[0] for balance in ("false", "true"))
    terms = [key for key in plain if key.startswith("loss.")]
    assert terms
    assert {key: plain[key] for key in terms} == {key: balanced[key] for key in terms}


def test_dropping_leaves_tasks_out(small: Path, tmp_path: Path) -> None:
    """Of two tasks on a stream one is always whole, the other's loss is smaller than without dropping."""
    for chance in ("0.0", "0.9"):
        engine.merge(plan(small, f"stages.distill.streams.0.drop={chance}"), tmp_path / chance, name="shared")
    whole, dropped = (lines(tmp_path / chance)[0] for chance in ("0.0", "0.9"))
    terms = [key for key in whole if key.startswith("loss.0.")]
    assert sum(dropped[key] for key in terms) < sum(whole[key] for key in terms)
    assert all(dropped[key] <= whole[key] for key in terms)
    assert any(dropped[key] > 0 for key in terms)


def test_a_run_that_was_cut_goes_on_to_the_same_bits(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running statistics, running means of losses and dropping are where they were."""
    everything = plan(small, "stages.distill.balance=true", "stages.distill.streams.0.drop=0.5")
    engine.merge(everything, tmp_path / "whole", name="shared")
    keep = engine.keep

    def cut(session: Any, adamw: Any, *, step: int) -> None:
        keep(session, adamw, step=step)
        if step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "keep", cut)
    with pytest.raises(KeyboardInterrupt):
        engine.merge(everything, tmp_path / "cut", name="shared")
    monkeypatch.setattr(engine, "keep", keep)
    engine.merge(everything, tmp_path / "cut", name="shared")
    for name in ("merged/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_dropping_needs_two_tasks_that_images_have(small: Path) -> None:
    """Of one task nothing can be left out, and masks are no images: one line each."""
    from vfmerge import check, parts
    from vfmerge.errors import InputError

    with pytest.raises(InputError, match=r"streams.0.drop: 0.5 of a single task"):
        recipe.load(str(small), ["stages.probe.streams.0.drop=0.5"])
    tasks = ["stages.distill.streams.1.tasks={sam: 10, clip: 1}", "stages.distill.streams.1.drop=0.5"]
    asked = recipe.load(str(small), tasks)
    with pytest.raises(InputError, match=r"streams.1.drop: sam is learnt mask by mask"):
        check.require(asked, parts.build_adapters(asked), parts.build_sources(asked))
