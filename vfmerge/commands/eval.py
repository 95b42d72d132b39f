"""`vfmerge eval`: measure a run or a merged model."""

from __future__ import annotations

from pathlib import Path

import click

from vfmerge import cli


@click.command("eval")
@click.argument("path", metavar="RUN_OR_MODEL", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--controls", is_flag=True, help="Train and measure what the merge is compared with; as long as the run.")
@click.option("--save-predictions", is_flag=True, help="Also write what every model answers, for other tools.")
@click.option("--fresh", is_flag=True, help="Measure everything again; use no score from before.")
@cli.device
@cli.plugin
@cli.debug
@click.pass_obj
def command(
    call: cli.Invocation,
    *,
    path: Path,
    overrides: tuple[str, ...],
    controls: bool,
    save_predictions: bool,
    fresh: bool,
    device: str,
) -> None:
    """Measure a run's folder, or the folder of a merged model, against the parents.

    KEY=VALUE changes its recipe: a model's folder does not know where this machine has data and parents.
    """
    from vfmerge.errors import InputError, one_line

    if not path.is_dir():
        raise InputError(one_line(f"{path}: no such folder; give runs/NAME or runs/NAME/merged"))
    call.folder = path.parent

    from vfmerge import review  # torch

    review.review(path, overrides, device=device, with_controls=controls, predictions=save_predictions, fresh=fresh)
