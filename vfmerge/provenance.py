"""By which code something was computed, so that what is remembered of it is used for that very code alone.

Of the libraries that vfmerge and its adapters use, that is a version. Of plug-ins it is the code itself: while somebody
writes an adapter, or has it installed to edit it in place, its version stays.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfmerge.capability import Capability

_LIBRARIES = {
    "vfmerge": "vfmerge",
    "torch": "torch",
    "numpy": "numpy",
    "PIL": "pillow",
    "torchvision": "torchvision",
    "timm": "timm",
    "open_clip": "open_clip_torch",
    "transformers": "transformers",
    "segment_anything": "segment-anything",
}
"""What reads pictures, runs models and scores them: the name that it is imported by, and that of its distribution."""


@functools.cache
def versions() -> dict[str, str | None]:
    """The versions of all that may change a number in its last places, or, of vfmerge, a protocol; none is not here."""
    return {name: _version(name) for name in _LIBRARIES.values()}


def code_of(classes: Iterable[type]) -> str:
    """A SHA-256 of the Python files of the packages that classes and their bases are of, or of their local file.

    Empty where all of them are Python's own, or of libraries with a version.
    """
    tops = {base.__module__.partition(".")[0] for cls in set(classes) for base in cls.__mro__}
    unknown = sorted(tops - _LIBRARIES.keys() - sys.stdlib_module_names)
    found = [_digest(sys.modules[top]) for top in unknown if top in sys.modules]
    return hashlib.sha256("".join(found).encode()).hexdigest() if found else ""


def code_behind(model: Capability) -> str:
    """The code that makes a model's answers: of what a person asks, and of all modules of its network."""
    return code_of([type(model), *map(type, model.network.modules())])


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache  # of the module as it was executed: an edit reaches a process that begins after it
def _digest(module: ModuleType) -> str:
    total = hashlib.sha256()
    for file in _files(module):
        content = file.read_bytes()
        total.update(f"{file.name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def _files(module: ModuleType) -> list[Path]:
    """The Python files of a package, those below it too, or the one of a module; none of what is not from a file."""
    folders = [Path(folder) for folder in vars(module).get("__path__", ())]
    if folders:
        return [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    file = vars(module).get("__file__")
    return [Path(file)] if file and Path(file).is_file() else []
