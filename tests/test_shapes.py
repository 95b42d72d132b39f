"""The shapes world: the same on every call, exact masks, honest captions; and as a data set."""

from __future__ import annotations

import numpy as np
import pytest

from vfmerge.data import shapes
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError


def scene(index=3, **changes):
    return shapes.scene(**{"seed": 0, "split": "train", "index": index, "layout": "several", "size": 64, **changes})


def test_scene_is_a_function_of_its_arguments():
    """Two calls agree to the bit."""
    one, other = scene(), scene()
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.masks, other.masks)
    assert one.shapes == other.shapes
    assert one.caption == other.caption


@pytest.mark.parametrize("change", [{"seed": 1}, {"split": "test"}, {"index": 4}, {"layout": "single"}])
def test_every_argument_counts(change):
    """Another seed, split, index or layout is another scene."""
    assert not np.array_equal(scene().image, scene(**change).image)


def test_masks_are_disjoint_and_visible():
    """Each pixel belongs to one shape at most, and each shape listed has pixels and a mask."""
    for index in range(30):
        drawn = scene(index=index)
        assert drawn.masks.shape == (len(drawn.shapes), 64, 64)
        assert drawn.masks.sum(axis=0).max(initial=0) <= 1
        assert drawn.masks.any(axis=(1, 2)).all()


def test_mask_pixels_have_the_colour_of_their_shape():
    """Inside a plain shape's mask the picture is nearer to its colour than to any other's."""
    names, palette = list(shapes.COLOURS), np.array(list(shapes.COLOURS.values()))
    tested = 0
    for index in range(30):
        drawn = scene(index=index)
        for shape, mask in zip(drawn.shapes, drawn.masks, strict=True):
            if shape.texture == "plain":
                mean = np.median(drawn.image[mask], axis=0)
                assert names[int(np.abs(palette - mean).sum(axis=1).argmin())] == shape.colour
                tested += 1
    assert tested > 10


def test_caption_names_the_shapes():
    """Each shape's name is in the caption as often as in the scene."""
    for index in range(30):
        drawn = scene(index=index)
        words = drawn.caption.replace(",", "").split()
        assert sorted(word for word in words if word in shapes.SHAPES) == sorted(shape.name for shape in drawn.shapes)


def test_single_has_one_shape():
    """The layout of classification, also at the smallest side that the data set takes."""
    assert all(len(scene(index=index, layout="single", size=16).shapes) == 1 for index in range(100))


def test_mixed_has_empty_scenes():
    """Some pictures of the mixture show nothing, and say so."""
    drawn = [scene(index=index, layout="mixed", size=32) for index in range(100)]
    empty = [one for one in drawn if not one.shapes]
    assert 0 < len(empty) < 30
    assert {one.caption for one in empty} == {"an empty background"}


def test_source_gives_a_label_for_each_mask():
    """Labels count classes in the order of masks."""
    source = Shapes(count=5, size=64)
    sample = source.read(3)
    drawn = scene()
    assert np.array_equal(sample.image, drawn.image)
    assert np.array_equal(sample.masks, drawn.masks)
    assert [source.classes[label] for label in sample.labels] == [shape.name for shape in drawn.shapes]
    assert sample.text == drawn.caption
    assert sample.name == "shapes/train/several/3"
    assert source.has_masks
    assert len(source) == 5


def test_source_without_masks():
    """A single shape is a label of the picture; several are none."""
    single = Shapes(layout="single", masks=False, count=5).read(0)
    several = Shapes(layout="several", masks=False, count=5).read(0)
    assert single.masks is None
    assert single.labels.shape == (1,)
    assert several.masks is None
    assert several.labels is None


def test_digest_depends_on_every_option():
    """So that a run notices another data set."""
    changes = [{}, {"layout": "single"}, {"split": "a"}, {"count": 5}, {"size": 64}, {"masks": False}, {"seed": 1}]
    digests = [Shapes(**change).digest() for change in changes]
    assert len(set(digests)) == len(changes)
    assert Shapes().digest() == digests[0]


@pytest.mark.parametrize("option", [{"layout": "x"}, {"split": ""}, {"split": "a/b"}, {"count": 0}, {"size": 8}])
def test_bad_options_are_refused(option):
    """Naming the option."""
    with pytest.raises(InputError, match=f"^{next(iter(option))}: "):
        Shapes(**option)


def test_views_show_the_same_shapes_in_other_colours() -> None:
    """Several stay where they are, so that what differs between the two pictures is never their outlines."""
    for seed in (1, 3, 5):
        first, second, stay = shapes.views(seed=seed, size=64)
        assert stay
        assert (first != second).mean() > 0.9
    assert not shapes.views(seed=2, size=64)[2]


def test_views_are_a_function_of_their_seed() -> None:
    """Drawn again they are the same, and another seed's are others."""
    one, again, other = (shapes.views(seed=seed, size=32) for seed in (4, 4, 6))
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])
    assert not np.array_equal(one[0], other[0])
