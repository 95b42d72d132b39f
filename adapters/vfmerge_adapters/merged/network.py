"""A merged model's trunk with one of its heads, which teaches."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vfmerge import config, model, weights
from vfmerge.adapter import Batch, Features
from vfmerge.model import Network

_TRUNKS: weakref.WeakValueDictionary[str, nn.Module] = weakref.WeakValueDictionary()
"""Trunks that a teacher holds, by the checksum of their model: teachers are frozen, so that they can share one."""


class Teaching(nn.Module):
    """A head whose answers are targets."""

    def __init__(self, head: nn.Module, *, target: Callable[[Any], Any]) -> None:
        """target: makes a target of an answer."""
        super().__init__()
        self.head = head
        self._target = target

    def forward(self, features: Features, batch: Batch) -> Any:
        return self._target(self.head(features, batch))


def read(
    folder: Path, task: str, *, trunk: Callable[[], nn.Module], head: Callable[[], nn.Module]
) -> tuple[nn.Module, nn.Module]:
    """The trunk of a merged model and the head of one task, filled from its folder.

    trunk, head: make their shapes. A trunk that another teacher still holds is taken as it is.
    Raises CheckpointError if the folder is damaged, or holds other shapes.
    """
    tensors, key = model.read(folder), config.identify(folder)

    def filled(make: Callable[[], nn.Module], prefix: str) -> nn.Module:
        own = {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}
        with torch.random.fork_rng(devices=[]):  # shapes are made with random weights; nobody is to notice
            module = make()
        weights.fit(module, own, source=f"{folder / config.WEIGHTS}: {prefix}")
        return module

    held = _TRUNKS.get(key)
    _TRUNKS[key] = lent = filled(trunk, "trunk.") if held is None else held
    return lent, filled(head, f"heads.{task}.")


def plain(network: Network) -> Network:
    """A teacher with the head itself; any other network as it is."""
    if isinstance(network.head, Teaching):
        return Network(network.trunk, network.head.head, size=network.size).eval()
    return network


def equal(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules have the same tensors, by name and value, wherever they lie."""
    first, second = one.state_dict(), other.state_dict()
    return alike(one, other) and all(torch.equal(each, second[name].to(each)) for name, each in first.items())


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules have tensors of the same names and shapes."""
    shapes = [{name: each.shape for name, each in module.state_dict().items()} for module in (one, other)]
    return shapes[0] == shapes[1]
