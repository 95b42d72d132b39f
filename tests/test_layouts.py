"""The layouts that benchmarks come in: read from small files of those formats, and refused where they are damaged."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from vfmerge import plugins
from vfmerge.data import classnames
from vfmerge.data.ade20k import ADE20K
from vfmerge.data.captions import Captions
from vfmerge.data.coco import Coco
from vfmerge.data.coco_panoptic import CocoPanoptic
from vfmerge.data.coco_stuff import CocoStuff
from vfmerge.data.folder import Folder
from vfmerge.data.pascal import VOC, PascalContext
from vfmerge.data.semantic import Semantic
from vfmerge.data.source import BACKGROUND, VOID
from vfmerge.data.webdataset import WebDataset
from vfmerge.data.world import Shapes
from vfmerge.errors import BadSample, InputError
from vfmerge.options import check_options

SIZE = (12, 10)  # width and height of the pictures below

needs_data = pytest.mark.skipif(
    "VFMERGE_DATA" not in os.environ, reason="needs real data: set VFMERGE_DATA to its folder"
)


def put(path: Path, data: object) -> Path:
    """A file of bytes, of text, or of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = data if isinstance(data, bytes | bytearray | str) else json.dumps(data)
    path.write_bytes(text.encode() if isinstance(text, str) else bytes(text))
    return path


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg(size=SIZE, **options) -> bytes:
    return saved(Image.new("RGB", size, (10, 120, 200)), "JPEG", **options)


def stripes(*values: int) -> np.ndarray:
    """Columns of these values, which come again and again: what `png` makes a mask of."""
    return np.tile(np.resize(np.array(values), SIZE[0]), (SIZE[1], 1))


def png(*values: int, mode: str = "L") -> bytes:
    """An index PNG: 8 or 16 bits of grey, or a palette whose colours are not its indices."""
    drawn = stripes(*values)
    if mode == "I;16":
        return saved(Image.fromarray(drawn.astype(np.uint16)), "PNG")
    image = Image.fromarray(drawn.astype(np.uint8))
    if mode == "P":
        image.putpalette([255 - value for value in range(256) for _ in range(3)])
    return saved(image, "PNG")


