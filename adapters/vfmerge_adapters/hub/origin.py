"""Where a parent in the hub's format comes from: a local folder, a repository of the hub, or a shape spelt out.

A folder is what `save_pretrained` writes: `config.json`, `model.safetensors` (or its shards and their index), and what
goes with it (`preprocessor_config.json`, a tokenizer). Nothing in it is executed. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfmerge.errors import CheckpointError, InputError, one_line

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # what transformers 5 writes of a processor with several parts
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)
_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """A parent's shape and files. What lies on the hub is fetched when it is first asked for.

    name: what messages call it.
    random: whether its weights are random ones, whatever files there are.
    folder: where its files lie. repository: else `owner/name` or `owner/name@revision` on the hub.
    described: else its config and its preprocessing themselves.
    """

    name: str
    random: bool
    folder: Path | None = None
    repository: str | None = None
    described: tuple[dict[str, Any], dict[str, Any]] | None = None

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """What `config.json` says. Raises InputError where it names no type of model, or asks to run code."""
        if self.described is not None:
            return _accept(self.described[0], source=self.name)
        path = self.file(CONFIG)
        if path is None:
            raise InputError(one_line(f"{self.name}: has no {CONFIG}; give a folder that save_pretrained wrote"))
        return _accept(_read(path), source=str(path))

    @functools.cached_property
    def preprocessor(self) -> dict[str, Any]:
        """What is said of pictures in `preprocessor_config.json`, else in `processor_config.json`, else nothing."""
        if self.described is not None:
            return self.described[1]
        path = self.file(PREPROCESSOR)
        if path is not None:
            return _read(path)
        path = self.file(PROCESSOR)
        part = {} if path is None else _read(path).get("image_processor")
        return part if isinstance(part, dict) else {}

    @functools.cached_property
    def licence(self) -> str:
        """Of its weights, as its card states it; unknown of random ones, and where there is no card to be had."""
        from .card import CARD, licence_of

        try:
            path = None if self.random else self.file(CARD)
        except InputError:  # what needs the weights says better that there is no network
            path = None
        return (path and licence_of(path)) or "unknown"

    @property
    def files(self) -> tuple[Path, ...]:
        """Every local file that the parent is made of; none of a parent on the hub, nor of one spelt out."""
        if self.folder is None:
            return ()
        beside = [name for name in (PREPROCESSOR, PROCESSOR, INDEX) if self.file(name) is not None]
        names = [CONFIG, *(name for name in beside if name != INDEX or self._is_sharded)]
        return tuple(self.folder / name for name in names) + (() if self.random else self.shards)

    @property
    def shards(self) -> tuple[Path, ...]:
        """The files of weights. Raises InputError where there is none that vfmerge reads."""
        if not self._is_sharded:
            whole = self.file(WEIGHTS)
            if whole is None:
                raise self._refusal()
            return (whole,)
        return tuple(self._shard(name) for name in sorted(set(self._places.values())))

    def weights(self) -> dict[str, Tensor]:
        """Its tensors by name, on the CPU, as `vfmerge.weights.read` lets them pass. Raises CheckpointError."""
        from vfmerge import weights

        tensors = {name: tensor for path in self.shards for name, tensor in weights.read(path).items()}
        missing = [name for name in self._places if name not in tensors] if self._is_sharded else []
        if missing:
            text = f"{self.name}: {len(missing)} tensors of {INDEX} are in no shard, first: {missing[0]}"
            raise CheckpointError(one_line(f"{text}; fetch the files again"))
        return tensors

    def file(self, name: str) -> Path | None:
        """The file of that name, fetched from the hub where it is not here yet; none where the parent has no such."""
        if self.repository is not None:
            from .repository import fetch

            return fetch(self.repository, name)
        if self.folder is None:
            return None
        path = self.folder / name
        return path if path.is_file() else None

    @functools.cached_property
    def _is_sharded(self) -> bool:
        return self.file(WEIGHTS) is None and self.file(INDEX) is not None

    @functools.cached_property
    def _places(self) -> dict[str, str]:
        """Which shard each tensor is in."""
        path = self.file(INDEX)
        assert path is not None
        places = _read(path).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(each, str) for each in places.values()):
            raise CheckpointError(one_line(f"{path}: has no weight_map of tensors to files; fetch it again"))
        strange = [name for name in places.values() if not _SHARD.fullmatch(name)]
        if strange or not places:
            what = f"names {strange[0]!r}, no file beside it" if strange else "names no file"
            raise CheckpointError(one_line(f"{path}: {what}; fetch it again"))
        return places

    def _shard(self, name: str) -> Path:
        path = self.file(name)
        if path is None:
            raise CheckpointError(one_line(f"{self.name}: {name}, which {INDEX} names, is not there; fetch it again"))
        return path

    def _refusal(self) -> InputError:
        pickle = next((name for name in ("pytorch_model.bin", "pytorch_model.bin.index.json") if self.file(name)), None)
        has = f"has {pickle} and no {WEIGHTS}; save it anew with save_pretrained" if pickle else f"has no {WEIGHTS}"
        return InputError(one_line(f"{self.name}: {has}, for vfmerge reads safetensors alone"))


def trace(
    *, model: str | None, random: bool, config: dict[str, Any] | None, preprocessor: dict[str, Any] | None = None
) -> Origin:
    """The origin that an adapter's options of these names say; an `InputError` where they say none, or two.

    A local folder is looked at, not the hub: of a parent there, only the form of its id is known to be right.
    """
    if (model is None) == (config is None):
        what = "both are given" if model is not None else "missing"
        raise InputError(f"model: {what}; give a folder or an id of the hub, or `config` with `random: true`")
    if config is not None:
        if not random:
            raise InputError("config: a shape without weights cannot teach; give `model`, or add `random: true`")
        origin = Origin(name="config", random=True, described=(config, preprocessor or {}))
        assert origin.config is not None
        return origin
    assert model is not None
    if preprocessor is not None:
        raise InputError(f"preprocessor: goes with `config`; a model has its own {PREPROCESSOR}")
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _trace_folder(folder, random=random)
    if folder.exists():
        raise InputError(one_line(f"model: {model} is a file; give the folder that it is in"))
    if not _ID.fullmatch(model):
        raise InputError(one_line(f"model: {model} does not exist; give a folder, or owner/name on the hub"))
    return Origin(name=f"model: {model}", random=random, repository=model)


def _trace_folder(folder: Path, *, random: bool) -> Origin:
    """The origin of a local folder that has all it needs, by name."""
    origin = Origin(name=f"model: {folder}", random=random, folder=folder)
    assert origin.config is not None
    assert origin.preprocessor is not None
    assert origin.files
    return origin


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(one_line(f"{path}: cannot be read as JSON ({error}); fetch it again")) from error
    if not isinstance(content, dict):
        raise InputError(one_line(f"{path}: holds no settings by name; fetch it again"))
    return content


def _accept(config: dict[str, Any], *, source: str) -> dict[str, Any]:
    """The config of a model that the library itself knows how to build from plain numbers; without its private notes.

    Among those is where it was read from, which is nobody else's concern.
    """
    if "auto_map" in config:
        text = f"{source}: its network is code beside it (auto_map), which vfmerge never runs"
        raise InputError(one_line(f"{text}; give a model of the library's own classes"))
    if config.get("quantization_config") is not None:
        raise InputError(one_line(f"{source}: its weights are quantised; give the model as it was before"))
    if not isinstance(config.get("model_type"), str):
        raise InputError(one_line(f"{source}: says no model_type; give the config.json that save_pretrained wrote"))
    return {name: value for name, value in config.items() if not name.startswith("_")}
