"""The data sets: what they find on disk, what a sample holds, and what they refuse."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfmerge.data.coco import Coco
from vfmerge.data.folder import Folder
from vfmerge.data.sa1b import SA1B
from vfmerge.data.webdataset import WebDataset
from vfmerge.data.world import Shapes
from vfmerge.errors import BadSample, InputError

SQUARE = [2, 3, 12, 3, 12, 13, 2, 13]  # ten by ten pixels of the 30 x 20 pictures below

needs_data = pytest.mark.skipif(
    "VFMERGE_DATA" not in os.environ, reason="needs real data: set VFMERGE_DATA to its folder"
)


def jpeg(colour=(10, 120, 200), size=(30, 20), **options):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG", **options)
    return file.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def names(source):
    return [source.read(index).name for index in range(len(source))]


# Folder


def test_folder_finds_pictures_at_any_depth_in_order(tmp_path):
    """Extensions of any case, sorted; hidden files and folders and other files left out."""
    for name in ("b.JPG", "a/z.png", "a/deep/c.JpEg", ".hidden.jpg", ".git/x.jpg", "notes.txt", "jpg"):
        put(tmp_path / name, jpeg())
    assert names(Folder(path=str(tmp_path))) == ["a/deep/c.JpEg", "a/z.png", "b.JPG"]


def test_folder_survives_loops_of_links(tmp_path):
    """Links are followed, and each folder is listed once."""
    put(tmp_path / "set" / "a.jpg", jpeg())
    put(tmp_path / "other" / "b.jpg", jpeg())
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "other").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(tmp_path / "set")
    assert names(Folder(path=str(tmp_path / "set"))) == ["a.jpg", "other/b.jpg"]


def test_folder_names_a_link_to_nothing(tmp_path):
    """It is counted as a bad sample rather than lost; a pipe is no picture and never waited for."""
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    source = Folder(path=str(tmp_path))
    assert len(source) == 1
    with pytest.raises(BadSample, match=r"^a.jpg: .*No such file"):
        source.read(0)


def test_folder_with_labels(tmp_path):
    """Classes are the folders in order, also one without pictures."""
    for name in ("cat/1.jpg", "dog/sub/2.jpg"):
        put(tmp_path / name, jpeg())
    (tmp_path / "bird").mkdir()
    put(tmp_path / "about.txt", "no class")
    source = Folder(path=str(tmp_path), labels=True)
    assert source.classes == ("bird", "cat", "dog")
    assert [source.read(index).labels.tolist() for index in range(2)] == [[1], [2]]
    assert source.read(0).labels.dtype == np.int64


def test_folder_with_class_names(tmp_path):
    """A file gives the folders readable names, stripped, in their order."""
    for name in ("set/n01/1.jpg", "set/n02/2.jpg"):
        put(tmp_path / name, jpeg())
    lines = put(tmp_path / "names.txt", "great white shark \r\n tench\n\n")
    assert Folder(path=str(tmp_path / "set"), labels=True, classnames=str(lines)).classes == (
        "great white shark",
        "tench",
    )


@pytest.mark.parametrize(
    ("text", "match"),
    [("one", "1 lines for 2 folders"), ("a\nb\x1b[31m", "control"), ("a\n\nb", "no name"), (b"\xff\xfe", "UTF-8")],
)
def test_bad_class_names_are_refused(tmp_path, text, match):
    """Too few, with control characters, empty, or not text."""
    for name in ("set/n01/1.jpg", "set/n02/2.jpg"):
        put(tmp_path / name, jpeg())
    with pytest.raises(InputError, match=match):
        Folder(path=str(tmp_path / "set"), labels=True, classnames=str(put(tmp_path / "names.txt", text)))


def test_folder_of_whole_pictures(tmp_path):
    """Each has one mask of every pixel, of its class, which says nothing of outlines."""
    for name in ("cat/1.jpg", "dog/2.jpg"):
        put(tmp_path / name, jpeg())
    source = Folder(path=str(tmp_path), labels=True, whole=True)
    one = source.read(1)
    assert source.has_masks
    assert one.masks.shape == (1, 20, 30)
    assert one.masks.dtype == bool
    assert one.masks.all()
    assert one.labels.tolist() == [1]
    assert one.rough
    plain = Folder(path=str(tmp_path), labels=True)
    assert not plain.has_masks
    assert not plain.read(0).rough
    assert plain.digest() != source.digest()
    with pytest.raises(InputError, match=r"^whole: .* set labels"):
        Folder(path=str(tmp_path), whole=True)


def test_folder_picture_without_class_is_refused(tmp_path):
    """With labels, every picture lies in a class's folder."""
    put(tmp_path / "a.jpg", jpeg())
    with pytest.raises(InputError, match=r"labels: .*a.jpg' is in no class's folder"):
        Folder(path=str(tmp_path), labels=True)


