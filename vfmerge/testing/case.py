"""The adapter under examination, and what the checks need of it, each made once.

Axis letters: B images, H x W pixels, M masks of all images together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfmerge import options
from vfmerge.adapter import AuxiliaryAdapter, BaseAdapter, Batch, FeatureSpec
from vfmerge.data.world import Shapes
from vfmerge.model import MergedModel, Network
from vfmerge.recipe import Stream
from vfmerge.stream import collate
from vfmerge.testing.finding import Broken, NotChecked
from vfmerge.testing.standin import StandIn

Reference = Callable[[Tensor], Any]
"""Images [B, 3, H, W] in [0, 1] -> what the model's own library gives, in the form of the teacher's target."""

TASK, TRUNK = "parent", "stand_in"  # names of the two parents of a merged model
SINGLE = FeatureSpec(channels=(64,), strides=(16,), heads=4)
TRUNKS = (
    SINGLE,
    FeatureSpec(channels=(64,), strides=(16,), summary=96, heads=4),
    FeatureSpec(channels=(16, 32, 64), strides=(4, 8, 16)),
    FeatureSpec(channels=(16, 32, 64), strides=(4, 8, 16), summary=96),
)
"""Trunks that heads are tried on: one map as a ViT's, a pyramid as a convolutional network's; with a summary or not."""
_SIDE, _LARGER = 64, 96  # pixels, at least: small enough for seconds, large enough for several cells


class Case:
    """An adapter under examination. What fails to be made once is not tried again by the checks that come after."""

    def __init__(self, adapter: AuxiliaryAdapter, *, reference: Reference | None, device: str) -> None:
        self.adapter = adapter
        self.reference = reference
        self.device = device
        self._failed: set[str] = set()

    @property
    def base(self) -> BaseAdapter:
        """The adapter, as one that lends its trunk. Raises NotChecked where it does not."""
        if not isinstance(self.adapter, BaseAdapter):
            raise NotChecked("it lends no trunk")
        return self.adapter

    @functools.cached_property
    def portable(self) -> dict[str, Any]:
        """What `portable()` gives."""
        with self._once("portable()"):
            return self.adapter.portable()

    @functools.cached_property
    def teacher(self) -> Network:
        """The parent, as a run opens it."""
        with self._once("teacher()"):
            return self.adapter.teacher().requires_grad_(False).to(self.device)

    def rebuild(self) -> AuxiliaryAdapter:
        """A second adapter, from what a merged model's folder keeps of the first."""
        cls = type(self.adapter)
        return cls(**options.check_options(cls, self.portable, where="portable()"))

    def merged(self, spec: FeatureSpec | None) -> MergedModel:
        """The adapter's head on a trunk that gives `spec`, or on its own (none), started and not trained yet."""
        parents: dict[str, AuxiliaryAdapter] = {TASK: self.adapter if spec else self.base}
        teachers = {TASK: self.teacher}
        if spec is not None:
            parents[TRUNK] = StandIn(
                channels=spec.channels, strides=spec.strides, summary=spec.summary, heads=spec.heads
            )
            teachers[TRUNK] = parents[TRUNK].teacher().to(self.device)
        model = MergedModel(parents, base=TRUNK if spec else TASK).to(self.device)
        model.start(teachers)
        return model

    @functools.cached_property
    def sizes(self) -> tuple[int, int]:
        """Two sides in pixels that every stand-in and the adapter's own trunk, if it has one, divide into cells."""
        with self._once("features"):
            strides = self.adapter.features.strides if isinstance(self.adapter, BaseAdapter) else ()
        step = math.lcm(*SINGLE.strides, *strides)
        return math.ceil(_SIDE / step) * step, math.ceil(_LARGER / step) * step + step * (step > _SIDE)

    def batch(self, *, size: int | None = None) -> Batch:
        """Three scenes at the smaller size, unless told, and nine masks or so if the task is learnt from masks."""
        side = size or self.sizes[0]
        source = Shapes(layout="several", split="check", count=3, masks=self.adapter.needs_masks)
        stream = Stream(data="shapes", size=side, batch=3, masks=3, fit="pad", tasks={TASK: 1.0})
        samples = [source.read(index) for index in range(3)]
        return collate(samples, stream, size=side, keys=(7, 8, 9), classes=source.classes).to(self.device)

    def picture(self) -> np.ndarray:
        """A picture as a person has it, uint8 [72, 96, 3]: neither square nor of a model's size."""
        return Shapes(layout="several", split="check", count=1).read(0).image[:72]

    def learn(self, model: MergedModel, batch: Batch) -> Mapping[str, Tensor]:
        """The terms of the loss of a merged model's head on a batch."""
        with torch.no_grad():
            target = self.teacher(batch)
        return self.adapter.loss(model.network(TASK)(batch), target, batch)

    def calibrate(self, model: MergedModel, batch: Batch) -> None:
        """As the engine does before the first step that teaches a task, with one batch's targets again and again."""
        with torch.no_grad():
            target = self.teacher(batch)
        self.adapter.calibrate(model.heads[TASK], itertools.repeat(target))

    @contextlib.contextmanager
    def _once(self, what: str) -> Iterator[None]:
        """Let it fail in one check, and excuse those that come after."""
        if what in self._failed:
            raise NotChecked(f"{what} fails")
        try:
            yield
        except Exception:
            self._failed.add(what)
            raise


def alone(batch: Batch, place: int) -> Batch:
    """One image of a batch, with its own masks, as a batch."""
    here = slice(place, place + 1)
    one = dataclasses.replace(
        batch,
        images=batch.images[here],
        keys=batch.keys[here],
        names=batch.names[here],
    )
    return only(one, belonging(batch, place))


def belonging(batch: Batch, place: int) -> Tensor | None:
    """Which masks of a batch are of one image: bool [M]; none where there are no masks."""
    return None if batch.owner is None else batch.owner == place


def only(batch: Batch, chosen: Tensor | None) -> Batch:
    """The batch with the masks of its one image that are chosen, bool [M]; as it is where there are no masks."""
    if chosen is None or batch.masks is None:
        return batch
    labels = None if batch.labels is None else batch.labels[chosen]
    rough = None if batch.rough is None else batch.rough[chosen]
    owner = torch.zeros(int(chosen.sum()), dtype=torch.long, device=chosen.device)
    return dataclasses.replace(batch, masks=batch.masks[chosen], owner=owner, labels=labels, rough=rough)


def without_masks(batch: Batch) -> Batch:
    """The batch as if nothing had been found in any of its images: M = 0."""
    assert batch.masks is not None
    return only(batch, torch.zeros(len(batch.masks), dtype=torch.bool, device=batch.masks.device))


def parts(target: Any) -> tuple[Tensor, ...]:
    """The tensors of a target. Raises Broken if it is neither a tensor nor a tuple of tensors."""
    found = (target,) if isinstance(target, Tensor) else target
    if not (isinstance(found, tuple) and found and all(isinstance(each, Tensor) for each in found)):
        raise Broken(f"the target is a {type(target).__name__}; give a tensor or a tuple of tensors")
    return found


def far(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest number of `theirs` where that exceeds 1."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)) if theirs.numel() else 0.0
