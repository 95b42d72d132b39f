"""The members of a plain tar file, found by reading its headers only: ustar, GNU and PAX.

Nothing is unpacked. A file that is cut, damaged, compressed, or that holds links is refused, by an error that names the
file and the member, since a tar read to the first doubt is a data set with samples missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vfmerge.data.paths import shown
from vfmerge.errors import InputError

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_CHUNK = 1 << 20
_MAX_META = 1 << 20  # bytes of a long name or of a PAX header
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")

_PLAIN, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _GNU_NAME, _IGNORED = b"x", b"L", (b"g", b"K")
_LINKS = {b"1": "a hard link", b"2": "a symbolic link"}


class Member(NamedTuple):
    """A plain file in a tar. offset: of its first byte in the tar; size: its bytes."""

    name: str
    offset: int
    size: int


class _Header(NamedTuple):
    name: str
    kind: bytes
    size: int


def members(descriptor: int, *, path: Path) -> Iterator[Member]:
    """The plain files of the opened tar, in order; `path` is for messages. Raises InputError."""
    end = os.fstat(descriptor).st_size
    position = 0
    name, size = "", -1  # what an extension header says of the next member
    while (block := os.pread(descriptor, _BLOCK, position)) != _ZEROS:
        header = _parse(block, position, path=path)
        extends = header.kind in (_PAX, _GNU_NAME, *_IGNORED)
        if not extends:
            header = _Header(name or header.name, header.kind, size if size >= 0 else header.size)
        start = position + _BLOCK
        position = start + -(-header.size // _BLOCK) * _BLOCK
        if start + header.size > end:
            raise fault(path, header.name, "is cut off by the end of the file; get the shard again")
        if extends:
            name, size = _extension(descriptor, header, start, path=path, so_far=(name, size))
            continue
        name, size = "", -1
        if header.kind == _FOLDER or header.name.endswith("/"):
            continue
        if header.kind not in _PLAIN:
            kind = _LINKS.get(header.kind, "no plain file")
            raise fault(path, header.name, f"is {kind}; write the file itself into the tar")
        yield Member(header.name, start, header.size)
    _check_end(descriptor, position, end=end, path=path)


def fault(path: Path, member: str, problem: str) -> InputError:
    """The error that names a tar and, unless empty, a member."""
    return InputError(f"{shown(path)}: " + (f"member {shown(member)!r} " if member else "") + problem)


def _parse(block: bytes, position: int, *, path: Path) -> _Header:
    """What a header states, after its checksum agreed."""
    if position == 0 and block.startswith(_COMPRESSED):
        raise fault(path, "", "is compressed, which cannot be read at random; unpack it to a plain tar")
    if len(block) < _BLOCK:
        raise fault(path, "", "ends without the mark of a tar's end: it is cut off or is no tar; get the shard again")
    try:
        agrees = sum(block) - sum(block[148:156]) + 8 * ord(" ") == int(block[148:156].strip(b"\0 "), 8)
        size = _size(block[124:136])
    except ValueError:
        agrees, size = False, 0
    if not agrees or size < 0:
        raise fault(path, "", f"has garbage at byte {position:,} where a header should be; get the shard again")
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return _Header(f"{prefix}/{name}" if prefix else name, block[156:157], size)


def _size(field: bytes) -> int:
    """Octal digits, or GNU's big-endian number of eleven bytes for eight gigabytes and more."""
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else int(field.strip(b"\0 ") or b"0", 8)


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _extension(descriptor: int, header: _Header, start: int, *, path: Path, so_far: tuple[str, int]) -> tuple[str, int]:
    """Name and size for the next member, from a GNU long name or a PAX header; what it does not say stays as it is."""
    if header.kind in _IGNORED:
        return so_far
    if header.size > _MAX_META:
        raise fault(path, header.name, f"is an extended header of {header.size:,} bytes; write the tar again")
    text = os.pread(descriptor, header.size, start)
    if header.kind == _GNU_NAME:
        return _text(text), so_far[1]
    try:
        records = dict(_records(text))
        name, size = records.get(b"path"), records.get(b"size")
        if size is not None and not size.isdigit():
            raise ValueError("size is no number")
    except ValueError as error:
        raise fault(path, header.name, "is a damaged PAX header; get the shard again") from error
    if any(key.startswith(b"GNU.sparse") for key in records):
        raise fault(path, header.name, "announces a sparse file; write the tar without --sparse")
    return so_far[0] if name is None else _text(name), so_far[1] if size is None else int(size)


def _records(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records `length key=value` of a PAX header, each ended by a line feed. Raises ValueError."""
    while text:
        start = text.index(b" ") + 1
        length = int(text[:start])
        if not start < length <= len(text) or text[length - 1 : length] != b"\n":
            raise ValueError("record of a wrong length")
        key, _, value = text[start : length - 1].partition(b"=")
        yield key, value
        text = text[length:]


def _check_end(descriptor: int, position: int, *, end: int, path: Path) -> None:
    """After the mark of its end a tar holds only zeros; else two tars were joined, or a header was wiped out."""
    for offset in range(position, end, _CHUNK):
        if os.pread(descriptor, _CHUNK, offset).strip(b"\0"):
            raise fault(path, "", f"goes on after the mark of its end at byte {position:,}; write it again as one tar")
