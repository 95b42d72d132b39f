"""The models of a demonstration: the merged one, and those of its parents that are here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from vfmerge import home, measurement, model, parts, recipe
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown, suggestion

from .exhibit import Exhibit

MERGED = "merged"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Exhibition:
    """name: of the run. exhibits: the merged model first. missing: parents whose files are not here."""

    name: str
    exhibits: Sequence[Exhibit]
    missing: Sequence[str] = ()


def open_all(path: str | Path, *, tasks: Sequence[str], device: str) -> Exhibition:
    """The merged model in a folder, in that of its run, or of an id on the hub, and the parents that its recipe names.

    tasks: heads to take where several could answer. A parent whose files are not here is left out, which is told on
    stderr. Raises InputError for a folder that is no model, or a task that it has not.
    """
    found = home.find(path)
    if not found.folder.is_dir():
        raise InputError(one_line(f"{found.folder}: no such folder; give runs/NAME or runs/NAME/merged"))
    where = model.on(device)
    merged = model.load(found.folder, device=str(where))
    for task in tasks:
        if task not in merged.heads:
            raise InputError(f"--task {shown(task)}: no such head; {suggestion(task, list(merged.heads))}")
    parents, missing = _open_parents(found.recipe, device=str(where))
    exhibit = Exhibit(merged.capabilities(), key=MERGED, title="Merged model", tasks=tasks, parents=parents)
    if not any(exhibit.does.values()):
        raise InputError(
            one_line(f"{path}: its heads take no prompts or names, nor see cells; there is nothing to try")
        )
    return Exhibition(name=found.name, exhibits=[exhibit, *parents], missing=missing)


def _open_parents(written: Path, *, device: str) -> tuple[list[Exhibit], list[str]]:
    """The parents in a recipe's file that can do what is shown, and the names of those whose files are not here.

    None of either where the recipe cannot be read.
    """
    if not written.exists():
        return [], []
    try:
        adapters = parts.build_adapters(recipe.load(str(written)))
    except InputError as error:
        print(one_line(f"without parents: {error}"), file=sys.stderr)
        return [], []
    opened = measurement.open_parents(adapters, device=model.on(device), purpose="shown")
    exhibits = [
        Exhibit({name: each}, key=f"parent {name}", title=f"Parent {name}", tasks=())
        for name, each in measurement.capabilities(adapters, opened).items()
    ]
    missing = [name for name, each in adapters.items() if isinstance(each, AuxiliaryAdapter) and name not in opened]
    return [each for each in exhibits if any(each.does.values())], missing
