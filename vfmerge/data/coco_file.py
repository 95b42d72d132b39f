"""What the files of COCO's family share: JSON with lists of images, annotations and categories.

COCO's own (instances, captions, panoptic), LVIS's, and those that others write in their format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vfmerge.data import paths
from vfmerge.errors import InputError


def load(path: str, *, option: str) -> tuple[dict[str, Any], str]:
    """A JSON object with lists `images` and `annotations`, and the SHA-256 of its file. Raises InputError."""
    found = paths.file(path, option=option)
    data = paths.read_whole(found)
    where = f"{option}: {paths.shown(found)!r}"
    parsed: Any = paths.parsed(data, where=where)
    match parsed:
        case {"images": [*_], "annotations": [*_]}:
            return parsed, hashlib.sha256(data).hexdigest()
        case _:
            raise InputError(f"{where} has no lists `images` and `annotations`; give a COCO file")


def categories(parsed: dict[str, Any], *, where: str) -> tuple[dict[int, int], tuple[str, ...]]:
    """Class number by category id, and the names in the order of their numbers, which is that of the ids."""
    names: dict[int, str] = {}
    match parsed:
        case {"categories": [_, *_] as listed}:
            for number, category in enumerate(listed):
                match category:
                    case {"id": int(key), "name": name} if key not in names:
                        names[key] = paths.class_name(name, where=f"{where}: categories[{number}]")
                    case _:
                        raise InputError(f"{where}: categories[{number}]: needs a name and an id of its own, a number")
        case _:
            raise InputError(f"{where}: has no list `categories`; give a file that has, not one of captions")
    return {key: number for number, key in enumerate(sorted(names))}, tuple(names[key] for key in sorted(names))


def rare(parsed: dict[str, Any]) -> frozenset[str]:
    """The names of the categories of frequency r, as LVIS calls what is in 10 of its pictures for training at most."""
    names = set()
    for category in parsed["categories"]:
        match category:
            case {"name": str(name), "frequency": "r"}:
                names.add(name.strip())
    return frozenset(names)


def images(listed: Sequence[object], *, root: Path, where: str) -> Iterator[tuple[int | str, str]]:
    """Id and file of each entry of `images`. Raises InputError if one has none, or the id of another."""
    seen: set[int | str] = set()
    for number, image in enumerate(listed):
        file = image_file(image, root=root)
        match image:
            case {"id": int() | str() as key} if file is not None:
                if key in seen:
                    raise InputError(f"{where}: images[{number}]: id {paths.shown(str(key))!r} comes twice; remove one")
                seen.add(key)
                yield key, file
            case _:
                raise InputError(
                    f"{where}: images[{number}]: needs id, and file_name (a relative path without `..`) or coco_url; "
                    "mend or remove it"
                )


def image_file(image: object, *, root: Path) -> str | None:
    """The file of an entry of `images`, relative to `root`, or none where it names none that stays inside.

    COCO gives `file_name`. LVIS gives `coco_url` alone, whose last two parts are folder and file: pictures of both
    train2017 and val2017 are in its splits. They may also lie in one folder: what lies below `root` decides.
    """
    match image:
        case {"file_name": str(file)}:
            names = [file]
        case {"coco_url": str(url)}:
            parts = url.split("/")
            names = ["/".join(parts[-2:]), parts[-1]]
        case _:
            return None
    return paths.lying(root, names) if all(map(paths.inside, names)) else None


def captions(annotations: Sequence[object]) -> Iterator[tuple[int | str, str]]:
    """Image id and text of each caption, in order; what is no caption is left out."""
    for annotation in annotations:
        match annotation:
            case {"image_id": int() | str() as key, "caption": str(text)} if text.strip():
                yield key, paths.sentence(text)
