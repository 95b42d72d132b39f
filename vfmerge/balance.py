"""Balancing: every task's loss is brought to the size of 1, whatever units its parent's outputs have."""

from __future__ import annotations

import math
from collections.abc import Mapping

_KEPT = 0.99  # of the running mean, each step (chosen here)


class Balance:
    """Running means of losses, as AdaLoss weighs them (arXiv 1708.06832).

    A weight of the recipe then says how much a task matters, and nothing of its loss's units.
    """

    def __init__(self, state: Mapping[str, float] | None = None) -> None:
        """state: of `state`, to go on."""
        self._means = dict(state or {})

    def factor(self, name: str, loss: float) -> float:
        """1 / the running mean of this loss, with this value in it; a value that is not finite is not counted."""
        if math.isfinite(loss):
            self._means[name] = _KEPT * self._means.get(name, loss) + (1 - _KEPT) * loss
        return 1 / max(self._means.get(name, 1.0), 1e-12)

    @property
    def state(self) -> dict[str, float]:
        """The means, for a checkpoint."""
        return dict(self._means)
