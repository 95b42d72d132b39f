"""Intervals by the bootstrap (Efron 1979): pictures are drawn again, with replacement, and the metric is taken again.

Which pictures are drawn depends on how many there are and on nothing else, so that the samples of a parent and of a
merged model are of the same pictures, and the interval of their ratio is a paired one.

Axis letters: n pictures, R samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vfmerge import random

LEVEL = 0.95
"""Share of the samples that an interval covers, the same share cut off at either end."""


def resample(values: np.ndarray, reduce: Callable[[np.ndarray], float], *, times: int) -> np.ndarray:
    """The metric `reduce` over `times` samples of the rows of `values` [n, ...]: float [R]."""
    count = len(values)
    draw = random.generator("bootstrap", count)
    with np.errstate(invalid="ignore", divide="ignore"):  # a sample may lack what the metric divides by
        return np.array([reduce(values[draw.integers(count, size=count)]) for _ in range(times)], dtype=float)


def interval(samples: np.ndarray) -> tuple[float, float] | None:
    """The percentile interval of samples [R]; none where fewer than half of them have a meaning."""
    known = samples[np.isfinite(samples)]
    if len(samples) == 0 or len(known) < len(samples) / 2:
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
