"""The command line. It imports the code of a command only when that command runs, so that `--help` answers at once.

Exit codes: 0 done; 1 a fault stopped the run; 2 the input is wrong; 70 a bug in vfmerge; 75 stopped on request.
A reader of our output that goes away (`| head`) ends a command quietly.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from vfmerge.errors import InputError, RunError, Stopped, one_line

DONE, FAULT, WRONG, BUG, STOPPED = 0, 1, 2, 70, 75
_LOG = "vfmerge-error.log"
_COMMANDS = {  # name: the one line that --help says; the code is vfmerge.commands.<name>
    "run": "Merge models as a recipe says, or go on where the run was.",
    "check": "Check a recipe, its data and its parameters, or an adapter.",
    "eval": "Measure a run or a merged model against its parents.",
    "compare": "Set several runs side by side.",
    "predict": "Find, outline and name what is in pictures, by a merged model.",
    "demo": "Try a merged model in the browser, beside its parents.",
    "export": "Write a merged model as files that another tool reads, and prove them.",
    "ls": "List adapters, recipes, benchmarks, kinds of data and of exports.",
    "cp": "Copy a built-in recipe, to edit it.",
    "new": "Write an adapter that runs at once, to change it into your own.",
}


@dataclasses.dataclass(kw_only=True)
class Invocation:
    """What the commands tell `main` about this call. folder: where a bug's log goes, if it is there."""

    debug: bool = False
    folder: Path = Path()


class LazyGroup(click.Group):
    """Commands by name; listing them imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"vfmerge.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not args[0].startswith("-"):
            from vfmerge.problem import shown, suggestion

            raise click.UsageError(f"no command {shown(args[0])}; {suggestion(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _print_version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"vfmerge {version('vfmerge')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Say which.")
def vfmerge() -> None:
    """Merge vision foundation models into one, and measure what was forgotten."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    call = Invocation()
    try:
        code = vfmerge.main(args=arguments, prog_name="vfmerge", standalone_mode=False, obj=call)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG
    except click.ClickException as error:
        return _say(error.format_message(), WRONG)
    except InputError as error:
        return _say(str(error), WRONG)
    except RunError as error:
        return _say(str(error), FAULT)
    except Stopped as error:
        return _say(str(error), STOPPED)
    except (click.Abort, KeyboardInterrupt):
        return _say("stopped before there was anything to save", STOPPED)
    except Exception as error:
        if call.debug:
            raise
        return _report(error, call.folder)
    return code if isinstance(code, int) else DONE


def _say(message: str, code: int) -> int:
    for line in message.splitlines():
        click.echo(f"vfmerge: {one_line(line)}", err=True)
    return code


def _report(error: Exception, folder: Path) -> int:
    """One line for a bug, and its traceback in a file."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    for place in (folder, Path(), Path(tempfile.mkdtemp(prefix="vfmerge-"))):
        try:
            (place / _LOG).write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        what = one_line(f"{type(error).__name__}: {error}", limit=120)
        return _say(f"a bug in vfmerge: {what}; please report it with {(place / _LOG).resolve()}", BUG)
    sys.stderr.write(text)
    return BUG


def _note_debug(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        ctx.find_object(Invocation).debug = True  # type: ignore[union-attr]


debug = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_note_debug, help="Show the traceback of a bug."
)


def _check_device(ctx: click.Context, option: click.Parameter, device: str) -> str:
    kind, _, number = device.partition(":")
    if device not in ("auto", "cpu", "cuda") and not (kind == "cuda" and number.isascii() and number.isdecimal()):
        raise click.BadParameter(f"{device!r} is no device; give auto, cpu, cuda or cuda:N")
    return device


device = click.option(
    "--device", default="auto", show_default=True, callback=_check_device, help="auto, cpu, cuda or cuda:N."
)


def _add_files(ctx: click.Context, option: click.Parameter, files: tuple[Path, ...]) -> None:
    if files:
        from vfmerge import plugins

        for file in files:
            plugins.add_file(file)


plugin = click.option(
    "--plugin",
    metavar="FILE.py",
    multiple=True,
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_add_files,
    help="Use the adapters of a local Python file too; it is executed.",
)
