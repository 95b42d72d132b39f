"""Tables on the terminal, or as plain text where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH = 120  # letters a line, where the output is no terminal


def show_whole(table: Table) -> None:
    """Print a table; where the output is no terminal, as wide as it takes to fold nothing, for other tools."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(Console(width=10_000).measure(table).maximum, 40))
    console.print(table)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print one table. Numbers stand to the right, with thousands apart; text is shown as it is, without markup."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    rows = [tuple(row) for row in rows]
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        numbers = all(isinstance(row[place], int) for row in rows)
        table.add_column(column, justify="right" if rows and numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    console.print(table)
    console.print()
