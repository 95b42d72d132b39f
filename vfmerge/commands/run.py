"""`vfmerge run`: train, save and measure."""

from __future__ import annotations

from pathlib import Path

import click

from vfmerge import cli


@click.command("run")
@click.argument("source", metavar="RECIPE")
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder; default runs/<recipe name>.")
@click.option("--fresh", is_flag=True, help="Start over; the old folder is moved aside.")
@cli.device
@cli.plugin
@cli.debug
@click.pass_obj
def command(
    call: cli.Invocation, *, source: str, overrides: tuple[str, ...], out: Path | None, fresh: bool, device: str
) -> None:
    """Merge models as RECIPE says: a path, or the name of a built-in recipe (`vfmerge ls recipes`).

    KEY=VALUE changes the recipe, as stages.probe.steps=100. Started again, a run goes on where it was.
    """
    from vfmerge import recipe

    plan = recipe.load(source, overrides)
    name = Path(source).stem
    out = out or Path("runs", name)
    call.folder = out.parent

    from vfmerge import engine  # torch

    engine.run(plan, out, name=name, fresh=fresh, device=device)
