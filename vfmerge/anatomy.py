"""What a merged model is made of: its parts, how large they are, and which stages train them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from vfmerge import optimizer
from vfmerge.adapter import LabelledAdapter
from vfmerge.model import MergedModel, count
from vfmerge.recipe import Recipe

Row = tuple[str, int, str]
"""A part's name, how many numbers its parameters hold, and the stages that train it."""


def rows(recipe: Recipe, merged: MergedModel) -> Iterator[Row]:
    """The trunk, every head and its own parts, and the whole; what a task without a teacher is answered by, once each.

    merged: may be on the meta device.
    """
    for name, module in _parts(merged):
        held = {f"{name}.{each}": parameter.numel() for each, parameter in module.named_parameters()}
        yield name, sum(held.values()), _stages(recipe, merged, held)
    yield "the whole model", count(merged), ""
    for name, adapter in merged.adapters.items():
        if isinstance(adapter, LabelledAdapter):
            answering = nn.ModuleList([merged.trunk, *adapter.path(merged.heads[name])])
            yield f"all that answers {name}", count(answering), ""


def _parts(merged: MergedModel) -> Iterator[tuple[str, nn.Module]]:
    """Modules that hold parameters, by name: trunk, heads, and what heads are made of."""
    yield "trunk", merged.trunk
    for task, head in merged.heads.items():
        for name, part in [("", head), *head.named_children()]:
            if count(part):
                yield f"heads.{task}.{name}".removesuffix("."), part


def _stages(recipe: Recipe, merged: MergedModel, held: Mapping[str, int]) -> str:
    """The stages that train parameters, `held` by name; beside one that trains not all, how many."""
    told = []
    for name, stage in recipe.stages.items():
        trained = sum(
            held[each] for each in held if each not in merged.fixed and optimizer.prefix_of(each, stage) is not None
        )
        if trained:
            told.append(name if trained == sum(held.values()) else f"{name} ({trained:,})")
    return ", ".join(told) or "frozen"
