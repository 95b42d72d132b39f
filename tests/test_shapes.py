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
    pairs = {"names": "colour"}
    changes += [pairs, pairs | {"unseen": True}, pairs | {"unseen": True, "keep": "seen"}]
    digests = [Shapes(**change).digest() for change in changes]
    assert len(set(digests)) == len(changes)
    assert Shapes().digest() == digests[0]


def test_digest_of_old_options_stays():
    """So that scores that were remembered before there were pairs of colours and shapes are still found."""
    assert Shapes().digest() == "71e567d806ac607a35d72931ca06cd0b978e7d68086978c7097b15b614906be2"
    grouped = Shapes(layout="single", groups=True, masks=False)
    assert grouped.digest() == "a9d8ef6e41e3ef13f05988efde7644e7b90e9fd6e15a5bf4cd78d0e0b14bf3b4"


@pytest.mark.parametrize(
    "option",
    [
        *({"layout": "x"}, {"split": ""}, {"split": "a/b"}, {"count": 0}, {"size": 8}),
        *({"names": "x"}, {"unseen": True}, {"keep": "seen"}, {"keep": "x"}),
        {"count": 1, "layout": "single", "split": "e", "names": "colour", "unseen": True, "keep": "seen"},
    ],
)
def test_bad_options_are_refused(option):
    """Naming the option."""
    with pytest.raises(InputError, match=f"^{next(iter(option))}: "):
        Shapes(**option)


def test_colours_and_shapes_are_classes_together():
    """Pairs go shape by shape, and a label is the pair of its shape."""
    source = Shapes(names="colour", count=20, size=48)
    assert source.classes[:7] == (*(f"{colour} circle" for colour in shapes.COLOURS), "red square")
    assert len(source.classes) == 48
    for index in range(20):
        drawn = scene(index=index, size=48)
        expected = [f"{shape.colour} {shape.name}" for shape in drawn.shapes]
        assert [source.classes[label] for label in source.read(index).labels] == expected
    assert source.unseen == frozenset()


def test_unseen_pairs_are_of_seen_colours_and_shapes():
    """12 of 48, by a rule that leaves each word to the seen ones."""
    judged = Shapes(names="colour", unseen=True)
    taught = Shapes(names="colour", unseen=True, keep="seen")
    rule = {
        f"{colour} {shape}"
        for i, shape in enumerate(shapes.SHAPES)
        for j, colour in enumerate(shapes.COLOURS)
        if (i + j) % 4 == 0
    }
    assert judged.unseen == rule
    assert len(rule) == 12
    assert len(judged.classes) == 48
    assert taught.classes == tuple(name for name in judged.classes if name not in rule)
    assert taught.unseen == frozenset()
    assert {word for name in taught.classes for word in name.split()} == {*shapes.COLOURS, *shapes.SHAPES}


def test_training_has_no_mask_of_an_unseen_pair():
    """The others keep theirs, in the same pictures with the same captions."""
    options = {"layout": "mixed", "count": 60, "size": 48, "names": "colour", "unseen": True}
    judged, taught = Shapes(**options), Shapes(**options, keep="seen")
    hidden = 0
    for index in range(60):
        whole, part = judged.read(index), taught.read(index)
        seen = [judged.classes[label] not in judged.unseen for label in whole.labels]
        assert np.array_equal(part.masks, whole.masks[seen])
        assert [taught.classes[n] for n in part.labels] == [judged.classes[n] for n in whole.labels[seen]]
        assert np.array_equal(part.image, whole.image)
        assert part.captions == whole.captions
        hidden += len(whole.labels) - len(part.labels)
    assert hidden > 10
    assert len(taught) == 60


@pytest.mark.parametrize("masks", [True, False])
def test_training_has_no_picture_of_a_single_unseen_pair(masks):
    """It would be one without a label; the numbers of the others are those of their scenes."""
    options = {"layout": "single", "count": 60, "size": 32, "masks": masks, "names": "colour", "unseen": True}
    judged, taught = Shapes(**options), Shapes(**options, keep="seen")
    told = {each.name: judged.classes[int(each.labels[0])] for each in map(judged.read, range(60))}
    learnt = {each.name: taught.classes[int(each.labels[0])] for each in map(taught.read, range(len(taught)))}
    assert learnt == {name: pair for name, pair in told.items() if pair not in judged.unseen}
    assert 30 < len(taught) < 60


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
