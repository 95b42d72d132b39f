"""The masks that were called up in a picture, and which of them are worth giving to a person.

There may be hundreds, of which a few are given: they are kept as bits, of a large picture at a smaller size, and those
that are given are enlarged to its own.

Axis letters: H x W pixels of the picture, h x w pixels of what is found in it, N masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from vfmerge.benchmarks.two_heads import Claims
from vfmerge.reduction import Reduction

NOTHING = -1
"""What pixels of no class are in a label map."""

_LEAST = 0.1  # chosen here: the score of a mask
_KEPT = 0.5  # chosen here: the share of a mask's pixels that must have its label
_SAME = 0.7  # the IoU from which two masks are one, as in SAM's generator (there of their boxes)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A mask. label: the number of its class. score: how sure it is, in 0..1. bits: of its h x w pixels.

    logits: [h, w], which it is enlarged from, of half precision; none where it has the picture's own size.
    """

    label: int
    score: float
    bits: np.ndarray
    logits: Tensor | None

    def same(self, other: Candidate) -> bool:
        """Whether it is nearly the same, and of the same class."""
        if self.label != other.label:
            return False
        both, either = self.bits & other.bits, self.bits | other.bits
        return bool(np.bitwise_count(both).sum() > _SAME * np.bitwise_count(either).sum())


class Candidates:
    """The masks of one picture as they come."""

    def __init__(self, reduction: Reduction) -> None:
        self._reduction = reduction
        self._found: list[Candidate] = []

    def add(self, claims: Claims) -> None:
        """Masks of h x w pixels; one that is hardly believed in is forgotten."""
        inside = claims.logits > 0
        scores = claims.strength.sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
        bits = np.packbits(inside.flatten(1).cpu().numpy(), axis=1)
        for number, (label, score) in enumerate(zip(claims.labels.tolist(), scores.tolist(), strict=True)):
            if score >= _LEAST:
                logits = None if self._reduction.none else claims.logits[number].half().cpu()
                self._found.append(Candidate(label=label, score=score, bits=bits[number], logits=logits))

    def choose(self, labels: np.ndarray) -> list[Candidate]:
        """Those that agree with the labels, int [h, w], each thing once, the surest first."""
        kept: list[Candidate] = []
        for each in sorted(self._found, key=lambda each: -each.score):
            mask = self._seen(each)
            agreeing = (mask & (labels == each.label)).sum()
            if agreeing and agreeing >= _KEPT * mask.sum() and not any(each.same(other) for other in kept):
                kept.append(each)
        return kept

    def masks(self, kept: Sequence[Candidate]) -> np.ndarray:
        """bool [N, H, W]."""
        masks = np.zeros((len(kept), *self._reduction.frame), dtype=bool)
        for mask, each in zip(masks, kept, strict=True):
            mask[:] = self._seen(each) if each.logits is None else self._reduction.outward(each.logits)
        return masks

    def labels(self, kept: Sequence[Candidate], labels: np.ndarray, *, masks: np.ndarray) -> np.ndarray:
        """The labels, int [h, w], that lie in masks of their class: int64 [H, W], NOTHING elsewhere.

        masks: bool [N, H, W], of those that were kept. Of a picture that was reduced, a pixel has the label that is
        most around it, of those whose masks it lies in.
        """
        covered, backed = (np.zeros(self._reduction.inner, dtype=bool) for _ in range(2))
        for each in kept:
            mask = self._seen(each)
            covered |= mask
            backed |= mask & (labels == each.label)
        labels = np.where(backed, labels, NOTHING)
        if self._reduction.none:
            return labels
        large = np.full(self._reduction.frame, NOTHING, dtype=np.int64)
        most = np.zeros(self._reduction.frame, dtype=np.uint8)
        for label in dict.fromkeys(each.label for each in reversed(kept)):  # where two are equal, the surer is the last
            share = self._reduction.share(labels == label)
            inside = np.zeros(self._reduction.frame, dtype=bool)
            for mask, each in zip(masks, kept, strict=True):
                if each.label == label:
                    inside |= mask
            inside &= share >= most
            np.copyto(large, label, where=inside)
            np.copyto(most, share, where=inside)
        large[self._reduction.share(covered & ~backed) > most] = NOTHING  # of a class whose mask was not kept
        return large

    def _seen(self, candidate: Candidate) -> np.ndarray:
        """bool [h, w]."""
        height, width = self._reduction.inner
        return np.unpackbits(candidate.bits, count=height * width).reshape(height, width).astype(bool)
