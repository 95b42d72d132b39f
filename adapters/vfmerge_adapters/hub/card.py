"""What the card of a model in the hub's format says of its licence, in the front matter of its README.md."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from vfmerge import spdx

CARD = "README.md"
_LARGEST = 1 << 20  # bytes of a card that are looked at, chosen here
_FRONT = re.compile(r"\ufeff?---\r?\n(.*?)^---", re.DOTALL | re.MULTILINE)


def licence_of(path: Path) -> str | None:
    """The licence that a card states, as SPDX spells it where it is known there; none where it states none.

    Several hold together, for a card does not say that there is a choice. A card that cannot be read states none.
    """
    try:
        with path.open("rb") as file:
            front = _FRONT.match(file.read(_LARGEST).decode("utf-8", "replace"))
        stated = yaml.safe_load(front[1]) if front else None
    except (OSError, yaml.YAMLError, ValueError, RecursionError):  # a date or a number that is none is a ValueError
        return None
    if not isinstance(stated, dict):
        return None
    given = stated.get("license")
    if given == "other":
        given = stated.get("license_name")
    each = [one for one in (given if isinstance(given, list) else [given]) if isinstance(one, str) and one.strip()]
    return spdx.join(each) if each else None
