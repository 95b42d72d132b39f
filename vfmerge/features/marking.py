"""How features are marked, and their scales fitted: for every adapter whose target are features.

Axis letters: B images, C channels, h x w cells, n = h w, D summary width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from vfmerge import losses

from .grid import match
from .head import Answer
from .settings import Distill
from .standard import Moments, Plain, Standard


def mark(answer: Answer, target: Mapping[str, Tensor], settings: Distill) -> dict[str, Tensor]:
    """The loss of each part on its scale, [B]: a mean over cells on the coarser of the two grids.

    target: by part, `summary` [B, D] and `cells` [B, C, h, w].
    """
    kinds = {"summary": settings.summary, "cells": settings.cells}
    terms = {}
    for name, given in answer.parts.items():
        kind, wanted, scale = kinds[name], target[name], answer.standards[name]
        assert kind != "none"
        if name == "cells":
            given, wanted = match(given, wanted)
        x, goal = _vectors(given), _vectors(wanted)
        terms[name] = losses.feature(scale(x), scale(goal), kind=kind, cosine_share=settings.cosine)
    return terms


def calibrate(standards: Mapping[str, Standard], targets: Iterator[Mapping[str, Tensor]], *, pictures: int) -> None:
    """Fit scales to the targets of the first so many pictures; none is asked for where there is no scale to fit."""
    if all(isinstance(each, Plain) for each in standards.values()):
        return
    moments = {name: Moments() for name in standards}
    seen = 0
    while seen < pictures:
        target = next(targets)
        seen += len(next(iter(target.values())))
        for name, each in moments.items():
            each.add(_vectors(target[name]).flatten(0, 1))
    for name, each in moments.items():
        standards[name].fit(each)


def observe(standards: Mapping[str, Standard], target: Mapping[str, Tensor]) -> None:
    """Let scales whose statistics run see the targets of one step."""
    for name, each in standards.items():
        each.observe(_vectors(target[name]))


def _vectors(part: Tensor) -> Tensor:
    """A summary [B, D] or cells [B, C, h, w] as vectors [B, n, C], in full precision."""
    return (part.unsqueeze(1) if part.dim() == 2 else part.flatten(2).transpose(1, 2)).float()