def ids(*values: int) -> bytes:
    """A panoptic PNG, which spreads its numbers over three colours."""
    drawn = stripes(*values)
    return saved(Image.fromarray(np.stack([drawn % 256, drawn // 256 % 256, drawn >> 16], -1).astype(np.uint8)), "PNG")


def columns(source, index=0) -> list[int]:
    """The classes of the first columns of a sample, checked to be stripes of the interface's type."""
    sample = source.read(index)
    assert sample.pixels.dtype == np.int64
    assert sample.pixels.shape == sample.image.shape[:2]
    assert (sample.pixels == sample.pixels[0]).all()
    return sample.pixels[0].tolist()


def names(source) -> list[str]:
    return [source.read(index).name for index in range(len(source))]


def refused(match: str, make, *arguments, **options) -> None:
    """What a person reads is one line, not long."""
    with pytest.raises(InputError, match=match) as caught:
        make(*arguments, **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 400


# Lists of classes


@pytest.mark.parametrize(
    ("layout", "count", "known"),
    [
        ("voc", 20, {0: "aeroplane", 14: "person", 19: "tv monitor"}),
        ("pascal_context", 59, {0: "aeroplane", 36: "person", 49: "table", 58: "wood"}),
        ("ade20k", 150, {0: "wall", 12: "person", 89: "television", 130: "screen", 149: "flag"}),
        ("coco_stuff", 171, {0: "person", 79: "toothbrush", 80: "banner", 170: "wood"}),
    ],
)
def test_built_in_classes(layout, count, known):
    """As many as the field counts, each once, in the order of their numbers."""
    found = classnames.built_in(layout)
    assert len(found) == len(set(found)) == count
    assert {number: found[number] for number in known} == known
    assert all(name == name.strip() and name.isprintable() and name for name in found)


def test_built_in_classes_are_in_their_order():
    """Context's classes and COCO-Stuff's stuff are alphabetical."""
    assert list(classnames.built_in("pascal_context")) == sorted(classnames.built_in("pascal_context"))
    assert list(classnames.built_in("coco_stuff")[80:]) == sorted(classnames.built_in("coco_stuff")[80:])


# Any pictures and index PNGs


def city(folder: Path, mask: bytes | None = None, *, picture: bytes | None = None, **options) -> Semantic:
    """One picture of two classes."""
    put(folder / "images" / "berlin" / "1.jpg", picture or jpeg())
    put(folder / "masks" / "berlin" / "1.png", png(0, 1) if mask is None else mask)
    classes = put(folder / "classes.txt", "road\ncar\n")
    settings = {"images": str(folder / "images"), "masks": str(folder / "masks"), "classnames": str(classes)}
    return Semantic(**(settings | options))


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_semantic_reads_indices(tmp_path, mode):
    """Of grey and of palettes, whose colours say nothing."""
    source = city(tmp_path, png(0, 1, 255, mode=mode))
    assert source.has_pixels
    assert not source.has_masks
    assert source.classes == ("road", "car")
    assert names(source) == ["berlin/1.jpg"]
    assert columns(source)[:3] == [0, 1, VOID]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_semantic_reads_small_palettes(tmp_path, bits):
    """Indices of fewer than eight bits."""
    image = Image.fromarray(stripes(0, 1).astype(np.uint8))
    image.putpalette([9, 9, 9, 7, 7, 7])
    assert columns(city(tmp_path, saved(image, "PNG", bits=bits)))[:2] == [0, 1]


def test_semantic_palette_with_transparency(tmp_path):
    """Which pictures are laid on white for, and masks are not."""
    image = Image.fromarray(stripes(0, 1).astype(np.uint8))
    image.putpalette([9, 9, 9, 7, 7, 7])
    assert columns(city(tmp_path, saved(image, "PNG", transparency=1)))[:2] == [0, 1]


@pytest.mark.parametrize(
    ("mask", "options", "expected"),
    [
        (png(1, 2), {"values": 1}, [0, 1]),
        (png(0, 1, 2), {"values": 1, "background": 0}, [BACKGROUND, 0, 1]),
        (png(0, 1, 2), {"values": 1, "void": 0}, [VOID, 0, 1]),
        (png(11, 7, 0, 9), {"values": (7, 11), "void": (0, 9)}, [1, 0, VOID, VOID]),
        (png(300, 65535, 7, mode="I;16"), {"values": (300, 65535), "void": 7}, [0, 1, VOID]),
    ],
)
def test_semantic_values(tmp_path, mask, options, expected):
    """What numbers mean is said by three options."""
    assert columns(city(tmp_path, mask, **options))[: len(expected)] == expected


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        (png(0, 1, 2), "its mask holds the value 2, which is of no class"),
        (png(0, 256, mode="I;16"), "its mask holds the value 256, which is of no class"),
        (ids(0, 1), "its PNG stores 8 bits of RGB; save it with 8 or 16 bits of grey, or a palette"),
        (saved(Image.new("RGBA", SIZE), "PNG"), "8 bits of RGBA"),
        (saved(Image.new("LA", SIZE), "PNG"), "8 bits of grey with transparency"),
        (saved(Image.new("1", SIZE), "PNG"), "1 bits of grey"),
        (jpeg(), "is no PNG file"),
        (png(0, 1)[:-30], "cannot be decoded"),
        (b"", "is no PNG file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is no PNG file|cannot be decoded"),
        (saved(Image.new("L", (11, 10)), "PNG"), "is 12 x 10 pixels, but annotated as 11 x 10"),
        (saved(Image.new("L", (4, 4)), "PNG"), "has 4 x 4 pixels"),
    ],
)
def test_semantic_bad_masks(tmp_path, mask, match):
    """Each is a bad sample with its picture's name: never converted, never cut."""
    with pytest.raises(BadSample, match=f"^berlin/1.jpg: .*({match})"):
        city(tmp_path, mask).read(0)


def test_semantic_mask_that_would_fill_the_memory(tmp_path):
    """One of more pixels than pictures may have is refused by its header, before anything is unpacked."""
    mask = bytearray(png(0, 1))
    mask[16:24] = struct.pack(">II", 12_000, 12_000)
    mask[29:33] = struct.pack(">I", zlib.crc32(mask[12:29]))
    with pytest.raises(BadSample, match="has 12000 x 12000 pixels; at most"):
        city(tmp_path, bytes(mask)).read(0)


def test_semantic_picture_on_its_side(tmp_path):
    """Is turned when that, and not the picture as stored, fits the mask."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert city(tmp_path, picture=jpeg((10, 12), exif=exif)).read(0).image.shape == (10, 12, 3)


def test_semantic_samples_are_the_masks(tmp_path):
    """A picture without a mask is none; a mask without a picture is a bad one."""
    put(tmp_path / "images" / "2.jpg", jpeg())
    put(tmp_path / "masks" / "3.png", png(0))
    source = city(tmp_path)
    assert len(source) == 2
    with pytest.raises(BadSample, match=r"^3.jpg: .*No such file"):
        source.read(0)
    assert source.read(1).name == "berlin/1.jpg"


def test_semantic_split(tmp_path):
    """Lists the samples in its order, of which `limit` takes the first."""
    for number in range(4):
        put(tmp_path / "images" / f"{number}.webp", saved(Image.new("RGB", SIZE), "WEBP"))
        put(tmp_path / "masks" / f"{number}.png", png(1))
    split = str(put(tmp_path / "val.txt", "3\r\n\nberlin/1\n0\n"))
    assert names(city(tmp_path, split=split)) == ["3.webp", "berlin/1.jpg", "0.webp"]
    assert names(city(tmp_path, split=split, limit=2)) == ["3.webp", "berlin/1.jpg"]


@pytest.mark.parametrize(("picture", "suffix"), [("a.png", "_labels.png"), ("a.jpg", ".png")])
def test_semantic_one_folder(tmp_path, picture, suffix):
    """Names alone tell pictures from masks, be it by a suffix or by the extension."""
    put(tmp_path / "one" / picture, saved(Image.new("RGB", SIZE), "PNG"))
    put(tmp_path / "one" / f"a{suffix}", png(1))
    source = city(tmp_path, images=str(tmp_path / "one"), masks=str(tmp_path / "one"), suffix=suffix)
    assert names(source) == [picture]
    assert columns(source)[0] == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"images": "nowhere"}, "images: 'nowhere' does not exist"),
        ({"masks": "nowhere"}, "masks: 'nowhere' does not exist"),
        ({"classnames": "nowhere"}, "classnames: 'nowhere' does not exist"),
        ({"split": "nowhere"}, "split: 'nowhere' does not exist"),
        ({"values": (1, 2, 3)}, "values: 3 numbers for 2 classes"),
        ({"values": (4, 4)}, "values: 4 has a meaning already, class number 0"),
        ({"values": 65535}, "values: 65536 cannot be in an index PNG"),
        ({"background": 1}, "background: 1 has a meaning already, class number 1"),
        ({"background": 255}, "void: 255 has a meaning already, background"),
        ({"void": (3, 0)}, "void: 0 has a meaning already, class number 0"),
        ({"suffix": ".jpg"}, "suffix: '.jpg' is not of a PNG"),
        ({"suffix": "_x.png"}, r"masks: .* holds no \*_x.png"),
        ({"limit": 0}, "limit: 0 is too small"),
    ],
)
def test_semantic_bad_options(tmp_path, options, match):
    """Are named, with what is wrong."""
    refused(match, city, tmp_path, **options)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "val.txt: lists nothing"),
        ("berlin/1\nberlin/1\n", "val.txt: 'berlin/1' comes 2 times"),
        ("../1\n", "val.txt:1: '../1' is no relative path"),
        ("berlin/1\n/etc/passwd\n", "val.txt:2: '/etc/passwd' is no relative path"),
        ("berlin/1.jpg\n", "holds no picture 'berlin/1.jpg' nor the next"),
        (b"\xff\xfe1", "is not UTF-8 text"),
    ],
)
def test_semantic_bad_splits(tmp_path, text, match):
    """Naming the file and the line."""
    refused(match, city, tmp_path, split=str(put(tmp_path / "val.txt", text)))


def test_semantic_two_pictures_of_one_name(tmp_path):
    """Which of them the mask is of, nobody can say."""
    put(tmp_path / "images" / "berlin" / "1.png", saved(Image.new("RGB", SIZE), "PNG"))
    refused("berlin/1.png: is a picture of the same name as 'berlin/1.jpg'", city, tmp_path)


# PASCAL VOC and Context


def voc(folder: Path, *, year=2012, listed="Segmentation", masks="SegmentationClass", mask=None) -> str:
    """A development kit: two pictures, of which one is listed."""
    root = folder / f"VOC{year}"
    for name in ("2007_000033", "2007_000042"):
        put(root / "JPEGImages" / f"{name}.jpg", jpeg())
    put(root / masks / "2007_000033.png", mask or png(0, 1, 15, 20, 255, mode="P"))
    put(root / "ImageSets" / listed / "val.txt", "2007_000033\n")
    return str(root)


def test_voc(tmp_path):
    """Palette masks: 0 is background, 1 to 20 are classes, 255 the outlines."""
    source = VOC(path=voc(tmp_path))
    assert names(source) == ["2007_000033.jpg"]
    assert columns(source)[:5] == [BACKGROUND, 0, 14, 19, VOID]
    assert source.classes[14] == "person"


def test_voc_of_20_classes(tmp_path):
    """Pixels of no class are not judged."""
    assert columns(VOC(path=voc(tmp_path), background="void"))[:5] == [VOID, 0, 14, 19, VOID]


def test_voc_augmented(tmp_path):
    """Other masks and another list in the same tree."""
    voc(tmp_path)
    root = Path(voc(tmp_path, masks="SegmentationClassAug", mask=png(3)))
    put(root / "ImageSets" / "Segmentation" / "trainaug.txt", "2007_000033\n")
    assert columns(VOC(path=str(root), masks="SegmentationClassAug", split="trainaug"))[0] == 2


def test_voc_reworded(tmp_path):
    """A file gives the classes other words, one for each."""
    words = put(tmp_path / "words.txt", "\n".join(f"word {number}" for number in range(20)))
    assert VOC(path=voc(tmp_path), classnames=str(words)).classes[19] == "word 19"
    put(words, "one\ntwo\n")
    refused("classnames: .*words.txt' has 2 lines for 20 classes", VOC, path=voc(tmp_path), classnames=str(words))


def test_voc_value_of_no_class(tmp_path):
    """21 is none."""
    with pytest.raises(BadSample, match=r"^2007_000033.jpg: its mask holds the value 21"):
        VOC(path=voc(tmp_path, mask=png(21))).read(0)


def test_pascal_context(tmp_path):
    """1 to 59 are classes; all else is void, or background for figures of 60 classes."""
    root = voc(
        tmp_path, year=2010, listed="SegmentationContext", masks="SegmentationClassContext", mask=png(0, 1, 50, 59)
    )
    source = PascalContext(path=root)
    assert columns(source)[:4] == [VOID, 0, 49, 58]
    assert [source.classes[number] for number in (0, 49, 58)] == ["aeroplane", "table", "wood"]
    judged = PascalContext(path=root, background="judged")
    assert columns(judged)[:4] == [BACKGROUND, 0, 49, 58]
    assert judged.digest() != source.digest()


@pytest.mark.parametrize(("kind", "listed"), [(VOC, "Segmentation"), (PascalContext, "SegmentationContext")])
def test_pascal_of_missing_parts(tmp_path, kind, listed):
    """Each part of the tree is named when it is not there."""
    refused("path: .*nowhere' does not exist", kind, path=str(tmp_path / "nowhere"))
    refused("path: .* holds no folder 'JPEGImages'; give the folder that holds it", kind, path=str(tmp_path))
    put(tmp_path / "JPEGImages" / "a.jpg", jpeg())
    refused("path: .* holds no folder 'SegmentationClass", kind, path=str(tmp_path))
    refused("path: .* holds no folder 'other'", kind, path=str(tmp_path), masks="other")
    put(tmp_path / "other" / "a.png", png(0))
    refused(f"split: .*{listed}/val.txt' does not exist", kind, path=str(tmp_path), masks="other")


# ADE20K


def ade(folder: Path, mask: bytes | None = None) -> str:
    root = folder / "ADEChallengeData2016"
    put(root / "images" / "validation" / "ADE_val_00000001.jpg", jpeg())
    put(root / "annotations" / "validation" / "ADE_val_00000001.png", mask or png(0, 1, 150))
    return str(root)


def table(changes: dict[int, str] | None = None) -> str:
    """The challenge's table, as it is shipped: with synonyms, and spaces here and there."""
    synonyms = {2: "building, edifice", 8: "bed "} | (changes or {})
    rows = [synonyms.get(number, name) for number, name in enumerate(classnames.built_in("ade20k"), start=1)]
    lines = [f"{number} \t0.1\t9\t1\t{name}" for number, name in enumerate(rows, start=1)]
    return "\n".join(["Idx\tRatio\tTrain\tVal\tName", *lines, ""])


def test_ade20k(tmp_path):
    """0 is other and not judged, 1 to 150 are classes."""
    source = ADE20K(path=ade(tmp_path))
    assert names(source) == ["ADE_val_00000001.jpg"]
    assert columns(source)[:3] == [VOID, 0, 149]
    with pytest.raises(BadSample, match="holds the value 151"):
        ADE20K(path=ade(tmp_path, png(151))).read(0)


def test_ade20k_names_by_its_table(tmp_path):
    """The first synonym of each; where the table is missing the same names are built in."""
    built_in = ADE20K(path=ade(tmp_path))
    put(Path(ade(tmp_path)) / "objectInfo150.txt", table())
    assert ADE20K(path=ade(tmp_path)).classes == built_in.classes
    put(Path(ade(tmp_path)) / "objectInfo150.txt", table({1: "barrier, wall"}))
    assert ADE20K(path=ade(tmp_path)).classes[:2] == ("barrier", "building")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is no table with Idx and Name"),
        ("Idx,Ratio,Name\n1,2,wall\n", "is no table with Idx and Name"),
        ("Idx\tName\n1\n", "is no table with Idx and Name"),
        ("Idx\tName\n1\twall\n", "does not count from 1 to 150"),
        (table({5: " , tree"}), "a class has no name"),
        (table({5: "tr\x1bee"}), "control characters"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_ade20k_bad_tables(tmp_path, text, match):
    """Naming the file."""
    put(Path(ade(tmp_path)) / "objectInfo150.txt", text)
    refused(f"objectInfo150.txt: .*{match}", ADE20K, path=ade(tmp_path))


def test_ade20k_of_missing_parts(tmp_path):
    """Each folder is named when it is not there, and one that is empty."""
    refused("path: .* holds no folder 'images/validation'", ADE20K, path=str(tmp_path))
    refused("path: .* holds no folder 'images/training'", ADE20K, path=ade(tmp_path), split="training")
    put(tmp_path / "images" / "validation" / "a.jpg", jpeg())
    (tmp_path / "annotations" / "validation").mkdir(parents=True)
    refused(r"path: .* holds no \*.png", ADE20K, path=str(tmp_path))


# COCO-Stuff and COCO panoptic


def stuff(folder: Path, **files: bytes) -> CocoStuff:
    put(folder / "val2017" / "000000000139.jpg", jpeg())
    for name, mask in files.items():
        put(folder / "maps" / f"000000000139{name}.png", mask)
    return CocoStuff(images=str(folder / "val2017"), masks=str(folder / "maps"))


RAW = (0, 10, 12, 89, 91, 181, 255)
CONVERTED = (0, 10, 11, 79, 80, 170, 255)


def test_coco_stuff_as_published(tmp_path):
    """0 to 181 with eleven gaps."""
    source = stuff(tmp_path, **{"": png(*RAW)})
    assert columns(source)[:7] == [0, 10, 11, 79, 80, 170, VOID]
    assert [source.classes[number] for number in (10, 11, 79, 80)] == [
        "fire hydrant",
        "stop sign",
        "toothbrush",
        "banner",
    ]


def test_coco_stuff_as_converted(tmp_path):
    """0 to 170, in files of another name."""
    source = stuff(tmp_path, _labelTrainIds=png(*CONVERTED))
    assert names(source) == ["000000000139.jpg"]
    assert columns(source)[:7] == [0, 10, 11, 79, 80, 170, VOID]


def test_coco_stuff_of_both(tmp_path):
    """Converted masks lie beside those they were made from, and every picture is one sample."""
    source = stuff(tmp_path, **{"": png(*RAW), "_labelTrainIds": png(*CONVERTED)})
    assert len(source) == 1
    assert columns(source)[:7] == [0, 10, 11, 79, 80, 170, VOID]


@pytest.mark.parametrize("value", [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90, 182, 254])
def test_coco_stuff_gaps(tmp_path, value):
    """Numbers that COCO never used make a bad sample."""
    with pytest.raises(BadSample, match=f"holds the value {value},"):
        stuff(tmp_path, **{"": png(value)}).read(0)


def test_coco_stuff_of_missing_parts(tmp_path):
    """Folders that are missing or hold something else."""
    put(tmp_path / "a" / "a.jpg", jpeg())
    folder = str(tmp_path / "a")
    refused("images: 'nowhere' does not exist", CocoStuff, images="nowhere", masks=folder)
    refused("masks: 'nowhere' does not exist", CocoStuff, images=folder, masks="nowhere")
    refused(r"masks: .* holds no \*.png", CocoStuff, images=folder, masks=folder)
    put(tmp_path / "b" / "b.png", png(0))
    refused("a: holds no picture 'b' nor the next", CocoStuff, images=folder, masks=str(tmp_path / "b"))


FAR = 7 + 256 * 200 + 256**2 * 130


def panoptic(**changes) -> dict:
    """Two categories, one picture, one thing, one crowd of the same class and one region of stuff."""
    segments = [
        {"id": 1, "category_id": 200, "iscrowd": 0},
        {"id": 300, "category_id": 1, "iscrowd": 0},
        {"id": FAR, "category_id": 1, "iscrowd": 1},
    ]
    return {
        "images": [{"id": 139, "file_name": "139.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 200, "name": "rug-merged", "isthing": 0}, {"id": 1, "name": "person", "isthing": 1}],
        "annotations": [{"image_id": 139, "file_name": "139.png", "segments_info": segments}],
        **changes,
    }


def open_panoptic(folder: Path, parsed: object, mask: bytes | None = None, **options) -> CocoPanoptic:
    put(folder / "images" / "139.jpg", jpeg())
    put(folder / "masks" / "139.png", mask or ids(0, 1, 300, FAR))
    path = put(folder / "panoptic.json", parsed)
    settings = {"images": str(folder / "images"), "annotations": str(path), "masks": str(folder / "masks")}
    return CocoPanoptic(**(settings | options))


def test_coco_panoptic(tmp_path):
    """Segments become their classes, in the order of the categories' ids; what is of none is void."""
    source = open_panoptic(tmp_path, panoptic())
    assert source.classes == ("person", "rug-merged")
    assert names(source) == ["139.jpg"]
    assert columns(source)[:4] == [VOID, 1, 0, 0]


def test_coco_panoptic_picture_without_segments(tmp_path):
    """Is void everywhere."""
    parsed = panoptic()
    parsed["annotations"][0]["segments_info"] = []
    assert set(columns(open_panoptic(tmp_path, parsed, ids(0)))) == {VOID}


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        (ids(0, 2), "its mask holds the segment 2, which is not in segments_info"),
        (ids((1 << 24) - 1), "its mask holds the segment 16777215"),
        (png(0, 1), "8 bits of grey; save it with 8-bit RGB"),
        (png(0, 1, mode="P"), "8 bits of a palette"),
        (saved(Image.new("RGB", (9, 10)), "PNG"), "annotated as 9 x 10"),
        (jpeg(), "is no PNG"),
    ],
)
def test_coco_panoptic_bad_masks(tmp_path, mask, match):
    """Each is a bad sample."""
    with pytest.raises(BadSample, match=f"^139.jpg: .*{match}"):
        open_panoptic(tmp_path, panoptic(), mask).read(0)


def segments(**changes) -> dict:
    entry = {"image_id": 139, "file_name": "139.png", "segments_info": [{"id": 1, "category_id": 1, **changes}]}
    return {"annotations": [entry]}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": 3}, "annotations: .*panoptic.json' has no lists `images` and `annotations`"),
        ({"annotations": []}, "no annotations in"),
        ({"categories": []}, "has no list `categories`"),
        ({"images": [{"id": 1}]}, r"images\[0\]: needs id"),
        ({"images": panoptic()["images"] * 2}, r"images\[1\]: id '139' comes twice"),
        ({"annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": []}]}, r"annotations\[0\]: needs"),
        ({"annotations": [{"image_id": 139, "file_name": "/a.png", "segments_info": []}]}, r"annotations\[0\]: needs"),
        ({"annotations": [{"image_id": 139, "category_id": 1, "segmentation": []}]}, "give a panoptic file"),
        (segments(id=0), r"annotations\[0\]: a segment needs an id of its own, of 1 to 16777215"),
        (segments(id=1 << 24), "a segment needs an id"),
        (segments(category_id=9), "a segment needs .* category_id of a category"),
    ],
)
def test_coco_panoptic_bad_files(tmp_path, changes, match):
    """Naming the file and the entry."""
    refused(match, open_panoptic, tmp_path, panoptic(**changes))


