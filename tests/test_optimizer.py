"""Which parameters learn, at which rates, and that an optimiser comes back as it was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vfmerge import optimizer, parts, recipe
from vfmerge.errors import InputError
from vfmerge.model import MergedModel
from vfmerge.recipe import AdamW, Stage


@pytest.fixture(scope="module")
def merged(small: Path) -> MergedModel:
    return MergedModel(parts.build_adapters(recipe.load(str(small))), base="sam")


def stage(train: dict[str, float] | None = None, **more: Any) -> Stage:
    streams = ({"data": "d", "size": 32, "batch": 1, "tasks": {"clip": 1.0}},)
    return Stage.model_validate({"steps": 10, "train": train or {"trunk": 1.0}, "streams": streams} | more)


def rates(plan: Stage, *, steps: int) -> list[float]:
    """The rate that each step of a stage has."""
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    groups = [{"params": [weight], "prefix": prefix, "peak": peak} for prefix, peak in plan.train.items()]
    adamw = torch.optim.AdamW(groups, lr=0.0)
    found = []
    for step in range(steps):
        told = optimizer.set_rates(adamw, plan, step=step, steps=steps)
        assert told == {group["prefix"]: group["lr"] for group in adamw.param_groups}
        found.append(told["trunk"])
    return found


def test_warm_up_then_cosine() -> None:
    """A straight line up to the peak, then half a cosine towards the end's share, by their formulas."""
    found = rates(stage({"trunk": 0.5}, warmup=4, end=0.1), steps=12)
    line = [0.5 * step / 4 for step in (1, 2, 3, 4)]
    cosine = [0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * n / 8)) / 2) for n in range(8)]
    assert found == pytest.approx(line + cosine, rel=1e-12)
    assert found[3] == found[4] == max(found)


def test_constant() -> None:
    """After the warm-up nothing moves."""
    assert rates(stage(warmup=2, schedule="constant"), steps=5) == [0.5, 1, 1, 1, 1]


def test_a_rate_that_drops() -> None:
    """To a tenth at each share of the stage, warm-up and all, and no sooner."""
    plan = stage({"trunk": 0.5}, warmup=2, schedule="steps", drops=(0.5, 0.75))
    assert rates(plan, steps=8) == pytest.approx([0.25, 0.5, 0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["stages.probe.schedule=steps"], r"stages\.probe\.drops: none, and schedule is steps; give shares"),
        (["stages.probe.drops=[0.5]"], r"stages\.probe\.drops: \[0\.5\] with schedule cosine; write schedule: steps"),
    ],
)
def test_drops_go_with_their_schedule(small: Path, changes: list[str], says: str) -> None:
    """One without the other would do nothing: one line each; both together are a stage."""
    with pytest.raises(InputError, match=says):
        recipe.load(str(small), changes)
    plan = recipe.load(str(small), ["stages.probe.schedule=steps", "stages.probe.drops=[0.5]"])
    assert plan.stages["probe"].drops == (0.5,)


def test_a_stage_that_is_all_warm_up() -> None:
    """It ends at the peak."""
    assert rates(stage(warmup=3), steps=3) == pytest.approx([1 / 3, 2 / 3, 1])


def test_every_prefix_has_its_own_peak() -> None:
    """Two prefixes move alike, each below its own peak."""
    plan = stage({"trunk": 1e-3, "heads.clip": 4e-3})
    weight = torch.nn.Parameter(torch.zeros(2))
    other = torch.nn.Parameter(torch.zeros(2))
    groups = [
        {"params": [p], "prefix": k, "peak": plan.train[k]} for p, k in zip((weight, other), plan.train, strict=True)
    ]
    told = optimizer.set_rates(torch.optim.AdamW(groups, lr=0.0), plan, step=5, steps=10)
    assert told == pytest.approx({"trunk": 0.5e-3, "heads.clip": 2e-3})


def test_the_longest_prefix_wins(merged: MergedModel) -> None:
    """A part of a part can have a rate of its own, whatever the order in the recipe."""
    for train in ({"trunk": 1.0, "trunk.blocks.1": 2.0}, {"trunk.blocks.1": 2.0, "trunk": 1.0}):
        covered = optimizer.trainable(merged, stage(train))
        assert covered["trunk.blocks.1"] == [n for n, _ in merged.named_parameters() if n.startswith("trunk.blocks.1.")]
        assert covered["trunk"] == [
            n for n, _ in merged.named_parameters() if n.startswith("trunk.") and not n.startswith("trunk.blocks.1.")
        ]


def test_a_prefix_ends_at_a_dot(merged: MergedModel) -> None:
    """`trunk.blocks.1` does not cover `trunk.blocks.10`, nor `heads.cl` the head `clip`; a full name covers itself."""
    assert optimizer.prefix_of("trunk.blocks.10.weight", stage({"trunk.blocks.1": 1.0})) is None
    assert optimizer.prefix_of("trunk.pos_embed", stage({"trunk.pos_embed": 1.0})) == "trunk.pos_embed"
    with pytest.raises(InputError, match=r"train\.heads\.cl: "):
        optimizer.trainable(merged, stage({"heads.cl": 1.0}))


