"""Losses against their definitions."""

from __future__ import annotations

import pytest
import torch

from vfmerge import losses


def test_cosine_is_zero_for_parallel_and_two_for_opposite() -> None:
    """Equation 1 of SAM-CLIP on three pairs."""
    answer = torch.tensor([[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    target = torch.tensor([[5.0, 0.0], [0.0, -1.0], [1.0, -1.0]])
    torch.testing.assert_close(losses.cosine(answer, target), torch.tensor([0.0, 2.0, 1.0]))


def test_soft_focal_is_sams_focal_on_hard_targets() -> None:
    """On hard masks it is -alpha_t (1 - p_t)^2 log p_t."""
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 5, 5), (torch.rand(3, 5, 5) > 0.5).float()
    p = logits.sigmoid()
    p_t, alpha_t = torch.where(mask > 0, p, 1 - p), torch.where(mask > 0, 0.25, 0.75)
    wanted = (-alpha_t * (1 - p_t) ** 2 * p_t.log()).flatten(1).mean(1)
    torch.testing.assert_close(losses.soft_focal(logits, mask), wanted)


@pytest.mark.parametrize("loss", [losses.soft_focal, losses.soft_dice])
def test_mask_losses_are_least_where_the_answer_is_the_soft_target(loss: object) -> None:
    """Zero at the soft target itself, more for a sharper or a blunter answer."""
    torch.manual_seed(0)
    logits = torch.randn(4, 8, 8) * 2
    at, sharper, blunter = (loss(logits * scale, logits.sigmoid()) for scale in (1.0, 2.0, 0.5))  # type: ignore[operator]
    assert at.abs().max() < 1e-6
    assert (sharper > 1e-4).all()
    assert (blunter > 1e-4).all()


def test_soft_dice_of_disjoint_masks_is_nearly_one() -> None:
    """No overlap, and a large mask: the smoothing of one pixel hardly counts."""
    target = torch.zeros(1, 64, 64)
    target[0, :32] = 1
    assert losses.soft_dice(-40 * (2 * target - 1), target).item() == pytest.approx(1, abs=1e-3)


def test_losses_are_per_sample() -> None:
    """Changing one sample changes that sample's number alone."""
    torch.manual_seed(0)
    logits, target = torch.randn(3, 6, 6), torch.rand(3, 6, 6)
    changed = logits.clone()
    changed[1] += 1
    for loss in (losses.soft_focal, losses.soft_dice, losses.squared):
        assert (loss(changed, target) != loss(logits, target)).tolist() == [False, True, False]


def test_mask_iou_counts_pixels() -> None:
    """Half overlap, equal, disjoint, both empty."""
    a, b, none = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
    a[0, 0, :2], b[0, 0, 1:3] = 1, 1
    pairs = [(a, b), (a, a), (a, 1 - a), (none, none)]
    assert [losses.mask_iou(x > 0, y > 0).item() for x, y in pairs] == [pytest.approx(1 / 3), 1, 0, 1]
