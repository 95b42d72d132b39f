"""A task without a teacher: says which class a picture's masks are of, by the mean of what the trunk sees under them.

Axis letters: B images, C channels, h x w cells, M masks, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Batch, Features, FeatureSpec, LabelledAdapter
from vfmerge.capability import Capability, ImageText
from vfmerge.model import Network


class Naming(LabelledAdapter):
    """Names masks, by the words of a parent that knows texts."""

    interface = 2
    licence = "MIT"
    needs_masks = needs_labels = True

    def __init__(self, *, image_text: str = "clip", width: int = 16) -> None:
        self._image_text, self._width = image_text, width

    def portable(self) -> dict[str, Any]:
        return {"image_text": self._image_text, "width": self._width}

    def upon(self) -> dict[str, str]:
        return {ImageText.name: self._image_text}

    def head(self, features: FeatureSpec, upon: Mapping[str, Capability]) -> nn.Module:
        words = upon[ImageText.name]
        assert isinstance(words, ImageText)
        return Head(features.channels[-1], self._width, words)

    def start(self, head: nn.Module) -> None:
        with torch.no_grad():
            head.get_parameter("project.bias").zero_()

    def path(self, head: nn.Module) -> list[nn.Module]:
        return [head]

    def loss(self, answer: Any, target: Any, batch: Batch) -> Mapping[str, Tensor]:
        assert target is None
        assert batch.labels is not None
        return {"name": F.cross_entropy(answer, batch.labels, reduction="none")}

    def capability(self, network: Network) -> Capability:
        return Named(network)


class Head(nn.Module):
    """Logits [M, K] of the stream's classes."""

    def __init__(self, channels: int, width: int, words: ImageText) -> None:
        super().__init__()
        self.words = words
        self.project = nn.Linear(channels, width)
        self.bring = nn.Linear(width, words.network.head.mlp[-1].out_features)

    def forward(self, features: Features, batch: Batch) -> Tensor:
        assert batch.masks is not None
        assert batch.owner is not None
        cells = features.maps[-1]
        masks = F.interpolate(batch.masks[:, None].float(), size=cells.shape[-2:], mode="area")[:, 0]
        pooled = torch.einsum("mchw,mhw->mc", cells[batch.owner], masks) / masks.sum((1, 2)).clamp(min=1e-6)[:, None]
        embedded = F.normalize(self.bring(self.project(pooled)), dim=-1)
        return 10 * embedded @ self.words.encode_text([f"a {name}" for name in batch.classes]).T


class Named(Capability):
    """What a person would do with it; nothing here."""

    name = "naming"

    def exercise(self, picture: Any, *, size: int | None = None) -> None:
        """Nothing."""
