"""`vfmerge new`: the beginning of a plug-in."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from vfmerge import cli


@click.command("new")
@click.argument("what", metavar="adapter", type=click.Choice(["adapter"]))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; default a folder NAME.")
@cli.debug
def command(*, what: str, name: str, out: Path | None) -> None:
    """Write an adapter called NAME that runs at once, its test, a recipe and a pyproject.toml. Nothing is overwritten.

    What to change in it for a model of your own is said in its comments.
    """
    from vfmerge import new

    folder = Path(name) if out is None else out
    files = new.write_adapter(name, folder)
    for path in files:
        click.echo(path)
    click.echo(f"check it with: vfmerge check --adapter {name} --plugin {shlex.quote(str(files[0]))}")
