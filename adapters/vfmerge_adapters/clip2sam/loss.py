"""How CLIP2SAM is learnt from labelled masks: by their names, and by points of their outlines.

Open-Vocabulary SAM, arXiv 2401.02955, section 3.4, and its published code.

Axis letters: M masks of all images together, T classes, s x s pixels of a low-resolution mask, P points.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

from vfmerge.adapter import Batch

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lesson:
    """Weights of the losses on names and masks, and where masks are looked at.

    names, masks, dice: weights of the cross-entropy of classes, and of binary cross-entropy and Dice of points.
    points: of a mask. oversample, importance: as in `points.uncertain`.
    """

    names: float
    masks: float
    dice: float
    points: int
    oversample: float
    importance: float

    def options(self) -> dict[str, float]:
        """The same by name, as an adapter's options have them."""
        return dataclasses.asdict(self)

    def terms(self, answer: tuple[Tensor, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Per mask [M], of which some do not count: one without a class (-1) for names, a rough one for masks.

        What does not count is zero, and the others are multiplied by M over their number, so that the mean over all
        M, which the engine takes, is the mean over those that count. Where none does, all are zero.

        answer: mask logits [M, s, s] and class logits [M, T + 1]. Of these the last is the background's, which is
        never the truth here: the published code's weight of a tenth for it has nothing to weigh.
        """
        import torch.nn.functional as F

        from vfmerge import losses, points

        assert batch.masks is not None
        logits, scores = (each.float() for each in answer)
        labels = scores.new_full((len(scores),), -1).long() if batch.labels is None else batch.labels
        known = (labels >= 0).nonzero()[:, 0]
        sharp = logits.new_ones(len(logits)).bool() if batch.rough is None else ~batch.rough
        clear = sharp.nonzero()[:, 0]
        keys = _keys(batch)
        places = points.uncertain(
            logits[clear],
            count=self.points,
            oversample=self.oversample,
            importance=self.importance,
            keys=[keys[row] for row in clear.tolist()],
        )
        drawn, truth = points.sample(logits[clear], places), points.sample(batch.masks[clear], places)  # [., P]
        names = F.cross_entropy(scores[known], labels[known], reduction="none")
        return {
            "names": self.names * _among(names, known, count=len(scores)),
            "masks": self.masks * _among(losses.mask_entropy(drawn, truth), clear, count=len(logits)),
            "dice": self.dice * _among(losses.naive_dice(drawn, truth), clear, count=len(logits)),
        }


def _among(values: Tensor, rows: Tensor, *, count: int) -> Tensor:
    """Values of some rows among zeros for the others, [M]; the mean of all is that of the given ones."""
    return values.new_zeros(count).index_copy(0, rows, values * (count / max(len(rows), 1)))


def _keys(batch: Batch) -> list[int]:
    """An integer for each mask, of its image's key and its number among that image's masks."""
    from vfmerge import random

    assert batch.owner is not None
    met: collections.Counter[int] = collections.Counter()
    keys = []
    for image in batch.owner.tolist():
        keys.append(random.key(batch.keys[image], "mask", met[image]))
        met[image] += 1
    return keys
