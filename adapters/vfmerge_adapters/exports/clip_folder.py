"""A merged model's image and text towers as a folder in open_clip's `local-dir:` layout."""

from __future__ import annotations

import abc
import json
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import HFTokenizer
from torch import Tensor

from vfmerge import weights
from vfmerge.config import Config as Made
from vfmerge.model import MergedModel

from ..merged.lineage import ADAPTER, Lineage
from ..open_clip import towers
from ..open_clip.config import FILE, WEIGHTS, Config
from ..open_clip.cut import cut
from ..open_clip.own import OwnHead
from ..open_clip.use import Embedder
from ..text_aligned.aligned import TextAligned
from ..text_aligned.use import SCALE
from . import tower


class Folder(abc.ABC):
    """What open_clip needs to know. The loss's scale and bias are no part of a merged model: CLIP's own are written.

    own: whether open_clip knows the architecture itself.
    """

    own: bool

    def __init__(self, model: MergedModel, task: str, *, config: Config) -> None:
        """config: of the CLIP that the task learnt from."""
        head = model.heads[task]
        assert isinstance(head, TextAligned)
        self.model, self.task, self.head, self.config = model, task, head, config

    def write(self, folder: Path) -> None:
        described = {"model_cfg": self.model_cfg(), "preprocess_cfg": self.preprocess_cfg()}
        (folder / FILE).write_text(json.dumps(described, indent=2) + "\n")
        weights.save(folder / WEIGHTS, self.tensors() | self._loss())
        text = self.config.model_cfg.text_cfg
        if text.get("hf_tokenizer_name"):
            options = text.get("tokenizer_kwargs") or {}
            HFTokenizer(text["hf_tokenizer_name"], **options).tokenizer.save_pretrained(folder)

    @abc.abstractmethod
    def model_cfg(self) -> dict[str, Any]:
        """The architecture, plain as JSON."""

    @abc.abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Both towers' by open_clip's names."""

    def preprocess_cfg(self) -> dict[str, Any]:
        """How a picture becomes an input, plain as JSON."""
        return {"size": list(self.head.size)} | self.config.preprocess_cfg.model_dump(mode="json")

    def _loss(self) -> dict[str, Tensor]:
        bias = self.config.model_cfg.model_dump().get("init_logit_bias")
        scale = {"logit_scale": torch.tensor(SCALE)}
        return scale if bias is None else scale | {"logit_bias": torch.tensor(float(bias))}


class OwnFolder(Folder):
    """A CLIP with its own head on its own trunk: open_clip's own architecture."""

    own = True

    def model_cfg(self) -> dict[str, Any]:
        shape = self.config.towers()
        return shape | {
            "vision_cfg": shape["vision_cfg"] | {"image_size": _side(self.head.size)},
            "custom_text": self._is_custom,
        }

    def tensors(self) -> dict[str, Tensor]:
        ours = {"trunk": self.model.trunk, "head": self.head}
        found = {}
        for theirs, (part, name) in self._names().items():
            plain = theirs if self._is_custom else theirs.removeprefix("text.")
            found[plain] = ours[part].state_dict()[name]
        return found

    @property
    def _is_custom(self) -> bool:
        """Whether open_clip keeps the text tower's tensors apart, as it does for all but its first models."""
        given = self.config.model_cfg.model_dump()
        own = given.get("custom_text") or given["text_cfg"].get("hf_model_name")
        return bool(own) or "multimodal_cfg" in given

    def _names(self) -> dict[str, tuple[str, str]]:
        """open_clip's name of each tensor: which of our parts has it, and its name there.

        Found by cutting a tower of that shape, of no memory, and looking where each tensor went.
        """
        with torch.device("meta"):
            clip = towers.build(self.config)
            before = {id(tensor): name for name, tensor in clip.state_dict(keep_vars=True).items()}
            trunk, projection = cut(clip.visual, config=self.config)
            width = self.config.model_cfg.embed_dim
            head = OwnHead(clip.text, projection, embedding=width, size=self.config.size, stride=1)
        return {
            before[id(tensor)]: (part, name)
            for part, module in (("trunk", trunk), ("head", head))
            for name, tensor in module.state_dict(keep_vars=True).items()
        }


class TowerFolder(Folder):
    """A CLIP's head on another trunk: open_clip's text tower beside an architecture that `tower.py` adds to timm."""

    own = False

    def __init__(self, model: MergedModel, task: str, *, config: Config, made: Made) -> None:
        super().__init__(model, task, config=config)
        self._made = made

    def model_cfg(self) -> dict[str, Any]:
        shape = self.config.towers()
        parts = tower.Parts(
            trunk=self._made.parents[self.model.base],
            head=self._made.parents[self.task],
            own=self.task == self.model.base,
        )
        vision = {
            "image_size": _side(self.head.size),
            "timm_model_name": parts.name(),
            "timm_pool": "",  # it embeds by itself
            "timm_proj": "",
        }
        return shape | {"vision_cfg": vision, "custom_text": True}

    def preprocess_cfg(self) -> dict[str, Any]:
        """The CLIP's, but for the normalisation: the trunk's own is in the tower."""
        return super().preprocess_cfg() | {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}

    def tensors(self) -> dict[str, Tensor]:
        text = {f"text.{name}": tensor for name, tensor in self.head.text.state_dict().items()}
        seen = tower.tensors(self.model.trunk, self.head)
        return text | {f"visual.trunk.{name}": tensor for name, tensor in seen.items()}


def is_clip(model: MergedModel, task: str) -> bool:
    """Whether a task has a text tower of open_clip's."""
    return isinstance(model.capability(task), Embedder)


def describe(model: MergedModel, task: str, *, made: Made) -> Folder:
    """The folder of a task that `is_clip`."""
    config, head = config_of(made, task), model.heads[task]
    if isinstance(head, OwnHead) and (head.size == config.size or config.kind == "vit"):
        return OwnFolder(model, task, config=config)
    return TowerFolder(model, task, config=config, made=made)


def config_of(made: Made, task: str) -> Config:
    """The shape of the open_clip model that a task learnt from, however many merges ago."""
    part = made.parents[task]
    if part.adapter == ADAPTER:
        part = Lineage.model_validate(part.options["lineage"]).head
    return Config.parse(part.options["config"], source=f"parents.{task}.options.config")


def _side(size: tuple[int, int]) -> int | list[int]:
    """As open_clip writes it: one number for a square."""
    return size[0] if size[0] == size[1] else list(size)
