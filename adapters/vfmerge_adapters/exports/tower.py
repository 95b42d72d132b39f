"""An architecture of timm, `vfmerge_tower`: any merged model's trunk with one of its text-aligned heads.

open_clip takes any image tower that timm can make by name. Importing this module adds one; the name's tag says which
adapters' shapes it is made of, as a merged model's `config.json` does. Nothing in a name is executed.

Axis letters: B images, H x W pixels, D embedding width.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, Self

import pydantic
import torch
from timm.models import register_model
from torch import Tensor, nn

from vfmerge import config
from vfmerge.adapter import AuxiliaryAdapter, BaseAdapter
from vfmerge.config import Part
from vfmerge.errors import InputError

from ..text_aligned.aligned import TextAligned

_NAME = "vfmerge_tower"
_LARGEST = 1 << 20  # bytes of a tag unpacked, chosen here: a config is some thousand


class Parts(pydantic.BaseModel):
    """What a tower is made of."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid")

    trunk: Part
    """whose trunk"""
    head: Part
    """whose head"""
    own: bool
    """whether it is the head that came with the trunk"""

    def name(self) -> str:
        """timm's name of the architecture, with these parts as its tag."""
        packed = zlib.compress(self.model_dump_json().encode(), 9)
        return f"{_NAME}.{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"

    @classmethod
    def read(cls, tag: str) -> Self:
        """From the tag of a name. Raises InputError for anything else."""
        try:
            packed = base64.urlsafe_b64decode(tag + "=" * (-len(tag) % 4))
            content = zlib.decompressobj().decompress(packed, _LARGEST)
            return cls.model_validate(json.loads(content))
        except (ValueError, RecursionError, zlib.error) as error:
            raise InputError(f"{_NAME}: the tag of its name is damaged ({type(error).__name__}); export anew") from None


class Tower(nn.Module):
    """images [B, 3, H, W] in [0, 1] -> embeddings [B, D], not normalised."""

    def __init__(self, trunk: nn.Module, head: TextAligned) -> None:
        """head: its text tower is dropped."""
        super().__init__()
        self.trunk, self.head = trunk, head
        head.text = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.head.embed(self.trunk(images))


def tensors(trunk: nn.Module, head: TextAligned) -> dict[str, Tensor]:
    """A merged model's, as a tower of them has them."""
    seen = {f"trunk.{name}": tensor for name, tensor in trunk.state_dict().items()}
    said = {f"head.{name}": tensor for name, tensor in head.state_dict().items() if not name.startswith("text.")}
    return seen | said


@register_model
def vfmerge_tower(pretrained: bool = False, pretrained_cfg: str | None = None, **kwargs: Any) -> Tower:
    """What `timm.create_model` calls. pretrained_cfg: the tag. The rest is about classifiers, and there is none.

    Raises InputError for a tag that no tower is made of.
    """
    if pretrained or not isinstance(pretrained_cfg, str):
        raise InputError(f"{_NAME}: give the name as open_clip_config.json has it, and weights from beside that file")
    parts = Parts.read(pretrained_cfg)
    lender, adapter = (config.build(part, where=_NAME) for part in (parts.trunk, parts.head))
    assert isinstance(lender, BaseAdapter)
    assert isinstance(adapter, AuxiliaryAdapter)
    with torch.random.fork_rng(devices=[]):  # shapes are made with random weights
        head = lender.own_head() if parts.own else adapter.head(lender.features)
        assert isinstance(head, TextAligned)
        return Tower(lender.trunk(), head).eval()
