"""Small plug-ins with the real interfaces, for tests of recipes and of the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from vfmerge.adapter import AuxiliaryAdapter, BaseAdapter, Batch, FeatureSpec
from vfmerge.benchmarks.benchmark import Benchmark, Score
from vfmerge.capability import Capability
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.model import Network


class Outline(BaseAdapter):
    """Outlines things; eight channels, cells of eight pixels."""

    interface = 2
    licence = "MIT"
    features = FeatureSpec(channels=(8,), strides=(8,), heads=1)

    def __init__(
        self,
        *,
        variant: Literal["small", "large"] = "small",
        weights: Path | None = None,
        sharpness: float = 1.0,
        levels: tuple[int, ...] = (1,),
    ) -> None:
        if not levels:
            raise InputError("levels: empty; give at least one")
        self.taken = {"variant": variant, "weights": weights, "sharpness": sharpness, "levels": levels}
        self.sources = (weights,) if weights else ()

    def trunk(self) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.Conv2d(3, 8, 8, 8))

    def head(self, features: FeatureSpec) -> nn.Module:
        from torch import nn

        head = nn.ModuleDict({"mask": nn.Linear(8, 2), "prompt": nn.Linear(8, 8)})
        head["prompt"].requires_grad_(False)
        return head

    def own_head(self) -> nn.Module:
        return self.head(self.features)

    def portable(self) -> dict[str, Any]:
        raise NotImplementedError

    def teacher(self) -> Network:
        raise NotImplementedError

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        raise NotImplementedError

    def loss(self, answer: Any, target: Any, batch: Batch) -> Mapping[str, Tensor]:
        raise NotImplementedError

    def capability(self, network: Network) -> Capability:
        raise NotImplementedError


class Caption(AuxiliaryAdapter):
    """Says what it sees."""

    interface = 2
    licence = "Apache-2.0"

    def __init__(self, *, model: str, json: bool = False) -> None:
        self.model = model

    def head(self, features: FeatureSpec) -> nn.Module:
        from torch import nn

        return nn.Linear(features.channels[0], 4)

    portable = Outline.portable
    teacher = Outline.teacher
    start = Outline.start
    loss = Outline.loss
    capability = Outline.capability


class Pictures(Source):
    """Pictures that are all alike."""

    def __init__(self, *, path: str, count: Annotated[int, Field(ge=0)] = 10, masks: bool = False) -> None:
        if path.startswith("absent"):
            raise InputError(f"path: {path!r} does not exist; give a folder")
        self.has_masks, self._count = masks, count

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Sample:
        raise NotImplementedError

    def digest(self) -> str:
        return "0" * 64


class Guessing(Benchmark):
    """Guesses with so many tries."""

    def __init__(self, *, tries: int = 1) -> None:
        self._tries = tries

    def tasks(self) -> dict[str, str]:
        return {}

    def lacks(self, source: Source) -> str:
        return "" if source.has_masks else "masks"

    def measure(self, model: Mapping[str, Capability], source: Source, **_: Any) -> list[Score]:
        raise NotImplementedError


class Unfinished(AuxiliaryAdapter):
    """Leaves methods out."""

    interface = 2


class Older(Caption):
    """Was made for an interface of before."""

    interface = 1


class Newer(Caption):
    """Was made for an interface to come."""

    interface = 3


class Unmarked(AuxiliaryAdapter):
    """Says not for which interface it was made: before version 2 nobody did."""

    portable = Outline.portable
    teacher = Outline.teacher
    head = Caption.head
    start = Outline.start
    loss = Outline.loss
    capability = Outline.capability


class Clumsy(Caption):
    """Fails when it is made."""

    def __init__(self) -> None:
        raise KeyError("a table of its own")


class Unreadable(Caption):
    """Has an option that no recipe can give."""

    def __init__(self, *, shape: os.stat_result | Nowhere) -> None:  # noqa: F821  (the mistake under test)
        raise AssertionError
