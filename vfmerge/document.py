"""A YAML document from anybody, read as plain values: nothing in it is executed, imported or taken from the machine.

OmegaConf reads the scalars (`1e-4` is a number) and fills in `${key.path}`. Before it sees anything, the text must be
small and flat and hold no tag, anchor or alias; and the only interpolation is the plain one of another key, one hop
far, so no resolver (`oc.env`) can be reached and nothing can multiply. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vfmerge.errors import InputError, one_line
from vfmerge.problem import Keys, Problem, dotted, missing, nearest, refuse, shown

try:
    from yaml import CSafeLoader as Loader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as Loader

LARGEST = 1 << 20  # bytes of a file
_DEEPEST = 32  # mappings and lists in one another
_LONGEST = 4096  # letters of a scalar: a number of so many digits is already slow
_NODES = 2000  # scalars, lists and mappings together: a recipe has about a hundred
_INTERPOLATIONS = 100
_INTERPOLATION = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
_AMBIGUOUS = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|0[xb]_*", re.ASCII)
_WORDS = {"on", "off", "yes", "no"}

COMMAND_LINE = "command line"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """Plain values, and where each was written.

    name: the file, as messages name it. missing: the keys that are still `???`. overridden: keys set by overrides.
    """

    name: str
    values: dict[str, Any]
    missing: tuple[Keys, ...]
    lines: Mapping[Keys, int]
    overridden: tuple[Keys, ...]

    def origin(self, keys: Keys) -> str:
        """The file and, where it is known, the line in it; or the command line."""
        if any(keys[: len(each)] == each for each in self.overridden):
            return COMMAND_LINE
        if keys and keys not in self.lines and any(each[: len(keys)] == keys for each in self.overridden):
            return COMMAND_LINE  # it is there only because something was set below it
        known = [keys[:length] for length in range(len(keys), 0, -1) if keys[:length] in self.lines]
        return f"{self.name}:{self.lines[known[0]]}" if known else self.name


def read(text: str, *, name: str, overrides: Sequence[tuple[Keys, str]] = ()) -> Document:
    """Read a document and set `overrides` in it: keys and the YAML text of a value, which replaces what stood there.

    Raises InputError with a line for each problem.
    """
    lines = _scan(text, name=name)
    if not lines:
        raise InputError(f"{name}: no mapping; write `key: value` lines")
    values = _plain(lambda: OmegaConf.create(text), name=name)
    written_keys = []
    for keys, override in overrides:
        name_there = f"{COMMAND_LINE}: {dotted(keys)}"
        _scan(override, name=name_there)
        held = _plain(lambda value=override: OmegaConf.from_dotlist([f"value={value}"]), name=name_there)  # type: ignore[misc]
        written_keys.append(_set(values, keys, held["value"]))
    absent = tuple(keys for keys, value in leaves(values) if value == "???")
    written = Document(name=name, values=values, missing=absent, lines=lines, overridden=tuple(written_keys))
    problems = [*_interpolation_problems(values), *_number_problems(values)]
    if problems:
        refuse([*problems, *map(missing, absent)], written.origin)
    return dataclasses.replace(written, values=_interpolate(written))


def _scan(text: str, *, name: str) -> dict[Keys, int]:
    """Refuse a text that is too large, too deep or too clever; the line of every key, counted from 1."""
    try:
        _limit(text, name=name)
        root = yaml.compose(text, Loader)
    except yaml.YAMLError as error:
        raise InputError(_syntax(error, text, name=name)) from None
    lines: dict[Keys, int] = {}
    if root is not None:
        _visit(root, (), lines, name=name)
    return lines


def _limit(text: str, *, name: str) -> None:
    """One pass over the parser's events, which are never nested in one another, so nothing can be exhausted by them."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader):
        where = f"{name}:{event.start_mark.line + 1}"
        nodes += isinstance(event, yaml.NodeEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or (isinstance(event, yaml.NodeEvent) and event.anchor):
            text = f"an anchor or alias of YAML ('&', '*') is refused: {event.anchor}; write ${{key.path}}"
            raise InputError(one_line(f"{where}: {text}"))
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            raise InputError(one_line(f"{where}: a tag of YAML ('!') is refused: {event.tag}; write the plain value"))
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST:
            raise InputError(f"{where}: a value of {len(event.value)} letters; write at most {_LONGEST}")
        if depth > _DEEPEST:
            raise InputError(f"{where}: nested more than {_DEEPEST} deep; write it flatter")
        if nodes > _NODES:
            raise InputError(f"{where}: more than {_NODES} values; a recipe is shorter")
        if documents > 1:
            raise InputError(f"{where}: a second document begins (`---`); keep one a file")


def _visit(node: yaml.Node, keys: Keys, lines: dict[Keys, int], *, name: str) -> None:
    """Note the lines of keys; refuse keys that are no words, and scalars that YAML 1.1 would misread."""
    where = f"{name}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _check_key(key, keys, lines, name=name)
            lines[*keys, key.value] = key.start_mark.line + 1
            _visit(value, (*keys, key.value), lines, name=name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[*keys, index] = value.start_mark.line + 1
            _visit(value, (*keys, index), lines, name=name)
    elif node.style is None and (_AMBIGUOUS.fullmatch(node.value) or node.value.lower() in _WORDS):
        key = ".".join(map(str, keys))
        text = f"{where}: {key}: {shown(node.value)[1:-1]} reads differently in YAML 1.1 and 1.2"
        raise InputError(one_line(f"{text}; write true, false or a decimal number, or put it in quotes"))


def _check_key(key: yaml.Node, keys: Keys, lines: Mapping[Keys, int], *, name: str) -> None:
    where = f"{name}:{key.start_mark.line + 1}"
    if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str") or not key.value:
        word = shown(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
        text = f"no word for a key: {word}; write a word, in quotes if it looks like a number"
        raise InputError(one_line(f"{where}: {text}"))
    if (*keys, key.value) in lines:
        before = lines[*keys, key.value]
        raise InputError(one_line(f"{where}: {shown(key.value)} stands twice, first in line {before}; remove one"))


def _syntax(error: yaml.YAMLError, text: str, *, name: str) -> str:
    """A parser's complaint as one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return one_line(f"{name}: not YAML: {_first(error)}; write it as plain UTF-8 text")
    row = error.problem_mark.line
    remedy = "mind indentation, colons, quotes and brackets"
    if "???" in "".join(text.splitlines()[row : row + 1]):
        remedy = "inside { } put '???' in quotes"
    return one_line(f"{name}:{row + 1}: not YAML: {error.problem}; {remedy}")


def _plain(read_config: Callable[[], Any], *, name: str) -> dict[str, Any]:
    """What OmegaConf reads as plain values, `${...}` and `???` left as they are."""
    try:
        values = OmegaConf.to_container(read_config())
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise InputError(one_line(f"{name}: cannot be read: {_first(error)}; write `key: value` lines")) from None
    if not isinstance(values, dict):
        raise InputError(one_line(f"{name}: a list, {shown(values)}; write `key: value` lines"))
    return {str(key): value for key, value in values.items()}


def _first(error: Exception) -> str:
    """The first line of an error's own words."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def _set(values: dict[str, Any], keys: Keys, value: Any) -> Keys:
    """Set one value; mappings on the way are made where there is none. The keys, those into lists as integers."""
    node: Any = values
    taken: list[str | int] = []
    for key in keys:
        taken.append(_entry(node, (*taken, key)) if isinstance(node, list) else key)
        if len(taken) == len(keys):
            node[taken[-1]] = value
        elif isinstance(node, dict) and not isinstance(node.get(key), dict | list):
            node[key] = {}
        node = node[taken[-1]]
    return tuple(taken)


def _entry(node: list[Any], keys: Keys) -> int:
    text = str(keys[-1])
    if not (text.isascii() and text.isdecimal() and int(text) < len(node)):
        problem = Problem(keys=keys, text=f"no such entry; the list has {len(node)}, counted from 0")
        refuse([problem], lambda _: COMMAND_LINE)
    return int(text)


def leaves(values: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every scalar and every empty mapping or list, with its keys."""
    if not (isinstance(values, dict | list) and values):
        yield keys, values
        return
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield from leaves(value, (*keys, key))


def _interpolation_problems(values: dict[str, Any]) -> Iterator[Problem]:
    """Whatever is no plain, one-hop interpolation of a key that is there."""
    total = size = 0
    for keys, value in leaves(values):
        if not isinstance(value, str) or "${" not in value:
            continue
        paths = _INTERPOLATION.findall(value)
        total += len(paths)
        if "${" in _INTERPOLATION.sub("", value) or "\\${" in value:
            yield Problem(keys=keys, text=f"not a plain ${{key.path}}: {shown(value)}; write that, or the value itself")
            continue
        for path in paths:
            held = list(_find(values, path.split(".")))
            size += len(held)
            if not held:
                near = nearest(path, [".".join(map(str, each)) for each, _ in leaves(values)])
                remedy = f"did you mean ${{{near[0]}}}?" if near else "write the key's full path"
                yield Problem(keys=keys, text=f"no key {shown(path)} to fill in; {remedy}")
            elif any(isinstance(each, str) and "${" in each for each in held):
                yield Problem(keys=keys, text=f"{shown(path)} is itself filled in from elsewhere; refer to its source")
    if total > _INTERPOLATIONS or size > _NODES:
        yield Problem(keys=(), text=f"{total} interpolations of {size} values; write at most {_INTERPOLATIONS}")


def _find(values: Any, path: Sequence[str]) -> Iterator[Any]:
    """The scalars at and below a path; nothing where there is no such path."""
    for key in path:
        if isinstance(values, dict) and key in values:
            values = values[key]
        elif isinstance(values, list) and key.isdecimal() and int(key) < len(values):
            values = values[int(key)]
        else:
            return
    yield from (value for _, value in leaves(values))


def _number_problems(values: dict[str, Any]) -> Iterator[Problem]:
    for keys, value in leaves(values):
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(keys=keys, text=f"not a finite number: {value}; write one such as 0.001")


def _interpolate(written: Document) -> dict[str, Any]:
    """The values with every `${...}` filled in."""
    try:
        values = OmegaConf.to_container(OmegaConf.create(written.values), resolve=True)
    except OmegaConfBaseException as error:  # mostly: it refers to a `???`
        refuse(map(missing, written.missing), written.origin)
        raise InputError(one_line(f"{written.name}: cannot be filled in: {_first(error)}; write the values")) from None
    assert isinstance(values, dict)
    texts = [(keys, value) for keys, value in leaves(values) if isinstance(value, str)]
    left = [keys for keys, value in texts if "${" in value or len(value) > _LONGEST]
    text = f"longer than {_LONGEST} letters or not plain when filled in; write the value itself"
    refuse([Problem(keys=keys, text=text) for keys in left], written.origin)
    return {str(key): value for key, value in values.items()}
