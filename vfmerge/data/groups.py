"""Groups of pictures that a table names: where they were taken, who is in them, whatever a model may lean on.

The table is CSV with a header and a row a picture, as metadata.csv of WILDS (Koh et al., ICML 2021) and of Waterbirds.
"""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vfmerge.data import paths
from vfmerge.errors import InputError


def read(path: str, *, column: str, files: Sequence[str]) -> list[str]:
    """The group of each file: what stands under `column` in the row that has its path.

    Which column has the paths, relative to the folder of the pictures, is found by looking. Rows of other pictures are
    passed over. Raises InputError if a file has no row, rows of two groups, or an empty cell.
    """
    found = paths.file(path, option="groups")
    where = paths.shown(found)
    header, rows = _rows(found)
    if column not in header:
        known = paths.shown(", ".join(header))
        raise InputError(f"group: {paths.shown(column)!r} is no column of {where!r}, which has {known}")
    named, cell = _column_of(rows, frozenset(files), where=where), header.index(column)
    groups: dict[str, str] = {}
    for file, group in ((_at(row, named), _at(row, cell)) for row in rows):
        if groups.setdefault(file, group) != group:
            raise InputError(f"groups: {where!r} has rows of two groups for {paths.shown(file)!r}; remove one")
    return [_checked(groups, file, where=where) for file in files]


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """The header and the rows, without spaces around the cells."""
    try:
        lines = csv.reader(io.StringIO(paths.text(path), newline=""))
        rows = [[cell.strip() for cell in line] for line in lines if line]
    except csv.Error as error:
        raise InputError(f"{paths.shown(path)}: is not CSV: {error}; save it as CSV with a header") from error
    if len(rows) < 2:
        raise InputError(f"{paths.shown(path)}: has no rows; give a CSV file with a header and a row a picture")
    return rows[0], rows[1:]


def _column_of(rows: Sequence[Sequence[str]], files: frozenset[str], *, where: str) -> int:
    """The column in which most of the files' paths are."""
    hits = collections.Counter(place for row in rows for place, cell in enumerate(row) if cell in files)
    if not hits:
        one = paths.shown(min(files))
        raise InputError(f"groups: {where!r} has no row with a path such as {one!r}; write them relative to `path`")
    [(place, _)] = hits.most_common(1)
    return place


def _at(row: Sequence[str], place: int) -> str:
    """A cell; rows that end early have empty ones."""
    return row[place] if place < len(row) else ""


def _checked(groups: dict[str, str], file: str, *, where: str) -> str:
    group = groups.get(file, "")
    if not group or not group.isprintable():
        raise InputError(f"groups: {where!r} names no group, in print, of {paths.shown(file)!r}; add it")
    return group
