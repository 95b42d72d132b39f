"""`vfmerge ls`: what is installed."""

from __future__ import annotations

from pathlib import Path

import click

from vfmerge import cli, plugins
from vfmerge.recipe import builtin
from vfmerge.table import show


def _summary(path: Path) -> str:
    """The first comment line of a recipe."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


@click.command("ls")
@click.argument("what", required=False, type=click.Choice(["adapters", "recipes", "benchmarks", "data", "exports"]))
@cli.plugin
def command(*, what: str | None) -> None:
    """List what recipes can name and what models can be written as; a plug-in that cannot be used says why."""
    if what in (None, "recipes"):
        show("recipes", ("name", "what it is"), [(name, _summary(path)) for name, path in builtin().items()])
    for kind in plugins.KINDS:
        if what in (None, kind):
            rows = [
                (each.name, each.package, f"BROKEN: {each.broken}" if each.broken else each.summary)
                for each in plugins.listing(kind)
            ]
            show(kind, ("name", "package", "what it is"), rows)
