"""Scales of targets: what they make of them, the way back, and their statistics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vfmerge.features.hadamard import hadamard
from vfmerge.features.settings import Distill, Scale
from vfmerge.features.standard import PHIS, Moments, PerChannel, Standard, standard


def vectors(count: int = 4000, channels: int = 12) -> Tensor:
    """Channels that depend on each other, of very different sizes, away from zero."""
    torch.manual_seed(0)
    mixed = torch.randn(count, channels) @ torch.randn(channels, channels)
    return mixed * torch.logspace(-2, 2, channels) + torch.arange(channels)


def fitted(kind: Scale, x: Tensor) -> Standard:
    """A scale with the statistics of x, which came in three parts."""
    moments = Moments()
    for part in x.split(1500):
        moments.add(part)
    scale = standard(Distill(standardise=kind), x.shape[1])
    scale.fit(moments)
    return scale


def test_moments_are_those_of_all_parts_together() -> None:
    """Mean and covariance against torch's own."""
    x = vectors()
    moments = Moments()
    for part in x.split(1500):
        moments.add(part)
    torch.testing.assert_close(moments.mean, x.double().mean(0))
    torch.testing.assert_close(moments.covariance, x.double().T.cov(correction=0))


@pytest.mark.parametrize("kind", ["running", "fixed"])
def test_each_channel_gets_mean_zero_and_variance_one(kind: Scale) -> None:
    """Whatever its size was."""
    x = vectors()
    scaled = fitted(kind, x)(x)
    assert scaled.mean(0).abs().max() < 1e-3
    torch.testing.assert_close(scaled.var(0, correction=0), torch.ones(x.shape[1]), rtol=1e-3, atol=1e-3)


def test_phi_s_gives_all_channels_one_variance_and_keeps_proportions() -> None:
    """Variance 1 everywhere, and distances all divided by one number, which no scale by channel does."""
    x = vectors()
    scaled = fitted("phi_s", x)(x)
    torch.testing.assert_close(scaled.var(0, correction=0), torch.ones(x.shape[1]), rtol=1e-3, atol=1e-3)
    ratio = torch.pdist(scaled[:50]) / torch.pdist(x[:50])
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-3, atol=0)
    unequal = torch.pdist(fitted("fixed", x)(x)[:50]) / torch.pdist(x[:50])
    assert unequal.max() > 10 * unequal.min()


@pytest.mark.parametrize("kind", ["none", "running", "fixed", "phi_s"])
def test_every_scale_can_be_undone(kind: Scale) -> None:
    """Also for maps of cells, and before it knows anything."""
    x = vectors()
    for scale in (fitted(kind, x), standard(Distill(standardise=kind), x.shape[1])):
        grid = x[:24].view(2, 3, 4, -1)
        torch.testing.assert_close(scale.invert(scale(grid)), grid, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["none", "running", "fixed", "phi_s"])
def test_half_precision_is_not_for_scales(kind: Scale) -> None:
    """Where all else is computed in bf16, there and back loses nothing: nor in channels beside a far larger one."""
    torch.manual_seed(0)
    x = torch.randn(2000, 32)
    x[:, 7] *= 60  # as features of CLIPs and DINOs have one
    scale = fitted(kind, x)
    with torch.autocast("cpu", torch.bfloat16):
        there = scale(x)
        back = scale.invert(there)
    assert there.dtype == back.dtype == torch.float32
    assert torch.equal(there, scale(x))
    assert ((back - x).norm(dim=0) / x.norm(dim=0)).max() < 1e-5


@pytest.mark.parametrize("kind", ["none", "running", "fixed", "phi_s"])
def test_shapes_alone_have_a_scale(kind: Scale) -> None:
    """On the meta device, where it is foretold how large a cache will be."""
    scale, x = standard(Distill(standardise=kind), 12).to("meta"), torch.zeros(2, 12, device="meta")
    assert scale.invert(scale(x)).shape == (2, 12)


def test_a_model_in_half_precision_has_its_scale() -> None:
    """One that was brought to bf16 as a whole answers in its parent's space, as near as bf16 is."""
    x = vectors()
    scale = fitted("phi_s", x)
    there = scale(x)
    wanted, found = scale.invert(there), scale.to(torch.bfloat16).invert(there)
    assert (found - wanted).norm() / wanted.norm() < 0.02


@pytest.mark.parametrize("kind", ["running", "fixed", "phi_s"])
def test_a_channel_that_never_varies_stays_finite(kind: Scale) -> None:
    """It is brought to zero, not divided by it."""
    x = torch.full((10, 4), 3.0)
    assert fitted(kind, x)(x).abs().max() < 1e-6


def test_statistics_run_by_their_share() -> None:
    """The mean moves so far towards what is seen, and the variance to that about the new mean; in any mode."""
    for mode in (True, False):
        scale = PerChannel(2, momentum=0.25).train(mode)
        scale.observe(torch.tensor([[4.0, 8.0], [4.0, 8.0]]))
        assert scale.mean.tolist() == [1, 2]
        torch.testing.assert_close(scale.deviation.square(), torch.tensor([0.75 + 0.25 * 9, 0.75 + 0.25 * 36]))


def test_statistics_reach_those_of_the_targets() -> None:
    """After many steps, mean and deviation are what they would be fitted to."""
    x, scale = vectors(20_000, 4), PerChannel(4, momentum=0.05).train()
    for part in x.split(100):
        scale.observe(part)
    known = fitted("fixed", x)
    assert isinstance(known, PerChannel)
    assert ((scale.mean - known.mean) / known.deviation).abs().max() < 0.2
    torch.testing.assert_close(scale.deviation, known.deviation, rtol=0.15, atol=0)


def test_fixed_statistics_stay() -> None:
    """No training step moves them."""
    x = vectors()
    for kind in ("fixed", "phi_s"):
        scale = fitted(kind, x).train()
        before = {name: tensor.clone() for name, tensor in scale.state_dict().items()}
        scale.observe(x + 5)
        assert all(torch.equal(tensor, before[name]) for name, tensor in scale.state_dict().items())


def test_statistics_are_saved() -> None:
    """In the state dict, so in checkpoints and merged models."""
    assert set(PHIS(4).state_dict()) == {"mean", "rotation", "scale"}
    assert set(PerChannel(4, momentum=0).state_dict()) == {"mean", "deviation"}


@pytest.mark.parametrize("order", [2, 4, 8, 12, 20, 28, 36, 64, 192, 384, 768, 1024, 1152, 1280])
def test_hadamard_matrices(order: int) -> None:
    """Entries of one size, orthogonal rows: at the widths of ViTs from tiny to giant."""
    matrix = hadamard(torch.rand(order, dtype=torch.double))
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, order**-0.5))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(order, dtype=torch.double))


@pytest.mark.parametrize("order", [1, 3, 5, 7, 37, 92, 100])
def test_other_orders_level_variances_too(order: int) -> None:
    """Orthogonal, and the variances it was made for become equal."""
    torch.manual_seed(order)
    variances = torch.rand(order, dtype=torch.double) ** 4
    matrix = hadamard(variances)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(order, dtype=torch.double))
    level = (matrix @ variances.diag() @ matrix.T).diagonal()
    torch.testing.assert_close(level, variances.mean().expand(order))
