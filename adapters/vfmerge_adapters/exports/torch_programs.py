"""A merged model as programs of `torch.export`, which run without its Python code. Imports torch when it exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .graph_export import GraphExport, Run

if TYPE_CHECKING:
    from torch import Tensor

    from .graphs import Graph


class TorchPrograms(GraphExport):
    """torch.export programs (.pt2): encoder, mask decoder, CLIP head and text tower, any batch."""

    tolerance = 1e-4
    suffix = ".pt2"

    def compile(self, graph: Graph, path: Path) -> None:
        import torch

        from .tracing import trace

        torch.export.save(trace(graph), path)

    def load(self, path: Path, graph: Graph) -> Run:
        import torch

        program = torch.export.load(path).module()

        @torch.no_grad()
        def run(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            answer = program(*given)
            return answer if isinstance(answer, tuple) else (answer,)

        return run

    def usage(self, path: Path) -> str:
        first = str(path / (self._graphs[0].name + self.suffix))
        return f"import torch\nencoder = torch.export.load({first!r}).module()  # and so on: see graphs.json"
