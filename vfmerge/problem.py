"""What is wrong with a recipe or with a plug-in's options: one line a mistake, with a remedy. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, get_args

import pydantic

from vfmerge.errors import InputError, one_line

Keys = tuple[str | int, ...]
"""Where something stands in a recipe: `("stages", "probe", "streams", 0, "batch")`."""

MOST = 20  # so many problems are told at once
_CHOICES = 8  # so many names are listed where none is near
_WIDTH = 60  # of a value in a message


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake. text: what is wrong, the value, the remedy. unknown: a key or name that is not known here."""

    keys: Keys
    text: str
    unknown: bool = False

    def within(self, keys: Keys) -> bool:
        """Whether it stands at these keys or below them."""
        return self.keys[: len(keys)] == keys


def dotted(keys: Keys) -> str:
    """As it is written on the command line: `stages.probe.streams.0.batch`, cut in its middle where it is long."""
    return one_line(".".join(map(str, keys)), limit=100)


def shown(value: Any) -> str:
    """A value in a message: short, on one line, as YAML would have it."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return one_line(text, limit=_WIDTH)


def refuse(problems: Iterable[Problem], origin: Callable[[Keys], str] | None = None) -> None:
    """Raise an `InputError` with a line for each problem, unknown keys first; do nothing where there is none.

    origin: what stands before the key, such as the file and the line in it.
    """
    lines: dict[str, None] = {}  # in order, each once
    for problem in sorted(problems, key=lambda each: not each.unknown):
        place = [one_line(origin(problem.keys), limit=90)] if origin else []
        key = [dotted(problem.keys)] if problem.keys else []
        lines[one_line(": ".join([*place, *key, problem.text]))] = None
    if lines:
        told = list(lines)[:MOST]
        more = [f"and {len(lines) - MOST} more problems; mend these first"] if len(lines) > MOST else []
        raise InputError("\n".join(told + more))


def nearest(word: str, choices: Collection[str]) -> list[str]:
    """The choices that the word may have been meant for; several only if they are equally near."""
    folded = {choice.casefold(): choice for choice in choices}
    near = difflib.get_close_matches(word[:200].casefold(), folded, n=3, cutoff=0.6)
    ratios = [difflib.SequenceMatcher(None, each, word[:200].casefold()).ratio() for each in near]
    return [folded[each] for each, ratio in zip(near, ratios, strict=True) if ratio == max(ratios)]


def suggestion(word: str, choices: Collection[str]) -> str:
    """`did you mean 'x'?`, or what there is to choose from."""
    near = nearest(word, choices)
    if near:
        return f"did you mean {' or '.join(map(shown, near))}?"
    listed = [one_line(choice, limit=30) for choice in sorted(choices)]
    more = f" and {len(listed) - _CHOICES} more" if len(listed) > _CHOICES else ""
    return f"choose from {', '.join(listed[:_CHOICES])}{more}" if listed else "there is none to choose from"


def unknown_key(keys: Keys, choices: Collection[str]) -> Problem:
    """A key that is not among the choices."""
    return Problem(keys=keys, text=f"unknown key; {suggestion(str(keys[-1]), choices)}", unknown=True)


def unknown_name(keys: Keys, noun: str, name: str, choices: Collection[str]) -> Problem:
    """A name that should have been one of a recipe's own, the choices."""
    return Problem(keys=keys, text=f"no {noun} {shown(name)}; {suggestion(name, choices)}", unknown=True)


def missing(keys: Keys) -> Problem:
    """A value that is not there, or that the recipe leaves to the user (`???`)."""
    return Problem(keys=keys, text=f"missing; give {dotted(keys)}=...")


