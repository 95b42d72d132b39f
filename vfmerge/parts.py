"""The plug-ins that a recipe names, made from their options: parents, data sets, benchmarks. Imports no torch.

Making one reads no weights and no picture. What its options turn out to be wrong about is told with the key of the
recipe, all at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from vfmerge import options, plugins
from vfmerge.adapter import Adapter, AuxiliaryAdapter, BaseAdapter, LabelledAdapter
from vfmerge.benchmarks.benchmark import Benchmark
from vfmerge.data.source import Source
from vfmerge.errors import InputError
from vfmerge.problem import Keys, Problem, refuse, shown, unknown_name
from vfmerge.recipe import Evaluation, Recipe


def build_adapters(recipe: Recipe) -> dict[str, Adapter]:
    """The adapter of every parent, then of every task without one.

    Raises InputError naming `parents.NAME` or `tasks.NAME`, also if the base cannot lend its trunk, or if an adapter
    stands in the wrong one of the two sections.
    """
    parents = {name: (parent.adapter, parent.options) for name, parent in recipe.parents.items()}
    tasks = {name: (task.adapter, task.options) for name, task in recipe.tasks.items()}
    adapters: dict[str, Adapter] = _build("adapters", parents, section="parents")
    adapters |= _build("adapters", tasks, section="tasks")
    refuse([*_misplaced(recipe, adapters), *_unfounded(recipe, adapters)])
    if not isinstance(adapters[recipe.base], BaseAdapter):
        text = f"adapter {recipe.parents[recipe.base].adapter} cannot lend its trunk; choose another parent"
        refuse([Problem(keys=("base",), text=text)])
    return adapters


def _misplaced(recipe: Recipe, adapters: Mapping[str, Adapter]) -> Iterator[Problem]:
    """Parents that learn from labels, and tasks that have a teacher."""
    for name, parent in recipe.parents.items():
        if not isinstance(adapters[name], AuxiliaryAdapter):
            text = f"{parent.adapter} learns from labels and is no parent; write it under `tasks`"
            yield Problem(keys=("parents", name), text=text)
    for name, task in recipe.tasks.items():
        if not isinstance(adapters[name], LabelledAdapter):
            text = f"{task.adapter} is a parent, which teaches; write it under `parents`"
            yield Problem(keys=("tasks", name), text=text)


def _unfounded(recipe: Recipe, adapters: Mapping[str, Adapter]) -> Iterator[Problem]:
    """Tasks that are built upon a parent that is not there."""
    for name, adapter in adapters.items():
        if isinstance(adapter, LabelledAdapter):
            for role, parent in adapter.upon().items():
                if parent not in recipe.parents:
                    yield unknown_name(("tasks", name, "options", role), "parent", parent, recipe.parents)


def build_sources(recipe: Recipe) -> dict[str, Source]:
    """Every data set. Raises InputError naming `data.NAME`, also if one is empty."""
    sources = _build("data", {name: (data.kind, data.options) for name, data in recipe.data.items()}, section="data")
    text = "has no samples; mend its options or the files"
    refuse([Problem(keys=("data", name), text=text) for name, source in sources.items() if not len(source)])
    return sources


def build_benchmarks(evaluate: Mapping[str, Evaluation]) -> dict[str, Benchmark]:
    """Every benchmark of a recipe's `evaluate`. Raises InputError naming `evaluate.NAME`."""
    wanted = {name: (each.benchmark, each.options) for name, each in evaluate.items()}
    return _build("benchmarks", wanted, section="evaluate")


def misfits(
    evaluate: Mapping[str, Evaluation],
    benchmarks: Mapping[str, Benchmark],
    *,
    tasks: Collection[str],
    sources: Mapping[str, Source],
) -> Iterator[Problem]:
    """Roles of a benchmark that nothing fills, and data that it cannot measure on or learn from."""
    for name, benchmark in benchmarks.items():
        asked, keys = evaluate[name], ("evaluate", name)
        for role, task in [*(benchmark.tasks() or {}).items(), *(("beside", task) for task in benchmark.further)]:
            if task not in tasks:
                yield unknown_name((*keys, role), "parent or task", task, tasks)
        for key, data in {"data": asked.data, **({"train": asked.train} if benchmark.learns else {})}.items():
            if data is not None and data not in sources:
                yield unknown_name((*keys, key), "data set", data, sources)
            elif data is not None and (lacking := benchmark.lacks(sources[data])):
                text = f"{shown(data)} has not what {asked.benchmark} needs: {lacking}; choose other data"
                yield Problem(keys=(*keys, key), text=text)
        if benchmark.learns and asked.train is None:
            text = f"missing; {asked.benchmark} learns from a second data set, name one"
            yield Problem(keys=(*keys, "train"), text=text)


def _build(kind: plugins.Kind, wanted: Mapping[str, tuple[str, Mapping[str, Any]]], *, section: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, (plugin, given) in wanted.items():
        keys: Keys = (section, name)
        try:
            cls = plugins.find(kind, plugin)
            checked, wrong = options.examine(cls, given, keys=keys)
            problems += wrong
            if not wrong:
                made[name] = plugins.make(cls, checked)
        except InputError as error:
            problems += [Problem(keys=keys, text=line) for line in str(error).splitlines()]
    refuse(problems)
    return made
