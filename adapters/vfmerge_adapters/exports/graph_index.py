"""What a folder of graphs says of itself, so that a program in any language finds its way: `graphs.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from .graph import Graph

INDEX = "graphs.json"


def describe(graph: Graph, program: ExportedProgram, *, remark: str) -> dict[str, Any]:
    """What a program takes and gives, and which axes are free in it. remark: what else there is to know, or nothing."""
    axes = axis_names(graph, program)
    given = dict(zip(graph.inputs, _user_inputs(program), strict=True))
    (last,) = program.graph.find_nodes(op="output")
    found = dict(zip(graph.outputs, last.args[0][-len(graph.outputs) :], strict=True))
    return {
        "about": graph.about + (remark and f"; {remark}"),
        "inputs": {name: _shape(node, axes) for name, node in given.items()},
        "outputs": {name: _shape(node, axes) for name, node in found.items()},
    }


def axis_names(graph: Graph, program: ExportedProgram) -> dict[str, str]:
    """What each of the program's symbols counts. Equal lengths have one symbol, and one name."""
    found: dict[str, str] = {}
    for name, node in zip(graph.inputs, _user_inputs(program), strict=True):
        for axis, counted in graph.free[name].items():
            assert found.setdefault(str(node.meta["val"].shape[axis]), counted) == counted
    return found


def write(folder: Path, described: Mapping[str, Mapping[str, Any]]) -> None:
    """described: by the names of the files."""
    (folder / INDEX).write_text(json.dumps(described, indent=2) + "\n")


def _user_inputs(program: ExportedProgram) -> Sequence[Node]:
    names = set(program.graph_signature.user_inputs)
    return [node for node in program.graph.find_nodes(op="placeholder") if node.name in names]


def _shape(node: Node, axes: Mapping[str, str]) -> dict[str, Any]:
    value: Tensor = node.meta["val"]
    return {
        "type": str(value.dtype).removeprefix("torch."),
        "shape": [length if isinstance(length, int) else axes.get(str(length), str(length)) for length in value.shape],
    }
