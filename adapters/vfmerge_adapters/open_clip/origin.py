"""Where a parent comes from: its shape as declared, and the files that hold its weights. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vfmerge.errors import InputError, one_line

from .config import FILE, WEIGHTS, Config, builtin, read_folder

TINY = Path(__file__).parent.parent / "tiny" / "clip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """A parent's declared shape and local files.

    config: the shape, before published weights had their say about it.
    name: the architecture's name in open_clip, or none where the shape is from elsewhere.
    folder: what a `local-dir:` of open_clip would be, or none.
    weights: a local file of weights, or none.
    """

    config: Config
    name: str | None = None
    folder: Path | None = None
    weights: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every local file that the parent is made of."""
        described = () if self.folder is None else (self.folder / FILE,)
        return described if self.weights is None else (*described, self.weights)


def trace(
    *, model: str, pretrained: str | None, checkpoint: str | None, config: dict[str, Any] | None, random: bool
) -> Origin:
    """The origin that an adapter's options name; an `InputError` where they name none, or more than one."""
    _require_one(model=model, pretrained=pretrained, checkpoint=checkpoint, config=config, random=random)
    path = None if checkpoint is None else Path(checkpoint).expanduser()
    if path is not None and not path.exists():
        raise InputError(one_line(f"checkpoint: {path} does not exist; mend the path"))
    if path is not None and path.is_dir():
        if config is not None:
            raise InputError(one_line(f"config: the folder {path} has its own {FILE}; leave one of the two out"))
        return Origin(config=read_folder(path), folder=path, weights=path / WEIGHTS)
    if config is not None:
        return Origin(config=Config.parse(config, source="config"), weights=path)
    if model == "tiny":
        own = None if random else TINY / WEIGHTS
        return Origin(config=read_folder(TINY), folder=TINY, weights=path or own)
    return Origin(config=builtin(model), name=model, weights=path)


def _require_one(
    *, model: str, pretrained: str | None, checkpoint: str | None, config: dict[str, Any] | None, random: bool
) -> None:
    """Weights are never random unasked, and never from two places."""
    sources = {"pretrained": pretrained, "checkpoint": checkpoint, "random": random}
    given = [name for name, value in sources.items() if value]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: weights come from one place; leave all but one out")
    if pretrained is not None and (model == "tiny" or config is not None):
        raise InputError(one_line(f"pretrained: {pretrained!r} is of an architecture of open_clip; name that as model"))
    if not given and model != "tiny" and config is None:
        raise InputError(
            one_line(f"pretrained: {model} needs weights: a tag, or `checkpoint`, or `random: true` for a dry run")
        )
