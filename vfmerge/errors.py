"""What can go wrong, by who can mend it. Each message is one line: file, key, value, remedy.

The command line turns each into an exit code: 2 the input is wrong, 1 a fault stopped the run, 75 stopped on request.
"""

from __future__ import annotations


class InputError(ValueError):
    """The input is wrong and nothing was done: a recipe, an option, a file, a checkpoint, a data set. Exit code 2."""


class CheckpointError(InputError):
    """A file of weights cannot be used: damaged, of another architecture, not weights at all, or unsafe."""


class BadSample(ValueError):
    """One picture or mask of a data set cannot be used; it is skipped, counted and named."""


class RunError(RuntimeError):
    """A fault stopped a run whose last checkpoint is good. Exit code 1."""


class Stopped(Exception):
    """The run was asked to stop, saved itself and can be resumed. Exit code 75."""


def one_line(text: str, *, limit: int = 300) -> str:
    """The text as one printable line of at most `limit` characters; a longer one loses its middle."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    plain = " ".join(plain.encode("utf-8", "backslashreplace").decode().split())
    half = (limit - 5) // 2
    return plain if len(plain) <= limit else f"{plain[:half]} ... {plain[-half:]}"