def test_folder_reads_pictures_upright_and_without_annotations(tmp_path):
    """A picture on its side is turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    put(tmp_path / "a.jpg", jpeg(exif=exif))
    sample = Folder(path=str(tmp_path)).read(0)
    assert sample.image.shape == (30, 20, 3)
    assert sample.masks is None
    assert sample.labels is None
    assert sample.text is None


def test_limit_takes_the_first(tmp_path):
    """And must be positive."""
    for number in range(5):
        put(tmp_path / f"{number}.jpg", jpeg())
    assert names(Folder(path=str(tmp_path), limit=2)) == ["0.jpg", "1.jpg"]
    with pytest.raises(InputError, match="limit: 0"):
        Folder(path=str(tmp_path), limit=0)


@pytest.mark.parametrize("kind", [Folder, WebDataset, SA1B])
def test_missing_and_empty_paths_are_refused(tmp_path, kind):
    """Naming the option and the path."""
    with pytest.raises(InputError, match=r"^path: .*nowhere' does not exist"):
        kind(path=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"^path: no "):
        kind(path=str(tmp_path))
    with pytest.raises(InputError, match=r"^path: "):
        kind(path="")


def test_home_is_expanded(tmp_path, monkeypatch):
    """`~` is the user's folder."""
    put(tmp_path / "set" / "a.jpg", jpeg())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(Folder(path="~/set")) == 1


def test_hostile_names_are_made_printable(tmp_path):
    """Escape sequences, text that runs backwards and bytes that are no text stay on one harmless line."""
    (tmp_path / "a\x1b[31m\n\u202e.jpg").write_bytes(b"x")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.jpg"))).write_bytes(b"x")
    source = Folder(path=str(tmp_path))
    for index, expected in enumerate([r"a\x1b[31m\n\u202e.jpg", r"b\udcff.jpg"]):
        with pytest.raises(BadSample) as caught:
            source.read(index)
        assert str(caught.value).startswith(expected + ": ")
        assert str(caught.value).isprintable()
    assert len(source.digest()) == 64


def test_long_paths_are_shortened_in_errors(tmp_path):
    """The message stays below 300 characters."""
    with pytest.raises(InputError) as caught:
        Folder(path=str(tmp_path / ("x" * 200) / ("y" * 200)))
    assert len(str(caught.value)) <= 300


# WebDataset


def sample(key, text=b"a  caption\n", label=b"1"):
    return {f"{key}.jpg": jpeg(), f"{key}.txt": text, f"{key}.cls": label}


def test_webdataset_reads_picture_caption_and_label(tmp_path):
    """By extension, in the tar's order."""
    put_tar(tmp_path / "x.tar", {**sample("b"), **sample("a", label=b"0\n")})
    lines = put(tmp_path / "names.txt", "cat\ndog\n")
    source = WebDataset(path=str(tmp_path / "x.tar"), classnames=str(lines))
    one = source.read(0)
    assert one.name == "x.tar/b"
    assert one.image.shape == (20, 30, 3)
    assert one.text == "a caption"
    assert source.has_captions
    assert one.labels.tolist() == [1]
    assert source.read(1).labels.tolist() == [0]
    assert source.classes == ("cat", "dog")


