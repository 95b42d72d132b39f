"""`vfmerge export`: a merged model for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from vfmerge import cli


@click.command("export")
@click.argument("source", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--to", "kind", required=True, metavar="KIND", help="For which tool; `vfmerge ls exports` lists them.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="PATH", help="The new file or folder.")
@click.option("--task", metavar="NAME", help="Which task, where several would do.")
@cli.plugin
@cli.debug
def command(*, source: Path, kind: str, out: Path, task: str | None) -> None:
    """Write MODEL, the folder of a merged model or of its run, as files that another tool reads.

    They are read back through that tool's own loader and asked the same as MODEL. If an answer differs by more than the
    kind tolerates, nothing is written and the exit code is 1.
    """
    from vfmerge import export, table

    made = export.export(source, kind=kind, out=out, task=task)
    rows = [(each.answer, f"{each.largest:.1e}", f"{each.tolerance:.0e}") for each in made.differences]
    table.show("the same answers", ("answer", "largest difference", "tolerance"), rows)
    click.echo(f"written to {out}; load it with:\n{made.usage}")
