"""A merged model as ONNX graphs, proved by onnxruntime. Imports torch, onnx and onnxruntime when it exports."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .graph_export import GraphExport, Run

if TYPE_CHECKING:
    from torch import Tensor

    from .graphs import Graph

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_IN_ONE_FILE = 1 << 30  # bytes of weights, chosen here: a protobuf ends at twice that


class OnnxGraphs(GraphExport):
    """ONNX graphs: encoder, mask decoder, CLIP head and text tower, any batch."""

    tolerance = 1e-3
    suffix = ".onnx"

    def refusal(self) -> str | None:
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} not installed; run pip install 'vfmerge[export]'"
        return super().refusal()

    def compile(self, graph: Graph, path: Path) -> None:
        import torch

        from .tracing import trace

        logging.getLogger("onnxscript").setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of converters among themselves; the proof is in the answers
            program = torch.onnx.export(
                trace(graph),
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                verbose=False,
            )
        assert program is not None
        size = sum(tensor.nbytes for tensor in graph.module.state_dict().values())
        program.save(path, external_data=size > _IN_ONE_FILE)

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
        return f"import onnxruntime\nencoder = onnxruntime.InferenceSession({first!r})  # and so on: see graphs.json"
