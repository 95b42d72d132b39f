"""What a model answered, on disk, so that anybody's tools can score it: JSON lines, JSON and index PNGs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vfmerge.data.source import VOID
from vfmerge.errors import InputError

UNJUDGED = 255
"""What a pixel that is not judged is in a written map."""


class Predictions:
    """A folder of one model's answers in one benchmark, or, without a folder, nowhere: then nothing is written."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._begun: set[Path] = set()

    @property
    def wanted(self) -> bool:
        """Whether anything is written: what is made for no other purpose need not be made."""
        return self._folder is not None

    def within(self, name: str) -> Predictions:
        """A folder in this one, for a benchmark that answers the same questions several times."""
        return Predictions(self._folder and self._folder / name)

    def line(self, file: str, record: Mapping[str, Any]) -> None:
        """Add a line to `file` (JSON lines)."""
        if path := self._place(file):
            with path.open("a" if path in self._begun else "w") as opened:
                opened.write(json.dumps(record, allow_nan=False) + "\n")
            self._begun.add(path)

    def whole(self, file: str, content: object) -> None:
        """Write `file` (JSON) at once."""
        if path := self._place(file):
            path.write_text(json.dumps(content, allow_nan=False) + "\n")

    def legend(self, names: Sequence[str]) -> None:
        """Write what the numbers in maps mean, the last of them the background: `classes.json`.

        Raises InputError, where answers are wanted, for more than a grey PNG can tell apart.
        """
        if self.wanted and len(names) > UNJUDGED:
            text = f"--save-predictions: {len(names) - 1} classes and the background are more than grey PNGs can tell"
            raise InputError(f"{text} apart; measure without it")
        self.whole("classes.json", list(names))

    def labels(self, folder: str, name: str, numbers: np.ndarray) -> None:
        """Write a map of class numbers [H, W] as a grey PNG in `folder`, called after the picture; VOID is UNJUDGED."""
        from PIL import Image

        if path := self._place(f"{folder}/{file_name(name)}.png"):
            Image.fromarray(np.where(numbers == VOID, UNJUDGED, numbers).astype(np.uint8)).save(path)

    def _place(self, file: str) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def run_lengths(masks: np.ndarray) -> list[dict[str, Any]]:
    """Bool masks [N, H, W] as COCO's compressed run lengths, `{"size": [H, W], "counts": text}`, fit for JSON."""
    from pycocotools import mask as coco_mask

    columns = np.ascontiguousarray(masks.transpose(0, 2, 1)).view(np.uint8)  # runs go down the columns
    drawn = coco_mask.encode(columns.transpose(2, 1, 0))
    return [{"size": list(each["size"]), "counts": each["counts"].decode()} for each in drawn]


def file_name(name: str) -> str:
    """A sample's name as the name of a file: readable, and of no other sample."""
    plain = re.sub(r"[^\w.-]+", "_", name).lstrip(".")[-80:]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
