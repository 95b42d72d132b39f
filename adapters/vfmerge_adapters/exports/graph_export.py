"""What exports of graphs share: a folder with a file for each graph, and the proof that they answer together.

Imports torch when it exports.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from vfmerge.export import Export, pictures

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.export import ExportedProgram

    from vfmerge.capability import Capability

    from .graph import Graph
    from .graph_proof import Run
    from .task_graphs import TaskGraphs

_PICTURES = 2  # the graphs are traced with two, and asked about two and one: at 1024 pixels each takes gigabytes
_SMALL = 1 << 26  # bytes of weights, chosen here
_NONE = (
    "no head of this model is of a kind that graphs are made of (masks, texts, features); --to transformers takes any"
)


class GraphExport(Export, abc.ABC):
    """The whole model as graphs, and an index of what each takes and gives. suffix: of their files."""

    capability = None
    benchmarks = ("promptable", "retrieval", "zero_shot_classification", "zero_shot_segmentation")
    suffix: ClassVar[str]

    def refusal(self) -> str | None:
        return None if self._tasks else _NONE

    def write(self, path: Path) -> None:
        from . import graph_index
        from .tracing import trace

        described = {}
        for graph in self._graphs:
            program, file = trace(graph), graph.name + self.suffix
            described[file] = graph_index.describe(graph, program, remark=self.remark(program))
            self.compile(graph, program, path / file)
        graph_index.write(path, described)

    def expected(self) -> Mapping[str, Tensor]:
        from .graph_proof import answers, eager, own_answers

        made = {graph.name: eager(graph.module) for graph in self._graphs}
        said = answers(self._tasks, lambda name, given: made[name](given), _shown())
        return said | own_answers(self._tasks, _shown())

    def answered(self, path: Path) -> Mapping[str, Tensor]:
        from .graph_proof import answers

        made = {graph.name: graph for graph in self._graphs}
        kept: dict[str, Run] = {}

        def run(name: str, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            """Small graphs stay open; a large one is read again: a runtime keeps all the memory that it once needed."""
            opened = kept.get(name) or self.load(path / (name + self.suffix), made[name])
            if made[name].nbytes < _SMALL:
                kept[name] = opened
            return opened(given)

        return answers(self._tasks, run, _shown())

    def capabilities(self, path: Path) -> Mapping[str, Capability]:
        from .graph_capabilities import capabilities

        made = {graph.name: graph for graph in self._graphs}
        load = functools.cache(lambda name: self.load(path / (name + self.suffix), made[name]))
        return capabilities(self.model, self._graphs, lambda name, given: load(name)(given))

    @abc.abstractmethod
    def compile(self, graph: Graph, program: ExportedProgram, path: Path) -> None:
        """Write one graph to a file. program: what it computes."""

    @abc.abstractmethod
    def remark(self, program: ExportedProgram) -> str:
        """What whoever runs a graph of this kind has to know besides; empty where there is nothing."""

    @abc.abstractmethod
    def load(self, path: Path, graph: Graph) -> Run:
        """The graph that a file holds, as its runtime reads it."""

    @property
    def left_out(self) -> str:
        """A comment for `usage` that names the tasks that have no graphs; nothing where all have."""
        tasks = sorted(set(self.model.heads) - {each.task for each in self._tasks})
        return f"\n# no graphs of {', '.join(tasks)}: heads of other kinds" if tasks else ""

    @functools.cached_property
    def _tasks(self) -> list[TaskGraphs]:
        from .graphs import tasks

        return tasks(self.model, made=self.made)

    @functools.cached_property
    def _graphs(self) -> tuple[Graph, ...]:
        from .graphs import graphs

        return tuple(graphs(self.model, self._tasks))


def _shown() -> list[np.ndarray]:
    return pictures()[:_PICTURES]
