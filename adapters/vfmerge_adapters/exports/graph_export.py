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
    import numpy as np
    from torch import Tensor

    from .graphs import Graph

Run = Callable[[Sequence["Tensor"]], tuple["Tensor", ...]]
"""A graph at work: what it takes, in order, to what it gives."""

_PICTURES = 2  # the graphs are traced with two, and asked about two and one: at 1024 pixels each takes gigabytes
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

        made = {graph.name: eager(graph.module) for graph in self._graphs}
        said = answers(self.model, made, lambda name, given: made[name](given), _shown(), tokens=self._tokens)
        return said | embeddings(self.model, _shown())

    def answered(self, path: Path) -> Mapping[str, Tensor]:
        from .graph_proof import answers

        made = {graph.name: graph for graph in self._graphs}

        def run(name: str, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            """One graph at a time is open: a runtime keeps all the memory that it once needed."""
            return self.load(path / (name + self.suffix), made[name])(given)

        return answers(self.model, made, run, _shown(), tokens=self._tokens)

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
        """By task, as many texts as pictures."""
        examples = {graph.name: graph.inputs["tokens"] for graph in self._graphs if "tokens" in graph.inputs}
        return {name.removesuffix("_text"): tokens[:_PICTURES] for name, tokens in examples.items()}


def _shown() -> list[np.ndarray]:
    return pictures()[:_PICTURES]