def test_coco_panoptic_of_missing_parts(tmp_path):
    """Folders of something else."""
    (tmp_path / "empty").mkdir()
    empty = str(tmp_path / "empty")
    refused("images: .*empty' holds no '139.jpg' nor the next", open_panoptic, tmp_path, panoptic(), images=empty)
    refused("masks: .*empty' holds no '139.png' nor the next", open_panoptic, tmp_path, panoptic(), masks=empty)
    refused("annotations: .*nowhere' does not exist", open_panoptic, tmp_path, panoptic(), annotations="nowhere")


# LVIS


def lvis(*urls: str) -> dict:
    """LVIS has no file names, and categories with underscores."""
    square = [[2, 2, 8, 2, 8, 8, 2, 8]]
    images = [{"id": number, "coco_url": url, "height": 10, "width": 12} for number, url in enumerate(urls, start=1)]
    return {
        "images": images,
        "categories": [{"id": 5, "name": "aerosol_can", "frequency": "c", "synset": "aerosol.n.02"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 5, "segmentation": square, "area": 36.0}
            for number in range(1, len(urls) + 1)
        ],
    }


URLS = ("http://images.cocodataset.org/train2017/1.jpg", "http://images.cocodataset.org/val2017/2.jpg")


@pytest.mark.parametrize("folders", [("train2017", "val2017"), (".", ".")])
def test_lvis(tmp_path, folders):
    """Pictures of two of COCO's folders, or in one folder; the file and the ids are kept for LVIS's own tools."""
    for number, folder in enumerate(folders, start=1):
        put(tmp_path / "coco" / folder / f"{number}.jpg", jpeg())
    path = put(tmp_path / "lvis_v1_val.json", lvis(*URLS))
    source = Coco(images=str(tmp_path / "coco"), annotations=str(path))
    assert names(source) == [str(Path(folder) / f"{number}.jpg") for number, folder in enumerate(folders, start=1)]
    assert [source.read(index).key for index in range(2)] == [1, 2]
    assert source.annotations == path
    assert source.classes == ("aerosol_can",)
    assert source.read(1).masks.sum() == 36


