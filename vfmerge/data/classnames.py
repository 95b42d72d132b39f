"""Names of classes: the lists that belong to a layout, or a person's own wording of them."""

from __future__ import annotations

import importlib.resources

from vfmerge.data import paths
from vfmerge.errors import InputError


def built_in(layout: str) -> tuple[str, ...]:
    """The classes of a layout in their order, of which `classes/` holds a file, one a line."""
    listed = importlib.resources.files("vfmerge.data").joinpath("classes", f"{layout}.txt")
    return tuple(listed.read_text(encoding="utf-8").split("\n")[:-1])


def reworded(classnames: str | None, *, known: tuple[str, ...]) -> tuple[str, ...]:
    """The known names, or those of the file that the option `classnames` gives for them. Raises InputError."""
    if classnames is None:
        return known
    names = paths.class_names(classnames, option="classnames")
    if len(names) != len(known):
        raise InputError(
            f"classnames: {paths.shown(classnames)!r} has {len(names)} lines for {len(known)} classes; "
            f"give one line for each, from {known[0]!r} to {known[-1]!r}"
        )
    return names