def test_webdataset_of_whole_pictures(tmp_path):
    """Each has one mask of every pixel, of its class; one without a class is a bad sample."""
    put_tar(tmp_path / "x.tar", {**sample("a"), "b.jpg": jpeg()})
    lines = put(tmp_path / "names.txt", "cat\ndog\n")
    source = WebDataset(path=str(tmp_path / "x.tar"), classnames=str(lines), whole=True)
    one = source.read(0)
    assert source.has_masks
    assert one.masks.shape == (1, 20, 30)
    assert one.masks.all()
    assert (one.rough, one.labels.tolist()) == (True, [1])
    with pytest.raises(BadSample, match=r"^x.tar/b: has no class"):
        source.read(1)
    assert source.digest() != WebDataset(path=str(tmp_path / "x.tar"), classnames=str(lines)).digest()
    with pytest.raises(InputError, match=r"^whole: .* give classnames"):
        WebDataset(path=str(tmp_path / "x.tar"), whole=True)


def test_webdataset_without_caption_or_label(tmp_path):
    """Both are optional."""
    put_tar(tmp_path / "x.tar", {"a.jpg": jpeg()})
    source = WebDataset(path=str(tmp_path / "x.tar"))
    assert not source.has_captions
    one = source.read(0)
    assert one.text is None
    assert one.labels is None


def test_webdataset_from_a_folder_and_from_a_pattern(tmp_path):
    """The same shards in the same order."""
    for number in range(8, 12):
        put_tar(tmp_path / f"x-{number:03}.tar", sample(f"k{number}"))
    folder = WebDataset(path=str(tmp_path))
    assert names(folder) == [f"x-{number:03}.tar/k{number}" for number in range(8, 12)]
    assert names(WebDataset(path=str(tmp_path / "x-{009..010}.tar"))) == ["x-009.tar/k9", "x-010.tar/k10"]
    assert WebDataset(path=str(tmp_path / "x-{008..011}.tar")).digest() == folder.digest()
    assert len(WebDataset(path=str(tmp_path), limit=3)) == 3


def test_webdataset_pattern_of_a_missing_shard_is_refused(tmp_path):
    """Naming the shard that is missing."""
    put_tar(tmp_path / "x-0.tar", sample("a"))
    with pytest.raises(InputError, match=r"x-1.tar' does not exist"):
        WebDataset(path=str(tmp_path / "x-{0..1}.tar"))


@pytest.mark.parametrize("pattern", ["x-{3..1}.tar", "x-{0..999999999}.tar"])
def test_webdataset_pattern_of_none_or_too_many_is_refused(tmp_path, pattern):
    """At once."""
    with pytest.raises(InputError, match="pattern of no shards"):
        WebDataset(path=str(tmp_path / pattern))


@pytest.mark.parametrize("path", ["pipe:touch {canary}", "http://host/x.tar", "s3://a/b", "file:///x.tar"])
def test_webdataset_commands_and_addresses_are_refused(tmp_path, path):
    """And nothing is run."""
    with pytest.raises(InputError, match="commands and addresses are refused"):
        WebDataset(path=path.format(canary=tmp_path / "canary"))
    assert not (tmp_path / "canary").exists()


