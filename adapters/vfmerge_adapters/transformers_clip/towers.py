"""A CLIP's two towers: built from its config, filled with its weights, and made the parts of a network.

The cut between trunk and own head is that of the open_clip adapter: what projects is the head's, and so is what attends
to all cells in order to pool them.

Axis letters: D embedding width.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

from vfmerge.adapter import FeatureSpec
from vfmerge.errors import InputError, one_line

from ..hub import network
from ..hub.origin import Origin
from ..hub.preprocess import Preprocess
from ..text_aligned.own import Projection
from ..transformers_vision.families import FAMILIES
from ..transformers_vision.trunk import Trunk
from . import vocabulary
from .own import OwnHead, Pool, Product, cells_seen, values
from .text import TextTower


class Towers:
    """What an origin describes, and how each part of it is built.

    preprocess: of its pictures. size: side in pixels of its own input. embedding: D.
    """

    def __init__(self, origin: Origin, *, vocabulary: int | None) -> None:
        """vocabulary: bytes of its tokenizer, where the origin is a shape alone.

        Raises InputError where it describes no two towers.
        """
        self._origin, self._kept = origin, vocabulary
        self._family = FAMILIES[origin.config["model_type"]]
        self._siglip = origin.config["model_type"] == "siglip"
        self._config = _configure(origin, siglip=self._siglip)
        vision, text = self._config.vision_config, self._config.text_config
        self.size: int = vision.image_size
        self.embedding: int = vision.hidden_size if self._siglip else self._config.projection_dim
        if self._siglip and not (vision.vision_use_head and text.projection_size == self.embedding):
            what = "its towers have no space in common (vision_use_head, projection_size)"
            raise InputError(one_line(f"{origin.name}: {what}; give another"))
        default = {"size": {"height": self.size, "width": self.size}} | dict(self._family.preprocessing)
        self.preprocess = Preprocess.parse(origin.preprocessor, default=default, source=origin.name)

    @property
    def spec(self) -> FeatureSpec:
        """What the trunk promises."""
        return self._family.spec(self._lent)

    @property
    def vocabulary(self) -> int:
        """How many bytes of a tokenizer the text tower keeps."""
        return len(self._words) if self._kept is None else self._kept

    def trunk(self) -> Trunk:
        """The image tower without what projects, its weights random."""
        return self._trunk(self._build(getattr(transformers, self._family.model), self._lent))

    def text(self) -> TextTower:
        """The text tower, frozen and in eval mode; the global generator is as it was."""
        kind = transformers.SiglipTextModel if self._siglip else transformers.CLIPTextModel
        with torch.random.fork_rng(devices=[]):
            model = self._build(kind, self._config.text_config)
            projection = nn.Identity() if self._siglip else self._matrix(self._config.text_config)
        return TextTower(model, projection, vocabulary=self.vocabulary).requires_grad_(False)

    def own_head(self) -> OwnHead:
        """The parent's own head, its weights random."""
        vision = self._config.vision_config
        projection: Projection
        if self._siglip:
            projection = Pool(SiglipMultiheadAttentionPoolingHead(vision))
        else:
            projection = Product(self._matrix(vision))
        return self._head(self.text(), projection)

    def whole(self, *, fill: bool) -> tuple[Trunk, OwnHead]:
        """Trunk and own head as the library makes them. fill: with the origin's weights. Raises CheckpointError."""
        clip = self._build(transformers.SiglipModel if self._siglip else transformers.CLIPModel, self._config)
        if fill:
            network.fill(clip, self._origin.weights(), source=self._origin.name)
        vision = clip.vision_model
        if self._siglip:
            projection, text_projection = Pool(vision.head), nn.Identity()
            vision.use_head = False  # what pools is the own head's
            del vision.head
        else:
            projection, text_projection = Product(clip.visual_projection), clip.text_projection
        text = TextTower(clip.text_model, text_projection, vocabulary=self.vocabulary)
        if text.vocabulary is not None and self._words:
            text.vocabulary.copy_(torch.frombuffer(bytearray(self._words), dtype=torch.uint8))
        return self._trunk(vision), self._head(text, projection)

    @property
    def _lent(self) -> Any:
        """The image tower's config as a trunk."""
        vision = copy.deepcopy(self._config.vision_config)
        if self._siglip:
            vision.vision_use_head = False
        return vision

    @functools.cached_property
    def _words(self) -> bytes:
        return vocabulary.read(self._origin, self._config.text_config)

    def _build(self, kind: Any, config: Any) -> Any:
        return network.build(kind, config, source=self._origin.name)

    def _matrix(self, part: Any) -> nn.Linear:
        return nn.Linear(part.hidden_size, self.embedding, bias=False)

    def _trunk(self, vision: nn.Module) -> Trunk:
        stride = max(self.spec.strides)
        return Trunk(vision, see=self._family.see, stride=stride, own=self.size, preprocess=self.preprocess)

    def _head(self, text: TextTower, projection: Projection) -> OwnHead:
        return OwnHead(
            text,
            projection,
            alone=cells_seen if self._siglip else values,
            embedding=self.embedding,
            size=self.size,
            stride=max(self.spec.strides),
        )


def _configure(origin: Origin, *, siglip: bool) -> Any:
    """The library's own config of both towers."""
    vision = network.square(network.part_of(origin.config, "vision_config"))
    content = origin.config | {"vision_config": vision, "vision_config_dict": None}
    kind = transformers.SiglipModel if siglip else transformers.CLIPModel
    return network.configure(kind, content, source=origin.name)
