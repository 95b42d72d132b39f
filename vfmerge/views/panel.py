"""One picture with something drawn on it, in a square of a fixed side.

Axis letters: H x W pixels of a picture, of its own or of the square's.
"""

from __future__ import annotations

import abc
import dataclasses

import numpy as np
from PIL import Image, ImageFont

CLASSES = ("#cc6677", "#332288", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499")
"""Paul Tol's `muted` scheme, which colour-blind people can tell apart: for classes; a tenth begins again."""
THINGS = ("#ee8866", "#77aadd", "#bbcc33", "#ffaabb", "#44bb99", "#eedd88", "#99ddff", "#aaaa00")
"""Paul Tol's `light` scheme, for things, whatever their class."""

SIDE = 208
"""Pixels of the square's side."""
INK = "#1a1a1a"

_LETTERS = 13  # pixels


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Panel(abc.ABC):
    """A picture, uint8 [H, W, 3], that something is drawn on. Numbers are in its pixels."""

    picture: np.ndarray

    @abc.abstractmethod
    def draw(self, image: Image.Image) -> Image.Image:
        """The picture with what is on it; `image` is the bare picture, as large as it is shown."""

    @abc.abstractmethod
    def describe(self) -> str:
        """What is on it, for those who cannot see it."""

    def render(self) -> Image.Image:
        """The square, with the picture in its middle."""
        height, width = self.picture.shape[:2]
        factor = SIDE / max(height, width)
        size = max(round(width * factor), 1), max(round(height * factor), 1)
        framed = Image.new("RGB", (SIDE, SIDE), "#f0f0f0")
        image = self.draw(_resize(Image.fromarray(self.picture), size))
        framed.paste(image, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
        return framed


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bare(Panel):
    """The picture as it is."""

    def draw(self, image: Image.Image) -> Image.Image:
        return image

    def describe(self) -> str:
        return "nothing marked"


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Small pictures keep their pixels' edges: enlarged crisply by a whole factor first."""
    factor = -(-size[0] // image.width)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.LANCZOS)


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue in 0..255 of `#rrggbb`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def font(size: int = _LETTERS) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
