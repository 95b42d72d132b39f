"""A merged model as a parent: merge one model after another, or drop a head.

Each task of a merged model is a parent of its own, with the merged trunk and the task's head. What its answers mean,
how they are marked and what a person does with them the adapter says that the head was made by, the *inner* one.
Imports torch only when a method is called.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfmerge import config
from vfmerge.adapter import AuxiliaryAdapter, BaseAdapter, Batch, FeatureSpec
from vfmerge.errors import InputError, one_line

from .lineage import Lineage, find, trace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import Capability
    from vfmerge.model import Network


class Merged(BaseAdapter):
    """One task of a merged model, to merge once more or to drop the others.

    Any task can be the base: all of them have the merged trunk.
    """

    interface = 2

    def __init__(self, *, model: str | None = None, task: str | None = None, lineage: Lineage | None = None) -> None:
        """Which task of which model.

        model: the folder of a merged model, or of the run that made it.
        task: the name of one of its parents.
        lineage: instead of both, what a merged model's config.json says of a head from an earlier one: shapes alone.
        """
        self._folder: Path | None = None
        self._task = task or ""
        if lineage is None:
            self._folder = find(model)
            lineage = trace(self._folder, task)
        elif model is not None or task is not None:
            raise InputError("lineage: contradicts model and task; leave it out")
        where = "lineage" if self._folder is None else str(self._folder)
        lender = config.build(lineage.trunk, where=f"{where}: trunk")
        if not isinstance(lender, BaseAdapter):
            raise InputError(one_line(f"{where}: adapter {lineage.trunk.adapter} lends no trunk; give another model"))
        inner = config.build(lineage.head, where=f"{where}: head")
        assert isinstance(inner, AuxiliaryAdapter)  # a lineage is of parents alone
        self._lender, self._inner = lender, inner
        self._lineage = lineage
        self._copied: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # heads that began as the earlier model's
        self.needs_masks, self.licence = self._inner.needs_masks, lineage.licence
        self.sources = () if self._folder is None else (self._folder / config.WEIGHTS, self._folder / config.CONFIG)

    def portable(self) -> dict[str, Any]:
        return {"lineage": self._lineage.model_dump(mode="json")}

    @property
    def teaches_at(self) -> int | None:
        return self.features.fixed_size

    def teacher(self) -> Network:
        """Batch -> what the merged model answers, in the form of the inner adapter's targets.

        Parents from one folder share the trunk: it is in memory once.
        """
        from vfmerge.model import Network

        from .network import Teaching, read

        if self._folder is None:
            raise InputError("lineage: shapes without weights cannot teach; give `model` and `task`")
        trunk, head = read(self._folder, self._task, trunk=self.trunk, head=self.own_head)
        teaching = Teaching(head, target=self._inner.target)
        return Network(trunk, teaching, size=self.teaches_at).requires_grad_(False).eval()

    @property
    def features(self) -> FeatureSpec:
        return dataclasses.replace(self._lender.features, origin=self._lineage.origin)

    def trunk(self) -> nn.Module:
        return self._lender.trunk()

    def own_head(self) -> nn.Module:
        if self._lineage.own:
            assert isinstance(self._inner, BaseAdapter)
            return self._inner.own_head()
        return self._inner.head(self.features)

    def head(self, features: FeatureSpec) -> nn.Module:
        """The head as it is in the earlier model, where the trunk is that model's; else the inner adapter's."""
        return self.own_head() if features.origin == self._lineage.origin else self._inner.head(features)

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """On the earlier model's own trunk as its head is there; else as the inner adapter starts it."""
        from .network import alike, equal, plain

        before = plain(teacher)
        if alike(head, before.head) and equal(trunk, before.trunk):
            head.load_state_dict(before.head.state_dict())
            self._copied.add(head)
        else:
            self._inner.start(head, trunk, before)

    def calibrate(self, head: nn.Module, targets: Iterator[Any]) -> None:
        """As the inner adapter; a head that goes on where it was has its statistics, and learnt with them."""
        if head not in self._copied:
            self._inner.calibrate(head, targets)

    def observe(self, head: nn.Module, target: Any) -> None:
        self._inner.observe(head, target)

    def target(self, answer: Any) -> Any:
        return self._inner.target(answer)

    def loss(self, answer: Any, target: Any, batch: Batch) -> Mapping[str, Tensor]:
        return self._inner.loss(answer, target, batch)

    def capability(self, network: Network) -> Capability:
        from .network import plain

        return self._inner.capability(plain(network))
