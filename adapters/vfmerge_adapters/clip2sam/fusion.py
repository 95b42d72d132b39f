"""The label branch and the frozen CLIP as one opinion: a weighted geometric mean of what both say of a region.

Open-Vocabulary SAM, arXiv 2401.02955, as its published code has it: of classes that the branch was taught its own word
counts most, of the others CLIP's.

Axis letters: M regions, T classes, s x s pixels of a low-resolution mask, h x w cells of CLIP's last map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fuse(branch: Tensor, clip: Tensor, *, seen: Tensor, covered: Tensor, alpha: float, beta: float) -> Tensor:
    """How likely each class is, [M, T], of logits [M, T + 1] of the two, whose last is the background's.

    With q = softmax(branch) and c = softmax(clip) over classes and background: q^(1 - alpha) c^alpha for a class that
    was seen and for the background, q^(1 - beta) c^beta for another; where no mask covers a cell of CLIP's, q alone.
    Then normalised over classes and background, which keeps the ranks within a region, and the background left out:
    a row sums to what the background leaves, at most 1. float64, for a float32 loses ranks to underflow where the
    background is e^100 times likelier.

    seen: bool [T], classes that the branch was taught. covered: bool [M], see `covers`. alpha, beta: in 0..1.
    """
    known = torch.cat([seen, seen.new_ones(1)])  # [T + 1]
    share = seen.new_tensor([beta, alpha], dtype=torch.float64)[known.long()]
    share = share * covered.unsqueeze(1)  # [M, T + 1], CLIP's part
    logs = (1 - share) * branch.double().log_softmax(1) + share * clip.double().log_softmax(1)
    return logs.softmax(1)[:, :-1]


def covers(logits: Tensor, h: int, w: int) -> Tensor:
    """Whether masks of logits [M, s, s] cover a cell of the map [h, w] over the same square: bool [M].

    Bilinear and not averaged, as the published code: a mask that lies between the centres of cells covers none.
    """
    coarse = F.interpolate(logits.float().unsqueeze(1), size=(h, w), mode="bilinear", align_corners=False)
    return (coarse > 0).flatten(1).any(1)
