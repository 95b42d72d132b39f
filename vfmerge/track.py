"""TensorBoard, where the `track` extra is installed; `metrics.jsonl` is always written and holds the same numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Tracker:
    """Writes each step's numbers for TensorBoard, or nothing where it is not installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def rewind(self, step: int) -> None:
        """Begin, or go on, after this step: TensorBoard forgets later ones of an earlier start."""
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """line: `step`, and numbers by name; other values are left out."""
        if self._writer is None:
            return
        for name, value in line.items():
            if isinstance(value, float):
                self._writer.add_scalar(name.replace(".", "/", 1), value, line["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
