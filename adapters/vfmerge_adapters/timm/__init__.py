"""Any image model of `timm` as a parent: DINO, MAE, SigLIP, DeiT, ConvNeXt and their kin.

Its cells and its summary are what timm's own users see of it. This module imports no torch until a method needs it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from vfmerge import spdx
from vfmerge.adapter import FeatureSpec
from vfmerge.features.parent import FeatureParent
from vfmerge.features.settings import Distill

from .origin import trace
from .shape import Colours, Settings, Shape, Spread

if TYPE_CHECKING:
    from torch import nn

    from .network import View


class Timm(FeatureParent):
    """Any image model of timm, learnt by its features."""

    interface = 2

    def __init__(
        self,
        *,
        model: str | None = None,
        pretrained: str | None = None,
        checkpoint: str | None = None,
        random: bool = False,
        arguments: dict[str, Any] | None = None,
        mean: Colours | None = None,
        std: Spread | None = None,
        licence: str | None = None,
        size: int | None = None,
        distill: Distill = Distill(),
    ) -> None:
        """Which parent, with which weights, and how it is learnt.

        model: an architecture of timm, or with a tag as `vit_base_patch16_224.mae`, whose normalisation it then has;
            or `tiny_dino` or `tiny_mae`, the parents of the shapes world that come with vfmerge.
        pretrained: the tag of published weights, which are downloaded as safetensors from the hub.
        checkpoint: instead, a file of weights; or a folder with `config.json` and `model.safetensors` as timm writes
            it for the hub, which also says the architecture.
        random: instead of weights, random ones, the same each time: for dry runs.
        arguments: what is changed of the architecture, in timm's words: `{img_size: 256}`; `{global_pool: token}` gives
            a DINOv3 the summary of its authors in place of timm's mean over cells.
        mean, std: normalisation of colours in 0..1, where the weights' own is not what timm expects of them.
        licence: of the weights; none takes timm's word for it.
        size: side in pixels at which the parent teaches; none is the stream's own.
        distill: how its features are learnt.
        """
        super().__init__(size=size, distill=distill)
        self._origin = trace(
            model=model, pretrained=pretrained, checkpoint=checkpoint, random=random, arguments=arguments or {}
        )
        self._normalisation = {name: value for name, value in {"mean": mean, "std": std}.items() if value is not None}
        self._licence = licence
        self.sources = self._origin.files

    @property
    def licence(self) -> str:  # type: ignore[override]  # known once a tag is looked up, which imports timm
        """Of the weights, as the options say, else the folder or timm."""
        if self._licence is not None:
            return self._licence
        known = self._origin.settings is not None or (self._origin.tag is not None and not self._origin.random)
        told = (self._settings.license if known else None) or "unknown"
        # Apple has published DFN for research alone since February 2025; timm 1.0 has the licence of before.
        changed = self._origin.tag is not None and self._origin.tag.startswith("dfn")
        return "apple-amlr" if changed and told == "apple-ascl" else spdx.spelt(told)

    def portable(self) -> dict[str, Any]:
        shape = self._shape
        return self.portable_features() | {
            "model": shape.name,
            "random": True,
            "arguments": dict(shape.arguments),
            "mean": list(shape.mean),
            "std": list(shape.std),
            "licence": self.licence,
            "size": self._size or self.native_size,  # the shape alone would not say it of a network for any size
        }

    @property
    def native_size(self) -> int:
        return max(self._shape.size)

    @property
    def features(self) -> FeatureSpec:
        return self._view.spec

    def trunk(self) -> nn.Module:
        from .network import Trunk

        return Trunk(self._shape, view=self._view)

    def fill(self, trunk: nn.Module) -> None:
        from vfmerge import weights

        from . import convert, tags

        origin = self._origin
        if origin.random:
            return
        path = origin.weights
        if path is None:
            assert origin.tag is not None
            path = tags.fetch(origin.name, origin.tag)
        convert.fill(trunk.model, weights.read(path), shape=self._shape, source=str(path))

    @functools.cached_property
    def _settings(self) -> Settings:
        """What the weights expect of their input."""
        origin = self._origin
        if origin.settings is not None:
            return origin.settings
        from . import tags

        if origin.tag is not None:
            return tags.settings(origin.name, origin.tag)
        return tags.default_settings(origin.name, warn=not origin.random and len(self._normalisation) < 2)

    @functools.cached_property
    def _shape(self) -> Shape:
        settings = self._settings.model_copy(update=self._normalisation)
        return Shape.settle(self._origin.name, arguments=self._origin.arguments, settings=settings)

    @functools.cached_property
    def _view(self) -> View:
        from .network import look

        return look(self._shape)
