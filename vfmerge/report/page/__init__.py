"""HTML pages that need nothing but themselves: no script, no font, no request to anywhere.

Whatever comes from data is escaped; a policy in the page itself allows it nothing but its own style and pictures.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re

import jinja2

from vfmerge.report import terms
from vfmerge.retention import number

_SPACE = "\N{NO-BREAK SPACE}"


def render(template: str, **values: object) -> str:
    """A page from a template of this folder; a value that it names and was not given is an error."""
    version = importlib.metadata.version("vfmerge")
    text = _environment().get_template(template).render(version=version, **values)
    return text.encode(errors="replace").decode()  # a lone surrogate, which JSON may hold, is no text


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vfmerge.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": terms.percent, "tied": _tied}
    environment.globals["terms"] = terms
    return environment


def _tied(text: str) -> str:
    """Text in which numbers stay on one line with their unit."""
    return re.sub(r"(?<=\d) (?=%)", _SPACE, text)
