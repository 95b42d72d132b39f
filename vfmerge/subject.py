"""A model that is to be measured: a parent, the merged model, or a control."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal

from vfmerge.capability import Capability

Way = Literal["own", "joint", "cascade"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What a model, or several together, can do.

    name: as progress and reports call it. capabilities: by task. keys: by task, a hash of all that its answers depend
    on, where that is known: scores are remembered by it. control: the control that it is, or none.
    way: how its parts are used. `own`: as a model's are. `joint`: they are models of their own and used side by side,
    where a benchmark uses several. `cascade`: one after the other, where a benchmark knows that way.
    """

    name: str
    capabilities: Mapping[str, Capability]
    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    control: str | None = None
    way: Way = "own"

    def part(self, tasks: Iterable[str]) -> Subject:
        """Only some of its tasks, those that it has."""
        there = [task for task in tasks if task in self.capabilities]
        return dataclasses.replace(
            self,
            capabilities={task: self.capabilities[task] for task in there},
            keys={task: self.keys[task] for task in there if task in self.keys},
        )
