"""Licences as SPDX expressions: several that hold together, taken apart and joined. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNKNOWN = "unknown"

_AND = re.compile(r" AND (?![^(]*\))")  # not within parentheses


def terms(licence: str) -> list[str]:
    """The licences that hold together in an expression: of `(A OR B) AND C` two. One that is not stated is unknown."""
    return [term.strip() or UNKNOWN for term in _AND.split(licence)]


def join(licences: Iterable[str]) -> str:
    """One expression for all, each licence in it once."""
    each = sorted({term for licence in licences for term in terms(licence)})
    choices = len(each) > 1  # a choice among others needs parentheses
    return " AND ".join(f"({term})" if choices and " OR " in term and term[0] != "(" else term for term in each)
