"""`vfmerge export`: a merged model for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from vfmerge import cli


@click.command("export")
@click.argument("source", metavar="MODEL")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--to", "kind", required=True, metavar="KIND", help="For which tool; `vfmerge ls exports` lists them.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="PATH", help="The new file or folder.")
@click.option("--task", metavar="NAME", help="Which task, where several would do.")
@click.option("--measure", is_flag=True, help="Also measure what was written, by the benchmarks of MODEL's recipe.")
@cli.plugin
@cli.debug
def command(*, source: str, overrides: tuple[str, ...], kind: str, out: Path, task: str | None, measure: bool) -> None:
    """Write MODEL as files that another tool reads.

    MODEL is the folder of a merged model or of its run, or a merged model's id on the Hugging Face hub.

    They are read back through that tool's own loader and asked the same as MODEL. If an answer differs by more than the
    kind tolerates, nothing is written and the exit code is 1. So it is if --measure finds another figure; KEY=VALUE
    says then where this machine has the data of the recipe, as data.images.path=photos.
    """
    if overrides and not measure:
        raise click.UsageError(f"{overrides[0]}: changes what is measured; add --measure, or leave it out")

    from vfmerge import export, table

    made = export.export(source, kind=kind, out=out, task=task, measure=overrides if measure else None)
    rows = [(each.answer, f"{each.largest:.1e}", f"{each.tolerance:.0e}") for each in made.differences]
    table.show("the same answers", ("answer", "largest difference", "tolerance"), rows)
    if made.figures:
        measured = [
            (each.task, each.evaluation, each.metric, f"{each.model:.4f}", f"{each.exported:.4f}", each.n)
            for each in made.figures
        ]
        table.show("the same figures", ("task", "evaluation", "metric", "model's", "exported", "n"), measured)
    click.echo(f"written to {out}; load it with:\n{made.usage}")
