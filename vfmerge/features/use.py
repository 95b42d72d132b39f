"""What a person does with features: look at pictures and at their cells. The same for a parent and a merged model.

Axis letters: B pictures, C channels, h x w cells, D summary width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.capability import Dense, as_pictures
from vfmerge.errors import InputError
from vfmerge.pixels import stretch

from .head import FeatureHead

if TYPE_CHECKING:
    from vfmerge.capability import Pictures
    from vfmerge.model import Network


class Observer(Dense):
    """A network whose head gives features, of pictures in any form of `vfmerge.images`."""

    def __init__(self, network: Network) -> None:
        assert isinstance(network.head, FeatureHead)
        super().__init__(network)
        self._head = network.head
        self.fixed_size = network.head.fixed_size

    @property
    def seen_by(self) -> nn.Module:
        """Its head: features are the parent's, learnt, and not the trunk's."""
        return self._head

    def features(self, images: Tensor) -> Features:
        return self._head.see(self.network.encode(images))

    @torch.no_grad()
    def encode_cells(self, pictures: Pictures, *, size: int | None = None) -> Tensor:
        maps = self._look(pictures, size).maps
        if not maps:
            raise InputError("distill.cells: none, so this model has no features of cells; learn them")
        return maps[-1]

    @torch.no_grad()
    def encode_image(self, pictures: Pictures, *, size: int | None = None) -> Tensor:
        """Summaries [B, D] of whole pictures, stretched to a square of `size`. Raises InputError if there is none."""
        summary = self._look(pictures, size).summary
        if summary is None:
            raise InputError("distill.summary: none, so this model has no summaries of pictures; learn them")
        return summary

    def _look(self, pictures: Pictures, size: int | None) -> Features:
        side = self._head.size if size is None else size
        if side < 1 or side % self._head.stride or self.fixed_size not in (None, side):
            takes = f"{self.fixed_size} alone" if self.fixed_size else f"multiples of {self._head.stride}"
            raise InputError(f"size: {side} does not fit the trunk, which takes {takes}; mend it")
        return self.features(stretch(as_pictures(pictures), side).to(self.device, self.dtype))
