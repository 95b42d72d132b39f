"""Memory that does not suffice, said as the fault that it is: where, and what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfmerge.errors import RunError, one_line

if TYPE_CHECKING:
    from vfmerge.recipe import Stream

_OF_THE_CPU = "DefaultCPUAllocator"  # so torch says it there, in an error of no kind of its own


@contextlib.contextmanager
def watch(where: str, *, doing: str, remedy: str) -> Iterator[None]:
    """Raise a RunError where torch, numpy or Python has no memory left, on the device or beside it.

    where: the key of the recipe that asks for it. doing: what, as `with batch 8 at size 1024`. remedy: what to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_of_memory(error):
            raise
        raise RunError(one_line(f"{where}: out of memory {doing}; {remedy}")) from error


def watch_stream(stage: str, number: int, plan: Stream, *, doing: str = "") -> contextlib.AbstractContextManager[None]:
    """The same of a stage's stream at work. doing: what beside learning."""
    return watch(
        f"stages.{stage}.streams.{number}",
        doing=f"with batch {plan.batch} at size {plan.size}{doing and f', {doing}'}",
        remedy="the last checkpoint is good: free memory and run again, or give that stream a smaller batch or size "
        "and use --fresh",
    )


def _is_of_memory(error: RuntimeError | MemoryError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _OF_THE_CPU in str(error)
