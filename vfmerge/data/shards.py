"""Tar files of samples, indexed by one walk over their headers, so that any sample is one read away.

Samples are members that share a name up to the first dot, as WebDataset has it: `000/17.jpg` and `000/17.cls` are the
extensions `jpg` and `cls` of `000/17`. An index is a few arrays without an open file: it can be sent to other
processes, and used by several at once. It is kept in memory only, since the folder of the data may be read-only.

Axis letters: N samples, M members.
"""

from __future__ import annotations

import array
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vfmerge.data import tar
from vfmerge.data.paths import MAX_BYTES, printable, shown
from vfmerge.errors import BadSample, InputError


class Shard:
    """The index of one tar: N samples, in the order in which they begin.

    extensions: those to keep, in lower case; a sample without any of them is none. adjacent: refuse samples whose
    members are apart, which readers that stream would tear in two.
    Raises InputError, naming shard and member, where a sample would vanish or tear without a word.
    """

    def __init__(self, path: Path, *, extensions: Sequence[str], adjacent: bool = True) -> None:
        self.path = path
        keys: dict[str, int] = {}
        found = array.array("q")
        try:
            with open(path, "rb", buffering=0) as opened:
                self._bytes = os.fstat(opened.fileno()).st_size
                members = tar.members(opened.fileno(), path=path)
                for row, extension, member in _rows(members, path=path, adjacent=adjacent, keys=keys):
                    if extension in extensions:
                        found.extend((row, extensions.index(extension), member.offset, member.size))
        except OSError as error:
            raise InputError(f"{shown(path)}: cannot be read: {error.strerror}; check permissions") from error
        self._lay_out(np.array(found, dtype=np.int64).reshape(-1, 4), keys=list(keys), extensions=extensions)

    def _lay_out(self, found: np.ndarray, *, keys: Sequence[str], extensions: Sequence[str]) -> None:
        """Turn found [M, 4], row, kind, offset and size, into the keys and a table [N, 2] for each extension."""
        samples, row = np.unique(found[:, 0], return_inverse=True)
        names = [keys[sample].encode("utf-8", "surrogateescape") for sample in samples]
        self._names = b"".join(names)
        self._starts = np.cumsum([0, *map(len, names)], dtype=np.int64)
        self._places: dict[str, np.ndarray] = {}
        for kind in np.unique(found[:, 1]):
            chosen = found[:, 1] == kind
            self._places[extensions[kind]] = np.full((len(samples), 2), -1, dtype=np.int64)
            self._places[extensions[kind]][row[chosen]] = found[chosen, 2:]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def key(self, row: int) -> str:
        """The name of sample `row`, without extension."""
        return self._names[self._starts[row] : self._starts[row + 1]].decode("utf-8", "surrogateescape")

    def members(self, row: int) -> dict[str, tuple[int, int]]:
        """Offset and size in bytes of each member of sample `row`, by extension."""
        places = {extension: table[row] for extension, table in self._places.items()}
        return {extension: (int(offset), int(size)) for extension, (offset, size) in places.items() if offset >= 0}

    def read(self, row: int, extension: str, *, name: str) -> bytes:
        """The bytes of a member that `members` lists; `name` is for messages. Raises BadSample.

        The file is opened for each read: that takes microseconds, and neither limits on open files nor copies of
        descriptors in other processes come into it.
        """
        offset, size = self.members(row)[extension]
        if size > MAX_BYTES:
            raise BadSample(f"{name}: its .{extension} has {size:,} bytes, more than {MAX_BYTES:,}")
        try:
            with open(self.path, "rb", buffering=0) as opened:
                if os.fstat(opened.fileno()).st_size != self._bytes:
                    raise BadSample(f"{name}: its shard has another size than when it was indexed")
                return os.pread(opened.fileno(), size, offset)
        except OSError as error:
            raise BadSample(f"{name}: its shard cannot be read: {error.strerror}") from error

    def digest(self) -> str:
        """A SHA-256 of the keys, and of offset and size of each member."""
        state = hashlib.sha256(self._names)
        state.update(self._starts.tobytes())
        for extension in sorted(self._places):
            state.update(extension.encode() + b"\0" + self._places[extension].tobytes())
        return state.hexdigest()


class Shards:
    """Several shards as one numbered list of samples, named `shard/key` with the shard's path relative to `root`."""

    def __init__(self, paths: Iterable[Path], *, root: Path, extensions: Sequence[str], adjacent: bool = True) -> None:
        self._shards = [Shard(path, extensions=extensions, adjacent=adjacent) for path in paths]
        self._names = [os.path.relpath(shard.path, root) for shard in self._shards]
        self._starts = np.cumsum([0, *map(len, self._shards)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def locate(self, index: int) -> tuple[Shard, int, str]:
        """The shard that holds sample `index`, its row there, and the sample's printable name."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        shard, row = self._shards[number], index - int(self._starts[number])
        return shard, row, printable(f"{self._names[number]}/{shard.key(row)}")

    def contents(self) -> Iterator[str]:
        """Name and digest of each shard, in order."""
        for name, shard in zip(self._names, self._shards, strict=True):
            yield name
            yield shard.digest()


def split(name: str) -> tuple[str, str]:
    """Key and lower-case extension of a member; both empty for hidden files and those without an extension."""
    folder, _, base = name.removeprefix("./").rpartition("/")
    stem, _, extension = base.partition(".")
    if not stem or not extension:
        return "", ""
    return f"{folder}/{stem}" if folder else stem, extension.lower()


def _rows(
    members: Iterable[tar.Member], *, path: Path, adjacent: bool, keys: dict[str, int]
) -> Iterator[tuple[int, str, tar.Member]]:
    """Row and extension of each member; `keys` is filled with the row of each key."""
    taken: set[tuple[int, str]] = set()
    row = -1
    for member in members:
        key, extension = split(member.name)
        if not key:
            continue
        previous, row = row, keys.setdefault(key, len(keys))
        if (row, extension) in taken:
            raise tar.fault(path, member.name, "comes twice; write the tar again")
        taken.add((row, extension))
        if adjacent and row not in (previous, len(keys) - 1):
            raise tar.fault(path, member.name, "is apart from the rest of its sample; sort the tar by name")
        yield row, extension, member
