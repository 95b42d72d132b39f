"""Standardisation of targets: losses of parents whose features have other scales become comparable.

Every `Standard` can be undone, so that a head answers in its parent's own space. Its statistics are buffers: they are
saved with the model.

Axis letters: N vectors, C channels.
"""

from __future__ import annotations

import abc
import contextlib

import torch
from torch import Tensor, nn

from .hadamard import hadamard
from .settings import Distill


class Moments:
    """Mean and covariance of vectors that come in parts, in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | None = None
        self._square: Tensor | None = None

    def add(self, vectors: Tensor) -> None:
        """More vectors [N, C]."""
        x = vectors.detach().double()
        total, square = x.sum(0), x.T @ x
        self._sum = total if self._sum is None else self._sum + total
        self._square = square if self._square is None else self._square + square
        self.count += len(x)

    @property
    def mean(self) -> Tensor:
        """[C]."""
        assert self._sum is not None
        return self._sum / self.count

    @property
    def covariance(self) -> Tensor:
        """[C, C]."""
        assert self._square is not None
        return self._square / self.count - torch.outer(self.mean, self.mean)


class Standard(nn.Module, abc.ABC):
    """A scale for vectors [..., C], and the way back. Before `fit` it changes nothing."""

    @abc.abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """[..., C] standardised."""

    @abc.abstractmethod
    def invert(self, x: Tensor) -> Tensor:
        """What `forward` made, [..., C], as it was."""

    @abc.abstractmethod
    def fit(self, moments: Moments) -> None:
        """Take the statistics."""

    @abc.abstractmethod
    def observe(self, targets: Tensor) -> None:
        """Targets [..., C] of one training step: statistics that run go on."""


class Plain(Standard):
    """No scale at all."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def invert(self, x: Tensor) -> Tensor:
        return x

    def fit(self, moments: Moments) -> None:
        pass

    def observe(self, targets: Tensor) -> None:
        pass


class PerChannel(Standard):
    """Mean 0 and variance 1 in each channel (UNIC, arXiv 2408.05088; EUPE: fixed)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int, *, momentum: float) -> None:
        """momentum: how much of the statistics each step replaces; 0 leaves them as they were fitted."""
        super().__init__()
        self._momentum = momentum
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation

    def invert(self, x: Tensor) -> Tensor:
        return x * self.deviation + self.mean

    def fit(self, moments: Moments) -> None:
        self._set(moments.mean, moments.covariance.diagonal())

    @torch.no_grad()
    def observe(self, targets: Tensor) -> None:
        if not self._momentum:
            return
        x = targets.detach().flatten(0, -2).double()  # [N, C]
        mean = self.mean.double().lerp(x.mean(0), self._momentum)
        self._set(mean, self.deviation.double().square().lerp((x - mean).square().mean(0), self._momentum))

    def _set(self, mean: Tensor, variance: Tensor) -> None:
        self.mean = mean.to(self.mean)  # new tensors: an answer of this step has used the old ones
        self.deviation = _deviation(variance).to(self.deviation)


class PHIS(Standard):
    """PCA-Hadamard isotropic standardisation: PHI-S (arXiv 2410.01680).

    A rotation gives every channel the same variance, one number then scales them all to 1: unlike `PerChannel` it
    keeps the proportions between directions, and the error of an answer weighs the same in each. In half precision the
    way there and back would lose what small directions have to say beside a large one, so it is single throughout.
    """

    mean: Tensor
    rotation: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("rotation", torch.eye(channels))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        with _single_precision(x):
            return (x.float() - self.mean) @ self.rotation.float().T / self.scale

    def invert(self, x: Tensor) -> Tensor:
        with _single_precision(x):
            return x.float() @ self.rotation.float() * self.scale + self.mean

    def fit(self, moments: Moments) -> None:
        values, vectors = torch.linalg.eigh(moments.covariance)
        self.mean.copy_(moments.mean)
        self.rotation.copy_(hadamard(values) @ vectors.T)
        self.scale.copy_(_deviation(values.clamp(min=0).mean()))

    def observe(self, targets: Tensor) -> None:
        """Its statistics are fixed."""


def _single_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Within, nothing is cast to half. On the meta device, where there are only shapes, there is no casting."""
    return contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def _deviation(variance: Tensor) -> Tensor:
    """Square root; 1 where nothing varies."""
    return torch.where(variance > 1e-12, variance.clamp(min=0).sqrt(), torch.ones_like(variance))


def standard(settings: Distill, channels: int) -> Standard:
    """The scale that the settings ask for."""
    match settings.standardise:
        case "none":
            return Plain()
        case "running":
            return PerChannel(channels, momentum=settings.momentum)
        case "fixed":
            return PerChannel(channels, momentum=0)
        case "phi_s":
            return PHIS(channels)
