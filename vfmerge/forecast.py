"""How much room the caches of a recipe will take, known before a weight is read or a picture is seen.

Trunks and parents are built on the meta device and shown one image of each size there: what they give has a shape and
takes no memory.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping

import torch

from vfmerge import cache
from vfmerge.adapter import Adapter, AuxiliaryAdapter, BaseAdapter, Batch
from vfmerge.data.source import Source
from vfmerge.errors import RunError, one_line
from vfmerge.model import Network
from vfmerge.recipe import Recipe
from vfmerge.session import Session

Weigh = Callable[[Batch], int]
"""Bytes that are kept of each sample of a batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """What one network has in one cache: the trunk its features, or a parent its targets.

    number: the stream's place among its stage's. size: side in pixels. each: bytes of a sample; none where the network
    cannot be run without weights, and only pictures will tell.
    """

    stage: str
    number: int
    data: str
    samples: int
    size: int
    what: str
    each: int | None

    @property
    def total(self) -> int | None:
        """Bytes of all samples."""
        return None if self.each is None else self.each * self.samples


class Scale:
    """Weighs one network's answers. It is built once, and not before it is asked for."""

    def __init__(self, build: Callable[[], Weigh] | None) -> None:
        """build: none where there is no way to a network without its weights."""
        self._build = None if build is None else functools.cache(build)

    def weigh(self, size: int) -> int | None:
        """Bytes of a sample at so many pixels a side; none where that cannot be told."""
        if self._build is None:
            return None
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            images = torch.zeros(1, 3, size, size)
            try:
                return self._build()(Batch(images=images, keys=(0,), names=("",)))
            except Exception:  # whatever a network does that needs numbers, which the meta device has not
                return None


def foresee(
    recipe: Recipe, adapters: Mapping[str, Adapter], sources: Mapping[str, Source], *, after: int = 0
) -> Iterator[Share]:
    """Every network's share of every cache. after: so many steps are done; stages that have ended need none."""
    lender = adapters[recipe.base]
    assert isinstance(lender, BaseAdapter)
    trunk = Scale(functools.partial(_trunk, lender))
    parents = {name: each for name, each in adapters.items() if isinstance(each, AuxiliaryAdapter)}
    scales = {
        name: Scale(functools.partial(_teacher, each) if isinstance(each, BaseAdapter) else None)
        for name, each in parents.items()
    }
    end = 0
    for name, stage in recipe.stages.items():
        end += stage.total_steps(len(sources[stage.streams[0].data]))
        for number, stream in enumerate(stage.streams if stage.cache and end > after else ()):
            kept = {"trunk's features": trunk} if stage.cache is True else {}
            kept |= {f"targets of {task}": scales[task] for task in stream.tasks if task in scales}
            for size, (what, scale) in itertools.product(stream.sizes, kept.items()):
                yield Share(
                    stage=name,
                    number=number,
                    data=stream.data,
                    samples=stream.samples(len(sources[stream.data])),
                    size=size,
                    what=what,
                    each=scale.weigh(size),
                )


def require_room(session: Session, *, after: int) -> None:
    """Refuse caches that do not fit on the run's disk, beside what they have there already. Raises RunError.

    after: so many steps of the run are done.
    """
    needed, free = 0, shutil.disk_usage(session.out).free
    shares = foresee(session.recipe, session.adapters, session.sources, after=after)
    for (stage, number, size), group in itertools.groupby(
        shares, key=lambda each: (each.stage, each.number, each.size)
    ):
        folder = cache.place(session.out, stage=stage, number=number, size=size)
        there = sum(file.stat().st_size for file in folder.glob("*.npy"))
        needed += max(sum(each.total or 0 for each in group) - there, 0)
        if needed > free:
            text = f"stages.{stage}.cache: {readable(needed)} are needed and {readable(free)} free in {session.out}"
            raise RunError(one_line(f"{text}; make room and run again, or write {_less(session.recipe, stage)} there"))


def readable(size: int | None) -> str:
    """Bytes in decimal units, as disks are sold."""
    if size is None:
        return "unknown"
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size} B"


def _trunk(adapter: BaseAdapter) -> Weigh:
    trunk = adapter.trunk().eval()
    return lambda batch: cache.bytes_of(trunk(batch.images), {})


def _teacher(adapter: BaseAdapter) -> Weigh:
    """The parent as its own trunk and head, which no file is read for."""
    network = Network(adapter.trunk(), adapter.own_head(), size=adapter.teaches_at).eval()
    return lambda batch: cache.bytes_of(None, {"": adapter.target(network(batch))})


def _less(recipe: Recipe, stage: str) -> str:
    return "targets or false" if recipe.stages[stage].cache is True else "false"
