"""Where a parent comes from: its architecture as declared, and the file that holds its weights. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfmerge.errors import InputError, one_line

from .shape import FILE, WEIGHTS, Folder, Settings, require_known, require_shaping

_TINY = {f"tiny_{kind}": Path(__file__).parent.parent / "tiny" / kind for kind in ("dino", "mae")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """A parent's declared shape, and how to come by its weights.

    name: of the architecture. tag: of the published weights whose settings it has, or none for timm's own default.
    arguments: what is changed of the architecture.
    folder: in timm's `local-dir:` layout, or none. settings: the folder's own, or none.
    weights: a local file, or none: they are fetched by tag, or random.
    """

    name: str
    arguments: Mapping[str, Any]
    tag: str | None = None
    folder: Path | None = None
    settings: Settings | None = None
    weights: Path | None = None
    random: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """Every local file that the parent is made of."""
        described = () if self.folder is None else (self.folder / FILE,)
        return described if self.weights is None else (*described, self.weights)


def trace(
    *, model: str | None, pretrained: str | None, checkpoint: str | None, random: bool, arguments: Mapping[str, Any]
) -> Origin:
    """The origin that an adapter's options name; an `InputError` where they name none, or more than one."""
    require_shaping(arguments, source="arguments")
    _require_one(model=model, pretrained=pretrained, checkpoint=checkpoint, random=random)
    path = None if checkpoint is None else Path(checkpoint).expanduser()
    if path is not None and not path.exists():
        raise InputError(one_line(f"checkpoint: {path} does not exist; mend the path"))
    if path is not None and path.is_dir():
        if model is not None:
            raise InputError(one_line(f"model: the folder {path} says its own architecture; leave one of the two out"))
        return _from_folder(path, weights=path / WEIGHTS, arguments=arguments, random=False)
    if model is None:
        raise InputError("model: missing; name an architecture of timm, or give a folder of timm's as `checkpoint`")
    if model in _TINY:
        own = None if random else _TINY[model] / WEIGHTS
        return _from_folder(_TINY[model], weights=path or own, arguments=arguments, random=random)
    name, _, tag = model.partition(".")
    require_known(name)
    if tag and pretrained:
        raise InputError(one_line(f"pretrained: {model} names its tag already; leave {tag!r} or {pretrained!r} out"))
    return Origin(name=name, arguments=arguments, tag=pretrained or tag or None, weights=path, random=random)


def _from_folder(folder: Path, *, weights: Path | None, arguments: Mapping[str, Any], random: bool) -> Origin:
    config = Folder.read(folder)
    require_known(config.architecture)
    own = {name: value for name, value in config.model_args.items() if name != "num_classes"}
    require_shaping(own, source=f"checkpoint: {folder / FILE}: model_args")
    return Origin(
        name=config.architecture,
        arguments=own | dict(arguments),
        folder=folder,
        settings=config.pretrained_cfg,
        weights=weights,
        random=random,
    )


def _require_one(*, model: str | None, pretrained: str | None, checkpoint: str | None, random: bool) -> None:
    """Weights are never random unasked, and never from two places."""
    sources = {"pretrained": pretrained, "checkpoint": checkpoint, "random": random}
    given = [name for name, value in sources.items() if value]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)}: weights come from one place; leave all but one out")
    if pretrained is not None and model in _TINY:
        raise InputError(one_line(f"pretrained: {pretrained!r} is of an architecture of timm; name that as model"))
    if not given and model not in _TINY:
        what = model or "a model"
        text = f"checkpoint: {what} needs weights: a file, or a `pretrained` tag, or `random: true` for a dry run"
        raise InputError(one_line(text))
