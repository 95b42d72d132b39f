"""A merged model as ONNX graphs, proved by onnxruntime. Imports torch, onnx and onnxruntime when it exports."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .graph_export import GraphExport

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.onnx import ONNXProgram

    from .graph import Graph
    from .graph_proof import Run

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_IN_ONE_FILE = 1 << 30  # bytes of weights, chosen here: a protobuf ends at twice that


class OnnxGraphs(GraphExport):
    """ONNX graphs: encoder, mask decoders, heads, text tower, names of masks, any batch."""

    tolerance = 1e-3
    suffix = ".onnx"

    def refusal(self) -> str | None:
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} not installed; run pip install 'vfmerge[export]'"
        return super().refusal()

    def compile(self, graph: Graph, program: ExportedProgram, path: Path) -> None:
        import torch

        from .graph_index import axis_names

        logging.getLogger("onnxscript").setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of converters among themselves; the proof is in the answers
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                verbose=False,
            )
        assert made is not None
        _name_axes(made, axis_names(graph, program))
        made.save(path, external_data=graph.nbytes > _IN_ONE_FILE)

    def remark(self, program: ExportedProgram) -> str:
        return ""

    def load(self, path: Path, graph: Graph) -> Run:
        import onnxruntime
        import torch

        onnxruntime.disable_telemetry_events()
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            fed = {name: tensor.numpy() for name, tensor in zip(graph.inputs, given, strict=True)}
            return tuple(torch.from_numpy(each) for each in session.run(list(graph.outputs), fed))

        return run

    def usage(self, path: Path) -> str:
        first = str(path / (self._graphs[0].name + self.suffix))
        load = f"import onnxruntime\nencoder = onnxruntime.InferenceSession({first!r})"
        return f"{load}  # and so on: see graphs.json{self.left_out}"


def _name_axes(made: ONNXProgram, names: Mapping[str, str]) -> None:
    """Call free axes by what they count, as the index does, and not by the tracer's symbols."""
    graph = made.model.graph
    inner = (value for node in graph for value in node.outputs)
    for value in (*graph.inputs, *inner, *graph.outputs):
        for axis, length in enumerate(value.shape or ()):
            if not isinstance(length, int) and length.value in names:
                value.shape[axis] = names[length.value]
