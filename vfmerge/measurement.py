"""Parents and models made ready to be measured, and measured, by the same code, with a progress bar."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from vfmerge import parts, progress, provenance, retention, signals, store, weights
from vfmerge.adapter import Adapter, AuxiliaryAdapter
from vfmerge.capability import Capability
from vfmerge.data.source import Source
from vfmerge.errors import InputError, Stopped
from vfmerge.left_out import LeftOut, once
from vfmerge.model import MergedModel, Network
from vfmerge.recipe import Recipe
from vfmerge.retention import Row
from vfmerge.store import Store
from vfmerge.subject import Subject


def open_parents(
    adapters: Mapping[str, Adapter], *, device: torch.device, purpose: str = "measured"
) -> dict[str, Network]:
    """The parents whose files are here; of the others one is told. purpose: what is done with parents."""
    opened = {}
    for name, adapter in adapters.items():
        if not isinstance(adapter, AuxiliaryAdapter):
            continue
        try:
            opened[name] = adapter.teacher().requires_grad_(False).eval().to(device)
        except InputError as error:
            print(f"parent {name} is not {purpose}: {error}", file=sys.stderr)
    return opened


def parents_of(adapters: Mapping[str, Adapter], networks: Mapping[str, Network]) -> Subject:
    """The parents, to be measured."""
    offered = capabilities(adapters, networks)
    shapes = {name: _shape(adapters[name], offered[name]) for name in networks}
    keys = {name: weights.fingerprint(network, shapes[name]) for name, network in networks.items()}
    return Subject(name="parents", capabilities=offered, keys=keys)


def merged_of(merged: MergedModel, *, name: str = "merged", control: str | None = None) -> Subject:
    """A merged model, or a control of the same shape, to be measured."""
    whole, offered = weights.fingerprint(merged), merged.capabilities()
    shapes = {task: _shape(adapter, offered[task]) for task, adapter in merged.adapters.items()}
    keys = {task: store.key(whole, task, shape) for task, shape in shapes.items()}
    return Subject(name=name, capabilities=offered, keys=keys, control=control)


def _shape(adapter: Adapter, offered: Capability) -> str:
    """All that an adapter's answers depend on but for weights: which it is, its options, and the code."""
    code = [provenance.code_of([type(adapter)]), provenance.code_behind(offered)]
    named = f"{type(adapter).__module__}.{type(adapter).__qualname__}"
    return json.dumps([named, adapter.portable(), code], sort_keys=True)


def capabilities(adapters: Mapping[str, Adapter], networks: Mapping[str, Network]) -> dict[str, Capability]:
    """What a person does with each parent."""
    return {name: adapters[name].capability(network) for name, network in networks.items()}


def require_roles(plan: Recipe, offered: Mapping[str, Capability]) -> None:
    """Refuse a benchmark whose parent cannot do what it measures, before anything is trained. Raises InputError."""
    for name, benchmark in parts.build_benchmarks(plan.evaluate).items():
        for role, task in (benchmark.tasks() or {}).items():
            if offered[task].name != role:
                can = f"parent {task} offers {offered[task].name}, not {role}; name another parent"
                raise InputError(f"evaluate.{name}.{role}: {can}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What was found: the rows of the retention table, and the pictures that none of them is of."""

    rows: list[Row]
    left_out: list[LeftOut]


def measure(
    plan: Recipe,
    parents: Subject,
    models: Sequence[Subject],
    sources: Mapping[str, Source],
    *,
    request: signals.Request,
    remembered: Store,
    predictions: Path | None = None,
) -> Measured:
    """The recipe's benchmarks on parents and models. Raises Stopped on request, RunError where there is no memory.

    remembered: scores of before. predictions: a folder for what the models answer.
    """
    missed: list[LeftOut] = []
    with Bars(request) as bars:
        rows = retention.measure_all(
            plan.evaluate,
            parents,
            models,
            sources,
            progress=bars.tell,
            note=missed.append,
            store=remembered,
            predictions=predictions,
        )
    return Measured(rows=rows, left_out=once(missed))


class Bars:
    """A progress bar for each piece of the evaluation, one after another."""

    def __init__(self, request: signals.Request) -> None:
        self._request, self._title, self._bar, self._done = request, "", None, 0

    _bar: progress.Bar | None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def tell(self, title: str, done: int, total: int) -> None:
        if self._request.name:
            raise Stopped(f"{self._request.name}: stopped while measuring; run again to go on")
        if title != self._title:
            self._close()
            self._title, self._done = title, 0
            self._bar = progress.Bar(title, total=total, every=max(total // 2, 1)).__enter__()
        if self._bar:
            self._bar.advance(done - self._done)
            self._done = done

    def _close(self) -> None:
        if self._bar:
            self._bar.__exit__(None, None, None)
            self._bar = None
