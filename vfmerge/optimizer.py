"""Which parameters a stage trains, at which rates, and how the rates move."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vfmerge.errors import InputError
from vfmerge.model import MergedModel
from vfmerge.recipe import AdamW, Stage


def prefix_of(name: str, stage: Stage) -> str | None:
    """The longest prefix of the stage's `train` that covers this parameter, or none: then it is frozen."""
    covering = [prefix for prefix in stage.train if name == prefix or name.startswith(prefix + ".")]
    return max(covering, key=len, default=None)


def trainable(model: MergedModel, stage: Stage) -> dict[str, list[str]]:
    """Names of the parameters that the stage trains, by prefix. Raises InputError for a prefix that covers none."""
    covered: dict[str, list[str]] = {prefix: [] for prefix in stage.train}
    for name, _ in model.named_parameters():
        prefix = prefix_of(name, stage)
        if prefix is not None and name not in model.fixed:
            covered[prefix].append(name)
    for prefix, names in covered.items():
        if not names:
            raise InputError(f"train.{prefix}: no trainable parameter has this prefix; try trunk or heads.NAME")
    return covered


def freeze(model: MergedModel, stage: Stage) -> None:
    """Let exactly the stage's parameters learn; modules that have some, and none that learns, run in eval mode.

    So a frozen block drops nothing and counts no batch. A head that could not learn in any stage, a base's own, is in
    training mode where it is taught: it may keep statistics.
    """
    chosen = {name for names in trainable(model, stage).values() for name in names}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    able = {name for name, _ in model.named_parameters()} - model.fixed
    taught = {task for stream in stage.streams for task in stream.tasks}
    _set_mode(model.trunk, _learns(model.trunk))
    for task, head in model.heads.items():
        idle = not any(name.startswith(f"heads.{task}.") for name in able)
        _set_mode(head, _learns(head) or (idle and task in taught))


def _set_mode(part: nn.Module, mode: bool) -> None:
    """Training mode or not, but never for what is frozen within; modules without parameters do as what they are in."""
    part.train(mode)
    for module in part.modules():
        if module is not part and next(module.parameters(), None) is not None and not _learns(module):
            module.eval()


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def build(model: MergedModel, stage: Stage, settings: AdamW) -> torch.optim.AdamW:
    """AdamW over the stage's parameters; each group knows its peak rate. No decay for biases and norms."""
    parameters = dict(model.named_parameters())
    groups: list[dict[str, Any]] = []
    for prefix, names in trainable(model, stage).items():
        for decays in (True, False):
            members = [name for name in names if (parameters[name].dim() > 1) == decays]
            if members:
                groups.append(
                    {
                        "params": [parameters[name] for name in members],
                        "names": members,
                        "prefix": prefix,
                        "peak": stage.train[prefix],
                        "weight_decay": settings.weight_decay if decays else 0.0,
                    }
                )
    return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, fused=True)


def set_rates(optimizer: torch.optim.AdamW, stage: Stage, *, step: int, steps: int) -> dict[str, float]:
    """Set every group's rate for this step; the rates by prefix."""
    factor = _factor(stage, step=step, steps=steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return {group["prefix"]: group["lr"] for group in optimizer.param_groups}


def _factor(stage: Stage, *, step: int, steps: int) -> float:
    """Share of the peak rate: linear warm-up, then a cosine to `end`, or constant, or a tenth after each drop."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    if stage.schedule == "constant":
        return 1.0
    if stage.schedule == "steps":
        return 0.1 ** sum(step >= round(drop * steps) for drop in stage.drops)
    done = (step - stage.warmup) / max(steps - stage.warmup, 1)
    return stage.end + (1 - stage.end) * 0.5 * (1 + math.cos(math.pi * done))


def tensors(optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """The optimiser's state as named tensors, for a checkpoint without pickle."""
    return {
        f"{kind}/{name}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for kind, value in optimizer.state[parameter].items()
    }


def restore(optimizer: torch.optim.AdamW, saved: dict[str, Tensor]) -> None:
    """The reverse of `tensors`."""
    parameters = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    for key, value in saved.items():  # a parameter that no loss reached has none
        kind, name = key.split("/", 1)
        optimizer.state[parameters[name]][kind] = value.to(parameters[name].device)
