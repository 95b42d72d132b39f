"""What differs between SAM, SAM 2 and SAM 3: their configurations in `transformers`, and the networks of that shape.

A generation is made of what `config.json` says, and of that only numbers that its own classes declare: no type of
numbers, no way of attention, nothing that could name code.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vfmerge.adapter import FeatureSpec
from vfmerge.errors import InputError, one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..promptable.head import PromptedHead

Color = tuple[float, float, float]
_ENCODERS = ("vision_config", "backbone_config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Mean and standard deviation of each colour, of pixels in 0..1."""

    mean: Color
    std: Color


class Generation(abc.ABC):
    """One parent's shape. config: an object of the library's own."""

    config: Any
    normalisation: Normalisation
    """What the library's image processor does where the files say nothing."""

    padded: bool
    """Whether a picture keeps its shape and is padded to the square; else it is stretched."""

    @property
    @abc.abstractmethod
    def side(self) -> int:
        """Pixels of the square that the parent was made for."""

    @property
    @abc.abstractmethod
    def features(self) -> FeatureSpec:
        """What its trunk promises."""

    @abc.abstractmethod
    def plain(self) -> dict[str, Any]:
        """The configuration that makes the same shape again, plain as JSON."""

    @abc.abstractmethod
    def model(self) -> nn.Module:
        """The library's own model, with random weights."""

    @abc.abstractmethod
    def names(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a file, by the names that the model has for them; what it has not is left out."""

    @abc.abstractmethod
    def trunk(self, model: nn.Module, *, normalisation: Normalisation) -> nn.Module:
        """The model's image encoder without its neck."""

    @abc.abstractmethod
    def own_head(self, model: nn.Module) -> PromptedHead:
        """All the rest of the model."""

    @abc.abstractmethod
    def head(self, features: FeatureSpec) -> PromptedHead:
        """A head of the same decoder whose neck fits a trunk that gives `features`."""


def require(holds: bool, text: str, *, source: str) -> None:
    """Raise InputError with that text about a configuration unless it holds."""
    if not holds:
        raise InputError(one_line(f"{source}: {text}, which its network cannot work with; mend its config.json"))


def settings(kind: Any, whole: Mapping[str, Any], *, name: str, source: str) -> dict[str, Any]:
    """Of the part `name` of `config.json`, the numbers that the library's class `kind` declares itself.

    Raises InputError where the part is missing, or is of a class other than `kind`.
    """
    given = whole.get(name)
    if not isinstance(given, dict):
        raise InputError(one_line(f"{source}: has no {name}; give the config.json that save_pretrained wrote"))
    says = given.get("model_type") or kind.model_type
    if says != kind.model_type and name in _ENCODERS:  # a video's prompt encoder and decoder are the picture's too
        raise InputError(one_line(f"{source}: its {name} is a {says!r}; give a SAM on {kind.model_type}"))
    own = _own(kind)
    return {key: value for key, value in given.items() if key in own}


def spelt_out(config: Any) -> dict[str, Any]:
    """Every number that a library's configuration declares itself, defaults too, so that none can change later."""
    return {name: _plain(getattr(config, name)) for name in sorted(_own(config))}


def _plain(value: Any) -> Any:
    from transformers.configuration_utils import PreTrainedConfig

    if isinstance(value, PreTrainedConfig):
        return spelt_out(value)
    return list(value) if isinstance(value, tuple) else value


def _own(kind: Any) -> set[str]:
    """What a library's class of configurations declares itself, by name; not what it shares with all of them."""
    from transformers.configuration_utils import PreTrainedConfig

    shared = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    return {field.name for field in dataclasses.fields(kind)} - shared
