"""One recipe on shares of its data: a run for each, then what each of them kept, set against how much it had.

fraction-0.1/    the run on a tenth, a folder as any run's      fractions.json   what all of them found
fraction-1.0/    and on all; samples of a smaller share are     fractions.html   retention against data, on one page
                 within the larger one
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vfmerge import check, checkpoint, commit, engine, folder, model, parts, signals, table
from vfmerge.data.source import Source
from vfmerge.errors import InputError, Stopped, one_line
from vfmerge.recipe import Recipe
from vfmerge.report import fractions as report
from vfmerge.report.fractions import Point

FIGURES, PAGE = "fractions.json", "fractions.html"
_RUN = "fraction-"


def run(
    recipe: Recipe, out: Path, *, name: str, fractions: Sequence[float], fresh: bool = False, device: str = "auto"
) -> None:
    """Everything that `vfmerge run --fractions` does. Started again, it goes on where it was.

    fractions: of what each stream reads, above 0 and at most 1; they are run from the least to the most.
    Raises InputError before any work, also for what is wrong with one of them alone; else what a run raises.
    """
    plans = {fraction: scaled(recipe, fraction) for fraction in sorted(fractions)}
    sources = parts.build_sources(recipe)
    _require(recipe, plans, sources)
    model.on(device)
    _claim(out, plans, fresh=fresh)
    with checkpoint.lock(out), signals.watch() as request:
        for fraction, plan in plans.items():
            if request.name:
                raise Stopped(f"{request.name}: stopped before fraction {fraction}; run again to go on")
            home = _home(out, fraction)
            print(f"fraction {fraction}: {home}", file=sys.stderr)
            engine.merge(plan, home, name=f"{name}-{home.name}", fresh=fresh, device=device)
        points = [_point(plan, out, fraction, sources) for fraction, plan in plans.items()]
        _publish(points, out, name=name)
    _show(points, out)


def scaled(recipe: Recipe, fraction: float) -> Recipe:
    """The recipe with streams that read this fraction of what they did."""
    stages = {
        name: stage.model_copy(
            update={
                "streams": tuple(
                    each.model_copy(update={"fraction": each.fraction * fraction}) for each in stage.streams
                )
            }
        )
        for name, stage in recipe.stages.items()
    }
    return recipe.model_copy(update={"stages": stages})


def _require(recipe: Recipe, plans: Mapping[float, Recipe], sources: Mapping[str, Source]) -> None:
    """Refuse what will fail later; where only a fraction is wrong, with that fraction's name. Raises InputError."""
    adapters = parts.build_adapters(recipe)
    check.require(recipe, adapters, sources)
    for fraction, plan in plans.items():
        try:
            check.require(plan, adapters, sources)
        except InputError as error:
            lines = str(error).splitlines()
            raise InputError("\n".join(one_line(f"--fractions {fraction}: {line}") for line in lines)) from None


def _home(out: Path, fraction: float) -> Path:
    return out / f"{_RUN}{fraction}"


def _claim(out: Path, plans: Mapping[float, Recipe], *, fresh: bool) -> None:
    """Make the folder. Raises InputError for one that holds something else, as a run does, or another recipe's."""
    try:
        held = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []
        if held and not any(each.startswith(_RUN) for each in held):
            raise InputError(one_line(f"{out}: has files but no fractions of a run; give --out another folder"))
        for fraction, plan in () if fresh else plans.items():
            folder.check_recipe(_home(out, fraction), plan)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(one_line(f"{out}: cannot be used ({error.strerror}); give --out another folder")) from None


def _point(plan: Recipe, out: Path, fraction: float, sources: Mapping[str, Source]) -> Point:
    """What the run on one fraction found, and what it learnt from."""
    samples: dict[str, int] = {}
    for stage in plan.stages.values():
        for stream in stage.streams:  # of one data set, the smaller fraction is within the larger
            read = stream.samples(len(sources[stream.data]))
            samples[stream.data] = max(read, samples.get(stream.data, 0))
    steps = sum(stage.total_steps(len(sources[stage.streams[0].data])) for stage in plan.stages.values())
    return report.read(_home(out, fraction), fraction=fraction, samples=samples, steps=steps)


def _publish(points: Sequence[Point], out: Path, *, name: str) -> None:
    """Write the figures for programs and the page for people."""
    figures = [
        {
            "fraction": point.fraction,
            "run": _home(out, point.fraction).name,
            "samples": point.samples,
            "steps": point.steps,
            "rows": [dataclasses.asdict(row) for row in point.run.rows.values()],
        }
        for point in points
    ]
    commit.write_text(out / FIGURES, json.dumps({"schema": 1, "recipe": name, "fractions": figures}, indent=2) + "\n")
    commit.write_text(out / PAGE, report.render(points, name=name))


def _show(points: Sequence[Point], out: Path) -> None:
    """Print the retentions, a column for each fraction, and where the files are."""
    if any(point.run.rows for point in points):
        table.show_whole(report.table(points))
    else:
        print("nothing was measured")
    print(f"{'figures:':13} {out / FIGURES}")
    print(f"{'report:':13} {out / PAGE}")
