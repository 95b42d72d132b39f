"""The pictures that are asked about: examples, and uploads that are kept in memory alone.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import dataclasses
import io
import math
import secrets
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from PIL import Image

from vfmerge.data import picture
from vfmerge.data.shapes import scene
from vfmerge.errors import BadSample

from .refusal import Refusal

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000  # of an upload, before it is decoded: a phone's largest photographs
MAX_SIDE = 2048  # of what is kept; a larger picture is shrunk, since masks have its size
MAX_KEPT = 16

_EXAMPLES = (0, 3, 5, 8, 10, 11)  # scenes of the split
_SIDE = 288  # pixels of an example
_PLAIN = 1_000_000  # pixels up to which a picture is shown as it is, by PNG


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """pixels: uint8 [H, W, 3]. alt: what it shows, if that is known. names: of the things in it, if they are known."""

    pixels: np.ndarray
    alt: str = ""
    names: tuple[str, ...] = ()

    def shown(self) -> tuple[str, bytes]:
        """Media type and bytes for a browser."""
        kind = "PNG" if self.pixels[..., 0].size <= _PLAIN else "JPEG"
        file = io.BytesIO()
        Image.fromarray(self.pixels).save(file, format=kind, **({"quality": 92} if kind == "JPEG" else {}))
        return f"image/{kind.lower()}", file.getvalue()


class Album:
    """Pictures by id. Of uploads the oldest is dropped when there are too many; ids are random, and examples' known."""

    def __init__(self, *, kept: int = MAX_KEPT) -> None:
        """kept: how many uploads."""
        self._kept = kept
        self.examples: Mapping[str, Picture] = {
            f"example-{place}": _draw(number) for place, number in enumerate(_EXAMPLES, start=1)
        }
        self._uploads: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes) -> tuple[str, Picture]:
        """Keep an uploaded file's picture; its id. Raises Refusal for what is no picture, or too large."""
        made = Picture(pixels=_decode(data))
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._uploads[name] = made
            while len(self._uploads) > self._kept:
                self._uploads.popitem(last=False)
        return name, made

    def find(self, name: str) -> Picture:
        """Raises Refusal for a picture that is not there, or no longer."""
        with self._lock:
            found = self.examples.get(name) or self._uploads.get(name)
        if found is None:
            raise Refusal(404, "this picture is no longer here; choose it again")
        return found


def _draw(number: int) -> Picture:
    """An example: a scene that no model was trained on."""
    drawn = scene(seed=0, split="demo", index=number, layout="several", size=_SIDE)
    names = tuple(dict.fromkeys(shape.name for shape in drawn.shapes))
    return Picture(pixels=drawn.image, alt=drawn.caption, names=names)


def _decode(data: bytes) -> np.ndarray:
    """An upload's pixels, uint8 [H, W, 3], at most MAX_SIDE wide and high. Raises Refusal."""
    if _count(data) > MAX_PIXELS:
        raise Refusal(413, f"the picture has too many pixels; give one of at most {MAX_PIXELS // 1_000_000} million")
    try:
        pixels = picture.decode(data, name="the file")
    except BadSample as error:
        raise Refusal(415, f"{error}; take another picture") from None
    factor = MAX_SIDE / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = (max(round(pixels.shape[1] * factor), 1), max(round(pixels.shape[0] * factor), 1))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _count(data: bytes) -> float:
    """How many pixels there are as the header says, or 0 where it cannot be read, which decoding will explain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large pictures, which are refused by whoever asks
        try:
            with Image.open(io.BytesIO(data), formats=picture.FORMATS) as image:
                return image.width * image.height
        except Image.DecompressionBombError:  # Pillow's own limit
            return math.inf
        except Exception:  # damaged headers raise half of the built-in exceptions
            return 0