def test_webdataset_never_unpickles(tmp_path):
    """Members that other readers execute are not read, even beside a good picture."""

    class Canary:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "canary",))

    payload = pickle.dumps(Canary())
    put_tar(tmp_path / "x.tar", {"a.jpg": jpeg(), "a.pyd": payload, "a.pickle": payload, "a.pth": payload})
    assert WebDataset(path=str(tmp_path / "x.tar")).read(0).image.shape == (20, 30, 3)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"a.txt": b"words"}, "has no picture"),
        (sample("a", label=b"cat"), "no class number"),
        (sample("a", label=b"-1"), "no class number"),
        (sample("a", label=b"9" * 30), "no class number"),
        (sample("a", label=b"2"), "no name among 2"),
        (sample("a", text=b"\xff\xfe"), "not UTF-8"),
        ({"a.jpg": jpeg()[:-200]}, "cannot be decoded"),
    ],
)
def test_webdataset_bad_samples_are_named(tmp_path, files, match):
    """Each fault of a sample."""
    put_tar(tmp_path / "x.tar", files)
    lines = put(tmp_path / "names.txt", "cat\ndog\n")
    source = WebDataset(path=str(tmp_path / "x.tar"), classnames=str(lines))
    with pytest.raises(BadSample, match=f"^x.tar/a: .*{match}"):
        source.read(0)


# COCO


def coco(**changes):
    """A small `instances` file: two pictures, three annotations, categories 7 and 3."""
    return {
        "images": [
            {"id": 5, "file_name": "five.jpg", "height": 20, "width": 30},
            {"id": 4, "file_name": "four.jpg", "height": 20, "width": 30},
        ],
        "categories": [{"id": 7, "name": "seven"}, {"id": 3, "name": " three "}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 7, "iscrowd": 0, "segmentation": [SQUARE]},
            {"id": 2, "image_id": 5, "category_id": 3, "segmentation": {"size": [20, 30], "counts": [100, 50, 450]}},
            {"id": 3, "image_id": 5, "category_id": 3, "iscrowd": 1, "segmentation": {"size": [1, 1], "counts": [1]}},
        ],
        **changes,
    }


def open_coco(folder, instances, **options):
    for name in ("five.jpg", "four.jpg"):
        put(folder / "images" / name, jpeg())
    path = put(folder / "instances.json", json.dumps(instances))
    return Coco(images=str(folder / "images"), annotations=str(path), **options)


def test_coco_gives_masks_with_labels(tmp_path):
    """Category ids become numbers in the order of the ids; crowds are left out and counted."""
    source = open_coco(tmp_path, coco())
    one, other = source.read(0), source.read(1)
    assert source.classes == ("three", "seven")
    assert one.name == "five.jpg"
    assert one.labels.tolist() == [1, 0]
    assert one.masks.shape == (2, 20, 30)
    assert one.masks.sum(axis=(1, 2)).tolist() == [100, 50]
    assert source.dropped == {"crowd": 1}
    assert other.masks.shape == (0, 20, 30)
    assert other.labels.shape == (0,)


def test_coco_masks_without_pixels_take_their_label_along(tmp_path):
    """A sliver that covers no pixel leaves the others their labels."""
    sliver = {"id": 9, "image_id": 5, "category_id": 7, "segmentation": [[4.1, 4.1, 4.2, 4.1, 4.2, 4.2]]}
    instances = coco()
    source = open_coco(tmp_path, coco(annotations=[sliver, *instances["annotations"]]))
    assert source.read(0).labels.tolist() == [1, 0]


BAD = [
    ({"segmentation": [[1, 1, 5, 5]]}, "polygon of fewer than three points"),
    ({"segmentation": [[1, 1, 5, 5, 9, float("nan")]]}, "polygon with a coordinate that is not finite"),
    ({"segmentation": {"size": [20, 30], "counts": [1]}}, "RLE whose runs do not add up to the picture"),
    ({"segmentation": {"size": [30, 20], "counts": [600]}}, "RLE of another size than the picture"),
    ({"image_id": 99}, "annotation of a picture that is not listed"),
    ({"image_id": "5"}, "annotation of a picture that is not listed"),
    ({"category_id": 99}, "annotation of a category that is not listed"),
    ({"id": 1}, "annotation with the id of another"),
    ({"image_id": [5]}, "annotation without id, image_id, category_id or segmentation"),
]


