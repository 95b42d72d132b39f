"""A merged model's graphs, run one after another on what its capabilities show its trunk.

Axis letters: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .graph import Frame, word
from .task_graphs import Answers, Say, TaskGraphs

if TYPE_CHECKING:
    import numpy as np

Run = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
"""A graph at work: what it takes, in order, to what it gives."""


def eager(module: nn.Module) -> Run:
    """A graph's own module, uncompiled."""

    @torch.no_grad()
    def run(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        answer = module(*given)
        return answer if isinstance(answer, tuple) else (answer,)

    return run


def answers(tasks: Sequence[TaskGraphs], say: Say, pictures: Sequence[np.ndarray]) -> Answers:
    """Everything that the graphs say of pictures, prompts and texts together, and of the first picture alone."""
    alone = _answer(tasks, say, pictures[:1])
    return _answer(tasks, say, pictures) | {_alone(name): tensor for name, tensor in alone.items()}


def own_answers(tasks: Sequence[TaskGraphs], pictures: Sequence[np.ndarray]) -> Answers:
    """What the capabilities themselves say of the first picture alone, by the names that `answers` has for it.

    Of that one only: a person asks about one at a time, and in a batch the last digits are others.
    """
    return {_alone(name): tensor for task in tasks for name, tensor in task.own(pictures[0]).items()}


def _answer(tasks: Sequence[TaskGraphs], say: Say, pictures: Sequence[np.ndarray]) -> Answers:
    """What the graphs say; features go from one to the next."""
    found: Answers = {}
    met: set[Frame] = set()
    say = _once(say)
    for task in tasks:
        features = say(f"encoder_{word(task.frame)}", [task.shown(pictures)])
        found |= task.said(say, features, pictures)
        for other in tasks if task.frame not in met else ():
            if other.frame != task.frame:
                beside = other.said_beside(say, features, frame=task.frame)
                found |= {f"{name} in the pass of {task.task}": tensor for name, tensor in beside.items()}
        met.add(task.frame)
    return found


def _once(say: Say) -> Say:
    """The same, which knows what it said last: tasks that look at the same images share an encoder, and some a neck."""
    last: dict[str, tuple[list[Tensor], tuple[Tensor, ...]]] = {}

    def remember(name: str, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        known = last.get(name)
        if known is None or not all(torch.equal(*pair) for pair in zip(known[0], given, strict=True)):
            known = last[name] = list(given), say(name, given)
        return known[1]

    return remember


def _alone(name: str) -> str:
    return f"{name}, alone"