@pytest.mark.parametrize("prefix", ["trunk.absent", "heads.clip.text", "heads.sam.prompt_encoder"])
def test_a_prefix_without_parameters_is_refused(merged: MergedModel, prefix: str) -> None:
    """Nothing there, or nothing that may learn: the text tower and the prompt encoder are their parents'."""
    with pytest.raises(InputError, match=f"train.{prefix}: "):
        optimizer.trainable(merged, stage({"trunk": 1.0, prefix: 1.0}))


def test_freeze(merged: MergedModel) -> None:
    """What no prefix covers does not learn, and parts without anything that does are in eval mode."""
    optimizer.freeze(merged, stage({"heads.clip.mlp": 1.0}))
    learning = {name for name, parameter in merged.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in merged.named_parameters() if name.startswith("heads.clip.mlp.")}
    assert (merged.trunk.training, merged.heads["sam"].training, merged.heads["clip"].training) == (False, False, True)
    optimizer.freeze(merged, stage({"trunk": 1.0}))
    assert (merged.trunk.training, merged.heads["sam"].training, merged.heads["clip"].training) == (True, False, False)
    assert not any(parameter.requires_grad for parameter in merged.heads.parameters())


def test_what_is_frozen_within_is_at_rest(merged: MergedModel) -> None:
    """Where a block learns, others of its trunk are in eval mode, with all in them, and it is not, with all in it."""
    optimizer.freeze(merged, stage({"trunk.blocks.1": 1.0}))
    first, second = (list(block.modules()) for block in merged.trunk.blocks)
    assert any(next(module.parameters(), None) is None for module in first)  # as a dropout: it has none to learn
    assert [module.training for module in first] == [False] * len(first)
    assert [module.training for module in second] == [True] * len(second)
    assert merged.trunk.training


def test_a_head_that_cannot_learn(merged: MergedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in training mode where it is taught, for it may keep statistics; and what it has of parameters is not."""
    head = merged.heads["sam"]
    monkeypatch.setattr(merged, "fixed", merged.fixed | {f"heads.sam.{name}" for name, _ in head.named_parameters()})
    taught = {"data": "d", "size": 32, "batch": 1, "tasks": {"sam": 1.0}}
    optimizer.freeze(merged, stage({"trunk": 1.0}, streams=(taught,)))
    assert (head.training, head.prompt_encoder.training, head.mask_decoder.training) == (True, False, False)
    optimizer.freeze(merged, stage({"trunk": 1.0}))
    assert not head.training


def test_no_decay_for_biases_and_norms(merged: MergedModel) -> None:
    """Each parameter that learns is in one group; those of one axis are not decayed, all others are."""
    plan = stage({"trunk": 1.0, "heads.clip": 2.0})
    adamw = optimizer.build(merged, plan, AdamW(weight_decay=0.3, betas=(0.8, 0.95), eps=1e-6))
    names = dict(merged.named_parameters())
    grouped = [name for group in adamw.param_groups for name in group["names"]]
    assert sorted(grouped) == sorted(name for covered in optimizer.trainable(merged, plan).values() for name in covered)
    for group in adamw.param_groups:
        assert (group["betas"], group["eps"]) == ((0.8, 0.95), 1e-6)
        assert group["peak"] == plan.train[group["prefix"]]
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert parameter is names[name]
            assert group["weight_decay"] == (0.0 if parameter.dim() <= 1 else 0.3)


def test_state_comes_back(merged: MergedModel) -> None:
    """Saved and restored, the optimiser takes the same next step, though a parameter never had a gradient."""
    plan = stage({"heads.clip": 1e-2})
    parameters = [p for n, p in merged.named_parameters() if n in optimizer.trainable(merged, plan)["heads.clip"]]
    before = [parameter.detach().clone() for parameter in parameters]

    def step(adamw: torch.optim.AdamW, number: int) -> None:
        optimizer.set_rates(adamw, plan, step=number, steps=10)
        torch.manual_seed(number)
        for parameter in parameters[1:]:
            parameter.grad = torch.randn_like(parameter)
        parameters[0].grad = None
        adamw.step()

    first = optimizer.build(merged, plan, AdamW())
    step(first, 0)
    saved = {name: tensor.clone() for name, tensor in optimizer.tensors(first).items()}
    assert len(saved) == 3 * (len(parameters) - 1)  # step, mean, square
    middle = [parameter.detach().clone() for parameter in parameters]
    step(first, 1)
    wanted = [parameter.detach().clone() for parameter in parameters]

    with torch.no_grad():
        for parameter, value in zip(parameters, middle, strict=True):
            parameter.copy_(value)
    second = optimizer.build(merged, plan, AdamW())
    optimizer.restore(second, saved)
    step(second, 1)
    assert all(torch.equal(a, b) for a, b in zip(parameters, wanted, strict=True))
    assert not torch.equal(wanted[1], before[1])
    assert optimizer.tensors(second).keys() == saved.keys()
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
