"""Parents and models made ready to be measured, and measured, by the same code, with a progress bar."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from vfmerge import parts, progress, retention, signals, store, weights
from vfmerge.adapter import Adapter, AuxiliaryAdapter
from vfmerge.capability import Capability
from vfmerge.data.source import Source
from vfmerge.errors import InputError, Stopped
from vfmerge.model import MergedModel, Network
from vfmerge.recipe import Recipe
from vfmerge.retention import Row
from vfmerge.store import Store
from vfmerge.subject import Subject


def open_parents(adapters: Mapping[str, Adapter], *, device: torch.device) -> dict[str, Network]:
    """The parents whose files are here; of the others one is told."""
    opened = {}
    for name, adapter in adapters.items():
        if not isinstance(adapter, AuxiliaryAdapter):
            continue
        try:
            opened[name] = adapter.teacher().requires_grad_(False).eval().to(device)
        except InputError as error:
            print(f"parent {name} is not measured: {error}", file=sys.stderr)
    return opened


def parents_of(adapters: Mapping[str, Adapter], networks: Mapping[str, Network]) -> Subject:
    """The parents, to be measured."""
    keys = {name: weights.fingerprint(network, _shape(adapters[name])) for name, network in networks.items()}
    return Subject(name="parents", capabilities=capabilities(adapters, networks), keys=keys)


def merged_of(merged: MergedModel, *, name: str = "merged", control: str | None = None) -> Subject:
    """A merged model, or a control of the same shape, to be measured."""
    whole = weights.fingerprint(merged)
    keys = {task: store.key(whole, task, _shape(adapter)) for task, adapter in merged.adapters.items()}
    return Subject(name=name, capabilities=merged.capabilities(), keys=keys, control=control)


def _shape(adapter: Adapter) -> str:
    """All that an adapter's answers depend on but for weights."""
    return json.dumps([f"{type(adapter).__module__}.{type(adapter).__qualname__}", adapter.portable()], sort_keys=True)


def capabilities(adapters: Mapping[str, Adapter], networks: Mapping[str, Network]) -> dict[str, Capability]:
    """What a person does with each parent."""
    return {name: adapters[name].capability(network) for name, network in networks.items()}


def require_roles(plan: Recipe, offered: Mapping[str, Capability]) -> None:
    """Refuse a benchmark whose parent cannot do what it measures, before anything is trained. Raises InputError."""
    for name, benchmark in parts.build_benchmarks(plan).items():
        for role, task in (benchmark.tasks() or {}).items():
            if offered[task].name != role:
                can = f"parent {task} offers {offered[task].name}, not {role}; name another parent"
                raise InputError(f"evaluate.{name}.{role}: {can}")


def measure(
    plan: Recipe,
    parents: Subject,
    models: Sequence[Subject],
    sources: Mapping[str, Source],
    *,
    request: signals.Request,
    remembered: Store,
    predictions: Path | None = None,
) -> list[Row]:
    """The recipe's benchmarks on parents and models. Raises Stopped on request.

    remembered: scores of before. predictions: a folder for what the models answer.
    """
    with _Bars(request) as bars:
        return retention.measure_all(
            plan.evaluate,
            parents,
            models,
            sources,
            progress=bars.tell,
            store=remembered,
            predictions=predictions,
        )


class _Bars:
    """A progress bar for each piece of the evaluation, one after another."""

    def __init__(self, request: signals.Request) -> None:
        self._request, self._title, self._bar, self._done = request, "", None, 0

    _bar: progress.Bar | None

    def __enter__(self) -> _Bars:
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