@pytest.mark.parametrize(("change", "reason"), BAD)
def test_coco_bad_annotations_are_counted(tmp_path, change, reason):
    """One in 101 is dropped under its reason, while one in 4 is too many."""
    good = {"image_id": 5, "category_id": 7, "segmentation": [SQUARE]}
    bad = {**good, "id": 10_000, **change}
    many = [{**good, "id": number} for number in range(100)]
    source = open_coco(tmp_path, coco(annotations=[*many, bad]))
    assert source.dropped == {reason: 1}
    assert len(source.read(0).masks) == 100
    with pytest.raises(InputError, match=f"1 of 4 annotations .* more than 1%.*{reason}"):
        open_coco(tmp_path, coco(annotations=[*many[:3], bad]))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"images": []}, "no images"),
        ({"images": [{"file_name": "five.jpg"}]}, r"images\[0\]: needs id"),
        ({"images": [{"id": 5}]}, r"images\[0\]: needs id"),
        ({"images": [{"id": 5, "file_name": "five.jpg"}]}, r"images\[0\]: needs height"),
        ({"images": [{"id": 5, "file_name": "../five.jpg", "height": 20, "width": 30}]}, r"images\[0\]: needs id"),
        ({"images": [{"id": 5, "file_name": "/etc/x.jpg", "height": 20, "width": 30}]}, r"images\[0\]: needs id"),
        ({"images": [{"id": 5, "file_name": "x.jpg", "height": 100_000, "width": 30}]}, r"images\[0\]: needs height"),
        ({"images": coco()["images"][:1] * 2}, r"images\[1\]: id '5' comes twice"),
        ({"images": 3}, "has no lists `images`"),
        ({"categories": []}, "no list `categories`"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, r"categories\[1\]: needs a name and an id of its own"),
        ({"categories": [{"id": 1, "name": "a\x1b"}]}, "control characters"),
    ],
)
def test_coco_bad_files_are_refused(tmp_path, change, match):
    """Naming the file, and the entry."""
    with pytest.raises(InputError, match=match) as caught:
        open_coco(tmp_path, coco(**({"annotations": []} | change)))
    assert "instances.json" in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\x00"])
def test_coco_that_is_no_json_is_refused(tmp_path, text):
    """Also when it is nested beyond Python's recursion."""
    put(tmp_path / "images" / "five.jpg", jpeg())
    path = put(tmp_path / "instances.json", text)
    with pytest.raises(InputError, match=r"^annotations: .*instances.json' (is not JSON|has no)"):
        Coco(images=str(tmp_path / "images"), annotations=str(path))


def test_coco_wrong_folder_is_refused(tmp_path):
    """None of the first pictures is there."""
    with pytest.raises(InputError, match=r"^images: .* holds no 'elsewhere.jpg'"):
        open_coco(
            tmp_path,
            coco(images=[{"id": 5, "file_name": "elsewhere.jpg", "height": 20, "width": 30}], annotations=[]),
        )


def test_coco_missing_and_misfitting_pictures_are_bad_samples(tmp_path):
    """A file that is not there, and one of another size than annotated."""
    instances = coco()
    instances["images"][1].update(file_name="gone.jpg")
    instances["images"][0].update(height=21)
    source = open_coco(tmp_path, {**instances, "annotations": []})
    with pytest.raises(BadSample, match=r"^five.jpg: .*annotated as 30 x 21"):
        source.read(0)
    with pytest.raises(BadSample, match=r"^gone.jpg: .*No such file"):
        source.read(1)


def test_coco_captions(tmp_path):
    """A picture's first caption is its text."""
    captions = {
        "images": [],
        "annotations": [
            {"image_id": 4, "caption": "the  fourth\n"},
            {"image_id": 4, "caption": "another"},
            {"image_id": 99, "caption": "nobody's"},
        ],
    }
    path = put(tmp_path / "captions.json", json.dumps(captions))
    source = open_coco(tmp_path, coco(), captions=str(path))
    assert source.read(0).text is None
    assert source.read(1).text == "the fourth"
    put(path, json.dumps({"images": [], "annotations": captions["annotations"][2:]}))
    with pytest.raises(InputError, match=r"captions.json' has no caption of any picture"):
        open_coco(tmp_path, coco(), captions=str(path))


