"""COCO segmentations to masks: agreement with pycocotools, and refusal of everything it lets through."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vfmerge import random
from vfmerge.data import rle
from vfmerge.errors import BadSample

SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]


def mask_of(number):
    """A random blocky mask of a random size, neither empty nor full."""
    draw = random.generator("test_masks", number)
    height, width = (int(side) for side in draw.integers(8, 90, 2))
    mask = np.kron(draw.random((height // 4 + 1, width // 4 + 1)) < 0.4, np.ones((4, 4), bool))[:height, :width]
    mask[0, 0], mask[-1, -1] = number % 2, 1 - number % 2
    return mask


def compressed(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def uncompressed(mask):
    pixels = np.concatenate([[0], mask.T.ravel(), [1 - mask[-1, -1]]])
    return {"size": list(mask.shape), "counts": np.diff(np.flatnonzero(np.diff(pixels)), prepend=0).tolist()}


def drawn(segmentation, height, width):
    masks, kept = rle.draw([rle.parse(segmentation, height=height, width=width)], height=height, width=width)
    assert kept.tolist() == [0]
    return masks[0]


def refused(segmentation, *, height=20, width=30):
    with pytest.raises(BadSample) as caught:
        rle.parse(segmentation, height=height, width=width)
    return str(caught.value)


def test_compressed_runs_agree_with_pycocotools():
    """200 random masks that pycocotools encoded come back to the pixel."""
    for number in range(200):
        mask = mask_of(number)
        assert np.array_equal(drawn(compressed(mask), *mask.shape), mask)


def test_uncompressed_runs_draw_the_mask():
    """Lists of counts, of masks that begin inside as well as outside."""
    for number in range(20):
        mask = mask_of(number)
        assert np.array_equal(drawn(uncompressed(mask), *mask.shape), mask)


def test_large_picture():
    """Runs of six groups of bits, as pictures of many megapixels need."""
    mask = np.zeros((6000, 5000), dtype=bool)
    mask[5999, 4000:] = True
    assert np.array_equal(drawn(compressed(mask), *mask.shape), mask)


def test_mutants_never_give_a_wrong_sum():
    """1,000 damaged encodings: refused, or runs that fill the picture exactly."""
    outcomes = []
    for number in range(1000):
        draw = random.generator("mutants", number)
        mask = mask_of(number % 50)
        segmentation = compressed(mask)
        text = bytearray(segmentation["counts"].encode())
        for _ in range(draw.integers(1, 4)):
            text[draw.integers(len(text))] = draw.integers(48, 112) if number % 2 else draw.integers(0, 128)
        segmentation["counts"] = bytes(text[: draw.integers(1, len(text) + 1)] if number % 5 == 0 else text)
        try:
            runs = rle.parse(segmentation, height=mask.shape[0], width=mask.shape[1]).runs(
                height=mask.shape[0], width=mask.shape[1]
            )
        except BadSample:
            outcomes.append("refused")
            continue
        outcomes.append("drawn")
        assert int(runs.sum(dtype=np.int64)) == mask.size
    assert outcomes.count("refused") > 900


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([599], "do not add up"),
        ([300, 301], "do not add up"),
        ([700, -100], "negative"),
        ([2**62, 2**62, 2**62, 2**62, 600], "do not add up"),
        ([2**70], "not whole numbers"),
        ([], "without runs"),
        ("", "without runs"),
        ([1.5, 598.5], "not whole numbers"),
        (["600"], "not whole numbers"),
        ([[600]], "not whole numbers"),
        ([[1], [2, 3]], "not whole numbers"),
        ([True], "not whole numbers"),
        (None, "neither a list nor text"),
        ("é", "alphabet"),
        ("!!", "alphabet"),
        ("P", "inside a number"),
        ("oooooooooo0", "longer than any picture"),
    ],
)
def test_bad_runs_are_refused(counts, reason):
    """Each fault of counts has its reason."""
    assert reason in refused({"size": [20, 30], "counts": counts})


@pytest.mark.parametrize("size", [[30, 20], [20], "20x30", [100_000, 100_000], None])
def test_another_size_is_refused(size):
    """The size must be the picture's, whatever it is, before anything is unpacked."""
    assert "another size" in refused({"size": size, "counts": [600]})