def test_lvis_of_missing_pictures(tmp_path):
    """None there is a wrong folder, one missing is a bad sample."""
    path = put(tmp_path / "lvis.json", lvis(*URLS))
    (tmp_path / "coco").mkdir()
    refused("images: .*coco' holds no '1.jpg' nor the next", Coco, images=str(tmp_path / "coco"), annotations=str(path))
    put(tmp_path / "coco" / "2.jpg", jpeg())
    with pytest.raises(BadSample, match=r"^1.jpg: .*No such file"):
        Coco(images=str(tmp_path / "coco"), annotations=str(path)).read(0)


@pytest.mark.parametrize("url", ["", "http://host/..", "http://host/../x.jpg", "\x00", "a/\ud800.jpg", 3, None])
def test_lvis_bad_urls(tmp_path, url):
    """Which name no file inside the folder."""
    (tmp_path / "coco").mkdir()
    path = put(tmp_path / "lvis.json", lvis(url))
    refused(r"lvis.json: images\[0\]: needs id, and", Coco, images=str(tmp_path / "coco"), annotations=str(path))


# Captions

TWO = {"a.jpg": ["One  dog .", "A dog\n"], "b.jpg": ["Two cats ."]}


def karpathy(**changes) -> dict:
    images = [
        {"filename": name, "split": "test", "imgid": 7, "sentences": [{"tokens": ["x"], "raw": text} for text in texts]}
        for name, texts in TWO.items()
    ]
    other = {"filename": "c.jpg", "split": "train", "sentences": [{"raw": "A train ."}]}
    return {"images": [*images, other], "dataset": "flickr30k", **changes}


