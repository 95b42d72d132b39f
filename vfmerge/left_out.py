"""Pictures that a measurement could not use: they are in no figure, so they are counted, named and listed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vfmerge import commit

FILE = "left_out.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One such picture.

    data: the data set, as the recipe calls it. sample: the picture's number there. reason: its name, and what is wrong
    with it. among: of so many pictures that were looked at.
    """

    data: str
    sample: int
    reason: str
    among: int


def once(found: Iterable[LeftOut]) -> list[LeftOut]:
    """Each picture once, however many models looked at it; by data set and number."""
    known = {(each.data, each.sample): each for each in sorted(found, key=lambda each: each.among)}
    return [known[place] for place in sorted(known)]


def publish(path: Path, found: Sequence[LeftOut]) -> None:
    """Write a line of JSON for each and say how many there are; where there is none, no file."""
    if not found:
        path.unlink(missing_ok=True)
        return
    commit.write_text(path, "".join(json.dumps(dataclasses.asdict(each)) + "\n" for each in found))
    print(f"in no figure, because they cannot be used: {summary(found)}; they are named in {path}", file=sys.stderr)


def summary(found: Sequence[LeftOut]) -> str:
    """How many of how many, for each data set: `1 of 120 pictures of held_out`. Empty of none."""
    told = []
    for data in dict.fromkeys(each.data for each in found):
        among = max(each.among for each in found if each.data == data)
        told.append(f"{sum(each.data == data for each in found)} of {among:,} pictures of {data}")
    return ", ".join(told)
