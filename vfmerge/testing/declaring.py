"""Checks of what an adapter says of itself, before any network is built. Imports no torch."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys

from vfmerge import options
from vfmerge.adapter import INTERFACE
from vfmerge.problem import shown
from vfmerge.testing.case import Case
from vfmerge.testing.finding import Broken, NotChecked, Warned

_SECONDS = 120  # for an interpreter to start and import one module
_ALONE = """
import importlib, importlib.util, json, operator, sys
module, file, name, given = sys.argv[1:]
try:
    home = importlib.import_module(module)
except ModuleNotFoundError:
    spec = importlib.util.spec_from_file_location(module, file)
    home = sys.modules[module] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(home)
from vfmerge import options
cls = operator.attrgetter(name)(home)
cls(**options.check_options(cls, json.loads(given)))
print("torch" in sys.modules)
"""


def options_are_readable(case: Case) -> None:
    """Its options can be read from its signature.

    Keyword-only and annotated: a recipe gives them by name, and their types are checked before it is made.
    """
    cls = type(case.adapter)
    options.signature(cls)
    parameters = list(inspect.signature(inspect.getattr_static(cls, "__init__")).parameters.values())[1:]
    others = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
    if others:
        raise Broken(f"{', '.join(others)}: no recipe can give what is not keyword-only; put `*` before it")


def interface_is_stated(case: Case) -> None:
    """It says for which interface it was written."""
    version = inspect.getattr_static(case.adapter, "interface", None)
    if type(version) is not int or version != INTERFACE:
        raise Broken(f"interface is {shown(version)}; write `interface = {INTERFACE}` once it is of this one")


def licence_is_stated(case: Case) -> None:
    """It states the licence of its weights."""
    licence = case.adapter.licence
    if not isinstance(licence, str) or not licence.strip():
        raise Broken(f"licence is {shown(licence)}; give an SPDX name, words, or `unknown`")
    if licence == "unknown":
        raise Warned("not stated; the merged model's card will say so")


def portable_is_plain(case: Case) -> None:
    """`portable()` is plain JSON and rebuilds the adapter.

    Without any file.
    """
    given = case.portable
    if json.loads(json.dumps(given)) != given:
        raise Broken("it changes on its way through JSON; give lists and plain numbers, texts and none")
    rebuilt = case.rebuild()
    if rebuilt.sources:
        raise Broken(f"what it makes still wants {rebuilt.sources[0].name}; a merged model comes without it")
    if rebuilt.portable() != given:
        raise Broken("what it makes has another `portable()`; a merged model could not be merged again")


def making_imports_no_torch(case: Case) -> None:
    """Making it imports no torch."""
    cls = type(case.adapter)
    if "<locals>" in cls.__qualname__:
        raise NotChecked(f"{cls.__qualname__} is defined inside a function")
    named = [cls.__module__, inspect.getfile(cls), cls.__qualname__, json.dumps(case.portable)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _ALONE, *named]
    done = subprocess.run(command, capture_output=True, text=True, env=paths, timeout=_SECONDS)
    if done.returncode:
        raise Broken(f"in a fresh interpreter it fails: {(done.stderr.splitlines() or ['no message'])[-1]}")
    if done.stdout.split()[-1:] != ["False"]:
        raise Broken("torch is imported; import it inside methods, or in a module that they import")
