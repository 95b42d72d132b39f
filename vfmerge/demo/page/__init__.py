"""What the browser shows: one page, its style and its scripts, which ask nobody but the server they came from."""

from __future__ import annotations

import functools
import importlib.resources

_TEXT, _STYLE, _SCRIPT = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))

SCRIPTS = ("main", "ask", "state", "panel", "draw", "heat", "words", "runs", "save", "rows")
FILES = {"/": ("index.html", _TEXT), "/page/style.css": ("style.css", _STYLE)} | {
    f"/page/{name}.js": (f"{name}.js", _SCRIPT) for name in SCRIPTS
}
"""File and media type by path."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: run its own files, ask its own server, show pictures that it was given."""


@functools.cache
def read(name: str) -> bytes:
    """A file of the page."""
    return importlib.resources.files(__name__).joinpath(name).read_bytes()
