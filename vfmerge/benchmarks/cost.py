"""What a piece of work costs: floating-point operations, memory, time.

The first two are counted operation by operation, with torch's fused encoder layers taken apart, since nothing can be
seen inside one.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from vfmerge import attention

if TYPE_CHECKING:
    import torch

Work = Callable[[], None]


def flops(work: Work) -> int:
    """Floating-point operations of matrix products, convolutions and attention; a multiplication and addition are two.

    What else there is (norms, softmax, interpolation) is a few per cent of an encoder's, and is not counted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with attention.apart(), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peak_bytes(work: Work) -> int:
    """The most bytes that tensors made by the work hold at one time; what was there before, as weights, does not count.

    Whole storages, from the operation that made one until nothing holds it, on any device: without what a kernel takes
    for itself while it runs, and without an allocator's rounding.
    """
    with attention.apart(), _count_storages() as held:
        work()
    return held.most


def seconds(work: Work, device: torch.device) -> float:
    """Wall time from the start of the work until the device has done it."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class _Held:
    """Bytes of storages that are alive, and the most there were. A storage that only was seen counts nothing."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._known: set[int] = set()

    def add(self, storage: torch.UntypedStorage, *, size: int) -> None:
        if (key := storage._cdata) not in self._known:  # its address, which views of it share
            self._known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@contextlib.contextmanager
def _count_storages() -> Iterator[_Held]:
    """Within, every storage that an operation makes is counted while it lives."""
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    held = _Held()

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            for given in tree_leaves((args, kwargs)):
                if isinstance(given, Tensor):
                    held.add(given.untyped_storage(), size=0)  # a weight, unless an operation made it
            answer = func(*args, **(kwargs or {}))
            for made in tree_leaves(answer):
                if isinstance(made, Tensor):
                    held.add(made.untyped_storage(), size=made.untyped_storage().nbytes())
            return answer

    with Counting():  # type: ignore[no-untyped-call]
        yield held
