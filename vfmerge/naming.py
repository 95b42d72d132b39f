"""Names of classes as people give them."""

from __future__ import annotations

from collections.abc import Sequence

from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown


def named(classes: Sequence[str], *, option: str) -> tuple[str, ...]:
    """Names without the blanks around them. Raises InputError for none, empty ones, one given twice, no text."""
    if isinstance(classes, str):
        raise InputError(one_line(f"{option}: {shown(classes)} is one text; give a list of names"))
    names: list[str] = []
    for each in classes:
        name = each.strip() if isinstance(each, str) else ""
        if not name or not name.isprintable():
            raise InputError(one_line(f"{option}: {shown(each)} is no name; give each a text"))
        if name in names:
            raise InputError(one_line(f"{option}: {shown(name)} is given twice; give each name once"))
        names.append(name)
    if not names:
        raise InputError(f"{option}: no name; give one or more, such as cat, dog")
    return tuple(names)
