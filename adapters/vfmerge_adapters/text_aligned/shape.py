"""The head that learns a CLIP on another trunk, as its options say. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import FeatureSpec
from vfmerge.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from .head import ClipHead


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadShape:
    """The numbers of a `ClipHead`, and the size of what it is shown. Wrong ones are an InputError.

    layers: transformer layers. hidden: widths of its MLP's hidden layers; none is the trunk's width for both.
    cells: the most cells a side that the layers attend over. window: cells a side that a cell's embedding pools.
    size: side in pixels at which the merged model looks at a picture by default; none is the parent's own.
    """

    layers: int
    hidden: tuple[int, int] | None
    cells: int
    window: int
    size: int | None

    def __post_init__(self) -> None:
        if self.window % 2 == 0:
            raise InputError(f"window: {self.window} has no cell in its middle; give an odd number")
        counts = {"layers": self.layers, "cells": self.cells, "window": self.window, "size": self.size}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise InputError(f"{name}: {value} is not a count; give 1 or more")
        if self.hidden is not None and (len(self.hidden) != 2 or min(self.hidden) < 1):
            raise InputError(f"hidden: {list(self.hidden)} is not two widths; give two numbers of 1 or more")

    def portable(self) -> dict[str, Any]:
        """The same as options, plain as JSON."""
        return dataclasses.asdict(self) | {"hidden": self.hidden and list(self.hidden)}

    def build(self, text: nn.Module, features: FeatureSpec, *, embedding: int, own: int) -> ClipHead:
        """A head on a trunk that gives `features`. text: its tower. embedding: width. own: the parent's size."""
        from vfmerge.layers import heads_for

        from .head import ClipHead

        width, stride = features.channels[-1], features.strides[-1]
        return ClipHead(
            text,
            width=width,
            heads=heads_for(features, width),
            layers=self.layers,
            hidden=self.hidden or (width, width),  # chosen here: with three layers it makes the paper's + 25 %
            embedding=embedding,
            cells=self.cells,
            window=self.window,
            size=features.fixed_size or self.size or features.fit(own),
            stride=stride,
            fixed_size=features.fixed_size,
        )