def coco_captions(**changes) -> dict:
    ids = {name: number for number, name in enumerate(TWO, start=30)}
    told = [{"id": 0, "image_id": ids[name], "caption": text} for name, texts in TWO.items() for text in texts]
    images = [{"id": number, "file_name": name} for name, number in ids.items()]
    return {"images": [*images, {"id": 1, "file_name": "untold.jpg"}], "annotations": told, **changes}


TOKENS = "a.jpg#0\tOne dog .\na.jpg#1\tA dog\nb.jpg#0\tTwo cats .\n"
TABLE = "image_name| comment_number| comment\na.jpg| 0| One dog .\r\na.jpg| 1   A dog\nb.jpg| 0| Two cats .\n"


def told(folder: Path, annotations: object, **options) -> Captions:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(folder / "images" / name, jpeg())
    path = put(folder / "captions", annotations)
    return Captions(images=str(folder / "images"), annotations=str(path), **options)


@pytest.mark.parametrize("annotations", [karpathy(), coco_captions(), TOKENS, TABLE, "\ufeff" + TOKENS])
def test_captions_of_any_format(tmp_path, annotations):
    """All captions of each picture, in order; also the row of Flickr30k's table that lacks a bar."""
    source = told(tmp_path, annotations)
    assert source.has_captions
    assert names(source) == ["a.jpg", "b.jpg"]
    assert [source.read(index).captions for index in range(2)] == [("One dog .", "A dog"), ("Two cats .",)]
    assert source.read(0).text == "One dog ."
    assert names(told(tmp_path, annotations, limit=1)) == ["a.jpg"]


