"""The same pictures and texts for a merged model and for what open_clip makes of a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import open_clip
import torch
from PIL import Image
from torch import Tensor

from vfmerge.capability import Capability, ImageText

from . import tower as tower  # timm knows its architecture from here on

if TYPE_CHECKING:
    import numpy as np
    from open_clip import CLIP

_TEXTS = ("a photo of a cat.", "two red bicycles against a wall", "a star")


def ask_model(capability: Capability, pictures: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
    """Unit embeddings of pictures and texts."""
    assert isinstance(capability, ImageText)
    return {"image embeddings": capability.encode_image(pictures), "text embeddings": capability.encode_text(_TEXTS)}


def open_folder(folder: Path) -> tuple[CLIP, Callable[[Image.Image], Tensor], Callable[[list[str]], Tensor]]:
    """open_clip's own model of a folder, in eval mode, its preprocessing and its tokenizer."""
    name = f"local-dir:{folder}"
    with torch.random.fork_rng(devices=[]):  # open_clip makes shapes with random weights
        model, _, preprocess = open_clip.create_model_and_transforms(name, require_pretrained=True)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


@torch.no_grad()
def ask_open_clip(folder: Path, pictures: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
    """The same of open_clip's own model, preprocessing and tokenizer."""
    model, preprocess, tokenizer = open_folder(folder)
    images = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
    return {
        "image embeddings": model.encode_image(images, normalize=True),
        "text embeddings": model.encode_text(tokenizer(list(_TEXTS)), normalize=True),
    }
