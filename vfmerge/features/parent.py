"""A parent that is known by its features: all of an adapter but the model itself. Imports no torch.

Whoever has an image encoder subclasses `FeatureParent` and says how to build it and where its weights are; teaching,
heads, losses, standardisation and use are here. `adapters/README.md` shows one.

Axis letters: B images, C channels, h x w cells, n = h w, D summary width.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import BaseAdapter, Batch, FeatureSpec

from .settings import Distill

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import Dense
    from vfmerge.model import Network

    from .head import Answer


class FeatureParent(BaseAdapter):
    """Features of pictures, their summary and their cells, as target: AM-RADIO (arXiv 2312.06709) and its kin.

    The last of the trunk's maps and its summary are what is learnt. A subclass gives `interface`, `features`, `trunk`,
    `fill` and `portable`, and sets `sources` and `licence`.
    """

    def __init__(self, *, size: int | None = None, distill: Distill = Distill()) -> None:
        """size: side in pixels at which the parent teaches, whatever the stream's is; none is the stream's own.

        distill: losses, their scale, and the head.
        """
        self._size, self._distill = size, distill

    @abc.abstractmethod
    def fill(self, trunk: nn.Module) -> None:
        """Read the parent's weights into a trunk that `trunk()` made; nothing to do where they are random.

        Raises InputError or CheckpointError for files that do not fit.
        """

    @property
    def native_size(self) -> int:
        """Side in pixels at which a person looks at a picture with the parent by default."""
        return 224

    def portable_features(self) -> dict[str, Any]:
        """The options of this class, for a subclass's `portable`."""
        return {"size": self._size, "distill": self._distill.model_dump(mode="json")}

    @property
    def teaches_at(self) -> int | None:
        return self._size or self.features.fixed_size

    def teacher(self) -> Network:
        """Batch -> the parts that are learnt: a summary [B, D], cells [B, C, h, w], or both in this order."""
        import torch

        from vfmerge import random
        from vfmerge.model import Network

        from .head import ParentHead

        with torch.random.fork_rng(devices=[]):  # a random parent is the same each time it is opened
            torch.manual_seed(random.key("parent", type(self).__qualname__))
            trunk = self.trunk()
        self.fill(trunk)
        head = ParentHead(self.features, names=tuple(self._widths()), size=self._default_size(self.features))
        return Network(trunk, head, size=self.teaches_at).eval()

    def head(self, features: FeatureSpec) -> nn.Module:
        from .head import LearntHead

        size, stride = self._default_size(features), self.features.strides[-1]
        return LearntHead(features, widths=self._widths(), stride=stride, settings=self._distill, size=size)

    def own_head(self) -> nn.Module:
        from .head import OwnHead

        size = self._default_size(self.features)
        return OwnHead(self.features, widths=self._widths(), settings=self._distill, size=size)

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """Layers from the trunk's last block, where that is such a layer; all else keeps its random weights."""
        from vfmerge.layers import start_from

        from .head import LearntHead

        if isinstance(head, LearntHead):
            start_from(trunk, head.layers)

    def calibrate(self, head: Any, targets: Iterator[tuple[Tensor, ...]]) -> None:
        """Fit the scales to the targets of the first pictures, where there is a scale to fit."""
        from . import marking

        named = (self._name(target) for target in targets)
        marking.calibrate(dict(head.standards.items()), named, pictures=self._distill.pictures)

    def observe(self, head: Any, target: tuple[Tensor, ...]) -> None:
        """Let scales whose statistics run go on."""
        from . import marking

        marking.observe(dict(head.standards.items()), self._name(target))

    def target(self, answer: Answer) -> tuple[Tensor, ...]:
        return tuple(answer.parts.values())

    def loss(self, answer: Answer, target: tuple[Tensor, ...], batch: Batch) -> Mapping[str, Tensor]:
        """A term for each part, [B]: its loss on its scale, the mean over cells on the coarser of the two grids."""
        from . import marking

        return marking.mark(answer, self._name(target), self._distill)

    def capability(self, network: Network) -> Dense:
        from .use import Observer

        return Observer(network)

    def _widths(self) -> dict[str, int]:
        """Channels of each part that is learnt."""
        there = {"summary": self.features.summary, "cells": self.features.channels[-1]}
        asked = {"summary": self._distill.summary, "cells": self._distill.cells}
        return {name: width for name, width in there.items() if width is not None and asked[name] != "none"}

    def _name(self, target: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """A target by its parts' names."""
        return dict(zip(self._widths(), target, strict=True))

    def _default_size(self, features: FeatureSpec) -> int:
        """The multiple of a trunk's stride nearest to the size at which the parent looks."""
        return features.fit(self._size or self.native_size)
