"""Several merges side by side: what each kept, measurement by measurement. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vfmerge.report import charts, findings, headline, page, terms
from vfmerge.report.charts import Panel, Value
from vfmerge.report.findings import Manifest
from vfmerge.retention import Row, number

if TYPE_CHECKING:
    from rich.table import Table

Place = tuple[str, str, str, str]
"""Parent, benchmark, data and metric: what is compared."""

_NONE = "-"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One of the merges. name: as this comparison calls it. rows: of its merged model. verdict: in sentences."""

    name: str
    rows: Mapping[Place, Row]
    verdict: list[str]
    manifest: Manifest | None


def read(folders: Sequence[Path]) -> list[Run]:
    """The runs, in order. Raises InputError for a folder without a retention table."""
    return [read_run(folder, name=name) for folder, name in zip(folders, names(folders), strict=True)]


def read_run(folder: Path, *, name: str) -> Run:
    """A run under a name. Raises InputError for a folder without a retention table."""
    rows, plan = findings.rows(folder), findings.plan(folder)
    places = {(row.parent, row.benchmark, row.data, row.metric): row for row in rows[::-1] if row.control is None}
    verdict = headline.verdict(rows, base=plan.base if plan else None)
    return Run(name=name, rows=dict(reversed(places.items())), verdict=verdict, manifest=findings.manifest(folder))


def names(folders: Sequence[Path]) -> list[str]:
    """The last words of each path, as many as tell it from the others; a folder given twice is numbered."""
    words = [folder.resolve().parts for folder in folders]
    count = [1] * len(words)
    while True:
        called = ["/".join(parts[-many:]) for parts, many in zip(words, count, strict=True)]
        twice = {name for name, times in Counter(called).items() if times > 1}
        longer = [
            min(many + (name in twice), len(parts)) for name, many, parts in zip(called, count, words, strict=True)
        ]
        if longer == count or len(set(words)) == len(set(called)):
            break
        count = longer
    return [
        f"{name} ({called[: place + 1].count(name)})" if name in twice else name for place, name in enumerate(called)
    ]


def table(runs: Sequence[Run]) -> Table:
    """The retentions for a terminal, a column for each run."""
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title="Retention, and its 95 % interval")
    for name in ("parent", "benchmark", "data", "metric"):
        drawn.add_column(name)
    for run in runs:
        drawn.add_column(Text(run.name), justify="right")
    for place, rows in lines(runs):
        drawn.add_row(*map(Text, (*place, *(shown(row) for row in rows))))
    return drawn


def lines(runs: Sequence[Run]) -> Iterator[tuple[Place, list[Row | None]]]:
    """Everything that any run measured, with its row in each run or none, in the order of the first that has it."""
    for place in dict.fromkeys(place for run in runs for place in run.rows):
        yield place, [run.rows.get(place) for run in runs]


def shown(row: Row | None) -> str:
    """A retention with its interval, the bare value where no parent was measured, or that there is nothing."""
    if row is None:
        return _NONE
    return terms.kept(row) if row.retention is not None else f"{number(row.merged_value)} itself"


def unlike(runs: Sequence[Run]) -> list[str]:
    """Data sets that bear one name and are not the same, so that their figures cannot be compared."""
    found: dict[str, set[str]] = {}
    for run in runs:
        for data, facts in (run.manifest.data if run.manifest else {}).items():
            found.setdefault(data, set()).add(str(facts.get("sha256", "")))
    judged = {row.data for run in runs for row in run.rows.values()}
    return [data for data, digests in found.items() if len(digests) > 1 and data in judged]


def render(runs: Sequence[Run]) -> str:
    """A self-contained HTML page."""
    return page.render(
        "compare.html.jinja", runs=runs, lines=list(grouped(runs)), panels=list(_panels(runs)), unlike=unlike(runs)
    )


def grouped(runs: Sequence[Run]) -> Iterator[tuple[str, list[list[Row | None]]]]:
    """The lines of each parent."""
    together: dict[str, list[list[Row | None]]] = {}
    for (parent, *_), rows in lines(runs):
        together.setdefault(parent, []).append(rows)
    yield from together.items()


def _panels(runs: Sequence[Run]) -> Iterator[Panel]:
    """A chart of values for each measurement that stands for more than a part of the pictures."""
    for _, rows in lines(runs):
        there = [(run.name, row) for run, row in zip(runs, rows, strict=True) if row is not None]
        first = there[0][1]
        if len(there) > 1 and not headline.apart(first):
            parents = dict.fromkeys(row.parent_value for _, row in there if row.parent_value is not None)
            alone = [Value(name=f"{first.parent} alone", kind="parent", value=value) for value in parents]
            merged = [Value(name=name, kind="merged", value=row.merged_value) for name, row in there]
            title, subtitle = terms.measured(first), f"{first.parent}, on {first.data}"
            yield Panel(title=title, subtitle=subtitle, chart=charts.bars(f"{title}, {subtitle}", [*alone, *merged]))
