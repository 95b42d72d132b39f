"""DINOv2, DINOv3, MAE, ViT, and the image towers of CLIP and SigLIP: models of `transformers` known by their features.

This module imports neither torch nor transformers until one of its methods needs them.

Axis letters: B images, C channels, h x w cells, D summary width.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import FeatureSpec
from vfmerge.errors import InputError, one_line
from vfmerge.features.parent import FeatureParent
from vfmerge.features.settings import Distill
from vfmerge.problem import shown, suggestion

from ..hub.origin import Origin, trace
from .families import FAMILIES, Family

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig

    from ..hub.preprocess import Preprocess


class Vision(FeatureParent):
    """An image encoder of `transformers`, by its features: DINOv2, DINOv3, MAE, ViT, towers of CLIP and SigLIP."""

    interface = 2

    def __init__(
        self,
        *,
        model: str | None = None,
        random: bool = False,
        config: dict[str, Any] | None = None,
        preprocessor: dict[str, Any] | None = None,
        size: int | None = None,
        distill: Distill = Distill(),
        licence: str | None = None,
    ) -> None:
        """Which parent, with which weights, and how its features are learnt.

        model: a folder that `save_pretrained` wrote, or an id of the hub, `owner/name` or `owner/name@revision`.
        random: instead of its weights, random ones, the same each time: for dry runs.
        config: instead of `model`, the content of a `config.json`; only with `random`.
        preprocessor: with it, the content of a `preprocessor_config.json`.
        size: side in pixels at which the parent teaches; none is the stream's own.
        distill: losses on its features, their scale, and the head that learns them.
        licence: of the weights; none takes the word of their card.
        """
        super().__init__(size=size, distill=distill)
        self._origin = trace(model=model, random=random, config=config, preprocessor=preprocessor)
        self.sources = self._origin.files
        self._licence = licence
        if self._origin.repository is None:  # of one on the hub nothing is known yet
            _choose(self._origin)

    @property
    def licence(self) -> str:  # type: ignore[override]  # known once the card is read, which may lie on the hub
        """Of the weights, as the options say, else their card."""
        return self._licence or self._origin.licence

    def portable(self) -> dict[str, Any]:
        options = {
            "random": True,
            "config": self._origin.config,
            "preprocessor": self._preprocess.model_dump(mode="json"),
            "licence": self.licence,
        }
        return options | self.portable_features()

    @property
    def features(self) -> FeatureSpec:
        return self._family.spec(self._config)

    @property
    def native_size(self) -> int:
        return self._preprocess.side

    def trunk(self) -> nn.Module:
        import transformers

        from ..hub import network
        from .trunk import Trunk

        family = self._family
        kind = getattr(transformers, family.model)
        model = network.build(kind, self._config, source=self._origin.name, **family.arguments)
        stride, own = max(self.features.strides), self._config.image_size
        return Trunk(model, see=family.see, stride=stride, own=own, preprocess=self._preprocess)

    def fill(self, trunk: nn.Module) -> None:
        from ..hub import network

        if self._origin.random:
            return
        family, name = self._family, self._origin.name
        network.fill(trunk.model, self._origin.weights(), source=name, ignore=family.beside, **family.arguments)

    @property
    def _family(self) -> Family:
        return _choose(self._origin)

    @functools.cached_property
    def _config(self) -> PreTrainedConfig:
        """The library's own config of the encoder."""
        import transformers

        from ..hub import network

        content, part = self._origin.config, self._family.part
        if part is not None:
            content = network.part_of(content, part)
        kind = getattr(transformers, self._family.model)
        return network.configure(kind, network.square(content) | self._family.settings, source=self._origin.name)

    @functools.cached_property
    def _preprocess(self) -> Preprocess:
        from ..hub.preprocess import Preprocess

        side = self._config.image_size
        default = {"size": {"height": side, "width": side}} | dict(self._family.preprocessing)
        return Preprocess.parse(self._origin.preprocessor, default=default, source=self._origin.name)


def _choose(origin: Origin) -> Family:
    """How its type of model is built. Raises InputError for one that is not known here."""
    kind = origin.config["model_type"]
    if kind not in FAMILIES:
        text = f"{origin.name}: no image encoder of this adapter is a {shown(kind)}; {suggestion(kind, FAMILIES)}"
        raise InputError(one_line(text))
    return FAMILIES[kind]
