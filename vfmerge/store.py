"""What was computed once and need not be again: arrays by the hash of all that they depend on.

Embeddings of texts and scores of models are small and slow to make, and the same parents are measured again and again.
An entry is one safetensors file. One that is damaged is taken for missing; deleting the folder costs only time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vfmerge import commit, provenance
from vfmerge.errors import RunError

VARIABLE = "VFMERGE_CACHE"
"""The environment variable that says where; empty for nowhere."""


class Store:
    """Arrays by key, in a folder; without a folder nothing is remembered.

    fresh: what others put there is not used, but made anew, and put in its place.
    """

    def __init__(self, folder: Path | None = None, *, fresh: bool = False) -> None:
        self._folder, self._fresh = folder, fresh
        self._own: set[str] = set()

    @property
    def remembers(self) -> bool:
        return self._folder is not None

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays under a key, or none."""
        if self._folder is None or (self._fresh and key not in self._own):
            return None
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            return dict(load((self._folder / f"{key}.safetensors").read_bytes()))
        except (OSError, SafetensorError):
            return None

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Remember arrays. A disk that is full or read-only is no error: they are only made again next time."""
        if self._folder is None:
            return
        from safetensors.numpy import save

        self._own.add(key)
        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            commit.write_file(self._folder / f"{key}.safetensors", lambda path: path.write_bytes(data))
        except (OSError, RunError):
            return

    def recall(self, key: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What is under the key, or what `make` gives, which is then remembered."""
        known = self.get(key)
        if known is None:
            known = dict(make())
            self.put(key, known)
        return known


def default(*, fresh: bool = False) -> Store:
    """The store of this user: `$VFMERGE_CACHE`, else `vfmerge` in `$XDG_CACHE_HOME` or `~/.cache`."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        return Store(Path(asked).expanduser() if asked else None, fresh=fresh)
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Store(Path(home).expanduser() / "vfmerge", fresh=fresh)


def key(*parts: object) -> str:
    """A SHA-256 of parts that are plain as JSON, of their order, and of the versions of the libraries at work here."""
    known = [provenance.versions(), parts]
    return hashlib.sha256(json.dumps(known, sort_keys=True, allow_nan=False).encode()).hexdigest()
