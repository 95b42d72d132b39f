"""Other libraries learn of merged models when they are imported; nobody who does not use them waits for that.

`import vfmerge` imports no torch and no transformers, and yet `transformers.AutoModel` is to know merged models after
it, whichever of the two was imported first. So a finder waits for the module that has the library's registry: when that
has been imported, by whomever, what the entry points of the group `vfmerge.bridges` name is called, without arguments.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

AWAITED = {"transformers.models.auto.configuration_auto": "transformers"}
"""The bridge of each module that is waited for: an entry point's name."""


def build() -> None:
    """Call the bridges whose modules are here, and wait for the others'."""
    for module, name in AWAITED.items():
        if module in sys.modules:
            cross(name)
        elif not any(isinstance(finder, _Finder) and finder.module == module for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder(module, name))


def cross(name: str) -> None:
    """Call what the installed packages offer for a library. What goes wrong there is a warning: who imports the
    library may want something else of it.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group="vfmerge.bridges", name=name):
        try:
            point.load()()
        except Exception as error:  # anything: it is somebody else's code
            warnings.warn(f"{name} does not know merged models ({type(error).__name__}: {error})", stacklevel=2)


class _Finder:
    """Finds one module as it would be found without it, with a loader that calls a bridge at the end."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self._name = module, name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        spec.loader = cast("Loader", _Loader(spec.loader, self))
        return spec

    def done(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        cross(self._name)


class _Loader:
    """Loads a module by its own loader, which it puts in its own place, and says when that is done."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader  # for whoever looks: inspect, pkgutil, pickle
        self._loader.exec_module(module)
        self._finder.done()
