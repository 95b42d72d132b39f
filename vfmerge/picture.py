"""A run's picture: the same held-out pictures as each parent and the merged model see them, as one PNG.

Everything is drawn on panels of a fixed side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from vfmerge import commit
from vfmerge.data.source import Sample
from vfmerge.errors import InputError
from vfmerge.views.panel import INK, SIDE, font
from vfmerge.views.view import Column, Views

_GAP, _MARGIN, _TOP, _LEGEND, _LINE = 10, 24, 62, 34, 22  # pixels of the drawing
_PAPER, _FAINT = "#ffffff", "#6b6b6b"
_SEARCH = 8  # times the wanted number of pictures are looked through for crowded ones


def draw(path: Path, views: Views, *, count: int = 6) -> None:
    """Write `count` pictures, those with several things first, as all models but controls see them.

    Raises InputError if no picture is of use.
    """
    shown = _choose(views, count)
    page = _page([column for column in views.columns if not column.control], shown, views)
    commit.write_file(path, lambda temporary: page.save(temporary, format="PNG", optimize=True))


def _choose(views: Views, count: int) -> list[Sample]:
    """The first pictures with two things or more; if they are few, others with one."""
    found = list(views.samples(_SEARCH * count))
    if not found:
        raise InputError("no picture has a thing with a class; give data.NAME of the evaluation some that have")
    return sorted(found, key=lambda sample: views.crowd(sample) < 2)[:count]


def _page(columns: Sequence[Column], shown: Sequence[Sample], views: Views) -> Image.Image:
    """A row for each picture; below them what colours and signs mean."""
    width = 2 * _MARGIN + len(columns) * (SIDE + _GAP) - _GAP
    lines = list(_wrap(views.legend(shown), width - 2 * _MARGIN))
    key = _fold(views.key, width - 2 * _MARGIN)
    below = _TOP + len(shown) * (SIDE + _GAP)
    height = below + len(lines) * _LEGEND + len(key) * _LINE + _MARGIN // 2
    page = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(page)
    for place, column in enumerate(columns):
        left = _MARGIN + place * (SIDE + _GAP)
        pen.text((left, 14), column.title, fill=INK, font=font(17))
        pen.text((left, 37), column.subtitle, fill=_FAINT, font=font(12))
        for row, sample in enumerate(shown):
            page.paste(column.look(sample).panel.render(), (left, _TOP + row * (SIDE + _GAP)))
    _explain(pen, lines, key, top=below)
    return page


def _explain(
    pen: ImageDraw.ImageDraw, lines: Sequence[Sequence[tuple[int, str, str]]], key: Sequence[str], *, top: int
) -> None:
    """Write what colours mean, and below it what signs mean."""
    for line in lines:
        for left, colour, name in line:
            pen.rectangle((_MARGIN + left, top + 9, _MARGIN + left + 16, top + 25), fill=colour)
            pen.text((_MARGIN + left + 24, top + 17), name, fill=INK, font=font(14), anchor="lm")
        top += _LEGEND
    for text in key:
        pen.text((_MARGIN, top + 5), text, fill=_FAINT, font=font(14))
        top += _LINE


def _wrap(legend: Sequence[tuple[str, str]], width: int) -> Iterator[list[tuple[int, str, str]]]:
    """The legend in lines that fit: (left edge, colour, name)."""
    line: list[tuple[int, str, str]] = []
    left = 0
    for colour, name in legend:
        wide = 48 + int(font(14).getlength(name))
        if line and left + wide > width:
            yield line
            line, left = [], 0
        line.append((left, colour, name))
        left += wide
    if line:
        yield line


def _fold(text: str, width: int) -> list[str]:
    """A text in lines that fit."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font(14).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
