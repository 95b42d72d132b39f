"""A CLIP's own head on its own trunk: what leads from cells and summary into the space of texts, and its text tower.

Axis letters: B images, C channels, h x w cells, H x W pixels, D embedding width, S summary width, M regions of all
images together.
"""

from __future__ import annotations

import abc

from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.model import SharedTrunk

from ..text_aligned.aligned import TextAligned
from .trunk import Trunk


class Projection(nn.Module, abc.ABC):
    """The part of an image tower that its trunk leaves out; its parts keep open_clip's names.

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


class OwnHead(TextAligned):
    """Features of its own trunk -> open_clip's own embeddings."""

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
        seen: Features = trunk(_tower(trunk).fit(images))
        return seen

    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        """The last layer's map, and the summary that is projected."""
        seen = self.see(trunk, images)
        return Features(maps=seen.maps[-1:], summary=self.projection.summarise(seen))

    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        tower = _tower(trunk)
        return self.projection.cells(tower.alone(tower.fit(images))).float()


def _tower(trunk: nn.Module) -> Trunk:
    """The trunk itself: cells alone go another way through it, which no other head shares."""
    own = trunk.trunk if isinstance(trunk, SharedTrunk) else trunk
    assert isinstance(own, Trunk)
    return own
