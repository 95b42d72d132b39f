"""What a check finds. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

Outcome = Literal["holds", "warning", "not checked", "does not hold"]


class Broken(Exception):
    """What the contract says does not hold; the message says what was found instead."""


class Warned(Exception):
    """Nothing is broken, but the author should know; the message says of what."""


class NotChecked(Exception):
    """There is nothing to check, or something is missing for it; the message says what."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the contract: what it says, whether it holds, and what was found where it does not."""

    check: str
    says: str
    outcome: Outcome
    note: str = ""

    @property
    def broken(self) -> bool:
        """Whether the adapter must be mended."""
        return self.outcome == "does not hold"

    def __str__(self) -> str:
        return f"{self.says}: {self.outcome}{'; ' * bool(self.note)}{self.note}"