@pytest.mark.parametrize("segmentation", [None, 3, "abc", {}, {"counts": [600]}, {"size": [20, 30]}])
def test_other_structures_are_refused(segmentation):
    """Neither polygons nor RLE."""
    assert "neither polygons nor RLE" in refused(segmentation)


def test_polygon_covers_its_inside():
    """A square of ten pixels a side."""
    mask = drawn([SQUARE], 20, 30)
    expected = np.zeros((20, 30), dtype=bool)
    expected[3:13, 2:12] = True
    assert np.array_equal(mask, expected)


def test_polygons_are_united():
    """Two outlines are one mask, as pycocotools rasterises them."""
    polygons = [SQUARE, [15.5, 2.0, 28.0, 9.5, 14.0, 18.0]]
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 30))
    mask = drawn(polygons, 20, 30)
    assert mask.sum() == coco_mask.area(runs)
    assert np.array_equal(mask, drawn([polygons[0]], 20, 30) | drawn([polygons[1]], 20, 30))


def test_polygon_is_clipped_to_the_picture():
    """Coordinates a little outside are usual."""
    mask = drawn([[-5, -5, 10, -5, 10, 40, -5, 40]], 20, 30)
    assert mask[:, :10].all()
    assert not mask[:, 10:].any()


@pytest.mark.parametrize(
    ("polygons", "reason"),
    [
        ([], "without a polygon"),
        ([[]], "fewer than three points"),
        ([[1, 1, 5, 5]], "fewer than three points"),
        ([[1, 1, 5, 5, 9]], "odd number"),
        ([[1, 1, 5, 5, 9, float("nan")]], "not finite"),
        ([[1, 1, 5, 5, 9, float("inf")]], "not finite"),
        ([[1, 1, 5, 5, 9, 1e9]], "further than one picture"),
        ([[-31, 1, 5, 5, 9, 1]], "further than one picture"),
        ([[1, 1, 5, 5, 9, "2"]], "not a list of numbers"),
        ([[1, 1, 5, 5, 9, None]], "not a list of numbers"),
        ([1, 1, 5, 5, 9, 2], "not a list of numbers"),
        ([[1, 1, 5, 5, 9, 2], "abcdef"], "not a list of numbers"),
        ([[0, 0, 29, 19] * 1000], "longer than the picture"),
    ],
)
def test_bad_polygons_are_refused(polygons, reason):
    """Each fault of polygons has its reason; pycocotools draws nothing, raises or dies on them."""
    assert reason in refused(polygons)


def test_masks_with_nothing_to_point_at_are_left_out():
    """No pixel, and every pixel; the numbers of the others are kept."""
    mask = mask_of(1)
    height, width = mask.shape
    counts = [[mask.size], [0, mask.size], uncompressed(mask)["counts"]]
    segments = [rle.parse({"size": [height, width], "counts": c}, height=height, width=width) for c in counts]
    masks, kept = rle.draw(segments, height=height, width=width)
    assert kept.tolist() == [2]
    assert np.array_equal(masks, mask[None])


@pytest.mark.parametrize(("outside", "kept"), [(60, 1), (59, 0)])
def test_largest_share(outside, kept):
    """Exactly the share is kept, one pixel more is not."""
    segment = rle.parse({"size": [20, 30], "counts": [outside, 600 - outside]}, height=20, width=30)
    assert len(rle.draw([segment], height=20, width=30, largest=0.9)[0]) == kept


def test_no_segments_give_no_masks():
    """The axes are there all the same."""
    masks, kept = rle.draw([], height=20, width=30)
    assert masks.shape == (0, 20, 30)
    assert kept.dtype == np.int64


def test_masks_that_would_fill_the_memory_are_refused():
    """Before they are drawn."""
    segment = rle.parse({"size": [10_000, 10_000], "counts": [1, 5, 10**8 - 6]}, height=10_000, width=10_000)
    with pytest.raises(BadSample, match="100 masks of 10000 x 10000"):
        rle.draw([segment] * 100, height=10_000, width=10_000)
