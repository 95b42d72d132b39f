"""Rehearsal of a promptable parent: the merged model's masks against the frozen parent's.

Axis letters: M masks of all images together, K masks a prompt, s x s pixels of a low-resolution mask.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Weights of the losses on masks: focal and Dice of logits, and the squared error of predicted IoU scores."""

    focal: float
    dice: float
    iou: float

    def weights(self) -> dict[str, float]:
        """The same by name, as an adapter's options have them."""
        return dataclasses.asdict(self)

    def terms(self, answer: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Per mask [M], averaged over the K outputs of its prompt; SAM-CLIP, arXiv 2310.15308, equation 2.

        answer, target: mask logits [M, K, s, s] and IoU scores [M, K]. Which of the outputs to distil is not stated in
        the paper: all of them, each against the parent's own (chosen here), so that single and ambiguous prompts are
        both rehearsed. Where trunk and parent have cells of other sizes, the answer is brought to the target's grid
        (chosen here).
        """
        from vfmerge import losses
        from vfmerge.features.grid import resize

        shape = answer[1].shape  # [M, K]
        logits = resize(answer[0].float(), *target[0].shape[-2:]).flatten(0, 1)
        goal = target[0].float().flatten(0, 1).sigmoid()
        terms = {
            "focal": self.focal * losses.soft_focal(logits, goal).view(shape).mean(1),
            "dice": self.dice * losses.soft_dice(logits, goal).view(shape).mean(1),
        }
        if self.iou:
            terms["iou"] = self.iou * losses.squared(answer[1].float(), target[1].float())
        return terms
