"""Pictures in whatever form a person has them: files, Pillow's images, arrays and tensors, one or several.

All become what capabilities take, uint8 RGB arrays [H, W, 3], by the rules that files are read by: upright,
transparency laid on white, sides of at least 8 and areas of at most 100 million pixels.

Axis letters: B pictures, H x W pixels, C channels: 1 grey, 3 RGB, 4 RGB and opacity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vfmerge.data import paths, picture
from vfmerge.errors import BadSample, InputError, one_line

if TYPE_CHECKING:
    from torch import Tensor

    One = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
    Several = list[One] | tuple[One, ...]

_SLACK = 1e-3  # of floats beyond 0..1: a resized picture overshoots by rounding


def read(path: Path) -> np.ndarray:
    """A file's picture: uint8 [H, W, 3]. Raises BadSample and nothing else."""
    name = paths.shown(path)
    return picture.decode(paths.read(path, name=name), name=name)


def several(images: One | Several) -> bool:
    """Whether these are several pictures: a list or tuple, or an array or tensor of four axes."""
    if isinstance(images, list | tuple):
        return True
    return not isinstance(images, str | os.PathLike | Image.Image) and getattr(images, "ndim", 0) == 4


def pictures(images: One | Several) -> Iterator[np.ndarray]:
    """One picture or several, one at a time, as uint8 [H, W, 3].

    images: a path; an image of Pillow's; an array [H, W] or [H, W, C]; a tensor [H, W] or [C, H, W]; uint8, or floats
    in 0..1. Several: a list of these, an array [B, H, W, C], a tensor [B, C, H, W].
    Raises InputError for what is none of them, or cannot be used.
    """
    each: list[One] = list(images) if several(images) else [images]  # type: ignore[arg-type, list-item]
    if not each:
        raise InputError("image: an empty list; give one picture or more")
    for number, one in enumerate(each):
        name = f"image {number}" if several(images) else "image"
        try:
            yield _picture(one, name=name)
        except BadSample as error:
            raise InputError(one_line(str(error))) from None


def _picture(image: One, *, name: str) -> np.ndarray:
    """One picture: uint8 [H, W, 3]. Raises BadSample, or InputError for what is no picture at all."""
    if isinstance(image, str | os.PathLike):
        return read(Path(image).expanduser())
    if isinstance(image, Image.Image):
        return picture.convert(image, name=name)
    if isinstance(image, np.ndarray):
        return _from_array(image, name=name)

    import torch

    if isinstance(image, torch.Tensor):
        return _from_tensor(image, name=name)
    forms = "give a path, an image of Pillow's, an array, a tensor, or a list of these"
    raise InputError(one_line(f"{name}: is of type {type(image).__name__}; {forms}"))


def _from_tensor(tensor: Tensor, *, name: str) -> np.ndarray:
    """A tensor [H, W] or [C, H, W], anywhere, of any type of floats or uint8."""
    plain = tensor.detach().cpu()
    plain = plain.float() if plain.is_floating_point() else plain  # numpy has no bfloat16
    if plain.ndim == 3:
        if plain.shape[0] not in (1, 3, 4):
            shape = list(plain.shape)
            raise InputError(f"{name}: a tensor of shape {shape}; give [C, H, W] of 1, 3 or 4 channels, or an array")
        plain = plain.permute(1, 2, 0)
    return _from_array(plain.numpy(), name=name)


def _from_array(array: np.ndarray, *, name: str) -> np.ndarray:
    """An array [H, W] or [H, W, C], uint8, or floats in 0..1."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise InputError(f"{name}: an array of shape {list(array.shape)}; give [H, W, C] of 1, 3 or 4 channels")
    if 0 in array.shape:
        raise InputError(f"{name}: an array of shape {list(array.shape)} has no pixel; give one that has some")
    picture.check_size((array.shape[1], array.shape[0]), name=name)
    if array.dtype.kind == "f":
        array = _bytes(array, name=name)
    if array.dtype != np.uint8:
        raise InputError(f"{name}: of type {array.dtype}; give uint8 in 0..255, or floats in 0..1")
    return picture.convert(Image.fromarray(np.ascontiguousarray(array)), name=name)


def _bytes(array: np.ndarray, *, name: str) -> np.ndarray:
    """Floats in 0..1 as uint8, rounded."""
    least, most = float(array.min()), float(array.max())
    inside = least >= -_SLACK and most <= 1 + _SLACK
    if not inside:  # nan is not
        remedy = "divide by 255, or give uint8" if least >= 0 and 1 < most <= 255 else "undo the normalisation"
        raise InputError(f"{name}: floats from {least:.4g} to {most:.4g}, not in 0..1; {remedy}")
    return np.asarray((array.clip(0, 1) * 255).round().astype(np.uint8))
