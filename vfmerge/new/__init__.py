"""`vfmerge new`: a plug-in that runs at once, to be changed into one's own. Imports no torch.

Beside this file lie the templates, for a model called my_model.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
from pathlib import Path

from vfmerge import plugins
from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown

_TEMPLATES = {  # by the name of the file that each becomes
    "{name}.py": "adapter.py.txt",
    "test_{name}.py": "test.py.txt",
    "{name}.yaml": "recipe.yaml.txt",
    "pyproject.toml": "pyproject.toml.txt",
}
_LONGEST = 40  # letters of a name


def write_adapter(name: str, folder: Path) -> list[Path]:
    """Write an adapter, its test, a recipe and the package's pyproject.toml into a folder; the files.

    Raises InputError for a name that is none, or taken, and for a file that is there or cannot be written.
    """
    _check(name)
    here = Path(__file__).parent
    templates = {path: (here / file).read_text(encoding="utf-8") for path, file in _TEMPLATES.items()}
    cls = _class(name, taken="".join(templates.values()))
    texts = {folder / path.format(name=name): _fill(text, name, cls) for path, text in templates.items()}
    try:
        for path in texts:
            if path.exists() or path.is_symlink():
                raise InputError(one_line(f"{path}: is there already; choose another name, or --out another folder"))
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(one_line(f"{folder}: cannot be written to ({error}); choose another --out")) from None
    return list(texts)


def _check(name: str) -> None:
    """Refuse a name that cannot be a module's, or that is something else's."""
    if not re.fullmatch(rf"[a-z][a-z0-9_]{{,{_LONGEST - 1}}}", name):
        remedy = f"give at most {_LONGEST} small letters, digits and underscores, as my_model"
        raise InputError(one_line(f"{shown(name)} cannot name an adapter and its file; {remedy}"))
    if keyword.iskeyword(name):
        raise InputError(f"{shown(name)} is a word of Python; choose another name, such as {name}_model")
    if any(each.name == name for each in plugins.listing("adapters")):
        raise InputError(f"an adapter {shown(name)} is installed already; choose another name, such as my_{name}")
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:  # a folder that happens to be here has none
        raise InputError(f"a Python module {shown(name)} is there already; choose another name, such as my_{name}")


def _class(name: str, *, taken: str) -> str:
    """The adapter's class: its name's words together, and another word where the templates use that for something."""
    together = "".join(word.capitalize() for word in name.split("_"))
    return f"{together}Parent" if re.search(rf"\b{together}\b", taken) else together


def _fill(text: str, name: str, cls: str) -> str:
    """A template with the name in its place, as a module's, a package's and a class's."""
    package = name.replace("_", "-").strip("-")
    return text.replace("my_model", name).replace("my-model", package).replace("MyModel", cls)
