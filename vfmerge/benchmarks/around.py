"""What a benchmark that repeats another has in common with it. Imports no torch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from vfmerge import options, plugins
from vfmerge.data.source import Source
from vfmerge.errors import InputError, one_line
from vfmerge.problem import Problem, dotted, nearest, refuse, unknown_key

from .benchmark import Benchmark, Setup

OF = "of"
"""The option that says what is repeated: the name of a `benchmark`, and its options beside it."""


def _known(of: dict[str, Any]) -> dict[str, Any]:
    """A mapping that names a benchmark, with options that it takes; what it makes of them it says when it is made."""
    mistakes = list(_mistakes(of))
    if mistakes:
        text = f"{dotted(mistakes[0].keys)}: {mistakes[0].text}"
        raise PydanticCustomError("told", "{text}", {"text": text})
    return of


def _mistakes(of: Mapping[str, Any]) -> Iterator[Problem]:
    typos = [key for key in of if "benchmark" in nearest(key, ["benchmark"])]
    if "benchmark" not in of and typos:
        yield unknown_key((typos[0],), ["benchmark"])
        return
    try:
        cls, given = find(of, around=None)
    except InputError as error:
        yield Problem(keys=("benchmark",), text=str(error).partition(": ")[2])
        return
    yield from options.examine(cls, given)[1]


Of = Annotated[dict[str, Any], AfterValidator(_known)]
"""The option `of`, checked as far as a recipe is checked when it is read."""


class Around(Benchmark):
    """A benchmark that repeats another, the inner one, on other pictures or with another option.

    It has the roles and the needs of the inner one. Its revision changes with that of the inner one.
    """

    def __init__(self, inner: Sequence[Benchmark]) -> None:
        """inner: the benchmarks that are measured, of one kind."""
        self._inner = tuple(inner)
        self.revision = 1000 * self.revision + inner[0].revision
        self.learns, self.together, self.remembered = inner[0].learns, inner[0].together, inner[0].remembered

    def tasks(self) -> dict[str, str] | None:
        return self._inner[0].tasks()

    def lacks(self, source: Source) -> str:
        return self._inner[0].lacks(source)

    def digest(self) -> str:
        return self._inner[0].digest()

    def cascade(self) -> Self | None:
        inner = [benchmark.cascade() for benchmark in self._inner]
        if None in inner:
            return None
        around = copy.copy(self)
        around._inner = tuple(each for each in inner if each is not None)
        return around


def find(of: Mapping[str, Any], *, around: type[Around] | None) -> tuple[type[Benchmark], dict[str, Any]]:
    """The class that an option `of` names, and the options beside the name, unchecked.

    Raises InputError, naming the key, if there is none, or if it is `around` itself.
    """
    name = of.get("benchmark")
    if not isinstance(name, str):
        raise wrong("benchmark", "missing; give the name of the benchmark to repeat")
    try:
        cls = plugins.find("benchmarks", name)
    except InputError as error:
        raise wrong("benchmark", str(error)) from None
    assert issubclass(cls, Benchmark)
    if around is not None and issubclass(cls, around):
        raise wrong("benchmark", f"{name} cannot repeat itself; name another benchmark")
    return cls, {option: value for option, value in of.items() if option != "benchmark"}


def build(cls: type[Benchmark], given: Mapping[str, Any]) -> Benchmark:
    """A benchmark from its options. Raises InputError, naming them below `of`."""
    checked, problems = options.examine(cls, given, keys=(OF,))
    refuse(problems)
    try:
        return cls(**checked)
    except InputError as error:
        raise InputError("\n".join(one_line(f"{OF}: {line}") for line in str(error).splitlines())) from None


def wrong(option: str, text: str) -> InputError:
    """What is wrong with an option of the inner benchmark."""
    return InputError(one_line(f"{OF}.{option}: {text}"))


def turn(setup: Setup, number: int, turns: int, *, name: str) -> Setup:
    """The setup of one of several turns: progress is of all turns, and answers go into a folder of its own."""

    def progress(done: int, total: int) -> None:
        setup.progress(number * total + done, turns * total)

    return dataclasses.replace(setup, progress=progress, predictions=setup.predictions.within(name))
