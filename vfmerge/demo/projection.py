"""Features of cells as colours: their first three principal components as red, green and blue, as DINOv2 shows its
patches (arXiv 2304.07193, figure 1). What is to be compared is projected alike, as there.

Axis letters: C channels, h x w cells, n = h w.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

_FLAT = 1e-4  # a component that varies less, where features have length 1, is rounding; chosen here
_RANGE = (0.02, 0.98)  # quantiles that become 0 and 1, so that one odd cell does not dim all others; chosen here


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Onto the principal components of some cells, the largest first.

    mean: [C]. axes: [3, C], unit rows, or zeros where there are fewer components. least, most: [3], where each colour
    begins and ends.
    """

    mean: Tensor
    axes: Tensor
    least: Tensor
    most: Tensor

    @classmethod
    def of(cls, cells: Tensor) -> Projection:
        """cells: [C, h, w].

        The sign of a component is nobody's choice: that of its larger squares is made positive (Bro, Acar and Kolda,
        Journal of Chemometrics 22, 2008), so that the few cells of things are bright on a wide, dark ground.
        """
        rows = _rows(cells)
        mean = rows.mean(0)
        _, sizes, found = torch.linalg.svd(rows - mean, full_matrices=False)
        count = int((sizes[:3] > _FLAT * len(rows) ** 0.5).sum())
        axes = rows.new_zeros(3, rows.shape[1])
        axes[:count] = found[:count]
        scores = (rows - mean) @ axes.T  # [n, 3]
        axes = torch.where((scores * scores.abs()).sum(0) < 0, -1.0, 1.0)[:, None] * axes
        least, most = ((rows - mean) @ axes.T).quantile(rows.new_tensor(_RANGE), dim=0)
        return cls(mean=mean, axes=axes, least=least, most=most)

    def colours(self, cells: Tensor) -> Tensor:
        """Red, green and blue of cells [C, h, w], uint8 [h, w, 3]; a colour that says nothing is half there."""
        span = self.most - self.least
        shares = (self._scores(cells) - self.least) / span.where(span > 0, 1.0)
        shares = torch.where(span > 0, shares, 0.5).clamp(0, 1)
        return (255 * shares).round().to(torch.uint8).view(*cells.shape[1:], 3)

    def share(self, cells: Tensor) -> float:
        """How much of the variance of cells [C, h, w] the colours show, in 0..1."""
        rows = _rows(cells)
        whole = float((rows - rows.mean(0)).square().sum())
        scores = self._scores(cells)
        return float((scores - scores.mean(0)).square().sum()) / whole if whole > 0 else 0.0

    def _scores(self, cells: Tensor) -> Tensor:
        return (_rows(cells) - self.mean) @ self.axes.T


def _rows(cells: Tensor) -> Tensor:
    """[C, h, w] to [n, C]."""
    return cells.flatten(1).T
