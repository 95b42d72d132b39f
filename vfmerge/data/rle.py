"""COCO segmentations, polygons or run lengths, to masks, with nothing believed that a file says about itself.

Runs count pixels down the columns, alternately outside and inside. Compressed, each run is a difference to the last but
one, in groups of five bits, lowest first, each as the character 48 + bits, + 32 where more follow; the highest bit of
the last group is the sign. That is the format of COCO's `maskApi`. It is decoded here, in a few array operations,
because pycocotools accepts runs that do not fill the picture and then returns uninitialised memory.

Axis letters: N segments, K of them kept, H x W pixels.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from vfmerge.errors import BadSample

MAX_SIDE = 65_500
MAX_BYTES = 4 << 30  # of one picture's masks together

_MAX_GROUPS = 7  # 35 bits hold any run of a picture of MAX_SIDE, and its sign
_MAX_OUTLINE = 10_000_000  # pixels along all edges: the rasteriser takes about 100 bytes for each


class Segment(abc.ABC):
    """A checked segmentation of a picture, not yet drawn."""

    @abc.abstractmethod
    def runs(self, *, height: int, width: int) -> np.ndarray:
        """Its run lengths, uint32, which add up to height * width."""


@dataclasses.dataclass(frozen=True, slots=True)
class Runs(Segment):
    """Run lengths as they came from a file."""

    counts: np.ndarray

    def runs(self, *, height: int, width: int) -> np.ndarray:
        return self.counts


@dataclasses.dataclass(frozen=True, slots=True)
class Polygons(Segment):
    """Closed outlines, float64 arrays of x0, y0, x1, y1 ... in pixels, whose union is the mask."""

    outlines: tuple[np.ndarray, ...]

    def runs(self, *, height: int, width: int) -> np.ndarray:
        union = coco_mask.merge(coco_mask.frPyObjects(list(self.outlines), height, width))
        return _checked(_decompress(union["counts"]), pixels=height * width)


def parse(segmentation: object, *, height: int, width: int) -> Segment:
    """Check the `segmentation` of a COCO or SA-1B annotation of a picture of that size.

    Raises BadSample, whose message is the reason alone, without numbers, so that equal reasons can be counted.
    """
    assert 0 < height <= MAX_SIDE
    assert 0 < width <= MAX_SIDE
    match segmentation:
        case {"size": size, "counts": counts}:
            if size != [height, width]:
                raise BadSample("RLE of another size than the picture")
            return Runs(_checked(_counts(counts), pixels=height * width))
        case [_, *_]:
            return Polygons(_outlines(segmentation, height=height, width=width))
        case []:
            raise BadSample("segmentation without a polygon")
        case _:
            raise BadSample("segmentation that is neither polygons nor RLE")


def draw(
    segments: Sequence[Segment], *, height: int, width: int, largest: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw segments: masks bool [K, H, W], and int64 [K], which of the N segments they are.

    Left out, because there is nothing to point at: masks without a pixel, as slivers of polygons can be, those of every
    pixel, and those of more than the share `largest` of the pixels. Raises BadSample if they would fill the memory.
    """
    pixels = height * width
    if len(segments) * pixels > MAX_BYTES:
        raise BadSample(f"{len(segments)} masks of {width} x {height} pixels take more than {MAX_BYTES:,} bytes")
    runs = [segment.runs(height=height, width=width) for segment in segments]
    areas = [int(counts[1::2].sum(dtype=np.int64)) for counts in runs]
    kept = [number for number, area in enumerate(areas) if 0 < area < pixels and area <= largest * pixels]
    masks = np.zeros((len(kept), pixels), dtype=bool)
    for mask, number in zip(masks, kept, strict=True):
        _fill(mask, runs[number])
    return masks.reshape(len(kept), width, height).transpose(0, 2, 1), np.array(kept, dtype=np.int64)


def _fill(mask: np.ndarray, runs: np.ndarray) -> None:
    """Set every second run; a loop, because masks have far fewer runs than pixels."""
    bounds = np.cumsum(runs, dtype=np.int64).tolist()
    for start, end in zip(bounds[0::2], bounds[1::2], strict=False):  # a last run outside has no partner
        mask[start:end] = True


def _counts(counts: object) -> np.ndarray:
    """Run lengths, int64, from a list or from compressed text."""
    match counts:
        case str():
            if not counts.isascii():
                raise BadSample("RLE with characters that are not of its alphabet")
            return _decompress(counts.encode())
        case bytes():
            return _decompress(counts)
        case [*_]:
            return _numbers(counts, kinds="i", reason="RLE whose counts are not whole numbers").astype(np.int64)
        case _:
            raise BadSample("RLE whose counts are neither a list nor text")


def _decompress(text: bytes) -> np.ndarray:
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        raise BadSample("RLE without runs")
    if codes.min() < 0 or codes.max() > 63:
        raise BadSample("RLE with characters that are not of its alphabet")
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(ends) or ends[-1] != len(codes) - 1:
        raise BadSample("RLE that ends inside a number")
    starts = np.concatenate([[0], ends[:-1] + 1])
    groups = ends - starts + 1
    if groups.max() > _MAX_GROUPS:
        raise BadSample("RLE with a run longer than any picture")
    place = np.arange(len(codes)) - np.repeat(starts, groups)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * groups), 0)
    runs[1::2] = np.cumsum(runs[1::2])  # each run but the first three is stored as a difference to the last but one
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _checked(runs: np.ndarray, *, pixels: int) -> np.ndarray:
    if not len(runs):
        raise BadSample("RLE without runs")
    if runs.min() < 0:
        raise BadSample("RLE with a run of negative length")
    if runs.max() > pixels or runs.sum() != pixels:  # a single huge run first: a sum of several could wrap around
        raise BadSample("RLE whose runs do not add up to the picture")
    return runs.astype(np.uint32)


def _outlines(polygons: Sequence[object], *, height: int, width: int) -> tuple[np.ndarray, ...]:
    outlines = tuple(_outline(polygon, height=height, width=width) for polygon in polygons)
    steps = sum(_length(outline) for outline in outlines)
    if steps > min(height * width + 4 * (height + width), _MAX_OUTLINE):
        raise BadSample("polygon whose outline is longer than the picture has pixels")
    return outlines


def _outline(polygon: object, *, height: int, width: int) -> np.ndarray:
    outline = _numbers(polygon, kinds="iuf", reason="polygon that is not a list of numbers").astype(np.float64)
    if len(outline) % 2:
        raise BadSample("polygon with an odd number of coordinates")
    if len(outline) < 6:
        raise BadSample("polygon of fewer than three points")
    if not np.isfinite(outline).all():
        raise BadSample("polygon with a coordinate that is not finite")
    x, y = outline[0::2], outline[1::2]
    if x.min() < -width or x.max() > 2 * width or y.min() < -height or y.max() > 2 * height:
        raise BadSample("polygon that reaches further than one picture beyond the picture")
    return outline


def _length(outline: np.ndarray) -> int:
    """Pixels along the closed outline."""
    points = outline.reshape(-1, 2)
    return math.ceil(float(abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()))


def _numbers(values: object, *, kinds: str, reason: str) -> np.ndarray:
    """A list of numbers as an array of one axis. NumPy would turn text into numbers too; the kinds prevent that."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise BadSample(reason) from error
    if array.ndim != 1 or (len(array) and array.dtype.kind not in kinds):
        raise BadSample(reason)
    return array