def test_captions_of_karpathys_splits(tmp_path):
    """Another split by name; one that is not there is told which are."""
    assert names(told(tmp_path, karpathy(), split="train")) == ["c.jpg"]
    refused("split: 'val' is unknown; .* has test, train", told, tmp_path, karpathy(), split="val")


@pytest.mark.parametrize("annotations", [coco_captions(), TOKENS, TABLE])
def test_captions_without_splits(tmp_path, annotations):
    """Are not silently read whole when one is asked for."""
    refused("split: 'test', but annotations: .*captions' has no splits", told, tmp_path, annotations, split="test")


@pytest.mark.parametrize("folder", ["val2014", "."])
def test_captions_of_karpathys_coco(tmp_path, folder):
    """Pictures lie in the folder that the file says, or all in one."""
    images = [{**image, "filepath": "val2014"} for image in karpathy()["images"]]
    for name in TWO:
        put(tmp_path / "coco" / folder / name, jpeg())
    path = put(tmp_path / "dataset_coco.json", karpathy(images=images))
    source = Captions(images=str(tmp_path / "coco"), annotations=str(path))
    assert names(source) == [str(Path(folder) / name) for name in TWO]


def test_captions_keep_cocos_ids(tmp_path):
    """For tools that score against the file."""
    assert told(tmp_path, coco_captions()).read(1).key == 31


@pytest.mark.parametrize(
    ("annotations", "match"),
    [
        ("", "no captions in"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "has neither images with sentences nor annotations"),
        ({"images": []}, "has neither images with sentences nor annotations"),
        ({"images": [{"sentences": []}]}, r"images\[0\]: needs filename, split and sentences"),
        ({"images": [{"filename": "../a", "split": "x", "sentences": []}]}, r"images\[0\]: its name is no relative"),
        (coco_captions(annotations=[]), "no captions in"),
        (coco_captions(images=[{"id": 30}]), r"images\[0\]: needs id, and file_name"),
        ("a.jpg#0\tOne dog\nb.jpg two\n", "line 2: is not `name.jpg#0`, a tab and a sentence"),
        ("a.jpg| 0| One dog\nb.jpg, 0, two\n", r"line 2: is not `name.jpg\| 0\| sentence`"),
        ("a.jpg| 0| One dog\n../b.jpg| 0| two\n", "line 2: is not"),
        (TABLE.partition("\n")[0], "no captions in"),
        (jpeg(), "is not UTF-8"),
        ("elsewhere.jpg#0\tOne dog\n", "images: .* holds no 'elsewhere.jpg' nor the next"),
    ],
)
def test_captions_bad_files(tmp_path, annotations, match):
    """Naming the file, and the line or entry."""
    refused(f"{match}", told, tmp_path, annotations)


