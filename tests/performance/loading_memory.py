"""What loading processes keep in memory while a step is at work: python tests/performance/loading_memory.py

Loads the same batches in two ways, in turn and in one run: as vfmerge does, and as it did before, when images were
float32 from the loading process on and each process had two batches at hand whatever their size. It takes one batch,
waits until the processes have nothing more to do, and prints the bytes of shared memory that wait, and their ratio.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from vfmerge import stream
from vfmerge.adapter import Batch
from vfmerge.data.world import Shapes
from vfmerge.recipe import Stream
from vfmerge.stream import Steps, batches

WORKERS, SIZE, BATCH, STEPS = 2, 448, 64, 20


class Before(Dataset[Batch]):
    """Steps as loading processes gave them: images in [0, 1]."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __getitem__(self, step: int) -> Batch:
        return self._steps[step][0].to("cpu")


def before(steps: Steps) -> Iterator[Batch]:
    """A loader of the settings that there were."""
    return iter(
        DataLoader(
            Before(steps),
            batch_size=None,
            sampler=range(STEPS),
            num_workers=WORKERS,
            prefetch_factor=2,
            multiprocessing_context="spawn",
        )
    )


def after(steps: Steps) -> Iterator[Batch]:
    return (batch for batch, _ in batches(steps, start=0, stop=STEPS, workers=WORKERS))


def held() -> int:
    """Bytes of shared memory that this process or one of its children has open or mapped, each segment once."""
    segments: dict[int, int] = {}
    for process in (os.getpid(), *(child.pid for child in multiprocessing.active_children())):
        for file in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.readlink(file).startswith("/dev/shm/torch_"):
                    segments[file.stat().st_ino] = file.stat().st_size
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            addresses, _, _, _, inode, *name = line.split(maxsplit=5)
            if name and name[0].startswith("/dev/shm/torch_"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                segments[int(inode)] = max(segments.get(int(inode), 0), end - start)
    return sum(segments.values())


def at_rest(loaded: Iterator[Batch]) -> int:
    """Bytes that wait once a batch was taken and nothing more comes."""
    taken = next(loaded)
    seen = [-1, held()]
    while len(set(seen[-4:])) > 1 or len(seen) < 5:
        time.sleep(2)
        seen.append(held())
    assert len(taken.names) == BATCH
    return seen[-1]


def main() -> None:
    plan = Stream.model_validate({"data": "images", "size": SIZE, "batch": BATCH, "tasks": {"clip": 1.0}})
    source = Shapes(layout="mixed", count=BATCH, size=64, masks=False)
    steps = Steps(source, plan, seed=0, place="probe/0")
    told = {"before": at_rest(before(steps)), "after": at_rest(after(steps))}
    stream._ROOM = 0
    told["after, where room is short"] = at_rest(after(steps))
    one = steps[0][0].images.nbytes
    print(f"{WORKERS} processes, batches of {BATCH} at {SIZE} px ({one / 1e6:.0f} MB of bytes):")
    for name, waiting in told.items():
        print(f"{name}: {waiting / 1e6:.0f} MB wait, x{told['before'] / waiting:.2f} less than before")


if __name__ == "__main__":
    main()
