"""A task that gives features as a graph: of cells, and of whole pictures.

Axis letters: B images, C channels, h x w cells, D summary width.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vfmerge.features.head import FeatureHead
from vfmerge.features.use import Observer

from .graph import Frame, Graph, word
from .parts import Dense
from .task_graphs import Answers, Say, TaskGraphs

if TYPE_CHECKING:
    import numpy as np

_MEANT = {"cells": "of cells", "summary": "of whole images"}


class DenseGraphs(TaskGraphs):
    """A head for every encoder's size: where it shares a pass, features come with that."""

    @property
    def frame(self) -> Frame:
        return self._head.size, self._head.size

    @property
    def _head(self) -> FeatureHead:
        head = self.model.heads[self.task]
        assert isinstance(head, FeatureHead)
        return head

    def seeing(self, features: Mapping[str, Tensor], *, frame: Frame) -> Iterator[Graph]:
        yield Graph(
            name=f"{self.task}_head_{word(frame)}",
            about=f"features to those of {self.task}, as it was before the merge: "
            + " and ".join(_MEANT[name] for name in self._names),
            module=Dense(self._head, maps=self._maps, names=self._names),
            inputs=dict(features),
            free={name: {0: "images"} for name in features},
            outputs=self._names,
        )

    def further(self) -> Iterator[Graph]:
        yield from ()

    def look(self, picture: np.ndarray) -> None:
        self._ask(self._names[0], picture)

    def said(self, say: Say, features: tuple[Tensor, ...], pictures: Sequence[np.ndarray]) -> Answers:
        return self.said_beside(say, features, frame=self.frame)

    def said_beside(self, say: Say, features: tuple[Tensor, ...], *, frame: Frame) -> Answers:
        given = say(f"{self.task}_head_{word(frame)}", features)
        return {f"{self.task}: {name}": each for name, each in zip(self._names, given, strict=True)}

    def own(self, picture: np.ndarray) -> Answers:
        return {f"{self.task}: {name}": self._ask(name, picture) for name in self._names}

    def _ask(self, name: str, picture: np.ndarray) -> Tensor:
        capability = self.model.capability(self.task)
        assert isinstance(capability, Observer)
        return capability.encode_cells([picture]) if name == "cells" else capability.encode_image([picture])

    @functools.cached_property
    def _names(self) -> tuple[str, ...]:
        """What there is: a parent may have no summary, and a merge learn one of the two alone."""
        with torch.no_grad():
            seen = self.model.capability(self.task).features(torch.zeros(1, 3, *self.frame))
        return ("cells",) * bool(seen.maps) + ("summary",) * (seen.summary is not None)
