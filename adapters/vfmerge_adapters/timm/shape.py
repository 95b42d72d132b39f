"""The shapes of timm models as data: which architectures there are, and what a folder in timm's format says.

Imports neither torch nor timm.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field

from vfmerge.errors import InputError, one_line

FILE, WEIGHTS = "config.json", "model.safetensors"

Colours = tuple[float, float, float]
Spread = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
# Arguments of timm's builders that say where weights are, or what is built besides the network: vfmerge's own to say.
_TAKEN = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args", "pretrained_strict"}
_TAKEN |= {"checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "device", "dtype"}
_TAKEN |= {"features_only", "out_indices", "feature_cls", "num_classes"}


class Settings(pydantic.BaseModel):
    """What weights expect of their input, timm's `pretrained_cfg`; its defaults are timm's."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    mean: Colours = (0.485, 0.456, 0.406)
    """of the colours in 0..1"""
    std: Spread = (0.229, 0.224, 0.225)
    """of the colours in 0..1"""
    input_size: tuple[int, int, int] = (3, 224, 224)
    """channels, height and width"""
    fixed_input_size: bool = False
    """whether the network is built for that size"""
    license: str | None = None


class Folder(pydantic.BaseModel):
    """`config.json` of a folder that timm reads as `local-dir:`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    architecture: str
    model_args: dict[str, Any] = {}
    pretrained_cfg: Settings

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises InputError, which names the file."""
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(one_line(f"checkpoint: {path}: {error.strerror}; put it beside {WEIGHTS}")) from error
        except (ValueError, RecursionError) as error:
            raise InputError(one_line(f"checkpoint: {path} is not JSON ({error}); write it anew")) from error
        if isinstance(content, dict) and "pretrained_cfg" not in content:  # as timm wrote it before 0.9
            content = content | {"pretrained_cfg": content}
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "content"
            text = f"checkpoint: {path}: {place}: {first['msg']}; give what timm's save_for_hf writes"
            raise InputError(one_line(text)) from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """What fixes a network of timm: an architecture, what is changed of it, and what it expects of its input.

    size: height and width in pixels of the input that it is made for. mean, std: of the colours in 0..1.
    """

    name: str
    arguments: Mapping[str, Any]
    size: tuple[int, int]
    mean: Colours
    std: Colours

    @classmethod
    def settle(cls, name: str, *, arguments: Mapping[str, Any], settings: Settings) -> Self:
        """With the size in the arguments where timm takes it from the settings, so that they alone are enough."""
        size = settings.input_size[1:]
        if settings.fixed_input_size:
            arguments = {"img_size": list(size)} | dict(arguments)
        side = arguments.get("img_size", size)
        size = (side, side) if isinstance(side, int) else tuple(side)
        if len(size) != 2 or not all(isinstance(each, int) and each > 0 for each in size):
            raise InputError(one_line(f"arguments.img_size: {side!r} is no side in pixels; give a number, or two"))
        return cls(name=name, arguments=dict(arguments), size=size, mean=settings.mean, std=settings.std)


def require_known(name: str) -> None:
    """Raise an InputError, which names the nearest, unless timm has an architecture of that name."""
    names = architectures()
    if name not in names:
        near = difflib.get_close_matches(name[:100], sorted(names), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else "`timm.list_models()` lists them"
        raise InputError(one_line(f"model: timm has no architecture {name!r}; {hint}"))


def require_shaping(arguments: Mapping[str, Any], *, source: str) -> None:
    """Raise an InputError for an argument that does not shape a network of three colours."""
    for name in arguments:
        if name in _TAKEN:
            raise InputError(one_line(f"{source}.{name}: shapes no features; leave it out"))
    if arguments.get("in_chans", 3) != 3:
        raise InputError(one_line(f"{source}.in_chans: {arguments['in_chans']} is not 3; images have three colours"))


@functools.cache
def architectures() -> frozenset[str]:
    """The names that `timm.list_models()` would give, read from timm's source in a moment, without importing it."""
    found = importlib.util.find_spec("timm")
    assert found is not None
    assert found.origin is not None
    files = (Path(found.origin).parent / "models").glob("*.py")
    return frozenset(name for path in files for name in _REGISTERED.findall(path.read_text(encoding="utf-8")))
