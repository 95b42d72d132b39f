"""A model that is to be measured: a parent, the merged model, or a control."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from vfmerge.capability import Capability


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What a model, or several together, can do.

    name: as progress and reports call it. capabilities: by task. keys: by task, a hash of all that its answers depend
    on, where that is known: scores are remembered by it. control: the control that it is, or none.
    cascade: whether its parts are run one after the other, each a model of its own, where a benchmark knows that way.
    """

    name: str
    capabilities: Mapping[str, Capability]
    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    control: str | None = None
    cascade: bool = False

    def part(self, tasks: Iterable[str]) -> Subject:
        """Only some of its tasks, those that it has."""
        there = [task for task in tasks if task in self.capabilities]
        return dataclasses.replace(
            self,
            capabilities={task: self.capabilities[task] for task in there},
            keys={task: self.keys[task] for task in there if task in self.keys},
        )
