"""Where a merged model's head comes from: the adapters that made it and its trunk, however many merges ago.

A head of the third merge names the same two adapters as in the first, so that a config.json does not grow from merge
to merge. Imports no torch.
"""

from __future__ import annotations

from pathlib import Path

import pydantic

from vfmerge import config, spdx
from vfmerge.config import Config, Part
from vfmerge.errors import CheckpointError, InputError, one_line
from vfmerge.problem import shown, suggestion

ADAPTER = "vfmerge"
"""The name that this adapter is installed under."""


class Lineage(pydantic.BaseModel):
    """A head and a trunk of a merged model, by the adapters that first made them."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid")

    head: Part
    """whose head it is"""
    trunk: Part
    """whose trunk it sits on"""
    own: bool
    """whether it is the head that came with the trunk, rather than one that was made for it"""
    licence: str
    """of the merged model: all parents had their say in its trunk, those too whose heads are dropped"""
    origin: str
    """checksum of the merged model: its trunk is another model's only if this is the same"""


def find(model: str | None) -> Path:
    """The folder of a merged model, which a run calls `merged`. Raises InputError if there is none."""
    if model is None:
        raise InputError("model: missing; give the folder of a merged model, as runs/NAME/merged")
    folder = Path(model).expanduser()
    inside = folder / "merged"
    folder = inside if inside.is_dir() else folder
    if not folder.is_dir():
        raise InputError(one_line(f"model: no folder {shown(model)}; give that of a merged model, as runs/NAME/merged"))
    if not (folder / config.CONFIG).is_file():
        text = f"model: {shown(model)} holds no merged model (no {config.CONFIG}); give a folder as runs/NAME/merged"
        raise InputError(one_line(text))
    return folder


def trace(folder: Path, task: str | None) -> Lineage:
    """The lineage of one of the folder's heads. Raises InputError if there is none for the task."""
    written = config.read(folder)
    if task is None:
        raise InputError(one_line(f"task: missing; choose from {', '.join(sorted(written.parents))}"))
    if task in written.tasks:
        text = f"task: {task} learnt from labels and teaches nobody; choose from {', '.join(sorted(written.parents))}"
        raise InputError(one_line(text))
    if task not in written.parents:
        raise InputError(one_line(f"task: {folder} has no {shown(task)}; {suggestion(task, written.parents)}"))
    return _lineage(written, task, folder=folder)


def _lineage(written: Config, task: str, *, folder: Path) -> Lineage:
    part, lender = written.parents[task], written.parents[written.base]
    head, trunk = _earlier(part, folder), _earlier(lender, folder)
    together = head is not None and trunk is not None and head.origin == trunk.origin
    # a head that came with an earlier merge was made as there only if the trunk came with the same one
    return Lineage(
        head=part if head is None else head.head,
        trunk=lender if trunk is None else trunk.trunk,
        own=task == written.base if head is None else head.own and together,
        licence=spdx.join(each.licence for each in written.parents.values()),
        origin=config.identify(folder),
    )


def _earlier(part: Part, folder: Path) -> Lineage | None:
    """The lineage that a part has from an earlier merge; none if it is of the first."""
    if part.adapter != ADAPTER:
        return None
    try:
        return Lineage.model_validate(part.options["lineage"])
    except (KeyError, ValueError) as error:
        text = f"{folder / config.CONFIG}: damaged ({type(error).__name__}); take the folder from its source"
        raise CheckpointError(one_line(text)) from None
