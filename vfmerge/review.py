"""`vfmerge eval`: a finished run, or the folder of a merged model, measured again, with controls if they are wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vfmerge import (
    controls,
    evaluation,
    home,
    left_out,
    measurement,
    memory,
    model,
    parts,
    recipe,
    retention,
    signals,
    store,
)
from vfmerge.errors import InputError

PREDICTIONS = "predictions"
_ELSEWHERE = "free some, or give --device another"


def review(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    device: str,
    with_controls: bool = False,
    predictions: bool = False,
    fresh: bool = False,
) -> None:
    """Measure a merged model against those parents that can be opened; print and write what was found.

    path: a run's folder, whose table, gallery and report are written anew; or a model's folder, beside which a
    retention file is written. overrides: changes of its recipe, above all the paths of this machine, which a model's
    folder does not hold. with_controls: train the controls that are missing; those that are there are always measured.
    predictions: also write what all models answer. fresh: use no score from before, and remember the new ones.
    Raises InputError for a folder that is none of these, and for controls of a model without its run.
    """
    found = home.find(path)
    place = model.on(device)
    with memory.watch(str(path), doing="while it is opened", remedy=_ELSEWHERE):
        merged = model.load(found.folder, device=str(place))
    if with_controls and found.run is None:
        raise InputError(f"--controls: {path} is a model without its run, which has data and stages; give runs/NAME")
    plan = recipe.load(str(found.recipe), overrides)
    adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
    if with_controls and found.run is not None:
        controls.train(found.run, plan, sources, device=device)
    with memory.watch(str(path), doing="while parents and controls are opened", remedy=_ELSEWHERE):
        teachers = measurement.open_parents(adapters, device=place)
        parents, models = measurement.parents_of(adapters, teachers), [measurement.merged_of(merged)]
        if found.run is not None and controls.there(found.run):
            models += controls.subjects(found.run, plan, parents, device=str(place))
    written = found.run / PREDICTIONS if found.run else _beside(found.folder, PREDICTIONS)
    with signals.watch() as request:
        measured = measurement.measure(
            plan,
            parents,
            models,
            sources,
            request=request,
            remembered=store.default(fresh=fresh),
            predictions=written if predictions else None,
        )
    if found.run is not None:
        table = evaluation.publish(found.run, plan, measured, parents, models, sources)
    else:
        table = _beside(found.folder, evaluation.RETENTION)
        retention.write(table, measured.rows)
        left_out.publish(_beside(found.folder, left_out.FILE), measured.left_out)
    evaluation.show(measured.rows, title=f"Retention of {path}")
    print(f"written to {table}", *([str(written)] if predictions else []), sep="\n", file=sys.stderr)


def _beside(folder: Path, name: str) -> Path:
    return folder.with_name(f"{folder.name}.{name}")
