"""A merged model as programs of `torch.export`, which run without its Python code. Imports torch when it exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .graph_export import GraphExport

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from .graph import Graph
    from .graph_proof import Run


class TorchPrograms(GraphExport):
    """torch.export programs (.pt2): encoder, mask decoders, heads, text tower, names of masks, any batch."""

    tolerance = 1e-4
    suffix = ".pt2"

    def compile(self, graph: Graph, program: ExportedProgram, path: Path) -> None:
        import torch

        program.example_inputs = None  # which the file would hold: of a neck at 1024 pixels, hundreds of megabytes
        torch.export.save(program, path)

    def remark(self, program: ExportedProgram) -> str:
        theirs = any(str(node.target).startswith("torchvision.") for node in program.graph.nodes)
        return "import torchvision before it is loaded, for its operators" if theirs else ""

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
        load = f"import torch\nencoder = torch.export.load({first!r}).module()"
        return f"{load}  # and so on: see graphs.json{self.left_out}"
