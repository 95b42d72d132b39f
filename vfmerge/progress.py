"""Progress of long work: a bar with rate and time left on a terminal, one line per interval elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="dim")


class Bar:
    """Counts steps of one piece of work. Used as a context manager.

    total: none where nobody knows it beforehand. every: steps between lines without a terminal.
    """

    def __init__(self, title: str, *, total: int | None, done: int = 0, every: int = 50) -> None:
        self._title, self._total, self._done, self._first, self._every = title, total, done, done, every
        self._started = time.monotonic()
        self._rich: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", style="dim"),
            )
            self._rich = Progress(*columns, console=Console(stderr=True))
            self._task = self._rich.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Bar:
        if self._rich:
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich:
            self._rich.stop()

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """So many more steps are done; `note` is shown beside the bar."""
        before, self._done = self._done, self._done + steps
        if self._rich:
            self._rich.update(self._task, completed=self._done, note=note)
        elif before // self._every != self._done // self._every or self._done >= (self._total or math.inf):
            print(f"{self._line()}  {note}".rstrip(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        """How far, how fast, and how long still."""
        spent = max(time.monotonic() - self._started, 1e-9)
        rate = (self._done - self._first) / spent
        if self._total is None:
            return f"{self._title} {self._done}  {rate:.1f}/s"
        left = (self._total - self._done) / max(rate, 1e-9)
        return f"{self._title} {self._done}/{self._total}  {rate:.1f}/s  {left:.0f} s left"
