"""One task of a merged model as graphs, and what the task and its graphs say of the same pictures.

Axis letters: B images, H x W pixels of an input.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vfmerge.config import Config as Made
from vfmerge.model import MergedModel

from .graph import Frame, Graph

if TYPE_CHECKING:
    import numpy as np

Say = Callable[[str, Sequence[Tensor]], tuple[Tensor, ...]]
"""A graph's name and what it takes, in order, to what it gives."""
Answers = dict[str, Tensor]
"""By a name for people, the same for the graphs' and for the model's own."""


class TaskGraphs(abc.ABC):
    """Graphs of one task's head; the encoder is everyone's. task: its name."""

    def __init__(self, model: MergedModel, task: str, *, made: Made, maps: int) -> None:
        """made: by which adapters. maps: how many the trunk has."""
        self.model, self.task, self._made, self._maps = model, task, made, maps

    @property
    @abc.abstractmethod
    def frame(self) -> Frame:
        """At which the task looks by default."""

    @abc.abstractmethod
    def seeing(self, features: Mapping[str, Tensor], *, frame: Frame) -> Iterator[Graph]:
        """Graphs of what an encoder gives by name at a frame, in the order in which they are run; none at some."""

    @abc.abstractmethod
    def further(self) -> Iterator[Graph]:
        """Graphs of something else: texts, say."""

    @abc.abstractmethod
    def look(self, picture: np.ndarray) -> None:
        """Have the model's own capability encode a picture, uint8 [H, W, 3]."""

    @abc.abstractmethod
    def said(self, say: Say, features: tuple[Tensor, ...], pictures: Sequence[np.ndarray]) -> Answers:
        """What the graphs say of pictures, of which an encoder gave features."""

    @abc.abstractmethod
    def said_beside(self, say: Say, features: tuple[Tensor, ...], *, frame: Frame) -> Answers:
        """What they say of features at another task's frame; nothing where none takes these."""

    @abc.abstractmethod
    def own(self, picture: np.ndarray) -> Answers:
        """What the capability itself says, as a person asks it: some of what the graphs say, by the same names."""

    def shown(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] that the capability makes of pictures for the trunk."""
        images: list[Tensor] = []

        def stop(module: nn.Module, given: tuple[Tensor]) -> None:
            images.append(given[0])
            raise _Shown

        hook = self.model.trunk.register_forward_pre_hook(stop)
        try:
            for picture in pictures:
                with contextlib.suppress(_Shown):
                    self.look(picture)
        finally:
            hook.remove()
        return torch.cat(images)


class _Shown(Exception):
    """The trunk has been shown something; what it would see there is not wanted."""
