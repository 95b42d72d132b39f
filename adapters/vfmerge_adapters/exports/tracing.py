"""A graph as a program of `torch.export`, with its free axes."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from vfmerge import attention

from .graph import Graph


@torch.no_grad()
def trace(graph: Graph) -> ExportedProgram:
    """What the graph's module computes, for every length of its free axes from 1 on."""
    with attention.apart(), torch.random.fork_rng(devices=[]):
        return torch.export.export(
            graph.module.eval(), tuple(graph.inputs.values()), dynamic_shapes=_axes(graph), strict=False
        )


def _axes(graph: Graph) -> dict[str, Any]:
    """The free axes by the parameters of the module's forward, the last of which may take several tensors."""
    free = [dict.fromkeys(graph.free[name], Dim.DYNAMIC) for name in graph.inputs]
    found: dict[str, Any] = {}
    for number, parameter in enumerate(inspect.signature(graph.module.forward).parameters.values()):
        several = parameter.kind is parameter.VAR_POSITIONAL
        found[parameter.name] = tuple(free[number:]) if several else free[number]
    return found
