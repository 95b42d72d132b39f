"""The heads of a merged model by what they do, and the choice of one where several could do it. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

from vfmerge.capability import Capability, ImageText, Promptable, PromptableRecognition
from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown

Able = TypeVar("Able", bound=Capability)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Heads:
    """Capabilities by task, of three kinds."""

    image_text: Mapping[str, ImageText]
    promptable: Mapping[str, Promptable]
    recognition: Mapping[str, PromptableRecognition]

    @classmethod
    def of(cls, capabilities: Mapping[str, Capability]) -> Heads:
        """capabilities: of a model, by task; those of other kinds are left out."""
        return cls(
            image_text={task: each for task, each in capabilities.items() if isinstance(each, ImageText)},
            promptable={task: each for task, each in capabilities.items() if isinstance(each, Promptable)},
            recognition={task: each for task, each in capabilities.items() if isinstance(each, PromptableRecognition)},
        )


def choose(able: Mapping[str, Able], *, wanted: Sequence[str] = (), kind: str, option: str | None = None) -> str:
    """The task of the head that is wanted, or of the only one there is.

    able: heads of one kind, by task. wanted: tasks, of which the first that is able is taken. kind: what stands before
    errors. option: by which a person says what is wanted, where that is not called as the kind is.
    Raises InputError where there is no head, or several and none is wanted.
    """
    chosen = next((task for task in wanted if task in able), None)
    if chosen is not None:
        return chosen
    if not able:
        raise InputError(f"{kind}: this model has no such head; take one that has")
    if len(able) > 1:
        remedy = f"name one{f' by {option}' if option else ''}: {' or '.join(able)}"
        raise InputError(one_line(f"{kind}: this model has several such heads; {remedy}"))
    return next(iter(able))


def only(able: Mapping[str, Able], *, wanted: Sequence[str] = (), kind: str, option: str | None = None) -> Able:
    """The head itself, chosen as `choose` does."""
    return able[choose(able, wanted=wanted, kind=kind, option=option)]


def require(task: object, able: Mapping[str, Capability], *, kind: str) -> None:
    """Raise InputError if a task is not among the heads of a kind."""
    if not isinstance(task, str) or task not in able:
        there = " or ".join(able) or "another model"
        raise InputError(one_line(f"{kind}: {shown(task)} is no such head of this model; give {there}"))
