"""`vfmerge predict`: masks and names of pictures, by a merged model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import click

from vfmerge import cli

_NUMBERS = {"point": ("x,y", "120,80"), "box": ("x0,y0,x1,y1", "10,20,200,180")}


def _names(ctx: click.Context, option: click.Parameter, text: str | None) -> tuple[str, ...]:
    """The names of `cat, dog`; of no list, none."""
    if text is None:
        return ()
    from vfmerge.naming import named

    return named(text.split(","), option="--text")


def _places(ctx: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
    """Points or boxes, whose values are separated by commas."""
    form, example = _NUMBERS[str(option.name)]
    return tuple(_place(text, form=form, example=example) for text in texts)


def _place(text: str, *, form: str, example: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not {form}; give pixels, such as {example}") from None
    if len(values) != form.count(",") + 1:
        raise click.BadParameter(f"{text!r} is not {form}; give pixels, such as {example}")
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise click.BadParameter(f"{text!r} is in no picture; give pixels from its upper left, such as {example}")
    if len(values) == 4 and not (values[0] < values[2] and values[1] < values[3]):
        raise click.BadParameter(f"{text!r} is inside out; give {form}, such as {example}")
    return values


def _refuse_idle(used: Mapping[str, bool]) -> None:
    """Refuse an option that was given and has no part in the answer. used: which have one."""
    needs = {"grid": "--everything", "stability": "--everything", "background": "--text alone"}
    ctx = click.get_current_context()
    for name, part in used.items():
        if not part and ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name}: has no part without {needs[name]}; leave it out")


@click.command("predict")
@click.argument("model")
@click.argument("image", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--text", metavar="NAME,NAME,...", callback=_names, help="What to look for, or to call masks by.")
@click.option("--point", metavar="X,Y", multiple=True, callback=_places, help="A pixel to outline; may be repeated.")
@click.option("--box", metavar="X0,Y0,X1,Y1", multiple=True, callback=_places, help="A box; may be repeated.")
@click.option("--everything", is_flag=True, help="Outline whatever there is.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder of the answers.")
@click.option("--background", default="background", show_default=True, help="What --text alone calls all the rest.")
@click.option(
    "--grid", default=32, show_default=True, type=click.IntRange(1, 256), help="Points a side that --everything tries."
)
@click.option(
    "--stability",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="How stable a mask of --everything is; less suits small models.",
)
@click.option("--task", metavar="NAME", multiple=True, help="The head to ask, where several could answer.")
@cli.device
@cli.plugin
@cli.debug
@click.pass_obj
def command(
    call: cli.Invocation,
    *,
    model: str,
    image: tuple[Path, ...],
    text: tuple[str, ...],
    point: tuple[tuple[float, float], ...],
    box: tuple[tuple[float, float, float, float], ...],
    everything: bool,
    out: Path,
    background: str,
    grid: int,
    stability: float,
    task: tuple[str, ...],
    device: str,
) -> None:
    """Ask MODEL about every IMAGE, a file or a folder that is walked.

    MODEL is the folder of a merged model or of its run, or a merged model's id on the Hugging Face hub.

    With --text alone, what is called so is outlined. With --point, --box or --everything, these say what to outline,
    and --text, if it is given, what to call it: each mask gets the likeliest of the names.

    In DIR: results/ (JSON in COCO's form of results), labels/ (PNG, a number a pixel), masks/ (PNG, of points and
    boxes) and overlays/ (to look at). A picture that cannot be used is named, and the others go on; exit code 1 then.
    After a stop the same command goes on where it was.
    """
    from vfmerge.predict.question import Question

    question = Question(
        classes=text,
        points=point,
        boxes=box,
        everything=everything,
        background=background,
        grid=grid,
        stability=stability,
    )
    _refuse_idle({"grid": everything, "stability": everything, "background": question.alone})

    from vfmerge.predict import folder, pictures

    folder.check(out)
    gathered = pictures.find(image, out=out)
    call.folder = out if out.is_dir() else out.parent
    if gathered.others:
        files = "file" if gathered.others == 1 else "files"
        click.echo(f"{gathered.others} {files} passed over: no {pictures.KINDS}", err=True)

    from vfmerge.predict import prediction  # torch

    prediction.predict(model, gathered.found, question, out, tasks=task, device=device)
