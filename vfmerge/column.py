"""One array of a cache on its way to the disk, row by row, and whether it is there as it was written.

Axis letters: B samples of a batch.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vfmerge import commit
from vfmerge.errors import RunError, one_line

TYPE = np.dtype(np.float16)
PIECE = 1 << 22  # bytes that are looked at in one go, between which somebody may ask to stop; chosen here

Poll = Callable[[], object]
"""Called after each piece of a file that is looked through; what it raises ends that."""


class Column:
    """A `.npy` file of half precision; its header says from the start how long it will be.

    shape: of the whole array [samples, ...]. What keeps the disk from taking it is a RunError.
    """

    def __init__(self, path: Path, *, shape: Sequence[int], size: int = 0, crc32: int = 0) -> None:
        """size: bytes of an earlier attempt that it goes on after, once `intact` has found them. crc32: theirs."""
        self.path, self.shape, self._size, self._crc32 = path, tuple(shape), size, crc32
        if not size:
            header = io.BytesIO()
            about = {"descr": TYPE.str, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(header, about)
            self._write(header.getvalue())

    @property
    def mark(self) -> dict[str, Any]:
        """What its file has so far, as JSON: enough to go on with it, and to see whether it is still so."""
        return {"shape": list(self.shape), "size": self._size, "crc32": self._crc32}

    def append(self, rows: np.ndarray) -> None:
        """rows: float16 [B, ...]."""
        assert rows.dtype == TYPE
        assert rows.shape[1:] == self.shape[1:]
        self._write(rows.tobytes())

    def _write(self, content: bytes) -> None:
        try:
            with self.path.open("r+b" if self._size else "wb") as file:
                file.seek(self._size)
                file.write(content)
        except OSError as error:
            raise self._unwritten(error) from error
        self._size += len(content)
        self._crc32 = zlib.crc32(content, self._crc32)

    def settle(self) -> None:
        """Bring it to the disk, power cuts or not."""
        try:
            commit.sync(self.path)
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> RunError:
        return RunError(one_line(f"{self.path}: cannot be written: {error.strerror}; make room, then run again"))


def intact(path: Path, mark: Mapping[str, Any], *, poll: Poll) -> bool:
    """Whether a column's file begins with the bytes that its mark is of: all of them are read."""
    left, crc32 = mark["size"], 0
    try:
        with path.open("rb") as file:
            while left and (piece := file.read(min(left, PIECE))):
                left, crc32 = left - len(piece), zlib.crc32(piece, crc32)
                poll()
    except OSError:  # a file that is not there, or cannot be read
        return False
    return not left and crc32 == mark["crc32"]


def pieces(folder: Path) -> int:
    """How many pieces the columns of a folder are: how often looking through all of them polls."""
    return sum(math.ceil(path.stat().st_size / PIECE) for path in folder.glob("*.npy"))