def explain(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], values: Any, *, below: Keys = ()
) -> list[Problem]:
    """The problems that pydantic found in `values`, which stand at the keys `below`: one a place, and one a mistake.

    A mistyped key is also a missing one, and a list of wrong entries also an empty one: only the cause is told.
    """
    found: dict[Keys, Problem] = {}
    for detail in error.errors(include_url=False):
        keys = _place(detail["loc"], values, missing=detail["type"] == "missing")
        found.setdefault(keys, _problem(detail, keys, model, below))
    typos = [keys for keys, problem in found.items() if problem.unknown]
    meant = {(*keys[:-1], name) for keys in typos for name in nearest(str(keys[-1]), _names(model, keys[:-1]))}
    deeper = {keys[:length] for keys in found for length in range(len(keys))}
    return [problem for keys, problem in found.items() if problem.unknown or keys not in meant | deeper]


def _place(location: Sequence[str | int], values: Any, *, missing: bool) -> Keys:
    """Where in the values an error lies: pydantic's location without its names of union members."""
    keys: list[str | int] = []
    for key in location:
        if isinstance(values, list):
            values = dict(enumerate(values))
        if isinstance(values, dict) and key in values:
            values = values[key]
            keys.append(key)
    return (*keys, location[-1]) if missing else tuple(keys)


def _problem(detail: Mapping[str, Any], keys: Keys, model: type[pydantic.BaseModel], below: Keys) -> Problem:
    if detail["type"] == "extra_forbidden":
        return unknown_key((*below, *keys), _names(model, keys[:-1]))
    if detail["type"] == "missing":
        known = _names(model, keys[:-1])
        given = detail["input"] if isinstance(detail["input"], dict) else {}
        typo = [key for key in given if key not in known and keys[-1] in nearest(key, known)]
        return unknown_key((*below, *keys[:-1], typo[0]), known) if typo else missing((*below, *keys))
    return Problem(keys=(*below, *keys), text=_sentence(detail))


_SENTENCES = {
    "int_type": "not a whole number: {value}; write digits only",
    "int_parsing_size": "too many digits: {value}; write a smaller number",
    "float_type": "not a number: {value}; write one such as 0.001, without quotes",
    "finite_number": "not a finite number: {value}; write one such as 0.001",
    "bool_type": "not true or false: {value}; write true or false, without quotes",
    "string_type": "not text: {value}; write a word, in quotes if it looks like a number",
    "path_type": "not a path: {value}; write it as text",
    "dict_type": "not a mapping: {value}; write `key: value` pairs",
    "model_type": "not a mapping: {value}; write `key: value` pairs",
    "list_type": "not a list: {value}; write [a, b]",
    "tuple_type": "not a list: {value}; write [a, b]",
    "greater_than": "too small: {value}; write more than {gt}",
    "greater_than_equal": "too small: {value}; write at least {ge}",
    "less_than": "too large: {value}; write less than {lt}",
    "less_than_equal": "too large: {value}; write at most {le}",
    "too_short": "too few entries: {value}; write at least {min_length}",
    "too_long": "too many entries: {value}; write at most {max_length}",
    "literal_error": "not a choice: {value}; write {expected}",
    "told": "{text}",  # by a validator of a plug-in's signature, of what stands deeper in a mapping
    "refused": "{problem}: {value}; {remedy}",  # by a validator of a plug-in's signature, in its own words
}


def _sentence(detail: Mapping[str, Any]) -> str:
    template = _SENTENCES.get(detail["type"])
    value = shown(detail["input"])
    if template is None:  # a rarer type, from a plug-in's signature
        return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}: {value}; see the plug-in's signature"
    return template.format(value=value, **detail.get("ctx", {}))


def _names(model: type[pydantic.BaseModel], keys: Keys) -> list[str]:
    """The keys that the model allows in the mapping at `keys`; none where that is no model."""
    annotation: Any = model
    for key in keys:
        if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
            fields = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
            annotation = fields.get(str(key))
        else:  # dict[str, X] and tuple[X, ...] hold X
            annotation = next((held for held in reversed(get_args(annotation)) if held is not Ellipsis), None)
    if not (isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)):
        return []
    return [field.alias or name for name, field in annotation.model_fields.items()]
