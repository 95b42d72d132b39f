"""How a run's losses went, from its `metrics.jsonl`: read line by line, and thinned to what a chart can show.

Axis letters: P points of a curve, at most as many as asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vfmerge.errors import one_line

_NORM = "gradient_norm"
_MOST = 10**12  # steps; no run has more


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One value over the steps of one stage, in P bins of steps: each float [P], or int for steps.

    steps: the middle of each bin. mean, low, high: of the finite values in it.
    """

    stage: str
    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trace:
    """stages: first and last step of each, in order. curves: by what is shown, one curve for each stage that has it."""

    stages: dict[str, tuple[int, int]]
    curves: dict[str, list[Curve]]


def read(path: Path, *, points: int = 160) -> Trace | None:
    """The losses and the norm of the gradient; none where there are none. Damaged lines are left out.

    points: about how many a curve has, over all stages.
    """
    stages: dict[str, tuple[int, int]] = {}
    series: dict[str, dict[str, tuple[array[int], array[float]]]] = {}
    for step, stage, values in _lines(path):
        first, last = stages.get(stage, (step, step))
        stages[stage] = min(first, step), max(last, step)
        for name, value in values.items():
            steps, held = series.setdefault(name, {}).setdefault(stage, (array("q"), array("d")))
            steps.append(step)
            held.append(value)
    if not series:
        return None
    total = max(last for _, last in stages.values()) - min(first for first, _ in stages.values()) + 1
    width = max(math.ceil(total / points), 1)
    order = sorted(series, key=lambda name: name == _NORM.replace("_", " "))
    curves = {name: [_thin(stage, *held, width=width) for stage, held in series[name].items()] for name in order}
    return Trace(stages=stages, curves=curves)


def _lines(path: Path) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Step, stage and the finite values of each line that is whole: of a run that was killed, the last may not be."""
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError, OverflowError, RecursionError):
                match json.loads(line):
                    case {"step": int(step), "stage": str(stage), **values} if 0 <= step < _MOST:
                        yield step, one_line(stage, limit=60), _values(values)


def _values(line: dict[object, object]) -> dict[str, float]:
    """Losses by task and term, `clip cosine`, and the norm; where two streams teach the same, by stream as well."""
    values: dict[str, float] = {}
    for key, value in line.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            continue
        words = str(key).split(".", 3)
        if key == _NORM:
            values[_NORM.replace("_", " ")] = float(value)
        elif words[0] == "loss" and len(words) == 4:
            name = one_line(f"{words[2]} {words[3]}", limit=60)
            values[f"{name}, stream {words[1]}" if name in values else name] = float(value)
    return values


def _thin(stage: str, steps: array[int], values: array[float], *, width: int) -> Curve:
    """Bins of `width` steps."""
    bins = (np.array(steps) - steps[0]) // width
    edges = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
    held, count = np.array(values), np.diff([*edges, len(values)])
    return Curve(
        stage=stage,
        steps=(np.add.reduceat(np.array(steps), edges) / count),
        mean=np.add.reduceat(held, edges) / count,
        low=np.minimum.reduceat(held, edges),
        high=np.maximum.reduceat(held, edges),
    )
