"""SA-1B as it is shipped: tars of `sa_N.jpg` and `sa_N.json`, or a folder they were unpacked into."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vfmerge.data import paths, picture, rle
from vfmerge.data.shards import Shards
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError

LARGEST = 0.9
"""Share of the picture above which a mask is left out, as in SAM's own training (Kirillov et al., arXiv:2304.02643v1,
appendix A)."""


class SA1B(Source):
    """Pictures with masks of everything in them and no labels.

    path: a tar, a folder of tars, or a folder of pictures, each with its JSON beside it. limit: only the first so many.
    Masks without a pixel, and those of more than 90 % of the picture, are left out.
    """

    has_masks = True

    def __init__(self, *, path: str, limit: int | None = None) -> None:
        root = paths.existing(path, option="path")
        self._store = _open(root)
        self._indices = paths.first(range(len(self._store)), limit, where=f"path: no sa_*.jpg in {paths.shown(root)!r}")

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> Sample:
        name, image, annotations = self._store.read(self._indices[index])
        height, width, segmentations = _parse(annotations, name=name)
        pixels = picture.decode(image, name=name, annotated=(height, width))
        try:
            segments = [rle.parse(segmentation, height=height, width=width) for segmentation in segmentations]
            masks, _ = rle.draw(segments, height=height, width=width, largest=LARGEST)
        except BadSample as error:
            raise BadSample(f"{name}: {error}") from error
        return Sample(image=pixels, name=name, masks=masks)

    def digest(self) -> str:
        return paths.digest(["sa1b", len(self), *self._store.contents()])


class _Loose:
    """Pictures and annotations as files in a folder."""

    def __init__(self, root: Path, files: Sequence[str]) -> None:
        self._root, self._files = root, files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> tuple[str, bytes, bytes]:
        """Name, JPEG and JSON of a picture."""
        file = self._files[index]
        name = paths.printable(file)
        annotations = Path(file).with_suffix(".json")
        return name, paths.read(self._root / file, name=name), paths.read(self._root / annotations, name=name)

    def contents(self) -> list[object]:
        annotations = [str(Path(file).with_suffix(".json")) for file in self._files]
        return [*paths.sizes(self._root, self._files), *paths.sizes(self._root, annotations)]


class _Packed:
    """Pictures and annotations as members of tars. They may lie apart, since they are not read as a stream."""

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self._shards = Shards(files, root=root, extensions=("jpg", "json"), adjacent=False)

    def __len__(self) -> int:
        return len(self._shards)

    def read(self, index: int) -> tuple[str, bytes, bytes]:
        """Name, JPEG and JSON of a picture."""
        shard, row, name = self._shards.locate(index)
        if missing := {"jpg", "json"} - shard.members(row).keys():
            raise BadSample(f"{name}: has no .{missing.pop()}")
        return name, shard.read(row, "jpg", name=name), shard.read(row, "json", name=name)

    def contents(self) -> list[object]:
        return list(self._shards.contents())


def _open(root: Path) -> _Loose | _Packed:
    if not root.is_dir():
        return _Packed(root.parent, [root])
    files = [file for file in paths.walk(root, extensions=("jpg",)) if Path(file).name.startswith("sa_")]
    tars = paths.walk(root, extensions=("tar",))
    if files and tars:
        raise InputError(
            f"path: {paths.shown(root)!r} holds pictures and tars, perhaps the same ones; give a folder of one kind"
        )
    return _Packed(root, [root / tar for tar in tars]) if tars else _Loose(root, files)


def _parse(annotations: bytes, *, name: str) -> tuple[int, int, list[object]]:
    """Height, width and segmentations that a picture's JSON states. Raises BadSample."""
    try:
        parsed = json.loads(annotations)
    except (ValueError, RecursionError) as error:
        raise BadSample(f"{name}: its JSON cannot be parsed: {type(error).__name__}") from error
    match parsed:
        case {"image": {"height": int(height), "width": int(width)}, "annotations": [*items]}:
            if not (0 < height <= rle.MAX_SIDE and 0 < width <= rle.MAX_SIDE):
                raise BadSample(f"{name}: its JSON states a size of {width} x {height} pixels")
        case _:
            raise BadSample(f"{name}: its JSON has no `image` with height and width, or no list of `annotations`")
    segmentations = [item["segmentation"] for item in items if isinstance(item, dict) and "segmentation" in item]
    if len(segmentations) < len(items):
        raise BadSample(f"{name}: an annotation in its JSON has no `segmentation`")
    return height, width, segmentations
