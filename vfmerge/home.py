"""Where a merged model lives: in the folder of the run that made it, by itself, or on the hub. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vfmerge import hub
from vfmerge.papers import RECIPE

MERGED = "merged"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Home:
    """name: of the run, else of the model's folder, or its id on the hub. folder: of the model.

    run: the folder of its run, or none where the model is by itself.
    """

    name: str
    folder: Path
    run: Path | None

    @property
    def recipe(self) -> Path:
        """The run's own recipe, with this machine's paths; else the model's, which has none."""
        return (self.run or self.folder) / RECIPE


def find(path: str | Path, *, revision: str | None = None) -> Home:
    """Of the path of a run or of a model, whether or not a model is there; or of a model's id on the hub, as a text.

    revision: of that, as in `vfmerge.hub.find`, whose errors it raises.
    """
    place = hub.find(path, revision=revision)
    folder = place / MERGED if (place / MERGED).is_dir() else place
    run = folder.parent if folder.name == MERGED and (folder.parent / RECIPE).exists() else None
    here = place == Path(path).expanduser()
    return Home(name=(run or folder).resolve().name if here else str(path), folder=folder, run=run)
