"""One graph of a merged model: a module with examples of what it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor, nn

Axes = Mapping[int, str]
"""Which axes of a tensor are free, and what they count."""
Frame = tuple[int, int]
"""Height and width in pixels of what an encoder looks at."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """One module with examples of what it takes. about: one line for people.

    inputs: example tensors by name, with two or more along each free axis. free: the free axes of each. outputs: names.
    """

    name: str
    about: str
    module: nn.Module
    inputs: dict[str, Tensor]
    free: dict[str, Axes]
    outputs: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Of its weights."""
        return sum(tensor.nbytes for tensor in self.module.state_dict().values())


def word(frame: Frame) -> str:
    """What names of graphs say of the size at which they look."""
    return str(frame[0]) if frame[0] == frame[1] else f"{frame[0]}x{frame[1]}"
