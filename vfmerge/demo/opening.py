"""The models of a demonstration: the merged one, and those of its parents that are here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from vfmerge import evaluation, folder, measurement, model, parts, recipe
from vfmerge.capability import Capability
from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown, suggestion

from .exhibit import Exhibit

MERGED = "merged"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Exhibition:
    """name: of the run. exhibits: the merged model first."""

    name: str
    exhibits: Sequence[Exhibit]


def open_all(path: Path, *, tasks: Sequence[str], device: str) -> Exhibition:
    """The merged model in a folder, or in that of its run, and the parents that its recipe names.

    tasks: heads to take where several could answer. A parent whose files are not here is left out, which is told on
    stderr. Raises InputError for a folder that is no model, or a task that it has not.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise InputError(one_line(f"{path}: no such folder; give runs/NAME or runs/NAME/merged"))
    home = path / evaluation.MERGED if (path / evaluation.MERGED).is_dir() else path
    where = model.on(device)
    merged = model.load(home, device=str(where))
    for task in tasks:
        if task not in merged.heads:
            raise InputError(f"--task {shown(task)}: no such head; {suggestion(task, list(merged.heads))}")
    exhibits = [Exhibit(merged.capabilities(), key=MERGED, title="Merged model", tasks=tasks)]
    exhibits += [
        Exhibit({name: parent}, key=f"parent {name}", title=f"Parent {name}", tasks=())
        for name, parent in _parents(home, device=str(where)).items()
    ]
    if not any(exhibits[0].does.values()):
        raise InputError(one_line(f"{path}: its heads take neither prompts nor names; there is nothing to try"))
    at_home = home.name == evaluation.MERGED
    return Exhibition(name=(home.resolve().parent if at_home else home.resolve()).name, exhibits=exhibits)


def _parents(home: Path, *, device: str) -> dict[str, Capability]:
    """What the parents can do that take prompts or names, by name; none where the recipe cannot be read here."""
    run = home.parent
    at_home = home.name == evaluation.MERGED and (run / folder.RECIPE).exists()
    written = (run if at_home else home) / folder.RECIPE
    if not written.exists():
        return {}
    try:
        adapters = parts.build_adapters(recipe.load(str(written)))
    except InputError as error:
        print(one_line(f"without parents: {error}"), file=sys.stderr)
        return {}
    opened = measurement.open_parents(adapters, device=model.on(device))
    able = measurement.capabilities(adapters, opened)
    return {
        name: each
        for name, each in able.items()
        if any(Exhibit({name: each}, key="", title="", tasks=()).does.values())
    }
