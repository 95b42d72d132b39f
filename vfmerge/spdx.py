"""Licences as SPDX expressions: several that hold together, taken apart and joined; and what is known of single ones.

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Use = Literal["any", "non-commercial", "unknown"]
"""What a licence lets people do with what is derived: anything under its conditions, nothing commercial, or who knows.
"""

UNKNOWN = "unknown"

_OPEN = """
0BSD AFL-3.0 AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-2.0 Artistic-2.0 BSD-2-Clause BSD-3-Clause
BSD-3-Clause-Clear BSL-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 CC-BY-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0
CDLA-Permissive-1.0 CDLA-Permissive-2.0 ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 GPL-2.0 GPL-2.0-only
GPL-2.0-or-later GPL-3.0 GPL-3.0-only GPL-3.0-or-later ISC LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0
LGPL-3.0-only LGPL-3.0-or-later MIT MIT-0 MPL-2.0 MS-PL NCSA OSL-3.0 PDDL-1.0 PostgreSQL Unlicense WTFPL Zlib
"""
"""Licences by their SPDX names that let everybody use and change what they cover, for money too."""
_CLOSED = """
CC-BY-NC-2.0 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-SA-2.0 CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-NC-ND-3.0
CC-BY-NC-ND-4.0 apple-amlr deepfloyd-if-license fair-noncommercial-research-license h-research intel-research
seer-license
"""
"""Licences for research, or for anything but commerce, by the names that SPDX, the Hugging Face hub and timm have."""

_USES: dict[str, Use] = {}
_USES |= dict.fromkeys(_OPEN.split(), "any")
_USES |= dict.fromkeys(_CLOSED.split(), "non-commercial")
_SPELT = {name.lower(): name for name in _USES}
_AND = re.compile(r" AND (?![^(]*\))")  # not within parentheses
_OR = re.compile(r" OR ")
_PURPOSE = "research|academi|education|teaching|personal|private|evaluation|non-?profit|scientific"
_CLOSED_IN_WORDS = re.compile(
    r"(?<![a-z0-9])nc(?![a-z0-9])|non[\s_-]*commercial|\b(no|not|without|except)\b[^.;]{0,40}\bcommerc"
    rf"|\b({_PURPOSE})[^.;]{{0,40}}\b(only|solely|exclusively)\b"
    rf"|\b(only|solely|exclusively)\b[^.;]{{0,40}}\b({_PURPOSE})",
    re.IGNORECASE,
)


def terms(licence: str) -> list[str]:
    """The licences that hold together in an expression: of `(A OR B) AND C` two. One that is not stated is unknown."""
    return [spelt(term) or UNKNOWN for term in _AND.split(licence)]


def join(licences: Iterable[str]) -> str:
    """One expression for all, each licence in it once."""
    each = sorted({term for licence in licences for term in terms(licence)})
    choices = len(each) > 1  # a choice among others needs parentheses
    return " AND ".join(f"({term})" if choices and " OR " in term and term[0] != "(" else term for term in each)


def spelt(licence: str) -> str:
    """One licence as SPDX spells it where it is known here, whatever its capitals; else as it is."""
    plain = " ".join(licence.split())
    return _SPELT.get(plain.lower(), plain)


def use(licence: str) -> Use:
    """What an expression lets people do. Free text that nobody here knows is unknown, never open."""
    found = {_use_of_term(term) for term in terms(licence)}
    if "non-commercial" in found:
        return "non-commercial"
    return "unknown" if "unknown" in found else "any"


def _use_of_term(term: str) -> Use:
    """Of a choice, what the most generous of its licences lets people do."""
    found = {_use_of_one(spelt(each)) for each in _OR.split(term.removeprefix("(").removesuffix(")"))}
    if "any" in found:
        return "any"
    return "unknown" if "unknown" in found else "non-commercial"


def _use_of_one(licence: str) -> Use:
    return _USES.get(licence, "non-commercial" if _CLOSED_IN_WORDS.search(licence) else "unknown")
