"""`vfmerge check`: everything that can be known before training."""

from __future__ import annotations

import click

from vfmerge import cli


@click.command("check")
@click.argument("source", metavar="RECIPE")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@cli.device
@cli.plugin
@cli.debug
def command(*, source: str, overrides: tuple[str, ...], device: str) -> None:
    """Check RECIPE and its data; show stages, trainable parameters, data sets and teachers. Reads no weights."""
    from vfmerge import recipe

    plan = recipe.load(source, overrides)

    from vfmerge import check

    check.check(plan, device=device)
