"""Scoring: parents and merged model by the same code, through their capabilities.

Axis letters: none; pictures are opaque here.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from vfmerge import card, folder, model, parts, picture, progress, recipe, retention, signals, store, weights
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.capability import Capability
from vfmerge.data.source import Source
from vfmerge.errors import InputError, Stopped
from vfmerge.model import MergedModel, Network
from vfmerge.recipe import Recipe
from vfmerge.retention import Row
from vfmerge.session import Session
from vfmerge.subject import Subject

RETENTION, PICTURE, MERGED, CACHE = "retention.json", "picture.png", "merged", "cache"


def finish(session: Session, *, name: str) -> list[Row]:
    """Measure a trained run, draw its picture, and write the merged model with its card, which completes the run."""
    parents = parents_of(session.adapters, session.teachers)
    merged = merged_of(session.model.eval())
    rows = measure(session.recipe, parents, [merged], session.sources, request=session.request)
    retention.write(session.out / RETENTION, rows)
    draw(session.recipe, session.out / PICTURE, parents, merged, session.sources)
    save_merged(session, rows, name=name)
    shutil.rmtree(session.out / CACHE, ignore_errors=True)  # it can be large, and nothing needs it any more
    return rows


def evaluate_path(path: Path, overrides: Sequence[str] = (), *, device: str) -> None:
    """`vfmerge eval`: measure a run's merged model, or the folder of one, against those parents that can be opened.

    overrides: changes of its recipe, above all the paths of this machine, which a model's folder does not hold.
    Prints the retention table and writes `retention.json` into the run, or beside the model's folder.
    """
    home = path / MERGED if (path / MERGED).is_dir() else path
    merged = model.load(home, device=str(model.on(device)))
    run = home.parent
    at_home = home.name == MERGED and (run / folder.RECIPE).exists()
    plan = recipe.load(str((run if at_home else home) / folder.RECIPE), overrides)
    adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
    parents = parents_of(adapters, open_parents(adapters, device=model.on(device)))
    with signals.watch() as request:
        rows = measure(plan, parents, [merged_of(merged)], sources, request=request)
    written = run / RETENTION if at_home else home.with_name(f"{home.name}.{RETENTION}")
    retention.write(written, rows)
    show(rows, title=f"Retention of {path}")
    print(f"written to {written}", file=sys.stderr)


def open_parents(adapters: Mapping[str, AuxiliaryAdapter], *, device: torch.device) -> dict[str, Network]:
    """The parents whose files are here; of the others one is told."""
    opened = {}
    for name, adapter in adapters.items():
        try:
            opened[name] = adapter.teacher().requires_grad_(False).eval().to(device)
        except InputError as error:
            print(f"parent {name} is not measured: {error}", file=sys.stderr)
    return opened


def parents_of(adapters: Mapping[str, AuxiliaryAdapter], networks: Mapping[str, Network]) -> Subject:
    """The parents, to be measured."""
    keys = {name: weights.fingerprint(network, _shape(adapters[name])) for name, network in networks.items()}
    return Subject(name="parents", capabilities=capabilities(adapters, networks), keys=keys)


def merged_of(merged: MergedModel, *, name: str = "merged", control: str | None = None) -> Subject:
    """A merged model, or a control of the same shape, to be measured."""
    whole = weights.fingerprint(merged)
    keys = {task: store.key(whole, task, _shape(adapter)) for task, adapter in merged.adapters.items()}
    return Subject(name=name, capabilities=merged.capabilities(), keys=keys, control=control)


def _shape(adapter: AuxiliaryAdapter) -> str:
    """All that an adapter's answers depend on but for weights."""
    return json.dumps([f"{type(adapter).__module__}.{type(adapter).__qualname__}", adapter.portable()], sort_keys=True)


def capabilities(adapters: Mapping[str, AuxiliaryAdapter], networks: Mapping[str, Network]) -> dict[str, Capability]:
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
) -> list[Row]:
    """The recipe's benchmarks on parents and models, with a progress bar. Raises Stopped on request."""
    with _Bars(request) as bars:
        return retention.measure_all(plan.evaluate, parents, models, sources, progress=bars.tell, store=store.default())


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


def draw(
    plan: Recipe,
    path: Path,
    parents: Subject,
    merged: Subject,
    sources: Mapping[str, Source],
) -> None:
    """A gallery of the first zero-shot segmentation benchmark of the recipe, if it has one."""
    made = parts.build_benchmarks(plan)
    for name, evaluation in plan.evaluate.items():
        benchmark = made[name]
        if isinstance(benchmark, ZeroShotSegmentation):
            picture.draw(
                path,
                source=sources[evaluation.data],
                benchmark=benchmark,
                parents=parents.capabilities,
                merged=merged.capabilities,
            )
            return


def save_merged(session: Session, rows: list[Row], *, name: str) -> None:
    """The merged model's folder: weights, shapes, recipe and model card."""
    plan, text = session.recipe, recipe.published(session.recipe)
    origins = {
        task: card.Origin(
            adapter=plan.parents[task].adapter,
            capability=session.model.capability(task).name,
            licence=adapter.licence,
        )
        for task, adapter in session.adapters.items()
    }
    readme = card.card(
        name=name,
        version=importlib.metadata.version("vfmerge"),
        base=plan.base,
        parents=origins,
        data={source: len(session.sources[source]) for source in session.sources},
        recipe=text,
        rows=rows,
    )
    names = {task: plan.parents[task].adapter for task in session.adapters}
    session.model.save(session.out / MERGED, names=names, texts={"README.md": readme, folder.RECIPE: text})


def show(rows: list[Row], *, title: str) -> None:
    """Print the retention table, or that there is none."""
    if not rows:
        print("nothing was measured: the recipe has no `evaluate` section")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(retention.table(rows, title=title))


def show_finished(out: Path, *, name: str) -> None:
    """Print what a finished run found, and where its parts are."""
    show(retention.read(out / RETENTION), title=f"Retention of {name}")
    print(f"merged model: {out / MERGED}")
    if (out / PICTURE).exists():
        print(f"picture:      {out / PICTURE}")
