"""Multinomial logistic regression on features in a file: the loss is convex, so its minimum is the one answer.

minimised: mean cross-entropy + penalty / 2 * |weight|^2, on standardised features; the bias has no penalty.

Axis letters: B pictures, N pictures to learn from, D feature width, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .features import spread

if TYPE_CHECKING:
    from torch import Tensor

    from .probe import Lesson


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A linear classifier of standardised features. weight: [K, D], bias: [K], mean, deviation: [D], the features'."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Logits [B, K] of features [B, D]."""
        return (features - self.mean) / self.deviation @ self.weight.T + self.bias


class Problem:
    """Pictures to be told apart. iterations: of L-BFGS, at most."""

    def __init__(self, lesson: Lesson, *, iterations: int) -> None:
        import torch

        self._lesson, self._iterations = lesson, iterations
        mean, deviation = spread(lesson.features)
        self._mean = torch.from_numpy(mean).to(lesson.device)
        self._deviation = torch.from_numpy(deviation).to(lesson.device)

    def solve(self, *, penalty: float, among: np.ndarray, start: Line | None = None) -> Line:
        """The classifier that is best for the pictures among the N, bool [N]. start: where to begin, or at zero."""
        import torch
        import torch.nn.functional as F

        lesson, count = self._lesson, int(among.sum())
        line = self._begin(start)
        optimizer = torch.optim.LBFGS(
            [line.weight, line.bias],
            max_iter=self._iterations,
            max_eval=2 * self._iterations,
            tolerance_grad=1e-6,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            lesson.work.advance(0)
            optimizer.zero_grad()
            total = penalty / 2 * line.weight.square().sum()
            total.backward()  # type: ignore[no-untyped-call]
            for features, labels, chosen in self._parts(among):
                part = (F.cross_entropy(line(features), labels, reduction="none") * chosen).sum() / count
                part.backward()  # type: ignore[no-untyped-call]
                total = total.detach() + part.detach()
            return total

        with torch.enable_grad():
            optimizer.step(loss)  # type: ignore[no-untyped-call]
        return dataclasses.replace(line, weight=line.weight.detach(), bias=line.bias.detach())

    def accuracy(self, line: Line, *, among: np.ndarray) -> float:
        """The share of these pictures, bool [N], that are told rightly."""
        right = 0.0
        for features, labels, chosen in self._parts(among):
            right += float(((line(features).argmax(1) == labels) * chosen).sum())
        return right / int(among.sum())

    def _begin(self, start: Line | None) -> Line:
        import torch

        lesson = self._lesson
        (width,) = lesson.features.shape
        weight = torch.zeros(lesson.classes, width, device=lesson.device) if start is None else start.weight.clone()
        bias = torch.zeros(lesson.classes, device=lesson.device) if start is None else start.bias.clone()
        weight.requires_grad_(True)
        bias.requires_grad_(True)
        return Line(weight=weight, bias=bias, mean=self._mean, deviation=self._deviation)

    def _parts(self, among: np.ndarray) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All features [n, D], some at a time, with their labels [n] and 1 or 0 [n] for whether they count."""
        import torch

        device = self._lesson.device
        for first, rows in self._lesson.features.chunks():
            here = slice(first, first + len(rows))
            labels, chosen = self._lesson.labels[here], among[here].astype(np.float32)
            yield tuple(torch.tensor(each, device=device) for each in (rows, labels, chosen))  # type: ignore[misc]