# SA-1B


def sa1b(number, *segmentations, height=20, width=30):
    """The two files of one picture."""
    annotations = [{"segmentation": segmentation, "area": 1} for segmentation in segmentations]
    image = {"image_id": number, "file_name": f"sa_{number}.jpg", "height": height, "width": width}
    return {
        f"sa_{number}.jpg": jpeg(),
        f"sa_{number}.json": json.dumps({"image": image, "annotations": annotations}).encode(),
    }


def runs(*counts):
    return {"size": [20, 30], "counts": list(counts)}


def test_sa1b_loose_and_packed_give_the_same(tmp_path):
    """A folder of files, and a tar of them with names as shipped and members apart."""
    files = {**sa1b(1, runs(100, 50, 450)), **sa1b(2, runs(5, 5, 590), runs(0, 300, 300))}
    for name, data in files.items():
        put(tmp_path / "loose" / "deep" / name, data)
    (tmp_path / "packed").mkdir()
    put_tar(tmp_path / "packed" / "sa_000.tar", {f"./{name}": data for name, data in sorted(files.items())})
    apart = sorted(files.items(), key=lambda pair: pair[0].rpartition(".")[2])
    put_tar(tmp_path / "apart.tar", dict(apart))
    loose = SA1B(path=str(tmp_path / "loose"))
    assert names(loose) == ["deep/sa_1.jpg", "deep/sa_2.jpg"]
    for other in (SA1B(path=str(tmp_path / "packed")), SA1B(path=str(tmp_path / "apart.tar"))):
        assert len(other) == 2
        for index in range(2):
            assert np.array_equal(other.read(index).masks, loose.read(index).masks)
            assert np.array_equal(other.read(index).image, loose.read(index).image)
    assert loose.read(1).masks.sum(axis=(1, 2)).tolist() == [5, 300]


def test_sa1b_drops_masks_of_nearly_everything_and_of_nothing(tmp_path):
    """More than 90 % of the picture, as SAM's own training does; exactly 90 % stays."""
    files = sa1b(1, runs(600), runs(0, 600), runs(60, 540), runs(59, 541))
    for name, data in files.items():
        put(tmp_path / name, data)
    assert SA1B(path=str(tmp_path)).read(0).masks.sum(axis=(1, 2)).tolist() == [540]


@pytest.mark.parametrize(
    ("annotations", "match"),
    [
        (b"{", "JSON cannot be parsed"),
        (b"[" * 100_000, "JSON cannot be parsed"),
        (b"{}", "has no `image`"),
        (sa1b(1, height=0)["sa_1.json"], "states a size of 30 x 0"),
        (sa1b(1, height=21)["sa_1.json"], "annotated as 30 x 21"),
        (sa1b(1, runs(1, 1))["sa_1.json"], "do not add up"),
        (b'{"image": {"height": 20, "width": 30}, "annotations": [{}]}', "no `segmentation`"),
        (None, "No such file"),
    ],
)
def test_sa1b_bad_samples_are_named(tmp_path, annotations, match):
    """Each fault of a picture's annotations."""
    put(tmp_path / "sa_1.jpg", jpeg())
    if annotations is not None:
        put(tmp_path / "sa_1.json", annotations)
    with pytest.raises(BadSample, match=f"^sa_1.jpg: .*{match}"):
        SA1B(path=str(tmp_path)).read(0)


def test_sa1b_half_a_sample_in_a_tar_is_named(tmp_path):
    """A picture without annotations."""
    put_tar(tmp_path / "x.tar", {"sa_1.jpg": jpeg()})
    with pytest.raises(BadSample, match=r"^x.tar/sa_1: has no .json"):
        SA1B(path=str(tmp_path / "x.tar")).read(0)


