"""`vfmerge cp`: a built-in recipe as a file to edit."""

from __future__ import annotations

from pathlib import Path

import click

from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown, suggestion
from vfmerge.recipe import builtin


@click.command("cp")
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
def command(*, name: str, path: Path) -> None:
    """Copy the built-in recipe NAME to PATH, a file or a folder. Nothing is overwritten."""
    there = builtin()
    if name not in there:
        raise InputError(one_line(f"no built-in recipe {shown(name)}; {suggestion(name, there)}"))
    target = path / f"{name}.yaml" if path.is_dir() else path
    try:
        with target.open("xb") as file:
            file.write(there[name].read_bytes())
    except FileExistsError:
        raise InputError(one_line(f"{target}: is there already; choose another path")) from None
    except (OSError, ValueError) as error:
        raise InputError(one_line(f"{target}: cannot be written ({error}); choose another path")) from None
    click.echo(f"{target}: a copy of {name}; run it with: vfmerge run {target}")