def test_captions_need_a_file_of_them(tmp_path):
    """A folder of pictures alone says nothing."""
    put(tmp_path / "a.jpg", jpeg())
    refused("annotations: .* is not a file", Captions, images=str(tmp_path), annotations=str(tmp_path))
    refused("annotations", check_options, Captions, {"images": str(tmp_path)})


def test_captions_of_half_a_character(tmp_path):
    """JSON can hold what no text can; it is replaced, so that a tokeniser never sees it."""
    parsed = coco_captions(annotations=[{"image_id": 30, "caption": "a \ud800 dog"}])
    assert told(tmp_path, parsed).read(0).text == "a ? dog"


def test_coco_has_captions_where_they_are_given(tmp_path):
    """All of a picture's, and none without the file."""
    instances = {
        "images": [{"id": 30, "file_name": "a.jpg", "height": 10, "width": 12}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [],
    }
    put(tmp_path / "a.jpg", jpeg())
    settings = {"images": str(tmp_path), "annotations": str(put(tmp_path / "instances.json", instances))}
    assert not Coco(**settings).has_captions
    source = Coco(**settings, captions=str(put(tmp_path / "captions.json", coco_captions())))
    assert source.has_captions
    assert source.read(0).captions == ("One dog .", "A dog")


# Groups

METADATA = "img_id,img_filename,y,split,place\n1,1.x/a.jpg,0,2,1\n2,2.y/b.jpg,1,2,0\n3,3.z/gone.jpg,1,0,9\n"


def birds(folder: Path, text: bytes | str = METADATA, *, group: str | None = "place", **options) -> Folder:
    for name in ("1.x/a.jpg", "2.y/b.jpg"):
        put(folder / "birds" / name, jpeg())
    table = put(folder / "birds" / "metadata.csv", text)
    return Folder(path=str(folder / "birds"), **({"groups": str(table), "group": group} | options))


def test_folder_groups(tmp_path):
    """The column of paths is found, rows of other pictures are passed over, and labels are as they were."""
    source = birds(tmp_path, labels=True)
    assert source.groups == ("0", "1")
    assert [source.read(index).group for index in range(2)] == ["1", "0"]
    assert [source.read(index).labels.tolist() for index in range(2)] == [[0], [1]]
    assert birds(tmp_path, group="y").groups == ("0", "1")
    assert birds(tmp_path, limit=1).groups == ("1",)


def test_folder_groups_by_the_column_of_most_paths(tmp_path):
    """Another column may name pictures now and then."""
    text = "place,like,file\nsea,2.y/b.jpg,1.x/a.jpg\nland,,2.y/b.jpg\n"
    assert [birds(tmp_path, text).read(index).group for index in range(2)] == ["sea", "land"]


def test_folder_without_groups(tmp_path):
    """Has none, and is the data set that it was."""
    plain = birds(tmp_path, groups=None, group=None)
    assert plain.groups == ()
    assert plain.read(0).group is None
    assert len({plain.digest(), birds(tmp_path).digest(), birds(tmp_path, group="y").digest()}) == 3


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "metadata.csv: has no rows"),
        ("img_filename,place\n", "metadata.csv: has no rows"),
        ("img_filename,where\n1.x/a.jpg,sea\n", "group: 'place' is no column of .*, which has img_filename, where"),
        ("img_filename,place\na.jpg,sea\n", "has no row with a path such as '1.x/a.jpg'"),
        ("img_filename,place\n1.x/a.jpg,sea\n", "names no group, in print, of '2.y/b.jpg'"),
        ("img_filename,place\n1.x/a.jpg,sea\n2.y/b.jpg\n", "names no group, in print, of '2.y/b.jpg'"),
        ("img_filename,place\n1.x/a.jpg,s\x1b[31m\n2.y/b.jpg,sea\n", "names no group, in print, of '1.x/a.jpg'"),
        (METADATA + "4,1.x/a.jpg,0,2,0\n", "has rows of two groups for '1.x/a.jpg'"),
        ("img_filename,place\n" + "x" * 200_000, "is not CSV"),
        (jpeg(), "is not UTF-8"),
    ],
)
def test_folder_bad_groups(tmp_path, text, match):
    """Naming the file and the picture."""
    refused(match, birds, tmp_path, text)


def test_folder_half_of_groups(tmp_path):
    """A table needs a column and a column a table."""
    refused("groups: .*give both", birds, tmp_path, group=None)
    refused("groups: .*give both", birds, tmp_path, groups=None)
    refused("groups: 'nowhere' does not exist", birds, tmp_path, groups="nowhere")


def test_shapes_groups():
    """The colour of a single shape, which its caption often says; of several there is none."""
    source = Shapes(layout="single", count=64, size=16, groups=True)
    found = [source.read(index) for index in range(64)]
    assert source.groups == ("blue", "green", "orange", "purple", "red", "yellow")
    assert {sample.group for sample in found} == set(source.groups)
    said = [(sample.group, set(source.groups) & set(sample.text.split())) for sample in found]
    assert all(colours <= {group} for group, colours in said)
    assert any(colours for _, colours in said)
    refused("groups: .*set layout to single", Shapes, layout="several", groups=True)
    assert Shapes(count=1, size=16).read(0).group is None


# All of them


def every_kind(folder: Path) -> list:
    return [
        city(folder / "city"),
        VOC(path=voc(folder)),
        PascalContext(
            path=voc(folder, year=2010, listed="SegmentationContext", masks="SegmentationClassContext", mask=png(1))
        ),
        ADE20K(path=ade(folder)),
        stuff(folder / "stuff", **{"": png(*RAW)}),
        open_panoptic(folder / "panoptic", panoptic()),
        told(folder / "told", TOKENS),
        birds(folder),
    ]


