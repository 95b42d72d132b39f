"""SAM, SAM 2 and SAM 3's tracker: the real classes of `transformers` as a base or an auxiliary.

The trunk is the image encoder without its neck; the head is neck, prompt encoder (frozen) and mask decoder. It is
rehearsed on the frozen parent's mask scores. Imports torch only when a method is called.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from vfmerge.adapter import BaseAdapter, Batch, FeatureSpec
from vfmerge.errors import InputError, one_line

from ..hub.origin import Origin, trace
from ..promptable.loss import Rehearsal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import Promptable
    from vfmerge.model import Network

    from .generation import Color, Generation, Normalisation

Built = TypeVar("Built")

_GENERATIONS = {"sam": 1, "sam2": 2, "sam2_video": 2, "sam3_tracker": 3, "sam3_tracker_video": 3, "sam3_video": 3}


class TransformersSAM(BaseAdapter):
    """Segment Anything 1, 2 or 3 of `transformers`: promptable masks.

    model: a folder that `save_pretrained` wrote, or an id of the hub; its config says which SAM it is.
    random: take random weights, for dry runs and tests.
    config: with `random`, instead of a model, what its `config.json` would say.
    preprocessor: with `config`, what its `preprocessor_config.json` would say; of that, mean and deviation are used.
    size: side in pixels at which the parent teaches; none is the size that the merged model learns at.
    focal, dice: weights of the two mask losses; SAM's own are 20 and 1.
    iou: weight of the squared error on predicted IoU scores. Not in SAM-CLIP; SAM's own training had 1.
    licence: of the weights; none takes the word of their card.
    """

    interface = 2
    needs_masks = True

    def __init__(
        self,
        *,
        model: str | None = None,
        random: bool = False,
        config: dict[str, Any] | None = None,
        preprocessor: dict[str, Any] | None = None,
        size: int | None = None,
        focal: float = 20.0,
        dice: float = 1.0,
        iou: float = 0.0,
        licence: str | None = None,
    ) -> None:
        self._origin = trace(model=model, random=random, config=config, preprocessor=preprocessor)
        if self._origin.repository is None:
            _number(self._origin)
        self._size = size
        self._rehearsal = Rehearsal(focal=focal, dice=dice, iou=iou)
        self.sources = self._origin.files
        self._licence = licence

    @property
    def licence(self) -> str:  # type: ignore[override]  # known once the card is read, which may lie on the hub
        """Of the weights, as the options say, else their card."""
        return self._licence or self._origin.licence

    def portable(self) -> dict[str, Any]:
        normalisation = self._normalisation
        return {
            "random": True,
            "config": self._parent.plain(),
            "preprocessor": {"image_mean": list(normalisation.mean), "image_std": list(normalisation.std)},
            "size": self._size,
            "licence": self.licence,
        } | self._rehearsal.weights()

    @property
    def teaches_at(self) -> int | None:
        return self._size

    def teacher(self) -> Network:
        import torch

        from vfmerge import random, weights
        from vfmerge.model import Network

        parent = self._parent
        with torch.random.fork_rng(devices=[]):  # a random parent is the same each time it is opened
            torch.manual_seed(random.key("transformers_sam", json.dumps(parent.plain(), sort_keys=True)))
            model = self._build(parent.model)
        if not self._origin.random:
            weights.fit(model, parent.names(self._origin.weights()), source=self._origin.name)
        trunk, head = parent.trunk(model, normalisation=self._normalisation), parent.own_head(model)
        return Network(trunk, head, size=self.teaches_at).requires_grad_(False).eval()

    @property
    def features(self) -> FeatureSpec:
        return self._parent.features

    def trunk(self) -> nn.Module:
        return self._parent.trunk(self._build(self._parent.model), normalisation=self._normalisation)

    def head(self, features: FeatureSpec) -> nn.Module:
        """The parent's own decoder; its neck fits itself to the trunk's maps."""
        return self._build(lambda: self._parent.head(features))

    def own_head(self) -> nn.Module:
        return self.head(self.features)

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """The parent's own decoder; of its neck what has the same shape."""
        own, new = teacher.head.state_dict(), head.state_dict()
        same = {name: value for name, value in own.items() if name in new and value.shape == new[name].shape}
        head.load_state_dict(new | same)

    def loss(self, answer: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], batch: Batch) -> Mapping[str, Tensor]:
        return self._rehearsal.terms(answer, target)

    def capability(self, network: Network) -> Promptable:
        from ..promptable.use import Segmenter
        from .decoding import resize

        padding = self._normalisation.mean if self._parent.padded else None
        return Segmenter(network, padding=padding, resize=resize)

    @functools.cached_property
    def _parent(self) -> Generation:
        parent = _open(self._origin)
        stride = parent.features.strides[-1]
        if parent.side % stride:
            text = f"{self._origin.name}: {parent.side} pixels are no multiple of {stride} pixels a cell"
            raise InputError(one_line(f"{text}; mend its config.json"))
        if self._size is not None and (self._size < stride or self._size % stride):
            raise InputError(f"size: {self._size} is no multiple of the parent's {stride} pixels a cell; mend it")
        return parent

    @functools.cached_property
    def _normalisation(self) -> Normalisation:
        """As the parent's files say, else as the library's processor does by default."""
        from .generation import Normalisation

        said, usual = self._origin.preprocessor, self._parent.normalisation
        mean = _color(said.get("image_mean", usual.mean), name="image_mean", source=self._origin.name)
        std = _color(said.get("image_std", usual.std), name="image_std", source=self._origin.name)
        if min(std) <= 0:
            raise InputError(f"{self._origin.name}: image_std is {list(std)}; a deviation is larger than 0")
        return Normalisation(mean=mean, std=std)

    def _build(self, make: Callable[[], Built]) -> Built:
        """What `make` builds; an InputError where the library cannot build that shape."""
        try:
            return make()
        except (ValueError, TypeError, RuntimeError, ZeroDivisionError, KeyError, IndexError) as error:
            text = f"{self._origin.name}: transformers cannot build its network ({error}); mend its config.json"
            raise InputError(one_line(text)) from error


def _number(origin: Origin) -> int:
    """Which SAM it is: 1, 2 or 3."""
    kind = origin.config["model_type"]
    if kind not in _GENERATIONS:
        text = f"{origin.name}: is a {kind!r}, not one of {', '.join(_GENERATIONS)}; give a SAM"
        raise InputError(one_line(text))
    return _GENERATIONS[kind]


def _open(origin: Origin) -> Generation:
    """The parent's shape. Raises InputError where the library, or vfmerge, cannot make sense of it."""
    number, config = _number(origin), origin.config
    try:
        match number:
            case 1:
                from .sam1 import Sam1

                return Sam1(config, source=origin.name)
            case 2:
                from .sam2 import Sam2

                return Sam2(config, source=origin.name)
            case _:
                from .sam3 import Sam3

                return Sam3(config, source=origin.name)
    except InputError:
        raise
    except Exception as error:  # the library checks types in a dozen ways
        text = f"{origin.name}: transformers cannot read its config ({error}); mend its config.json"
        raise InputError(one_line(text)) from error


def _color(value: Any, *, name: str, source: str) -> Color:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 3 or not all(type(each) in (int, float) for each in numbers):
        raise InputError(one_line(f"{source}: {name} is {value!r}; it should be three numbers"))
    red, green, blue = numbers
    return red, green, blue
