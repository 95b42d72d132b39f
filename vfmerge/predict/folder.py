"""A folder of answers, file by file; answers to two questions are never mixed in one. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from vfmerge import commit
from vfmerge.errors import InputError, RunError, one_line

ASKED = "predict.json"
"""What was asked: the file by which a folder of answers is known."""


def check(out: Path) -> None:
    """Raise InputError if answers cannot go to `out`: a file, or a folder that holds other things."""
    if out.exists() and not out.is_dir():
        raise InputError(one_line(f"--out {out}: is a file; give a folder"))
    if out.is_dir() and any(out.iterdir()) and not (out / ASKED).is_file():
        raise InputError(one_line(f"--out {out}: holds other files; give a new or empty folder"))


def begin(out: Path, *, asked: Mapping[str, Any]) -> None:
    """Make the folder of answers. One that has answers to the same question is gone on with: they are written anew.

    asked: all that answers depend on but for the pictures. Raises InputError for a folder of other answers.
    """
    check(out)
    text = json.dumps(asked, indent=1) + "\n"
    try:
        if (out / ASKED).is_file() and (out / ASKED).read_bytes() != text.encode():
            raise InputError(one_line(f"--out {out}: holds answers to another question; give another folder"))
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(one_line(f"--out {out}: cannot be used ({error.strerror}); give another folder")) from None
    commit.write_text(out / ASKED, text)


def picture(path: Path, image: Image.Image) -> None:
    """Write a picture in the format that its name says; as JPEG, so that thin lines keep their colours."""
    _make(path.parent)
    commit.write_file(path, lambda temporary: image.save(temporary, quality=92, subsampling=0))


def content(path: Path, value: object) -> None:
    """Write JSON."""
    _make(path.parent)
    commit.write_text(path, json.dumps(value, allow_nan=False) + "\n")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(one_line(f"{folder}: cannot be made ({error.strerror}); mend that, then run again")) from error
