"""Pictures with sentences about them: Flickr30k, and COCO with Karpathy's splits, in the files people have of these."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vfmerge.data import coco_file, paths, picture
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

_TOKEN = re.compile(r"(?P<file>[^\t#]+)#\d+\t(?P<text>.*)")
_TABLE = re.compile(r"(?P<file>[^|]+)\|\s*\d+\s*(?:\||\s)(?P<text>.*)")  # Flickr30k's own lacks a second bar once


@dataclasses.dataclass(slots=True)
class _Captioned:
    """A picture and what is said of it. key: its id in a COCO file."""

    file: str
    texts: list[str]
    key: int | str | None = None


class Captions(Source):
    """Pictures with all their captions, in the order of the file.

    images: the folder of the pictures. annotations: a file of captions, told apart by what is in it:
    Karpathy's JSON (Karpathy and Fei-Fei, CVPR 2015), such as dataset_flickr30k.json or dataset_coco.json;
    a `captions` JSON of COCO; Flickr30k's results_20130124.token, lines of `name.jpg#0`, a tab and a sentence; or its
    results.csv, lines of `name.jpg| 0| sentence`.
    split: one of Karpathy's; none is test. The other files have no splits and are read whole.
    limit: only the first so many.
    """

    has_captions = True

    def __init__(self, *, images: str, annotations: str, split: str | None = None, limit: int | None = None) -> None:
        self._root = paths.folder(images, option="images")
        found = paths.file(annotations, option="annotations")
        data = paths.read_whole(found)
        pictures = _parse(data, root=self._root, split=split, where=f"annotations: {paths.shown(found)!r}")
        self._pictures = paths.first(pictures, limit, where=f"annotations: no captions in {paths.shown(found)!r}")
        paths.require_some(self._root, [known.file for known in self._pictures], option="images")
        self._digest = hashlib.sha256(data).hexdigest()

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, index: int) -> Sample:
        known = self._pictures[index]
        name = paths.printable(known.file)
        image = picture.decode(paths.read(self._root / known.file, name=name), name=name)
        return Sample(image=image, name=name, captions=tuple(known.texts), key=known.key)

    def digest(self) -> str:
        files = [known.file for known in self._pictures]
        return paths.digest(["captions", self._digest, *paths.sizes(self._root, files)])


def _parse(data: bytes, *, root: Path, split: str | None, where: str) -> list[_Captioned]:
    """The pictures that have a caption, of any of the four files."""
    if data.removeprefix(codecs.BOM_UTF8).lstrip()[:1] not in (b"{", b"["):
        _refuse(split, where=where)
        return _of_lines(paths.decoded(data, where=where), where=where)
    match paths.parsed(data, where=where):
        case {"images": [*images], "annotations": [*annotations]}:
            _refuse(split, where=where)
            return _of_coco(images, annotations, root=root, where=where)
        case {"images": [{"sentences": _}, *_] as images}:
            return _of_karpathy(images, root=root, split=split or "test", where=where)
        case _:
            raise InputError(f"{where} has neither images with sentences nor annotations; give a file of captions")


def _refuse(split: str | None, *, where: str) -> None:
    if split is not None:
        raise InputError(f"split: {paths.shown(split)!r}, but {where} has no splits; leave it out")


def _of_karpathy(images: Sequence[object], *, root: Path, split: str, where: str) -> list[_Captioned]:
    """Those of one split."""
    pictures: list[_Captioned] = []
    splits: set[str] = set()
    for number, image in enumerate(images):
        match image:
            case {"filename": str(file), "split": str(of), "sentences": [*sentences]}:
                names = [*_in_folder(image, file), file]
            case _:
                raise InputError(f"{where}: images[{number}]: needs filename, split and sentences; mend or remove it")
        if not all(map(paths.inside, names)):
            raise InputError(f"{where}: images[{number}]: its name is no relative path without `..`; mend or remove it")
        splits.add(of)
        texts = [paths.sentence(text) for text in _raw(sentences) if text.strip()]
        if of == split and texts:
            pictures.append(_Captioned(file=paths.lying(root, names), texts=texts))
    if split not in splits:
        known = paths.shown(", ".join(sorted(splits)))
        raise InputError(f"split: {paths.shown(split)!r} is unknown; {where} has {known}")
    return pictures


def _in_folder(image: object, file: str) -> list[str]:
    """Of COCO's pictures Karpathy says which folder they were in; they may lie in it or not."""
    match image:
        case {"filepath": str(folder)}:
            return [f"{folder}/{file}"]
        case _:
            return []


def _raw(sentences: Sequence[object]) -> Iterator[str]:
    """The sentences as they were written, beside which Karpathy has them in words."""
    for sentence in sentences:
        match sentence:
            case {"raw": str(text)}:
                yield text


def _of_coco(images: Sequence[object], annotations: Sequence[object], *, root: Path, where: str) -> list[_Captioned]:
    pictures = {
        key: _Captioned(file=file, texts=[], key=key) for key, file in coco_file.images(images, root=root, where=where)
    }
    for key, text in coco_file.captions(annotations):
        if key in pictures:
            pictures[key].texts.append(text)
    return [known for known in pictures.values() if known.texts]


def _of_lines(text: str, *, where: str) -> list[_Captioned]:
    """Those of Flickr30k's files of lines, the first of which shows which it is: one with a tab, or of a table."""
    lines = text.rstrip().split("\n")
    form = _TOKEN if "\t" in lines[0] else _TABLE
    titled = form is _TABLE and not _TABLE.fullmatch(lines[0].rstrip())
    texts: dict[str, list[str]] = {}
    for number, line in enumerate(lines[titled:], start=1 + titled):
        found = form.fullmatch(line.rstrip())
        file = found["file"].strip() if found else ""
        if not found or not paths.inside(file):
            wanted = "`name.jpg#0`, a tab and a sentence" if form is _TOKEN else "`name.jpg| 0| sentence`"
            raise InputError(f"{where}: line {number}: is not {wanted}; give a file of captions, or mend it")
        if found["text"].strip():
            texts.setdefault(file, []).append(paths.sentence(found["text"]))
    return [_Captioned(file=file, texts=said) for file, said in texts.items()]
