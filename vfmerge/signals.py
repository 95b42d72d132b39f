"""Stopping on request: the first SIGINT, SIGTERM or SIGUSR1 is remembered and polled, the second ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Request:
    """Whether somebody asked to stop, and how."""

    def __init__(self) -> None:
        self.name: str | None = None


_watched: list[Request] = []


@contextlib.contextmanager
def watch() -> Iterator[Request]:
    """Turn the first signal into a request; handlers are put back afterwards.

    Who watches within a watch is given the same request: what ends while one asks to stop does not make one forget it.
    """
    if _watched:
        yield _watched[0]
        return
    request = Request()

    def answer(number: int, frame: FrameType | None) -> None:
        if request.name:
            os._exit(75)  # asked twice: the last checkpoint is whole whatever was going on
        request.name = signal.Signals(number).name

    before = {number: signal.signal(number, answer) for number in _SIGNALS}
    _watched.append(request)
    try:
        yield request
    finally:
        _watched.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
