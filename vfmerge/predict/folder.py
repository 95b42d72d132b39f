"""A folder of answers, file by file; answers to two questions are never mixed in one. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from vfmerge import commit
from vfmerge.errors import InputError, RunError, one_line
from vfmerge.predict.pictures import Found

ASKED = "predict.json"
"""What was asked: the file by which a folder of answers is known."""

_RESULTS, _LABELS = "results", "labels"
_SOURCE = "picture"  # the text in a map of labels that is the SHA-256 of the picture's file


def check(out: Path) -> None:
    """Raise InputError if answers cannot go to `out`: a file, or a folder that holds other things."""
    if out.exists() and not out.is_dir():
        raise InputError(one_line(f"--out {out}: is a file; give a folder"))
    if out.is_dir() and any(out.iterdir()) and not (out / ASKED).is_file():
        raise InputError(one_line(f"--out {out}: holds other files; give a new or empty folder"))


def check_question(out: Path, *, asked: Mapping[str, Any]) -> None:
    """Raise InputError if `out` has answers to another question. asked: all that answers depend on but for pictures."""
    try:
        known = (out / ASKED).read_bytes() if (out / ASKED).is_file() else None
    except OSError as error:
        raise InputError(one_line(f"{out / ASKED}: cannot be read ({error.strerror}); give another folder")) from None
    if known is not None and known != _text(asked).encode():
        raise InputError(one_line(f"--out {out}: holds answers to another question; give another folder"))


def begin(out: Path, *, asked: Mapping[str, Any]) -> None:
    """Make the folder of answers, or go on with one. Raises as `check` and `check_question` do."""
    check(out)
    check_question(out, asked=asked)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(one_line(f"--out {out}: cannot be used ({error.strerror}); give another folder")) from None
    if not (out / ASKED).is_file():
        commit.write_text(out / ASKED, _text(asked))


def _text(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, indent=1) + "\n"


def answered(out: Path, found: Found) -> bool:
    """Whether a picture, not another one of its name, has all its answers: they end with its results."""
    if not (out / _RESULTS / f"{found.name}.json").is_file():
        return False
    try:
        with Image.open(out / _LABELS / f"{found.name}.png", formats=("PNG",)) as labels:
            return bool(labels.info.get(_SOURCE) == commit.digest(found.path))
    except (OSError, SyntaxError, ValueError):  # damaged, or gone
        return False


def write_labels(out: Path, found: Found, image: Image.Image) -> None:
    """Write a picture's map of numbers, with the hash of the picture's file in it."""
    source = PngImagePlugin.PngInfo()
    source.add_text(_SOURCE, commit.digest(found.path))
    _picture(out / _LABELS / f"{found.name}.png", image, pnginfo=source)


def write_mask(out: Path, found: Found, image: Image.Image, *, number: int) -> None:
    """Write one of a picture's masks, counted from 1."""
    _picture(out / "masks" / f"{found.name}-{number}.png", image)


def write_overlay(out: Path, found: Found, image: Image.Image) -> None:
    """Write what a person looks at; so that thin lines keep their colours, no colour is stored at half size."""
    _picture(out / "overlays" / f"{found.name}.jpg", image, quality=92, subsampling=0)


def write_results(out: Path, found: Found, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the last of a picture's answers."""
    path = out / _RESULTS / f"{found.name}.json"
    _make(path.parent)
    commit.write_text(path, json.dumps(results, allow_nan=False) + "\n")


def _picture(path: Path, image: Image.Image, **options: Any) -> None:
    """Write a picture in the format that its name says."""
    _make(path.parent)
    commit.write_file(path, lambda temporary: image.save(temporary, **options))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(one_line(f"{folder}: cannot be made ({error.strerror}); mend that, then run again")) from error