def test_layouts_travel_to_other_processes(tmp_path):
    """Pickled, they read the same; and what they say of themselves is so."""
    for source in every_kind(tmp_path):
        copy, sample = pickle.loads(pickle.dumps(source)), source.read(0)
        assert np.array_equal(copy.read(0).image, sample.image)
        assert copy.digest() == source.digest()
        assert source.has_pixels == (sample.pixels is not None)
        assert source.has_captions == bool(sample.captions)
        assert (sample.group is not None) == bool(source.groups)
        if sample.pixels is not None:
            assert sample.pixels.max() < len(source.classes)


def test_digests_notice_a_mask_that_changed(tmp_path):
    """As they do pictures: by its size."""
    before = [source.digest() for source in every_kind(tmp_path)]
    assert len(set(before)) == len(before)
    assert [source.digest() for source in every_kind(tmp_path)] == before
    masks = list(tmp_path.rglob("*.png"))
    sources = every_kind(tmp_path)
    for mask in masks:
        mask.write_bytes(mask.read_bytes() + b"more")
    assert [source.digest() != old for source, old in zip(sources, before, strict=True)] == [True] * 6 + [False] * 2


JUNK = (None, True, -1, 0, 1 << 70, 1e308, "", "\x00", "\ud800", "../x", [], {}, [[]], {"id": 1}, "a" * 300)


def mutated(value: object, chance: random.Random) -> object:
    """A copy in which one thing somewhere is something else, or is missing."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.1:
        return chance.choice(JUNK)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = chance.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
    if chance.random() < 0.15:
        del copy[key]
    else:
        copy[key] = mutated(copy[key], chance)
    return copy


def open_lvis(folder: Path, annotations: str) -> Coco:
    pictures = put(folder / "coco" / "1.jpg", jpeg()).parent
    return Coco(images=str(pictures), annotations=str(put(folder / "lvis.json", annotations)))


OPENERS = {
    "panoptic": (open_panoptic, panoptic()),
    "karpathy": (told, karpathy()),
    "captions": (told, coco_captions()),
    "lvis": (open_lvis, lvis(*URLS)),
}


@pytest.mark.parametrize("kind", OPENERS)
def test_mutated_files_raise_nothing_else(tmp_path, kind):
    """Whatever a JSON file says, it is read, refused in one line, or its samples are bad."""
    make, good = OPENERS[kind]
    chance = random.Random(kind)
    faults, read = [], 0
    for _ in range(100):
        try:
            source = make(tmp_path, json.dumps(mutated(good, chance)))
            assert len(source.digest()) == 64
            source.read(0)
            read += 1
        except (InputError, BadSample) as error:
            faults.append(error)
    assert all(str(error).isprintable() for error in faults)
    assert min(read, len(faults)) > 10


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_mutated_masks_raise_nothing_else(tmp_path, mode):
    """Whatever bytes a mask has, it is read or bad."""
    good = png(0, 1, mode=mode)
    source, chance = city(tmp_path), random.Random(0)
    faults = []
    for _ in range(100):
        mask = bytearray(good)
        for _ in range(chance.randint(1, 3)):
            mask[chance.randrange(len(mask))] = chance.randrange(256)
        put(tmp_path / "masks" / "berlin" / "1.png", mask[: chance.randint(len(mask) // 2, 2 * len(mask))])
        try:
            assert set(np.unique(source.read(0).pixels)) <= {0, 1, VOID}
        except BadSample as error:
            faults.append(error)
    assert all(str(error).isprintable() for error in faults)
    assert faults


def test_the_guides_examples_are_accepted():
    """Every line for a recipe in the guide to data sets names a kind and options that there are."""
    guide = (Path(__file__).parent.parent / "vfmerge" / "data" / "README.md").read_text(encoding="utf-8")
    examples = [
        entry for text in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) for entry in yaml.safe_load(text).values()
    ]
    for entry in examples:
        check_options(plugins.find("data", entry["kind"]), {key: entry[key] for key in entry if key != "kind"})
    linked = set(re.findall(r"^\| \[`(\w+)`\]", guide, re.MULTILINE))
    assert linked == {entry["kind"] for entry in examples}


@needs_data
def test_real_panoptic_and_semantic_masks_agree(tmp_path):
    """COCO's panoptic PNGs, and semantic ones made from them by others, say the same of every pixel."""
    folder = Path(os.environ["VFMERGE_DATA"]) / "coco128"
    by_segment = CocoPanoptic(
        images=str(folder / "images"), annotations=str(folder / "panoptic.json"), masks=str(folder / "panoptic")
    )
    listed = sorted(category["id"] for category in json.loads((folder / "panoptic.json").read_text())["categories"])
    by_class = Semantic(
        images=str(folder / "images"),
        masks=str(folder / "semantic"),
        classnames=str(put(tmp_path / "names.txt", "\n".join(by_segment.classes))),
        values=tuple(listed),
        void=0,
    )
    assert len(by_segment) == len(by_class) == 100
    assert len(by_segment.classes) == 133
    assert by_segment.classes[:80] == classnames.built_in("coco_stuff")[:80]
    for index in range(0, 100, 7):
        one, other = by_segment.read(index), by_class.read(index)
        assert one.name == other.name
        assert (one.pixels >= 0).any()
        assert np.array_equal(one.pixels, other.pixels)


@needs_data
def test_real_keys():
    """Photographs know their ids in the file that tools score against."""
    folder = Path(os.environ["VFMERGE_DATA"]) / "coco128"
    source = Coco(images=str(folder / "images"), annotations=str(folder / "instances.json"))
    assert source.annotations == folder / "instances.json"
    assert [source.read(index).key for index in range(2)] == [9, 25]
    assert not WebDataset(path=str(folder.parent / "cifar10" / "cifar10-test-000000.tar"), limit=1).has_captions
