"""`vfmerge demo`: a page in the browser to try a merged model with."""

from __future__ import annotations

import click

from vfmerge import cli


@click.command("demo")
@click.argument("model")
@click.option("--port", default=7788, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address lets others in, with a token.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
@click.option("--task", metavar="NAME", multiple=True, help="The head to ask, where several could answer.")
@cli.device
@cli.plugin
@cli.debug
@click.pass_obj
def command(
    call: cli.Invocation, *, model: str, port: int, host: str, opened: bool, task: tuple[str, ...], device: str
) -> None:
    """Show a page to try MODEL with; Ctrl-C ends it.

    MODEL is the folder of a merged model or of its run, or a merged model's id on the Hugging Face hub.

    Drop a picture or take an example; click what is to be outlined, draw boxes, type names, compare features. The
    parents stand beside the merged model where the run's recipe and their files are here. Pictures stay in memory, and
    on this machine.
    """
    from vfmerge.demo import demo  # torch

    demo.show(model, host=host, port=port, tasks=task, device=device, in_browser=opened)
