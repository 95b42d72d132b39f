"""Names of classes: the lists that belong to a layout, or a person's own wording of them."""

from __future__ import annotations

import importlib.resources
import typing
from collections.abc import Sequence
from typing import Literal

from vfmerge.data import paths
from vfmerge.errors import InputError

Keep = Literal["all", "seen"]
"""Which classes a source keeps where some are unseen: all of them, to be judged, or the seen ones, for training."""


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


def kept(names: Sequence[str], *, unseen: frozenset[str], keep: Keep) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names that are kept, in their order, and those of them that are unseen."""
    classes = tuple(name for name in names if keep == "all" or name not in unseen)
    return classes, unseen & frozenset(classes)


def require_split(keep: Keep, *, told: bool) -> None:
    """Raise InputError if seen classes are to be kept where nothing tells them from unseen ones."""
    if keep not in typing.get_args(Keep):
        raise InputError(f"keep: {paths.shown(keep)!r} is unknown; give all or seen")
    if keep == "seen" and not told:
        raise InputError("keep: seen needs `unseen`, which tells what classes are not; give it too, or keep all")
