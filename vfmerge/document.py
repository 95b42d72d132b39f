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
_MISSING = re.compile(r": \?\?\?(?=\s*[,}])")  # plain in YAML 1.2, but PyYAML wants it quoted inside { }
_AMBIGUOUS = re.compile(r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|0[xb]_*", re.ASCII)
_NUMBER = re.compile(r"[-+.]*[0-9]")
_WORDS = {"on", "off", "yes", "no"}
_PLAIN = (None, "")  # the style of a scalar without quotes, as either loader names it

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
    text = _MISSING.sub(": '???'", text)
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
        raise InputError(_syntax(error, name=name)) from None
    lines: dict[Keys, int] = {}
    if root is not None:
        _visit(root, (), lines, name=name)
    return lines


def _at(name: str, mark: yaml.Mark) -> str:
    """The file and the line in it; an override has no lines."""
    return name if name.startswith(COMMAND_LINE) else f"{name}:{mark.line + 1}"


def _limit(text: str, *, name: str) -> None:
    """One pass over the parser's events, which are never nested in one another, so nothing can be exhausted by them."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader):
        nodes += isinstance(event, yaml.NodeEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = _event_problem(event)
        if depth > _DEEPEST:
            problem = f"nested more than {_DEEPEST} deep; write it flatter"
        elif nodes > _NODES:
            problem = f"more than {_NODES} values; a recipe is shorter"
        elif documents > 1:
            problem = "a second document begins (`---`); keep one a file"
        if problem:
            raise InputError(one_line(f"{_at(name, event.start_mark)}: {problem}"))


def _event_problem(event: yaml.Event) -> str:
    """What is too clever or too long for a recipe in one event of the parser; empty if nothing is."""
    if not isinstance(event, yaml.NodeEvent):
        return ""
    if event.anchor:
        return f"an anchor or alias of YAML ('&', '*') is refused: {event.anchor}; write ${{key.path}}"
    if event.tag:
        return f"a tag of YAML ('!') is refused: {event.tag}; write the plain value"
    if isinstance(event, yaml.ScalarEvent) and len(event.value) > _LONGEST:
        return f"a value of {len(event.value)} letters; write at most {_LONGEST}"
    return ""


def _visit(node: yaml.Node, keys: Keys, lines: dict[Keys, int], *, name: str) -> None:
    """Note the lines of keys; refuse keys that are no words, and scalars that YAML 1.1 would misread."""
    where = _at(name, node.start_mark)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _check_key(key, keys, lines, name=name)
            lines[*keys, key.value] = key.start_mark.line + 1
            _visit(value, (*keys, key.value), lines, name=name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[*keys, index] = value.start_mark.line + 1
            _visit(value, (*keys, index), lines, name=name)
    elif problem := _scalar_problem(node):
        refuse([Problem(keys=keys, text=problem)], lambda _: where)


def _scalar_problem(node: yaml.Node) -> str:
    """What is wrong with a scalar as it is written; empty if nothing is."""
    if node.style in _PLAIN and (_AMBIGUOUS.fullmatch(node.value) or node.value.lower() in _WORDS):
        return (
            f"{node.value[:40]} reads differently in YAML 1.1 and 1.2; write true, false, a decimal number, or quotes"
        )
    if "${" in _INTERPOLATION.sub("", node.value) or "\\${" in node.value:
        return f"not a plain ${{key.path}}: {shown(node.value)}; write that, or the value itself"
    return ""


def _check_key(key: yaml.Node, keys: Keys, lines: Mapping[Keys, int], *, name: str) -> None:
    where = _at(name, key.start_mark)
    if not isinstance(key, yaml.ScalarNode) or not _is_word(key):
        word = shown(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
        text = f"no word for a key: {word}; write a word, in quotes if it looks like a number"
        raise InputError(one_line(f"{where}: {text}"))
    if (*keys, key.value) in lines:
        before = lines[*keys, key.value]
        raise InputError(one_line(f"{where}: {shown(key.value)} stands twice, first in line {before}; remove one"))


def _is_word(key: yaml.ScalarNode) -> bool:
    """Whether every reader of YAML takes the key for text: OmegaConf reads `1e5` as a number, PyYAML as text."""
    number = key.style in _PLAIN and _NUMBER.match(key.value)
    return bool(key.tag.endswith(":str") and key.value and not number)


def _syntax(error: yaml.YAMLError, *, name: str) -> str:
    """A parser's complaint as one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return one_line(f"{name}: not YAML: {_first(error)}; write it as plain UTF-8 text")
    remedy = "mind indentation, colons, quotes and brackets"
    return one_line(f"{_at(name, error.problem_mark)}: not YAML: {error.problem}; {remedy}")


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
    """Interpolations of keys that are not there, or are filled in themselves."""
    total = size = 0
    for keys, value in leaves(values):
        paths = _INTERPOLATION.findall(value) if isinstance(value, str) else []
        total += len(paths)
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
    if not any(isinstance(value, str) and "${" in value for _, value in leaves(written.values)):
        return written.values
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
