"""What a run's folder tells: the retention table, and whatever else is there for a report. Imports no torch.

Only the table must be there. Any other file that is missing or damaged is left out, since a report of the rest is
better than none. Nothing read here is executed; pictures are taken as they are, if they are PNG.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pydantic

from vfmerge import left_out, recipe
from vfmerge.errors import InputError, one_line
from vfmerge.left_out import LeftOut
from vfmerge.papers import RECIPE
from vfmerge.recipe import Recipe
from vfmerge.report import trace
from vfmerge.report.trace import Trace
from vfmerge.retention import Row

RETENTION, PICTURE = "retention.json", "picture.png"
MANIFEST, METRICS = "manifest.json", "metrics.jsonl"  # as `folder` calls them, which imports torch
GALLERY = "gallery/gallery.json"

_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST = 8 << 20  # bytes of a picture (chosen here); a page of many larger ones opens nowhere
_ROWS = pydantic.TypeAdapter(list[Row])
_LEFT_OUT = pydantic.TypeAdapter(list[LeftOut])


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Class(_Part):
    """A class of the gallery. colour: `#rrggbb`."""

    name: str
    colour: str = pydantic.Field(pattern=r"^#[0-9a-fA-F]{6}$")


class Column(_Part):
    """What a column of the gallery shows: a model's name, and how it was asked."""

    key: str
    title: str
    subtitle: str = ""


class Cell(_Part):
    """One picture of the gallery. alt: what is on it.

    score: how good that is, 0 to 1, where it is known. said: the same in words, where the number alone does not tell.
    """

    file: str = pydantic.Field(pattern=r"^[\w.-]+\.png$")
    alt: str
    score: float | None = None
    said: str = ""


class Case(_Part):
    """One held-out picture as each column has it."""

    name: str
    rank: str
    score: float | None = None
    cells: tuple[Cell, ...]


class Gallery(_Part):
    """`gallery/gallery.json`. notes: how it is to be read. images: by file, as `data:` URIs."""

    notes: tuple[str, ...] = ()
    classes: tuple[Class, ...] = ()
    columns: tuple[Column, ...]
    rows: tuple[Case, ...]
    images: Mapping[str, str] = pydantic.Field(default_factory=dict, exclude=True)


class Manifest(_Part):
    """`manifest.json`: what fixes a run's result."""

    recipe: str = ""
    seed: int | None = None
    weights: dict[str, dict[str, str]] = {}
    data: dict[str, dict[str, str | int]] = {}
    licences: dict[str, str] = {}
    versions: dict[str, str] = {}


class Findings(pydantic.BaseModel):
    """All that a report is made from.

    name: of the run's folder. trace: of `metrics.jsonl`. picture: a `data:` URI, or empty. left_out: pictures that are
    in no figure.
    """

    model_config = pydantic.ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    rows: list[Row]
    plan: Recipe | None = None
    manifest: Manifest | None = None
    trace: Trace | None = None
    gallery: Gallery | None = None
    picture: str = ""
    left_out: list[LeftOut] = []


def read(run: Path) -> Findings:
    """What there is in a run's folder. Raises InputError if it has no retention table, or a damaged one."""
    return Findings(
        name=run.resolve().name,
        rows=rows(run),
        plan=plan(run),
        manifest=manifest(run),
        trace=trace.read(run / METRICS),
        gallery=_gallery(run / GALLERY),
        picture=_image(run / PICTURE),
        left_out=_left_out(run / left_out.FILE),
    )


def rows(run: Path) -> list[Row]:
    """The retention table of a run's folder. Raises InputError if it has none, or a damaged one."""
    path = run / RETENTION
    try:
        found = _ROWS.validate_python(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(one_line(f"{run}: has no {RETENTION}; give the folder of a finished run, runs/NAME")) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no retention table"
        raise InputError(one_line(f"{path}: cannot be used ({reason}); `vfmerge eval` writes it anew")) from None
    if not all(math.isfinite(value) for row in found for value in vars(row).values() if isinstance(value, float)):
        raise InputError(one_line(f"{path}: has a number that is not finite; `vfmerge eval` writes it anew"))
    return found


def plan(run: Path) -> Recipe | None:
    """The recipe of a run, if there is one that this vfmerge understands."""
    path = run / RECIPE
    with contextlib.suppress(InputError):
        return recipe.load(str(path)) if path.is_file() else None
    return None


def manifest(run: Path) -> Manifest | None:
    """What fixes a run's result, if that is there."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return Manifest.model_validate_json((run / MANIFEST).read_bytes())
    return None


def _left_out(path: Path) -> list[LeftOut]:
    """The pictures that no figure is of, if there are such."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        return _LEFT_OUT.validate_python([json.loads(line) for line in path.read_text("utf-8").splitlines()])
    return []


def _gallery(path: Path) -> Gallery | None:
    """The gallery with its pictures, without those cases of which one is missing."""
    try:
        found = Gallery.model_validate_json(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    images = {cell.file: _image(path.parent / cell.file) for case in found.rows for cell in case.cells}
    whole = tuple(case for case in found.rows if _whole(case, found.columns, images))
    return found.model_copy(update={"rows": whole, "images": images}) if whole else None


def _whole(case: Case, columns: Sequence[Column], images: Mapping[str, str]) -> bool:
    return len(case.cells) == len(columns) > 0 and all(images[cell.file] for cell in case.cells)


def _image(path: Path) -> str:
    """A PNG as a `data:` URI; empty if there is none, or it is too large to carry."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return ""
        content = path.read_bytes()
    except OSError:
        return ""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}" if content.startswith(_PNG) else ""
