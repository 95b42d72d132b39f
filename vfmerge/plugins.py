"""Plug-ins: installed entry points by name. A name in a recipe finds one of these and nothing else.

Each is imported when it is asked for, alone, so that a broken one harms nobody else. Imports no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown, suggestion

Kind = Literal["adapters", "data", "benchmarks", "exports"]
KINDS: tuple[Kind, ...] = ("adapters", "data", "benchmarks", "exports")

_BASES: dict[Kind, tuple[str, str]] = {
    "adapters": ("vfmerge.adapter", "Adapter"),
    "data": ("vfmerge.data.source", "Source"),
    "benchmarks": ("vfmerge.benchmarks.benchmark", "Benchmark"),
    "exports": ("vfmerge.export", "Export"),
}
_NOUNS: dict[Kind, str] = {
    "adapters": "adapter",
    "data": "kind of data",
    "benchmarks": "benchmark",
    "exports": "kind of export",
}
_files: dict[str, type] = {}  # adapters of local files, by name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plugin:
    """One line of a listing. summary: the first line of its docstring. broken: why it cannot be used, or none."""

    name: str
    package: str
    summary: str
    broken: str | None


def find(kind: Kind, name: str) -> type:
    """The class of that name. Raises InputError if there is none, or if it cannot be imported, naming its package."""
    if kind == "adapters" and name in _files:
        return _files[name]
    named = [point for point in _points(kind) if point.name == name]
    if not named:
        there = sorted({point.name for point in _points(kind)} | (set(_files) if kind == "adapters" else set()))
        remedy = suggestion(name, there)
        listed = "" if remedy.startswith("choose") else f" (there are: {', '.join(there)})"
        raise InputError(one_line(f"no {_NOUNS[kind]} {shown(name)}; {remedy}{listed}"))
    packages = sorted(map(_package, named))
    if len({point.value for point in named}) > 1:
        raise InputError(one_line(f"{_NOUNS[kind]} {shown(name)}: offered by {' and '.join(packages)}; uninstall one"))
    return _load(kind, named[0])


def make(cls: type, given: Mapping[str, Any]) -> Any:
    """One of that class, from options that were checked.

    Raises InputError: what is wrong with the options, or whatever else somebody else's code raises, by its name.
    """
    try:
        return cls(**given)
    except InputError:
        raise
    except Exception as error:
        reason = f"cannot be made ({type(error).__name__}: {error})"
        raise InputError(one_line(f"plug-in {cls.__module__}.{cls.__qualname__}: {reason}; mend it")) from error


def listing(kind: Kind) -> list[Plugin]:
    """All that are installed, by name; those that cannot be used say why, and are never raised."""
    names = sorted({point.name for point in _points(kind)} | (set(_files) if kind == "adapters" else set()))
    return [_describe(kind, name) for name in names]


def add_file(path: Path) -> list[str]:
    """Make the adapter classes of a local file usable by name, for this process; the names.

    An adapter's name is its attribute `name`, else its class's name in lower case. The file is executed: only the
    command line may ask for it, never a recipe. Raises InputError if it cannot be, or takes an installed one's name.
    """
    module = _execute(path)
    found = {
        str(vars(cls).get("name", cls.__name__.lower())): cls
        for cls in vars(module).values()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and issubclass(cls, _base("adapters"))
    }
    if not found:
        raise InputError(one_line(f"{path}: defines no adapter; subclass vfmerge.adapter.AuxiliaryAdapter"))
    for name, cls in found.items():
        if any(point.name == name for point in _points("adapters")) or name in _files:
            raise InputError(one_line(f"{path}: adapter {shown(name)} is there already; give the class another `name`"))
        _complete(cls, f"{path}: adapter {shown(name)}")
    _files.update(found)
    return sorted(found)


@contextlib.contextmanager
def lend(classes: Mapping[str, type]) -> Iterator[None]:
    """Adapter classes that are found by these names meanwhile, before any others of the name."""
    before = dict(_files)
    _files.update(classes)
    try:
        yield
    finally:
        _files.clear()
        _files.update(before)


def file_of(cls: type) -> Path | None:
    """The local file that an adapter's class was added from, or none."""
    local = any(cls is each for each in _files.values())
    return Path(inspect.getfile(cls)) if local else None


def _points(kind: Kind) -> tuple[EntryPoint, ...]:
    return _installed(kind, tuple(sys.path))


@functools.cache
def _installed(kind: Kind, where: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points on the import path `where`; reading them all takes a tenth of a second."""
    return tuple(entry_points(group=f"vfmerge.{kind}"))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value.split(".")[0]


def _base(kind: Kind) -> type:
    module, name = _BASES[kind]
    base = vars(import_module(module))[name]
    assert isinstance(base, type)
    return base


def _load(kind: Kind, point: EntryPoint) -> type:
    source = f"{_NOUNS[kind]} {shown(point.name)} of package {_package(point)}"
    try:
        cls = point.load()
    except (Exception, SystemExit) as error:  # anything: it is somebody else's code
        reason = f"cannot be imported ({type(error).__name__}: {error})"
        raise InputError(one_line(f"{source}: {reason}; mend or reinstall {_package(point)}")) from None
    if not (inspect.isclass(cls) and issubclass(cls, _base(kind))):
        raise InputError(one_line(f"{source}: {point.value} is no {_BASES[kind][1]}; it was made for another vfmerge"))
    _complete(cls, source)
    return cls


def _complete(cls: type, source: str) -> None:
    """Refuse a class of another interface, or one that leaves methods of its interface out."""
    if issubclass(cls, _base("adapters")):
        version, now = (
            inspect.getattr_static(cls, "interface", None),
            vars(import_module("vfmerge.adapter"))["INTERFACE"],
        )
        if type(version) is not int:
            raise InputError(one_line(f"{source}: says not for which interface it was made; write `interface = {now}`"))
        if version != now:
            older = "upgrade it" if version < now else "upgrade vfmerge"
            text = f"{source}: was made for interface {version} of vfmerge, and this one has {now}; {older}"
            raise InputError(one_line(text))
    left = sorted(vars(cls).get("__abstractmethods__", ()))
    if left:
        raise InputError(one_line(f"{source}: lacks {', '.join(left)}; it was made for another vfmerge"))


def _describe(kind: Kind, name: str) -> Plugin:
    package = "a local file" if kind == "adapters" and name in _files else _packages(kind, name)
    try:
        cls = find(kind, name)
    except InputError as error:
        return Plugin(name=name, package=package, summary="", broken=str(error))
    summary = next(iter((inspect.getdoc(cls) or "").splitlines()), "")
    return Plugin(name=name, package=package, summary=summary, broken=None)


def _packages(kind: Kind, name: str) -> str:
    return ", ".join(sorted({_package(point) for point in _points(kind) if point.name == name}))


def _execute(path: Path) -> ModuleType:
    name = f"vfmerge_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path) if path.suffix == ".py" else None
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(one_line(f"--plugin {path}: no Python file; give the path of a .py file"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = f"cannot be imported ({type(error).__name__}: {error})"
        raise InputError(one_line(f"--plugin {path}: {reason}; mend it")) from None
    return module
