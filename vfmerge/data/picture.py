"""Decoding of pictures: whatever the bytes, either upright 8-bit RGB or a BadSample that says why.

The policy: JPEG, PNG, WebP, BMP and GIF; of animations the first frame; sides of at least 8 and areas of at most 100
million pixels; 16-bit grey keeps its upper eight bits; transparency is laid on white; CMYK is converted; a file that
ends early is refused, never filled up.

PNGs whose pixels are numbers of classes or segments are no pictures: theirs are given as stored, or not at all.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from vfmerge.data.paths import printable
from vfmerge.errors import BadSample

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""Pillow's names of the formats that are opened: a few decoders out of forty, and none that starts a program."""
EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif")
MIN_SIDE = 8
MAX_PIXELS = 100_000_000

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)
_NUMBERS = {(8, 0), (16, 0), (1, 3), (2, 3), (4, 3), (8, 3)}  # bits and colour type of a PNG: grey, or a palette
_COLOURS = {(8, 2)}
_CONVERTIBLE = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK")


def decode(data: bytes, *, name: str, annotated: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a file's bytes to uint8 [H, W, 3], RGB, writable.

    annotated: height and width of what the annotations were drawn on. A picture of that size as stored stays as
    stored; one whose EXIF orientation turns it to that size is turned; another is refused. With a flip, a half turn or
    a square both agree, sizes cannot tell, and the picture stays as stored, which is how COCO's tools read it.
    Without `annotated`, the EXIF orientation is applied.

    Raises BadSample and nothing else.
    """
    with _opened(data, formats=FORMATS, called="JPEG, PNG, WebP, BMP or GIF", name=name) as image:
        return _upright(image, annotated=annotated, name=name)


def convert(image: Image.Image, *, name: str) -> np.ndarray:
    """Turn a picture that Pillow opened or made into uint8 [H, W, 3], RGB, writable, as if it came from a file.

    Raises BadSample and nothing else.
    """
    with _decoding(name=name):
        check_size(image.size, name=name)
        return _upright(image, annotated=None, name=name)


def decode_numbers(data: bytes, *, name: str, colours: bool = False) -> np.ndarray:
    """Decode a PNG that numbers pixels, to the stored values: uint8 or uint16 [H, W], of a palette the indices.

    colours: the numbers are spread over red, green and blue: uint8 [H, W, 3].
    Grey of fewer than eight bits is refused, because readers differ in whether they stretch its values to eight.

    Raises BadSample and nothing else.
    """
    with _opened(data, formats=("PNG",), called="PNG", name=name) as image:
        bits, kind = data[24:26] if data[12:16] == b"IHDR" else (0, 0)  # the header's place in every valid PNG
        if (bits, kind) not in (_COLOURS if colours else _NUMBERS):
            wanted = "8-bit RGB" if colours else "8 or 16 bits of grey, or a palette"
            raise BadSample(f"{name}: its PNG stores {bits} bits of {_colour_type(kind)}; save it with {wanted}")
        image.load()
        return np.array(image)


def _colour_type(kind: int) -> str:
    return {0: "grey", 2: "RGB", 3: "a palette", 4: "grey with transparency", 6: "RGBA"}.get(kind, "no known kind")


@contextlib.contextmanager
def _opened(data: bytes, *, formats: tuple[str, ...], called: str, name: str) -> Iterator[Image.Image]:
    """A picture of a size that is read, not yet decoded. Whatever is raised inside becomes a BadSample."""
    with _decoding(name=name):
        try:
            opened = Image.open(io.BytesIO(data), formats=formats)
        except UnidentifiedImageError as error:
            raise BadSample(f"{name}: is no {called} file, or its beginning is damaged") from error
        with opened as image:
            check_size(image.size, name=name)
            yield image


@contextlib.contextmanager
def _decoding(*, name: str) -> Iterator[None]:
    """Whatever is raised inside becomes a BadSample."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF, which harms nothing, and of large pictures: see check_size
        try:
            yield
        except BadSample:
            raise
        except Image.DecompressionBombError as error:  # Pillow's own limit, which lies beyond ours
            text = f"{name}: has more than the {MAX_PIXELS:,} pixels that are read; make it smaller"
            raise BadSample(text) from error
        except Exception as error:  # damaged files raise half of the built-in exceptions from inside the decoders
            reason = printable(f"{type(error).__name__}: {error}")[:120]
            raise BadSample(f"{name}: cannot be decoded: {reason}") from error


def _upright(image: Image.Image, *, annotated: tuple[int, int] | None, name: str) -> np.ndarray:
    """The pixels of a picture, decoded, turned and converted."""
    image.load()
    orientation = _orientation(image, annotated=annotated, name=name)
    upright = _rgb(image, name=name)
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    return np.array(upright)


def check_size(size: tuple[int, int], *, name: str) -> None:
    """Refuse a width and height before pixels are unpacked, so that a small file cannot fill the memory."""
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise BadSample(f"{name}: has {width} x {height} pixels; the smaller side must be at least {MIN_SIDE}")
    if width * height > MAX_PIXELS:
        raise BadSample(f"{name}: has {width} x {height} pixels; at most {MAX_PIXELS:,} are read; make it smaller")


def _orientation(image: Image.Image, *, annotated: tuple[int, int] | None, name: str) -> int:
    """The EXIF orientation to apply: 2 to 8, anything else to leave the picture as stored."""
    stored = (image.height, image.width)
    if annotated == stored:
        return 1
    try:
        orientation: int = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # EXIF too damaged to read says nothing about the pixels
        orientation = 1
    if annotated is None:
        return orientation
    if orientation in _ON_ITS_SIDE and annotated == stored[::-1]:
        return orientation
    raise BadSample(
        f"{name}: is {stored[1]} x {stored[0]} pixels, but annotated as {annotated[1]} x {annotated[0]}; "
        "turning it by its EXIF orientation does not mend that"
    )


def _rgb(image: Image.Image, *, name: str) -> Image.Image:
    """The loaded picture in mode RGB."""
    if image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    if image.mode not in _CONVERTIBLE:
        raise BadSample(f"{name}: has pixels of mode {image.mode}; convert it to 8-bit RGB")
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits. Pillow's own conversion clips everything above 255 to white."""
    values = np.asarray(image)
    grey = (values >> 8).astype(np.uint8)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)
