"""A CLIP's own head on its own trunk: what leads from features into the space of texts, and its text tower.

Axis letters: B images, h x w cells, H x W pixels, D embedding width, S summary width, M regions of all images together.
"""

from __future__ import annotations

import abc
from typing import TypeVar

from torch import Tensor, nn

from vfmerge.adapter import Features

from .aligned import TextAligned

_Trunk = TypeVar("_Trunk", bound=nn.Module)


class Projection(nn.Module, abc.ABC):
    """The part of an image tower that its trunk leaves out; its parts keep the library's names.

    regional: whether there are `regions`.
    """

    regional: bool

    @abc.abstractmethod
    def embed(self, features: Features) -> Tensor:
        """Embeddings of the images [B, D]."""

    @abc.abstractmethod
    def summarise(self, features: Features) -> Tensor:
        """The last there is of an image before a linear projection, for probes: [B, ...].

        OpenAI's own linear probes are of that (arXiv 2103.00020, appendix A.3). What projects by itself gives the
        embedding.
        """

    @abc.abstractmethod
    def cells(self, alone: Tensor) -> Tensor:
        """Embeddings of cells [B, D, h, w], of what the trunk says of each alone [B, S, h, w].

        Raises InputError where the tower has no such embeddings.
        """

    @abc.abstractmethod
    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        """Embeddings [M, D] of regions, which are as in `TextAligned.regions`.

        Raises InputError where the trunk's features alone do not give them.
        """


class ProjectionHead(TextAligned):
    """Features of its own trunk -> the library's own embeddings."""

    def __init__(
        self,
        text: nn.Module,
        projection: Projection,
        *,
        embedding: int,
        size: tuple[int, int],
        stride: int,
        fixed_size: int | None = None,
    ) -> None:
        super().__init__(text, embedding=embedding, size=size, stride=stride, fixed_size=fixed_size)
        self.projection = projection

    @abc.abstractmethod
    def fit(self, trunk: nn.Module, images: Tensor) -> Tensor:
        """images [B, 3, H, W] at the nearest size that the trunk takes."""

    @abc.abstractmethod
    def alone(self, trunk: nn.Module, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] in [0, 1]. What the trunk's summary would be if a cell were all there was: [B, S, h, w].

        The last attention sees each cell alone, so that its value is its result. For the attention at the end of a
        CLIP's ViT this is MaskCLIP (Extract Free Dense Labels from CLIP, arXiv 2112.01071, section 3.3).
        """

    def embed(self, features: Features) -> Tensor:
        return self.projection.embed(features).float()

    def start(self, trunk: nn.Module, parent: TextAligned) -> None:
        """All is the parent's."""
        self.load_state_dict(parent.state_dict())

    @property
    def regional(self) -> bool:
        return self.projection.regional

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        found = self.projection.regions(features, boxes=boxes, masks=masks, owner=owner, frame=frame)
        return found.float()

    def see(self, trunk: nn.Module, images: Tensor) -> Features:
        seen: Features = trunk(self.fit(trunk, images))
        return seen

    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        """The last layer's map, and the summary before its projection."""
        seen = self.see(trunk, images)
        return Features(maps=seen.maps[-1:], summary=self.projection.summarise(seen))

    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        return self.projection.cells(self.alone(trunk, self.fit(trunk, images))).float()


def within(trunk: nn.Module, kind: type[_Trunk]) -> _Trunk:
    """The trunk of that kind itself, whatever stands around it: other heads share it, or it is compiled.

    Cells alone go another way through it than images do, which nobody shares and nothing has compiled.
    """
    return next(module for module in trunk.modules() if isinstance(module, kind))
