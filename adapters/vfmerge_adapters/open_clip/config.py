"""The shapes of open_clip models as data: from open_clip's own files of architectures, a folder, or a recipe.

Imports neither torch nor open_clip. A config has the form of `open_clip_config.json`.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import json
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from vfmerge.errors import InputError, one_line

FILE = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"

Kind = Literal["vit", "resnet", "timm"]


class Preprocess(pydantic.BaseModel):
    """How a picture becomes an input; open_clip's defaults, which are OpenAI's."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """of the colours in 0..1"""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """of the colours in 0..1"""
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    """`random` concerns open_clip's training alone, and is bicubic here as there"""
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    """which side of the picture gets the input's size"""
    fill_color: int = 0
    """of the padding, where `longest` pads"""


class Model(pydantic.BaseModel):
    """The arguments of `open_clip.CustomTextCLIP`; what they may hold is open_clip's to say."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    embed_dim: int = Field(ge=1)
    """width of the space that images and texts share"""
    vision_cfg: dict[str, Any]
    text_cfg: dict[str, Any]
    quick_gelu: bool = False
    """x * sigmoid(1.702 x) in place of GELU: OpenAI's, MetaCLIP's and DFN's weights need it, and no tensor says so"""

    @pydantic.field_validator("vision_cfg")
    @classmethod
    def _stays_here(cls, value: dict[str, Any]) -> dict[str, Any]:
        if ":" in str(value.get("timm_model_name")):  # hf-hub: and local-dir: would read further files
            raise ValueError("timm_model_name must be the plain name of an architecture")
        return value


class Config(pydantic.BaseModel):
    """What fixes the shape of an open_clip model, and what it expects of its input."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    model_cfg: Model
    preprocess_cfg: Preprocess = Preprocess()

    @classmethod
    def parse(cls, content: Any, *, source: str) -> Self:
        """From plain JSON data. source: what an `InputError` calls it."""
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "content"
            raise InputError(
                one_line(f"{source}: {place}: {first['msg']}; give what open_clip writes as {FILE}")
            ) from error

    @property
    def kind(self) -> Kind:
        """Which of open_clip's three families of image towers."""
        if self.model_cfg.vision_cfg.get("timm_model_name"):
            return "timm"
        return "resnet" if isinstance(self.model_cfg.vision_cfg.get("layers"), list | tuple) else "vit"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image tower's input in pixels."""
        size = self.model_cfg.vision_cfg.get("image_size", 224)
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def truncates(self) -> bool:
        """Whether a text's embedding depends on nothing behind its end, so that the padding need not be computed."""
        text = self.model_cfg.text_cfg
        alone = not text.get("hf_model_name") and not text.get("no_causal_mask") and not text.get("embed_cls")
        return alone and text.get("pool_type", "argmax") == "argmax"

    def towers(self) -> dict[str, Any]:
        """Arguments for `open_clip.CustomTextCLIP` that give both towers, no download, and nothing else.

        A CoCa is its two towers: what it captions with is left out.
        """
        model = self.model_cfg.model_dump(exclude={"custom_text", "multimodal_cfg"})
        model["vision_cfg"] |= {"output_tokens": False, "timm_model_pretrained": False}
        model["text_cfg"] |= {"output_tokens": False, "hf_model_pretrained": False}
        return model


def builtin(name: str) -> Config:
    """The architecture that open_clip knows by this name, with open_clip's default preprocessing."""
    files = _files()
    plain = name.replace("/", "-")  # open_clip takes OpenAI's own spelling too
    if plain not in files:
        near = difflib.get_close_matches(plain, [*files, "tiny"], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "`open_clip.list_models()` lists them"
        raise InputError(one_line(f"model: open_clip has no architecture {name!r}; {hint}"))
    return Config.parse({"model_cfg": json.loads(files[plain].read_text())}, source=f"model {name}")


def read_folder(folder: Path) -> Config:
    """The config of a folder in open_clip's `local-dir:` layout."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(one_line(f"checkpoint: {path}: {error.strerror}; put it beside {WEIGHTS}")) from error
    except ValueError as error:
        raise InputError(one_line(f"checkpoint: {path} is not JSON ({error}); write it anew")) from error
    return Config.parse(content, source=f"checkpoint: {path}")


@functools.cache
def _files() -> dict[str, Path]:
    """open_clip's files of architectures by name, found without importing it."""
    found = importlib.util.find_spec("open_clip")
    assert found is not None
    assert found.origin is not None
    return {path.stem: path for path in (Path(found.origin).parent / "model_configs").glob("*.json")}
