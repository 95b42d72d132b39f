"""What a finished run leaves: its table, pictures, report, and the merged model with its card."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from vfmerge import card, folder, gallery, measurement, parts, picture, recipe, retention, store
from vfmerge.benchmarks.recognition import Recognition
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.data.source import Source
from vfmerge.errors import InputError
from vfmerge.recipe import Recipe
from vfmerge.report import report
from vfmerge.retention import Row
from vfmerge.session import Session
from vfmerge.subject import Subject
from vfmerge.views.recognition import RecognitionViews
from vfmerge.views.segmentation import SegmentationViews
from vfmerge.views.view import Views

RETENTION, PICTURE, MERGED, CACHE = "retention.json", "picture.png", "merged", "cache"


def finish(session: Session, *, name: str) -> None:
    """Measure a trained run, show what was found, and write the merged model with its card, which completes the run.

    What training made is never held back by what measuring asks: where the data or a size turn out to be wrong, the
    model is written without figures. Raises InputError after that.
    """
    try:
        rows = _measure(session)
    except InputError as error:
        retention.write(session.out / RETENTION, [])
        _complete(session, [], name=name)
        remedy = f"the model is saved, without figures: mend it by `vfmerge eval {session.out} KEY=VALUE`"
        raise InputError(f"{error}\n{remedy}") from error
    _complete(session, rows, name=name)


def _measure(session: Session) -> list[Row]:
    """Measure, and publish it."""
    parents = measurement.parents_of(session.adapters, session.teachers)
    merged = measurement.merged_of(session.model.eval())
    rows = measurement.measure(
        session.recipe, parents, [merged], session.sources, request=session.request, remembered=store.default()
    )
    publish(session.out, session.recipe, rows, parents, [merged], session.sources)
    return rows


def _complete(session: Session, rows: list[Row], *, name: str) -> None:
    save_merged(session, rows, name=name)
    shutil.rmtree(session.out / CACHE, ignore_errors=True)  # it can be large, and nothing needs it any more


def publish(
    run: Path,
    plan: Recipe,
    rows: list[Row],
    parents: Subject,
    models: Sequence[Subject],
    sources: Mapping[str, Source],
) -> Path:
    """Write what was found into a run's folder: the table, the picture, the gallery, and the report that shows all.

    models: the merged model first, then controls. Returns the report's path, of nothing measured the table's.
    """
    retention.write(run / RETENTION, rows)
    if not rows:
        return run / RETENTION
    try:
        if views := _views(plan, parents, models, sources):
            picture.draw(run / PICTURE, views)
            gallery.write(run, views)
    except InputError as error:  # no picture among those looked at has anything to show: the figures stand all the same
        print(f"no pictures in the report: {error}", file=sys.stderr)
    return report.write(run)


def _views(plan: Recipe, parents: Subject, models: Sequence[Subject], sources: Mapping[str, Source]) -> Views | None:
    """What can be shown: of the recipe's first zero-shot segmentation, else of its first recognition, else nothing."""
    made = [(each, sources[plan.evaluate[name].data]) for name, each in parts.build_benchmarks(plan).items()]
    for benchmark, source in made:
        if isinstance(benchmark, ZeroShotSegmentation):
            return SegmentationViews(benchmark, source, parents=parents, models=models)
    for benchmark, source in made:
        if isinstance(benchmark, Recognition):
            return RecognitionViews(benchmark, source, parents=parents, merged=models[0])
    return None


def save_merged(session: Session, rows: list[Row], *, name: str) -> None:
    """The merged model's folder: weights, shapes, recipe and model card."""
    plan, text = session.recipe, recipe.published(session.recipe)
    origins = {
        task: card.Origin(
            adapter=plan.adapted[task].adapter,
            capability=session.model.capability(task).name,
            licence=adapter.licence,
        )
        for task, adapter in session.adapters.items()
    }
    readme = card.card(
        name=name,
        version=importlib.metadata.version("vfmerge"),
        base=plan.base,
        parents={parent: origins[parent] for parent in plan.parents},
        tasks={task: origins[task] for task in plan.tasks},
        data={source: len(session.sources[source]) for source in session.sources},
        recipe=text,
        rows=rows,
        trained=bool(plan.stages),
    )
    names = {task: plan.adapted[task].adapter for task in session.adapters}
    session.model.save(session.out / MERGED, names=names, texts={"README.md": readme, folder.RECIPE: text})


def show(rows: list[Row], *, title: str) -> None:
    """Print the retention table, or that there is none."""
    if not rows:
        print("nothing was measured")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    console.print(retention.table([row for row in rows if row.control is None], title=title))
    if any(row.control for row in rows):
        console.print(retention.against_controls(rows, title="Retention beside controls"))


def show_finished(out: Path, *, name: str) -> None:
    """Print what a finished run found, and where its parts are."""
    show(retention.read(out / RETENTION), title=f"Retention of {name}")
    print(f"merged model: {out / MERGED}")
    for what, path in (("picture:", out / PICTURE), ("report:", out / report.REPORT)):
        if path.exists():
            print(f"{what:13} {path}")
