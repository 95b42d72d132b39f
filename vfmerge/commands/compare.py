"""`vfmerge compare`: several merges side by side."""

from __future__ import annotations

from pathlib import Path

import click

from vfmerge import cli
from vfmerge.errors import InputError, one_line


@click.command("compare")
@click.argument("runs", metavar="RUN RUN...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page with charts as well.")
@cli.debug
def command(*, runs: tuple[Path, ...], out: Path | None) -> None:
    """Set the retention of two runs or more side by side. A run that did not measure something shows `-` there."""
    if len(runs) < 2:
        raise click.UsageError("nothing to compare; give the folders of two runs or more")
    if out is not None and out.is_dir():
        raise InputError(one_line(f"--out {out}: is a folder; give a file, such as {out / 'compare.html'}"))

    from vfmerge import commit, table
    from vfmerge.report import compare

    found = compare.read(runs)
    table.show_whole(compare.table(found))
    for data in compare.unlike(found):
        click.echo(one_line(f"not the same pictures in every run, so not to be compared: {data}"), err=True)
    if out is not None:
        commit.write_text(out, compare.render(found))
        click.echo(f"written to {out}", err=True)
