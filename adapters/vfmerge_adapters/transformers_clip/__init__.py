"""CLIP and SigLIP of `transformers`, from a local folder or the hub, as a parent whose meaning a trunk can learn.

This module imports neither torch nor transformers until one of its methods needs them.

Axis letters: B images, D embedding width.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import BaseAdapter, Batch, FeatureSpec
from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown, suggestion

from ..hub.origin import Origin, trace
from ..text_aligned.shape import HeadShape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import ImageText
    from vfmerge.model import Network

    from .towers import Towers

_TYPES = ("clip", "siglip")  # SigLIP 2 at a fixed size is a `siglip`


class CLIP(BaseAdapter):
    """A CLIP or SigLIP of `transformers`, learnt from its image embeddings alone (SAM-CLIP, arXiv 2310.15308)."""

    interface = 2

    def __init__(
        self,
        *,
        model: str | None = None,
        random: bool = False,
        config: dict[str, Any] | None = None,
        preprocessor: dict[str, Any] | None = None,
        vocabulary: int | None = None,
        layers: int = 3,
        hidden: tuple[int, int] | None = None,
        cells: int = 32,
        window: int = 1,
        size: int | None = None,
        licence: str | None = None,
    ) -> None:
        """Which parent, with which weights, and the head that learns it.

        model: a folder that `save_pretrained` wrote, or an id of the hub, `owner/name` or `owner/name@revision`.
        random: instead of its weights, random ones, the same each time: for dry runs.
        config: instead of `model`, the content of a `config.json`; only with `random`.
        preprocessor: with it, the content of a `preprocessor_config.json`.
        vocabulary: with it, how many bytes a merged model keeps of the parent's own tokenizer.
        layers: transformer layers of the head (SAM-CLIP has three).
        hidden: widths of its MLP's hidden layers; none is the trunk's width for both.
        cells: the most cells a side that the layers attend over; a larger map is averaged down to that first.
        window: a cell's embedding is of the maximum over so many cells a side around it, an odd number. 1 is the
            paper's; more where a cell is smaller than what tells things apart (chosen here).
        size: side in pixels at which the merged model looks at a picture by default; none is the parent's own.
        licence: of the weights; none takes the word of their card.
        """
        self._shape = HeadShape(layers=layers, hidden=hidden, cells=cells, window=window, size=size)
        self._origin = trace(model=model, random=random, config=config, preprocessor=preprocessor)
        self._vocabulary = vocabulary
        self.sources = self._origin.files
        self._licence = licence
        if self._origin.repository is None:  # of one on the hub nothing is known yet
            _require_type(self._origin)

    @property
    def licence(self) -> str:  # type: ignore[override]  # known once the card is read, which may lie on the hub
        """Of the weights, as the options say, else their card."""
        return self._licence or self._origin.licence

    def portable(self) -> dict[str, Any]:
        options = {
            "random": True,
            "config": self._origin.config,
            "preprocessor": self._towers.preprocess.model_dump(mode="json"),
            "vocabulary": self._towers.vocabulary,
            "licence": self.licence,
        }
        return options | self._shape.portable()

    @property
    def teaches_at(self) -> int | None:
        return self._towers.size

    def teacher(self) -> Network:
        """Batch -> the library's own image embeddings [B, D] of images at its own size, not normalised."""
        import torch

        from vfmerge import random
        from vfmerge.model import Network

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random.key("transformers_clip", json.dumps(self._origin.config, sort_keys=True)))
            trunk, head = self._towers.whole(fill=not self._origin.random)
        return Network(trunk, head, size=self.teaches_at).requires_grad_(False).eval()

    @property
    def features(self) -> FeatureSpec:
        return self._towers.spec

    def trunk(self) -> nn.Module:
        return self._towers.trunk()

    def head(self, features: FeatureSpec) -> nn.Module:
        towers = self._towers
        return self._shape.build(towers.text(), features, embedding=towers.embedding, own=towers.size)

    def own_head(self) -> nn.Module:
        return self._towers.own_head()

    def start(self, head: Any, trunk: nn.Module, teacher: Network) -> None:
        """Its own head is the parent's. Else the text tower is; layers are the trunk's last block, if that is such."""
        head.start(trunk, teacher.head)

    def loss(self, answer: Tensor, target: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Cosine distance of embeddings [B, D], in 0..2. SAM-CLIP, arXiv 2310.15308, equation 1."""
        from vfmerge import losses

        return {"cosine": losses.cosine(answer.float(), target.float())}

    def capability(self, network: Network) -> ImageText:
        from .use import Embedder

        return Embedder(network, preprocess=self._towers.preprocess)

    @functools.cached_property
    def _towers(self) -> Towers:
        from .towers import Towers

        _require_type(self._origin)
        return Towers(self._origin, vocabulary=self._vocabulary)


def _require_type(origin: Origin) -> None:
    """Raise InputError for a type of model that this adapter has no words for."""
    kind = origin.config["model_type"]
    if kind not in _TYPES:
        text = f"{origin.name}: a {shown(kind)} is no CLIP of this adapter; {suggestion(kind, _TYPES)}"
        raise InputError(one_line(text))
