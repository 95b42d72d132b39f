"""What a client is told when it gets no answer: a status and one line of text."""

from __future__ import annotations

from vfmerge.errors import one_line


class Refusal(Exception):
    """A request that is not answered.

    status: of HTTP. text: one line: what is wrong, and what to do. retry_after: seconds after which to ask again, if
    that helps.
    """

    def __init__(self, status: int, text: str, *, retry_after: int | None = None) -> None:
        super().__init__(one_line(text))
        self.status, self.retry_after = status, retry_after
