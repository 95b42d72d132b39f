"""One request at a time makes the model work; a few wait for their turn, and more are sent away."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from .refusal import Refusal

_RETRY = 2  # seconds, chosen here


class Turns:
    """Places for those who work and wait.

    waiting: how many may wait. patience: seconds that each of them waits at most.
    """

    def __init__(self, *, waiting: int, patience: float) -> None:
        self._places = threading.BoundedSemaphore(1 + waiting)
        self._work = threading.Lock()
        self._patience = patience

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place, to be taken before a body is read, so that few are in memory. Raises Refusal if there is none."""
        if not self._places.acquire(blocking=False):
            raise Refusal(429, "too many ask at once; ask again in a moment", retry_after=_RETRY)
        try:
            yield
        finally:
            self._places.release()

    @contextlib.contextmanager
    def turn(self, *, patience: float | None = None) -> Iterator[None]:
        """The only one that works, for whoever has a place. Raises Refusal after waiting in vain.

        patience: seconds, where it is not that of all.
        """
        if not self._work.acquire(timeout=self._patience if patience is None else patience):
            raise Refusal(503, "the model is busy with another request; ask again in a moment", retry_after=_RETRY)
        try:
            yield
        finally:
            self._work.release()
