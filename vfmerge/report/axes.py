"""Axes of charts: from values to places, and the round numbers beside them. Lengths are those of the drawing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

_WIDE = 30.0  # chosen here: a decade and a half is more than a straight axis can show


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """Values from `low` to `high` lie at places from `start` to `end`; evenly, or by their logarithm.

    marks: the round numbers from `low` to `high`.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    marks: Sequence[float] = ()

    def __call__(self, value: float) -> float:
        """The place of a value; of one outside, the nearer end."""
        low, high, inside = self.low, self.high, min(max(value, self.low), self.high)
        if low == high:
            return (self.start + self.end) / 2
        share = math.log(inside / low) / math.log(high / low) if self.log else (inside - low) / (high - low)
        return self.start + share * (self.end - self.start)


def from_zero(values: Iterable[float], *, start: float, end: float) -> Axis:
    """To one for shares of a quarter and more, else to a round number beyond the values; below zero if one is."""
    held = list(values)
    most, least = max([0.0, *held]), min([0.0, *held])
    if most == least:
        most = 1.0
    if least == 0 and 0.25 < most <= 1:
        return Axis(low=0, high=1, start=start, end=end, marks=(0, 0.25, 0.5, 0.75, 1))
    marks = _ticks(least, most)
    return Axis(low=marks[0], high=marks[-1], start=start, end=end, marks=marks)


def fitting(low: float, high: float, *, start: float, end: float) -> Axis:
    """By the logarithm where values are positive and far apart, else evenly from zero."""
    if low > 0 and high / low > _WIDE:
        marks = _decades(low, high)
        return Axis(low=marks[0], high=marks[-1], start=start, end=end, log=True, marks=marks)
    return from_zero((low, high), start=start, end=end)


def near(low: float, high: float, *, start: float, end: float) -> Axis:
    """Evenly, from a round number at most `low` to one at least `high`; low < high."""
    marks = _ticks(low, high)
    return Axis(low=marks[0], high=marks[-1], start=start, end=end, marks=marks)


def shares(values: Iterable[float], *, start: float, end: float) -> Axis:
    """From zero to a little beyond one, or as far as the values go."""
    most = max([1.0, *values])
    marks = [mark for mark in (0, 0.25, 0.5, 0.75, 1) if most < 2 or mark in (0, 1)]
    marks += [float(mark) for mark in range(2, int(most) + 1)][:: max(int(most) // 5, 1)]
    return Axis(low=0, high=1.06 * most, start=start, end=end, marks=marks)


def spread(marks: Iterable[float], axis: Axis, *, least: float) -> list[float]:
    """Those marks on the axis that have room beside one another, the first before the next."""
    kept: list[float] = []
    for mark in marks:
        if axis.low <= mark <= axis.high and all(abs(axis(mark) - axis(other)) >= least for other in kept):
            kept.append(mark)
    return kept


def apart(places: Mapping[str, float], *, least: float) -> dict[str, float]:
    """Places moved up and down as little as needed to be `least` apart, in the same order."""
    order = sorted(places, key=lambda name: places[name])
    moved: dict[str, float] = {}
    for name in order:
        moved[name] = max([places[name], *(place + least for place in moved.values())])
    if over := (max(moved.values()) - max(places.values())) / 2 if moved else 0:
        moved = {name: place - over for name, place in moved.items()}
    return moved


def plain(value: float) -> str:
    """A number beside an axis."""
    if value != 0 and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def round_steps(first: int, last: int) -> list[float]:
    """Round numbers of steps from `first` to `last`, few enough to be written beside one another."""
    return [mark for mark in _ticks(first, max(last, first + 1)) if first <= mark <= last]


def _ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count` steps apart; low < high."""
    assert low < high
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10, 20) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten from at most `low` to at least `high`; 0 < low < high."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, last + 1)]
