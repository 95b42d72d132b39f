"""What a finished run leaves: its table, pictures, report, and the merged model with its card."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from vfmerge import (
    card,
    commit,
    gallery,
    left_out,
    licence,
    measurement,
    memory,
    model,
    parts,
    picture,
    recipe,
    retention,
    store,
    weights,
)
from vfmerge.benchmarks.recognition import Recognition
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.data.source import Source
from vfmerge.errors import InputError, RunError
from vfmerge.home import MERGED
from vfmerge.measurement import Measured
from vfmerge.papers import CARD, NOTICE, RECIPE, Papers
from vfmerge.recipe import Recipe
from vfmerge.report import report
from vfmerge.retention import Row
from vfmerge.session import Session
from vfmerge.subject import Subject
from vfmerge.views.recognition import RecognitionViews
from vfmerge.views.segmentation import SegmentationViews
from vfmerge.views.view import Views

RETENTION, PICTURE, CACHE = "retention.json", "picture.png", "cache"


def is_trained(run: Path) -> bool:
    """Whether a run has come to its model, which is written whole."""
    return (run / MERGED).exists()


def is_finished(run: Path, plan: Recipe) -> bool:
    """Whether its model was measured too, as the recipe says: then table and report are there, in this order."""
    try:
        rows = retention.read(run / RETENTION)
    except (OSError, ValueError, TypeError):  # not there, or damaged
        return False
    whole = not rows or (run / report.REPORT).exists()
    return whole and is_trained(run) and _is_of(run, plan)


def adopt(run: Path, plan: Recipe) -> None:
    """Let a run be measured as its recipe says now: the figures of another `evaluate` go, the model stays."""
    if _is_of(run, plan):
        return
    if is_trained(run):
        print(f"evaluate is another than before: {run} is measured again", file=sys.stderr)
    for name in (RETENTION, report.REPORT, left_out.FILE, PICTURE):
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / gallery.FOLDER, ignore_errors=True)
    commit.write_text(run / RECIPE, recipe.resolved(plan))


def _is_of(run: Path, plan: Recipe) -> bool:
    """Whether what a run measures is what the recipe says."""
    return recipe.load(str(run / RECIPE)).evaluate == plan.evaluate


def take_up(session: Session) -> None:
    """Put the weights that training came to into the model, to measure it."""
    merged = session.out / MERGED
    weights.fit(session.model, model.read(merged), source=str(merged))


def finish(session: Session) -> None:
    """Measure a trained run, whose model is written, and show what was found, which completes the run.

    What training made is never held back by what measuring asks: whatever stops it, one is told where the model is.
    """
    try:
        parents = measurement.parents_of(session.adapters, session.teachers)
        merged = measurement.merged_of(session.model.eval())
        found = measurement.measure(
            session.recipe, parents, [merged], session.sources, request=session.request, remembered=store.default()
        )
        publish(session.out, session.recipe, found, parents, [merged], session.sources)
    except BaseException:
        ways = f"run again to measure it, or change what is measured: `vfmerge eval {session.out} KEY=VALUE`"
        print(f"the model is saved in {session.out / MERGED}; {ways}", file=sys.stderr)
        raise


def publish(
    run: Path,
    plan: Recipe,
    found: Measured,
    parents: Subject,
    models: Sequence[Subject],
    sources: Mapping[str, Source],
) -> Path:
    """Write what was found into a run's folder: the table, the card, pictures, and at last the report that shows all.

    models: the merged model first, then controls. Returns the report's path, of nothing measured the table's.
    """
    retention.write(run / RETENTION, found.rows)
    left_out.publish(run / left_out.FILE, found.left_out)
    _retell(run, plan, found.rows)
    if not found.rows:
        return run / RETENTION
    try:
        with memory.watch("report", doing="while its pictures are drawn", remedy="measure again with more of it free"):
            if views := _views(plan, parents, models, sources):
                picture.draw(run / PICTURE, views)
                gallery.write(run, views)
    except (InputError, RunError) as error:  # nothing to show in those looked at, or no memory: the figures stand
        print(f"no pictures in the report: {error}", file=sys.stderr)
    return report.write(run)


def _retell(run: Path, plan: Recipe, rows: Sequence[Row]) -> None:
    """Write into the merged model's card what was found, and into both its papers by which recipe."""
    own = recipe.load(str(run / RECIPE))
    measured = {name for each in plan.evaluate.values() for name in (each.data, each.train) if name is not None}
    data = own.data | {name: plan.data[name] for name in measured}
    text = recipe.published(own.model_copy(update={"evaluate": plan.evaluate, "data": data}))
    before = Papers.read(run / MERGED).texts
    after = {RECIPE: text}
    if CARD in before:
        own_rows = [row for row in rows if row.control is None]
        after[CARD] = card.retell(before[CARD], rows=own_rows, recipe=text)
    commit.amend(run / MERGED, {name: each.encode("utf-8", "surrogateescape") for name, each in after.items()})


def _views(plan: Recipe, parents: Subject, models: Sequence[Subject], sources: Mapping[str, Source]) -> Views | None:
    """What can be shown: of the recipe's first zero-shot segmentation, else of its first recognition, else nothing."""
    made = [(each, sources[plan.evaluate[name].data]) for name, each in parts.build_benchmarks(plan.evaluate).items()]
    for benchmark, source in made:
        if isinstance(benchmark, ZeroShotSegmentation):
            return SegmentationViews(benchmark, source, parents=parents, models=models)
    for benchmark, source in made:
        if isinstance(benchmark, Recognition):
            return RecognitionViews(benchmark, source, parents=parents, merged=models[0])
    return None


def save_merged(session: Session, *, name: str) -> None:
    """The merged model's folder: weights, shapes, recipe, and a model card without figures, which `finish` adds."""
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
        plan=plan,
        origins=origins,
        pictures={source: len(session.sources[source]) for source in session.sources},
        rows=None,
    )
    notice = licence.notice(name, {parent: origins[parent].licence for parent in plan.parents})
    names = {task: plan.adapted[task].adapter for task in session.adapters}
    session.model.save(session.out / MERGED, names=names, texts={CARD: readme, NOTICE: notice, RECIPE: text})
    shutil.rmtree(session.out / CACHE, ignore_errors=True)  # it can be large, and nothing needs it any more


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
