"""What exports of graphs share: a folder with a file for each graph, and the proof that they answer together.

Imports torch when it exports.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vfmerge.export import Export, pictures

if TYPE_CHECKING:
    from torch import Tensor

    from .graphs import Graph

Run = Callable[[Sequence["Tensor"]], tuple["Tensor", ...]]
"""A graph at work: what it takes, in order, to what it gives."""

_NONE = "no task of this model has a mask decoder or a text tower, and no other has a graph; merge one that has"


class GraphExport(Export, abc.ABC):
    """The whole model as graphs, and an index of what each takes and gives. suffix: of their files."""

    capability = None
    suffix: ClassVar[str]

    def refusal(self) -> str | None:
        from .graphs import sides

        return None if sides(self.model) else _NONE

    def write(self, path: Path) -> None:
        from .graphs import write_index

        for graph in self._graphs:
            self.compile(graph, path / (graph.name + self.suffix))
        write_index(path, self._graphs, suffix=self.suffix)

    def expected(self) -> Mapping[str, Tensor]:
        from .graph_proof import answers, eager, embeddings

        parts = {graph.name: eager(graph.module) for graph in self._graphs}
        return answers(self.model, parts, pictures(), tokens=self._tokens) | embeddings(self.model, pictures())

    def answered(self, path: Path) -> Mapping[str, Tensor]:
        from .graph_proof import answers

        parts = {graph.name: self.load(path / (graph.name + self.suffix), graph) for graph in self._graphs}
        return answers(self.model, parts, pictures(), tokens=self._tokens)

    @abc.abstractmethod
    def compile(self, graph: Graph, path: Path) -> None:
        """Write one graph to a file."""

    @abc.abstractmethod
    def load(self, path: Path, graph: Graph) -> Run:
        """The graph that a file holds, as its runtime reads it."""

    @functools.cached_property
    def _graphs(self) -> tuple[Graph, ...]:
        from .graphs import graphs

        return tuple(graphs(self.model, made=self.made))

    @property
    def _tokens(self) -> dict[str, Tensor]:
        """By task, more texts than the graphs were traced with."""
        examples = {graph.name: graph.inputs["tokens"] for graph in self._graphs if "tokens" in graph.inputs}
        return {name.removesuffix("_text"): tokens.repeat(2, 1)[:3] for name, tokens in examples.items()}
