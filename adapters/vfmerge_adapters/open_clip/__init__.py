"""CLIP, SigLIP and their kin: any model of `open_clip`, as a parent whose meaning a trunk can learn, or as a base.

As a base it lends its image tower up to what leads into the space of texts, which is its own head (`trunk.py` says
where it is cut). This module imports no torch until one of its methods needs it.

Axis letters: B images, D embedding width.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import BaseAdapter, Batch, FeatureSpec
from vfmerge.errors import InputError

from ..text_aligned.shape import HeadShape
from .config import Config
from .origin import TINY, trace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import ImageText
    from vfmerge.model import Network


class OpenCLIP(BaseAdapter):
    """A CLIP from `open_clip`, learnt or rehearsed by its image embeddings alone (SAM-CLIP, arXiv 2310.15308)."""

    interface = 2

    def __init__(
        self,
        *,
        model: str = "ViT-B-16",
        pretrained: str | None = None,
        checkpoint: str | None = None,
        config: dict[str, Any] | None = None,
        random: bool = False,
        quickgelu: bool | None = None,
        layers: int = 3,
        hidden: tuple[int, int] | None = None,
        cells: int = 32,
        window: int = 1,
        size: int | None = None,
        licence: str | None = None,
    ) -> None:
        """Which parent, with which weights, and the head that learns it.

        model: an architecture of open_clip, or `tiny`, the parent of the shapes world that comes with vfmerge.
        pretrained: the tag of published weights, which open_clip downloads.
        checkpoint: instead, a file of weights; or a folder with `open_clip_config.json` and
            `open_clip_model.safetensors`, which also says the architecture.
        config: instead of `model`, an architecture spelt out as in `open_clip_config.json`.
        random: instead of weights, random ones, the same each time: for dry runs.
        quickgelu: whether the weights need QuickGELU; none takes the tag's word, else the architecture's.
        layers: transformer layers of the head (SAM-CLIP has three).
        hidden: widths of its MLP's hidden layers; none is the trunk's width for both.
        cells: the most cells a side that the layers attend over; a larger map is averaged down to that first.
        window: a cell's embedding is of the maximum over so many cells a side around it, an odd number. 1 is the
            paper's; more where a cell is smaller than what tells things apart (chosen here).
        size: side in pixels at which the merged model looks at a picture by default; none is the parent's own.
        licence: of the weights; none takes what is known of the tag's.
        """
        self._shape = HeadShape(layers=layers, hidden=hidden, cells=cells, window=window, size=size)
        self._model, self._pretrained, self._random, self._quickgelu = model, pretrained, random, quickgelu
        self._origin = trace(model=model, pretrained=pretrained, checkpoint=checkpoint, config=config, random=random)
        self.sources = self._origin.files
        self._licence = licence

    @property
    def licence(self) -> str:  # type: ignore[override]  # known once a tag is looked up, which imports open_clip
        """Of the weights, as the options say, else as their publishers do."""
        if self._licence is not None:
            return self._licence
        if self._origin.folder == TINY:
            return "Apache-2.0"
        if self._pretrained is None:
            return "unknown"
        from . import tags

        return tags.licence(self._model, self._pretrained) or "unknown"

    def portable(self) -> dict[str, Any]:
        config = json.loads(self.config.model_dump_json())
        return {"config": config, "licence": self.licence} | self._shape.portable()

    @property
    def teaches_at(self) -> int | None:
        """The parent's own; one that takes oblong images stretches every image to that by itself."""
        height, width = self.config.size
        return height if height == width else None

    def teacher(self) -> Network:
        """Batch -> open_clip's own image embeddings [B, D], not normalised."""
        from vfmerge import random, weights
        from vfmerge.model import Network

        from . import tags, towers
        from .cut import cut
        from .own import OwnHead

        if self._random:
            clip = towers.build(self.config, seed=random.key("open_clip", self.config.model_dump_json()))
        else:
            path = tags.fetch(self._model, self._pretrained) if self._pretrained else self._origin.weights
            if path is None:
                raise InputError("config: a shape without weights cannot teach; add `checkpoint`, or `random: true`")
            clip = towers.build(self.config)
            towers.fill(clip, weights.read(path), source=str(path))
        trunk, projection = cut(clip.visual, config=self.config)
        embedding = self.config.model_cfg.embed_dim
        # any stride will do: it is shown its own size
        head = OwnHead(clip.text, projection, embedding=embedding, size=self.config.size, stride=1)
        return Network(trunk, head, size=self.teaches_at).requires_grad_(False).eval()

    @functools.cached_property
    def features(self) -> FeatureSpec:
        """Raises InputError for a tower that takes oblong images, which no stream has."""
        from .cut import promise

        height, width = self.config.size
        if height != width:
            raise InputError(f"model: takes images of {height} x {width}, and no trunk may; choose another base")
        return promise(self.config)

    def trunk(self) -> nn.Module:
        from . import towers
        from .cut import cut

        return cut(towers.image_tower(self.config), config=self.config)[0]

    def own_head(self) -> nn.Module:
        """What the trunk leaves out: a ResNet's attention pool, a ViT's projection, SigLIP's pooling of tokens."""
        from . import towers
        from .cut import cut
        from .own import OwnHead

        spec, size = self.features, self._shape.size or self.config.size[0]
        projection = cut(towers.image_tower(self.config, shallow=True), config=self.config)[1]
        return OwnHead(
            towers.text_tower(self.config),
            projection,
            embedding=self.config.model_cfg.embed_dim,
            size=(size, size),
            stride=spec.strides[-1],
            fixed_size=spec.fixed_size,
        )

    def head(self, features: FeatureSpec) -> nn.Module:
        from . import towers

        text, width = towers.text_tower(self.config), self.config.model_cfg.embed_dim
        return self._shape.build(text, features, embedding=width, own=max(self.config.size))

    def start(self, head: Any, trunk: nn.Module, teacher: Network) -> None:
        """Its own head is the parent's. Else the text tower is; layers are the trunk's last block, if that is such."""
        head.start(trunk, teacher.head)

    def loss(self, answer: Tensor, target: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Cosine distance of embeddings [B, D], in 0..2. SAM-CLIP, arXiv 2310.15308, equation 1."""
        from vfmerge import losses

        return {"cosine": losses.cosine(answer.float(), target.float())}

    def capability(self, network: Network) -> ImageText:
        from .use import Embedder

        return Embedder(network, config=self.config, folder=self._origin.folder)

    @functools.cached_property
    def config(self) -> Config:
        """The parent's shape and preprocessing, as its weights need them."""
        config, name = self._origin.config, self._origin.name
        if name is not None and not self._random:
            from . import tags

            if self._pretrained is not None:
                config = tags.settle(config, model=name, tag=self._pretrained)
            else:
                config = tags.settle_untagged(config, model=name, warn=self._quickgelu is None)
        if self._quickgelu is None:
            return config
        shape = config.model_cfg.model_copy(update={"quick_gelu": self._quickgelu})
        return config.model_copy(update={"model_cfg": shape})
