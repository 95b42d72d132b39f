"""`vfmerge run`: train, save and measure."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vfmerge import cli
from vfmerge.errors import InputError


def _fractions(ctx: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...]:
    """The numbers of `0.1,0.3,1.0`; of no list, none."""
    fractions = []
    for word in text.split(",") if text is not None else ():
        try:
            fraction = float(word)
        except ValueError:
            raise click.BadParameter(f"{word!r} is no number; give for example 0.1,0.3,1.0") from None
        if not 0 < fraction <= 1:
            raise click.BadParameter(f"{word!r} is no fraction of the data; give numbers above 0, at most 1")
        if fraction in fractions:
            raise click.BadParameter(f"{word!r} is given twice; give each once")
        fractions.append(fraction)
    return tuple(fractions)


def _require_one_process() -> None:
    """Refuse what torchrun and its like start: as many runs of one folder. They say in the environment how many."""
    told = os.environ.get("WORLD_SIZE", "1")
    if told.isdecimal() and int(told) > 1:
        raise InputError(f"WORLD_SIZE={told}: a run is one process on one device so far; start one, without torchrun")


@click.command("run")
@click.argument("source", metavar="RECIPE")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder; default runs/<recipe name>.")
@click.option("--fresh", is_flag=True, help="Start over; the old folder is moved aside.")
@click.option(
    "--fractions",
    metavar="F,F,...",
    callback=_fractions,
    help="Run once for each fraction of the data; default folder runs/<recipe name>-fractions.",
)
@cli.device
@cli.plugin
@cli.debug
@click.pass_obj
def command(
    call: cli.Invocation,
    *,
    source: str,
    overrides: tuple[str, ...],
    out: Path | None,
    fresh: bool,
    fractions: tuple[float, ...],
    device: str,
) -> None:
    """Merge models as RECIPE says: a path, or the name of a built-in recipe (`vfmerge ls recipes`).

    KEY=VALUE changes the recipe, as stages.probe.steps=100. Started again, a run goes on where it was.
    --fractions 0.1,0.3,1.0 does so for each fraction of the data, and shows what was kept of how much.
    """
    from vfmerge import recipe

    _require_one_process()
    plan = recipe.load(source, overrides)
    name = Path(source).stem
    out = out or Path("runs", f"{name}-fractions" if fractions else name)
    call.folder = out.parent

    if fractions:
        from vfmerge.fractions import run as run_each  # torch

        run_each(plan, out, name=name, fractions=fractions, fresh=fresh, device=device)
        return

    from vfmerge import engine  # torch

    engine.run(plan, out, name=name, fresh=fresh, device=device)
