"""`config.json` of a merged model: which adapters with which options its trunk and heads were made by.

Reading it imports no torch, and nothing that it says is imported but by the name of an installed adapter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic

from vfmerge import commit, options, plugins
from vfmerge.adapter import Adapter
from vfmerge.errors import CheckpointError, InputError, one_line

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SCHEMA = 1
MODEL_TYPE, ARCHITECTURE = "vfmerge", "VfmergeModel"


class Part(pydantic.BaseModel):
    """One task's part of a merged model."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True)

    adapter: str
    """name of an installed adapter"""
    options: dict[str, Any]
    """what it was made with: shapes alone, no file"""
    licence: str = "unknown"
    """of the parent's weights"""


class Config(pydantic.BaseModel):
    """A merged model's parts by name."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True)

    schema_: int = pydantic.Field(default=SCHEMA, alias="schema")
    library: str = "vfmerge"
    base: str
    """the part whose trunk it is"""
    parents: dict[str, Part]
    tasks: dict[str, Part] = {}
    """heads without a parent, built upon those of parents"""

    def dump(self) -> str:
        """As it is written to the file; what comes first is by what transformers knows its classes."""
        classes = {"model_type": MODEL_TYPE, "architectures": [ARCHITECTURE]}
        return json.dumps(classes | self.model_dump(mode="json", by_alias=True), indent=2) + "\n"


def read(folder: Path) -> Config:
    """What a merged model's folder says of it.

    Raises CheckpointError if the file is not there, damaged, or no such config; InputError if a newer vfmerge wrote it.
    """
    path = folder / CONFIG
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        if written["schema"] > SCHEMA:
            raise InputError(one_line(f"{path}: schema {written['schema']} is of a newer vfmerge; upgrade vfmerge"))
        config = Config.model_validate(written)
        _ = config.parents[config.base]
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        text = f"{path}: no merged model's config ({type(error).__name__}); give a `merged` folder"
        raise CheckpointError(one_line(text)) from None
    return config


def build_all(config: Config, *, where: str) -> dict[str, Adapter]:
    """The adapters of all parts, parents first. where: what stands before messages, as the folder. Raises as `build`"""
    sections = {"parents": config.parents, "tasks": config.tasks}
    return {
        name: build(part, where=f"{where}: {section}.{name}")
        for section, parts in sections.items()
        for name, part in parts.items()
    }


def build(part: Part, *, where: str) -> Adapter:
    """The adapter that made a part. where: what stands before messages, as the folder and the part's name in it.

    Raises InputError if it is not installed, or is one that does not take these options.
    """
    try:
        cls = plugins.find("adapters", part.adapter)
    except InputError as error:
        text = f"{where}: made with adapter {part.adapter!r}: {error} (install its package, or give --plugin FILE.py)"
        raise InputError(one_line(text)) from None
    checked = options.check_options(cls, part.options, where=f"{where}.options")
    try:
        adapter = plugins.make(cls, checked)
    except InputError as error:
        raise InputError("\n".join(one_line(f"{where}.{line}") for line in str(error).splitlines())) from None
    assert isinstance(adapter, Adapter)
    return adapter


def identify(folder: Path) -> str:
    """A checksum of all that lies in a committed folder, by its manifest. Raises CheckpointError if there is none."""
    try:
        return commit.digest(folder / commit.MANIFEST)
    except OSError:
        text = f"{folder}: {commit.MANIFEST} is missing; the folder is not as it was written, take it from its source"
        raise CheckpointError(one_line(text)) from None
