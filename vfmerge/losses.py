"""Losses: pure functions (answer, target) -> [B], one number per sample, each with the paper it is from.

Axis letters: B samples; every other axis is summed or averaged within its sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from vfmerge.features.settings import Loss


def cosine(answer: Tensor, target: Tensor) -> Tensor:
    """1 - cos(answer, target) over the last axis, [..., D] -> [...]: 0..2. SAM-CLIP, arXiv 2310.15308, equation 1."""
    return 1 - F.cosine_similarity(answer, target, dim=-1)


def soft_focal(logits: Tensor, target: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss between mask logits [B, ...] and soft masks [B, ...] in 0..1, averaged over pixels: [B].

    |t - p|^gamma in place of (1 - p_t)^gamma, as in Generalized Focal Loss (arXiv 2006.04388, equation 6): for a hard
    target it is the focal loss that SAM was trained with (arXiv 2304.02643, appendix A), for a soft one it is zero
    exactly where answer and target agree.
    """
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * (target - probability).abs().pow(gamma) * entropy).flatten(1).mean(1)


def soft_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss between mask logits [B, ...] and soft masks [B, ...] in 0..1: [B], in 0..1.

    The denominator is of squares (V-Net, arXiv 1606.04797), which equals SAM's sum for hard targets up to the answer's
    own squares, and makes the loss zero for a soft target exactly where answer and target agree.
    """
    probability, target = logits.sigmoid().flatten(1), target.flatten(1)
    overlap = (probability * target).sum(1)
    total = probability.square().sum(1) + target.square().sum(1)
    return 1 - (2 * overlap + 1) / (total + 1)


def squared(answer: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over all but the first axis: [B]."""
    return (answer - target).square().flatten(1).mean(1)


def smooth_l1(answer: Tensor, target: Tensor) -> Tensor:
    """Huber's loss with its bend at 1, averaged over all but the first axis: [B]. Fast R-CNN, arXiv 1504.08083."""
    return F.smooth_l1_loss(answer, target, reduction="none").flatten(1).mean(1)


def feature(answer: Tensor, target: Tensor, *, kind: Loss, cosine_share: float = 0.9) -> Tensor:
    """A loss between vectors [B, n, D], averaged over the n of an image: [B].

    cosine_smooth_l1: so much of the cosine and the rest of smooth L1, 0.9 and 0.1 in AM-RADIO (arXiv 2312.06709).
    """
    match kind:
        case "cosine":
            return cosine(answer, target).mean(1)
        case "smooth_l1":
            return smooth_l1(answer, target)
        case "mse":
            return squared(answer, target)
        case "cosine_smooth_l1":
            return cosine_share * cosine(answer, target).mean(1) + (1 - cosine_share) * smooth_l1(answer, target)


def mask_iou(answer: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of bool masks [..., H, W]: [...], in 0..1; 1 where both are empty."""
    both = torch.logical_and(answer, target).flatten(-2).sum(-1)
    either = torch.logical_or(answer, target).flatten(-2).sum(-1)
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both, dtype=torch.float32))


def mask_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy between mask logits [B, ...] and masks [B, ...] in 0..1, averaged over pixels or points.

    [B], 0 or more. With `naive_dice`, what Open-Vocabulary SAM (arXiv 2401.02955) learns masks by.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)


def naive_dice(logits: Tensor, target: Tensor, *, eps: float = 1.0) -> Tensor:
    """Dice loss between mask logits [B, ...] and hard masks [B, ...] of 0 and 1, over pixels or points: [B], in 0..1.

    Sums stand where V-Net (arXiv 1606.04797) has squares, as in DETR (arXiv 2005.12872, appendix A.2). For labels:
    it is not least where a soft target is met, as distillation needs, which is what `soft_dice` is for.

    eps: smoothing, in pixels or points; an empty answer to an empty mask costs nothing.
    """
    probability, target = logits.sigmoid().flatten(1), target.flatten(1)
    overlap = (probability * target).sum(1)
    return 1 - (2 * overlap + eps) / (probability.sum(1) + target.sum(1) + eps)