def test_sa1b_of_pictures_and_tars_is_refused(tmp_path):
    """They may be the same pictures twice."""
    put(tmp_path / "sa_1.jpg", jpeg())
    put_tar(tmp_path / "x.tar", sa1b(1))
    with pytest.raises(InputError, match="holds pictures and tars"):
        SA1B(path=str(tmp_path))


# All


def every_kind(folder):
    """One small source of each kind."""
    files = {**sa1b(1, runs(100, 50, 450)), **sa1b(2)}
    for name, data in files.items():
        put(folder / "loose" / name, data)
    put_tar(folder / "x.tar", files)
    return [
        Folder(path=str(folder / "loose")),
        WebDataset(path=str(folder / "x.tar")),
        open_coco(folder, coco()),
        SA1B(path=str(folder / "loose")),
        SA1B(path=str(folder / "x.tar")),
        Shapes(count=2, size=32),
    ]


def test_sources_travel_to_other_processes(tmp_path):
    """Pickled, they read the same picture."""
    for source in every_kind(tmp_path):
        copy = pickle.loads(pickle.dumps(source))
        assert np.array_equal(copy.read(1).image, source.read(1).image)
        assert copy.digest() == source.digest()


def test_masks_and_labels_agree_with_what_the_source_says(tmp_path):
    """has_masks, shapes and types are those of the interface."""
    for source in every_kind(tmp_path):
        one = source.read(0)
        assert one.image.dtype == np.uint8
        assert source.has_masks == (one.masks is not None)
        if one.masks is not None:
            assert one.masks.dtype == bool
            assert one.masks.shape[1:] == one.image.shape[:2]


@pytest.mark.parametrize(("file", "noticed"), [("loose/sa_1.jpg", {0, 3}), ("images/five.jpg", {2}), ("x.tar", {1, 4})])
def test_digest_notices_a_file_that_changed(tmp_path, file, noticed):
    """A picture of another size in bytes is another data set, of those that read it."""
    sources = every_kind(tmp_path)
    before = [source.digest() for source in sources]
    assert before == [source.digest() for source in every_kind(tmp_path)]
    if file.endswith(".tar"):
        put_tar(tmp_path / file, {**sa1b(1), **sa1b(3)})
        sources[1], sources[4] = WebDataset(path=str(tmp_path / file)), SA1B(path=str(tmp_path / file))
    else:
        put(tmp_path / file, jpeg() + b"more")
    after = [source.digest() for source in sources]
    assert {number for number in range(len(sources)) if before[number] != after[number]} == noticed


def test_sources_import_no_torch():
    """So that `vfmerge ls` and `vfmerge check` stay quick."""
    modules = "coco, folder, picture, rle, sa1b, shards, webdataset, world"
    code = f"import sys; from vfmerge.data import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_data
def test_real_coco128():
    """128 photographs, 939 annotations of which 10 are crowds, all others drawn."""
    folder = Path(os.environ["VFMERGE_DATA"]) / "coco128"
    source = Coco(images=str(folder / "images"), annotations=str(folder / "instances.json"))
    assert len(source) == 128
    assert len(source.classes) == 80
    assert source.dropped == {"crowd": 10}
    assert sum(len(source.read(index).masks) for index in range(128)) == 929


@needs_data
def test_real_cifar10():
    """25,000 and 5,000 labelled photographs in six shards."""
    folder = Path(os.environ["VFMERGE_DATA"]) / "cifar10"
    lines = str(folder / "classnames.txt")
    train = WebDataset(path=str(folder / "cifar10-train-{000000..000004}.tar"), classnames=lines)
    test = WebDataset(path=str(folder / "cifar10-test-000000.tar"), classnames=lines)
    assert (len(train), len(test)) == (25_000, 5_000)
    one = train.read(24_999)
    assert one.image.shape == (32, 32, 3)
    assert {test.read(index).labels[0] for index in range(200)} == set(range(10))
    assert train.classes[0] == "airplane"
