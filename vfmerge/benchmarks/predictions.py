"""What a model answered, on disk, so that anybody's tools can score it: JSON lines, JSON and index PNGs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Predictions:
    """A folder of one model's answers in one benchmark, or, without a folder, nowhere: then nothing is written."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._begun: set[Path] = set()

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

    def labels(self, folder: str, name: str, numbers: np.ndarray) -> None:
        """Write a map of class numbers [H, W], each in 0..255, as a grey PNG in `folder`, called after the picture."""
        from PIL import Image

        if path := self._place(f"{folder}/{file_name(name)}.png"):
            assert numbers.min() >= 0
            assert numbers.max() <= 255
            Image.fromarray(numbers.astype(np.uint8)).save(path)

    def _place(self, file: str) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def file_name(name: str) -> str:
    """A sample's name as the name of a file: readable, and of no other sample."""
    plain = re.sub(r"[^\w.-]+", "_", name).lstrip(".")[-80:]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
