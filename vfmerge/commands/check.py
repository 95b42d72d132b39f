"""`vfmerge check`: everything that can be known before training, of a recipe or of an adapter."""

from __future__ import annotations

import click

from vfmerge import cli


@click.command("check")
@click.argument("source", metavar="RECIPE", required=False)
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--adapter", metavar="NAME", help="Check an adapter instead: what of the contract holds.")
@cli.device
@cli.plugin
@cli.debug
def command(*, source: str | None, overrides: tuple[str, ...], adapter: str | None, device: str) -> None:
    """Check RECIPE and its data; show stages, parts, caches, data sets and teachers. Reads no weights.

    With --adapter NAME there is no RECIPE, and KEY=VALUE are the adapter's options, as random=true: its networks are
    built, its head learns for ten steps, and a table says what of the contract holds. Exit code 1 if anything does not.
    """
    if adapter is not None:
        given = overrides if source is None else (source, *overrides)

        from vfmerge.testing import command as contract

        contract.check(adapter, given, device=device)
        return
    if source is None:
        raise click.UsageError("Missing argument 'RECIPE'; or give --adapter NAME.")

    from vfmerge import recipe

    plan = recipe.load(source, overrides)

    from vfmerge import check

    check.check(plan, device=device)
