"""Classes that no training may see: which they are, what is left without them, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from vfmerge.benchmarks.robustness import Corrupted
from vfmerge.data import classnames, paths
from vfmerge.data.coco import Coco
from vfmerge.data.subset import Subset
from vfmerge.errors import InputError

SEEN, UNSEEN = classnames.built_in("coco17_seen"), classnames.built_in("coco17_unseen")

needs_data = pytest.mark.skipif(
    "VFMERGE_DATA" not in os.environ, reason="needs real data: set VFMERGE_DATA to its folder"
)

FREQUENCIES = {"cat": "r", "person": "f", "stop sign": "c"}
EVERY = ("person", "cat", "stop sign")
THINGS = {1: ["cat", "person", "stop sign", "person"], 2: ["cat"], 3: ["stop sign"], 4: [], 5: ["person"]}


def annotations(things=THINGS, *, names=(*SEEN, *UNSEEN, "stop sign"), **more):
    """An `instances` file: the things of each picture, of two pixels more from one to the next of a picture."""
    numbers = {name: 10 + number for number, name in enumerate(names)}
    listed = [(key, place, name) for key, found in things.items() for place, name in enumerate(found)]
    return {
        "images": [{"id": key, "file_name": f"{key}.jpg", "height": 20, "width": 30} for key in things],
        "categories": [{"id": numbers[name], "name": name, **more.get(name, {})} for name in names],
        "annotations": [
            {
                "id": number,
                "image_id": key,
                "category_id": numbers[name],
                "segmentation": {"size": [20, 30], "counts": [0, 2 * place + 2, 598 - 2 * place]},
            }
            for number, (key, place, name) in enumerate(listed)
        ],
    }


def lvis(things=THINGS):
    return annotations(things, names=EVERY, **{name: {"frequency": each} for name, each in FREQUENCIES.items()})


def opened(folder, instances, **options):
    (folder / "images").mkdir(exist_ok=True)
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "JPEG")
    for image in instances["images"]:
        (folder / "images" / image["file_name"]).write_bytes(file.getvalue())
    (folder / "instances.json").write_text(json.dumps(instances))
    return Coco(images=str(folder / "images"), annotations=str(folder / "instances.json"), **options)


def told(source):
    """Of each picture, the names of its things with how many pixels they have."""
    read = [source.read(index) for index in range(len(source))]
    return {
        sample.key: [
            (source.classes[label], int(mask.sum())) for label, mask in zip(sample.labels, sample.masks, strict=True)
        ]
        for sample in read
    }


def test_coco17_for_training(tmp_path):
    """Seen classes alone, their things with their own masks, and pictures that have one."""
    source = opened(tmp_path, annotations(), unseen="coco17", keep="seen")
    assert set(source.classes) == set(SEEN)
    assert len(source.classes) == 48
    assert source.unseen == frozenset()
    assert told(source) == {1: [("person", 4), ("person", 8)], 5: [("person", 2)]}


def test_coco17_for_judging(tmp_path):
    """Seen and unseen classes; those of neither kind are left out, with their things."""
    source = opened(tmp_path, annotations(), unseen="coco17")
    assert set(source.classes) == {*SEEN, *UNSEEN}
    assert len(source.classes) == 65
    assert source.unseen == frozenset(UNSEEN)
    assert told(source) == {1: [("cat", 2), ("person", 4), ("person", 8)], 2: [("cat", 2)], 5: [("person", 2)]}


def test_rare_categories_of_lvis(tmp_path):
    """Those of frequency r are unseen, and no others are left out."""
    judged, taught = opened(tmp_path, lvis(), unseen="rare"), opened(tmp_path, lvis(), unseen="rare", keep="seen")
    assert (judged.classes, judged.unseen) == (EVERY, {"cat"})
    assert (taught.classes, taught.unseen) == (("person", "stop sign"), frozenset())
    assert list(told(judged)) == [1, 2, 3, 5]
    assert told(taught)[1] == [("person", 4), ("stop sign", 6), ("person", 8)]
    assert list(told(taught)) == [1, 3, 5]


def test_unseen_classes_of_a_file(tmp_path):
    """One name a line; all others are seen."""
    lines = tmp_path / "novel.txt"
    lines.write_text("stop sign\nperson\n")
    source = opened(tmp_path, lvis(), unseen=str(lines))
    assert (source.classes, source.unseen) == (EVERY, {"stop sign", "person"})
    assert told(opened(tmp_path, lvis(), unseen=str(lines), keep="seen")) == {1: [("cat", 2)], 2: [("cat", 2)]}


def test_limit_counts_pictures_that_are_kept(tmp_path):
    """The first ones that have a thing."""
    source = opened(tmp_path, lvis(), unseen="rare", keep="seen", limit=2)
    assert list(told(source)) == [1, 3]


def test_without_unseen_nothing_is_left_out(tmp_path):
    """All pictures, things and names, and the digest that it always had."""
    source = opened(tmp_path, lvis())
    assert (source.classes, source.unseen) == (EVERY, frozenset())
    assert list(told(source)) == [1, 2, 3, 4, 5]
    files = [f"{key}.jpg" for key in THINGS]
    contents = hashlib.sha256((tmp_path / "instances.json").read_bytes()).hexdigest()
    assert source.digest() == paths.digest(["coco", contents, *paths.sizes(tmp_path / "images", files)])


def test_digest_knows_the_choice(tmp_path):
    """Another split, or other classes kept, is another data set."""
    lines = tmp_path / "novel.txt"
    lines.write_text("stop sign\n")
    choices = [{}, {"unseen": "rare"}, {"unseen": "rare", "keep": "seen"}, {"unseen": str(lines)}]
    digests = [opened(tmp_path, lvis({1: ["person"]}), **choice).digest() for choice in choices]
    assert len(set(digests)) == len(choices)
    assert opened(tmp_path, lvis({1: ["person"]}), **choices[1]).digest() == digests[1]


def test_parts_of_a_source_know_what_is_unseen(tmp_path):
    """A part of its samples, and its samples corrupted."""
    source = opened(tmp_path, lvis(), unseen="rare")
    assert Subset(source, count=2, key=1).unseen == {"cat"}
    assert Corrupted(source, name="gaussian_noise", severity=1).unseen == {"cat"}


@pytest.mark.parametrize(
    ("options", "names", "match"),
    [
        ({"unseen": "coco17"}, EVERY, r"unseen: coco17, but .* has no class 'bicycle'"),
        ({"unseen": "rare"}, EVERY, r"unseen: rare, but .* has no category of frequency r"),
        ({"unseen": "common"}, EVERY, r"unseen: 'common' is neither coco17, rare nor a file"),
        ({"unseen": "{folder}"}, EVERY, r"unseen: .* is neither coco17, rare nor a file"),
        ({"unseen": "{folder}/novel.txt"}, EVERY, r"unseen: .*novel.txt' names 'Cat', which is no class of"),
        ({"unseen": "{folder}/all.txt", "keep": "seen"}, EVERY, r"unseen: no thing of a kept class in .*; nothing"),
        ({"keep": "seen"}, EVERY, r"keep: seen needs `unseen`"),
        ({"keep": "unseen", "unseen": "coco17"}, (*SEEN, *UNSEEN), r"keep: 'unseen' is unknown"),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path, options, names, match):
    """In a line that names the option."""
    (tmp_path / "novel.txt").write_text("person\nCat\n")
    (tmp_path / "all.txt").write_text("\n".join(EVERY))
    options = {name: text.format(folder=tmp_path) for name, text in options.items()}
    with pytest.raises(InputError, match=f"^{match}") as caught:
        opened(tmp_path, annotations({1: ["person"]}, names=names), **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 300


@needs_data
def test_real_coco128():
    """48 and 17 of COCO's own 80 names; 125 of 128 photographs show one of them, 115 a seen one."""
    folder = Path(os.environ["VFMERGE_DATA"]) / "coco128"
    files = {"images": str(folder / "images"), "annotations": str(folder / "instances.json")}
    whole = Coco(**files)
    judged, taught = Coco(**files, unseen="coco17"), Coco(**files, unseen="coco17", keep="seen")
    assert set(judged.classes) < set(whole.classes)
    assert [name for name in whole.classes if name in judged.classes] == list(judged.classes)
    assert (len(judged), len(judged.classes), len(judged.unseen)) == (125, 65, 17)
    assert (len(taught), len(taught.classes), len(taught.unseen)) == (115, 48, 0)
    things = {key: [pair for pair in found if pair[0] in taught.classes] for key, found in told(whole).items()}
    assert told(taught) == {key: found for key, found in things.items() if found}
