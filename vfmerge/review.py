"""`vfmerge eval`: a finished run, or the folder of a merged model, measured again, with controls if they are wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vfmerge import controls, evaluation, folder, measurement, model, parts, recipe, retention, signals, store
from vfmerge.errors import InputError

PREDICTIONS = "predictions"


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
    predictions: also write what all models answer. fresh: use no score from before, and
    remember the new ones.
    Raises InputError for a folder that is none of these, and for controls of a model without its run.
    """
    home = path / evaluation.MERGED if (path / evaluation.MERGED).is_dir() else path
    merged = model.load(home, device=str(model.on(device)))
    run = home.parent
    at_home = home.name == evaluation.MERGED and (run / folder.RECIPE).exists()
    if with_controls and not at_home:
        raise InputError(f"--controls: {path} is a model without its run, which has data and stages; give runs/NAME")
    plan = recipe.load(str((run if at_home else home) / folder.RECIPE), overrides)
    adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
    if with_controls:
        controls.train(run, plan, sources, device=device)
    teachers = measurement.open_parents(adapters, device=model.on(device))
    parents, models = measurement.parents_of(adapters, teachers), [measurement.merged_of(merged)]
    if at_home and controls.there(run):
        models += controls.subjects(run, plan, parents, device=str(model.on(device)))
    written = run / PREDICTIONS if at_home else home.with_name(f"{home.name}.{PREDICTIONS}")
    with signals.watch() as request:
        rows = measurement.measure(
            plan,
            parents,
            models,
            sources,
            request=request,
            remembered=store.default(fresh=fresh),
            predictions=written if predictions else None,
        )
    if at_home:
        found = evaluation.publish(run, plan, rows, parents, models, sources)
    else:
        found = home.with_name(f"{home.name}.{evaluation.RETENTION}")
        retention.write(found, rows)
    evaluation.show(rows, title=f"Retention of {path}")
    print(f"written to {found}", *([str(written)] if predictions else []), sep="\n", file=sys.stderr)
