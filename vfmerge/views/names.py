"""Names beside things, on tags that keep out of each other's way."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

from .panel import INK, font

Frame = tuple[float, float, float, float]
"""Left, top, right and bottom."""

_LONG = 160  # pixels of a tag (chosen here); a longer name is cut
_LETTERS, _TALL, _PAD, _STAR = 14, 19, 5, 13  # pixels: of text, of a tag's height, beside its text, of a star's room
_WRONG_PAPER, _WRONG_INK = "#fde8e4", "#8f1d12"
_OWN, _OTHER, _TAG = 0.35, 1.0, 4.0  # what a covered pixel costs: of the thing itself, of another, of another's tag
_AWAY = 1.5  # what a pixel of distance costs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Name:
    """What a thing is called. wrong: it is not that. novel: no label taught the class of this name."""

    text: str
    wrong: bool = False
    novel: bool = False

    @property
    def described(self) -> str:
        """As it is told to those who cannot see how it is written."""
        remarks = [word for word, holds in (("novel", self.novel), ("wrong", self.wrong)) if holds]
        return f"{self.text} ({', '.join(remarks)})" if remarks else self.text


def write(image: Image.Image, names: Sequence[Name], *, frames: Sequence[Frame], colours: Sequence[str]) -> None:
    """Write names on an image: one for each of so many things.

    frames: where the things are, which had better be seen. colours: of the edges of their tags.
    """
    taken: list[Frame] = []
    pen = ImageDraw.Draw(image)
    for number in sorted(range(len(names)), key=lambda number: _area(frames[number])):  # small ones have little choice
        own, others = frames[number], [*frames[:number], *frames[number + 1 :]]
        name = _cut(names[number], min(_LONG, image.width))
        places = _places(own, _wide(name), image.size)
        place = min(places, key=functools.partial(_cost, own=own, others=others, taken=taken))
        taken.append(place)
        _draw(pen, place, name, colour=colours[number])


def _wide(name: Name) -> int:
    return 2 * _PAD + math.ceil(font(_LETTERS).getlength(name.text)) + _STAR * name.novel


def _cut(name: Name, most: int) -> Name:
    """As much of it as fits into so many pixels."""
    shorter = (dataclasses.replace(name, text=f"{name.text[:letters]}...") for letters in range(len(name.text), 0, -1))
    return next((each for each in (name, *shorter) if _wide(each) <= most), dataclasses.replace(name, text=""))


def _places(frame: Frame, wide: int, size: tuple[int, int]) -> Iterable[Frame]:
    """Where a tag may be: over, on and under a thing, in its middle or flush with either side; within the image.

    Over and under it there is a second line, for where the first is taken.
    """
    left, top, right, bottom = frame
    across = (left + right - wide) / 2, left, right - wide
    over, under = top - _TALL - 2, bottom + 3
    down = over, under, (top + bottom - _TALL) / 2, top, bottom - _TALL, over - _TALL - 1, under + _TALL + 1
    for y, x in itertools.product(down, across):
        x, y = round(max(min(x, size[0] - wide), 0)), round(max(min(y, size[1] - _TALL), 0))
        yield x, y, x + wide, y + _TALL


def _cost(place: Frame, *, own: Frame, others: Sequence[Frame], taken: Sequence[Frame]) -> float:
    """Of a place for the tag of what is at `own`."""
    covered = _OWN * _shared(place, own) + sum(_OTHER * _shared(place, other) for other in others)
    return covered + sum(_TAG * _shared(place, tag) for tag in taken) + _AWAY * math.dist(_middle(place), _middle(own))


def _shared(one: Frame, other: Frame) -> float:
    """Pixels of both."""
    wide, tall = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(tall, 0)


def _area(frame: Frame) -> float:
    return (frame[2] - frame[0]) * (frame[3] - frame[1])


def _middle(frame: Frame) -> tuple[float, float]:
    return (frame[0] + frame[2]) / 2, (frame[1] + frame[3]) / 2


def _draw(pen: ImageDraw.ImageDraw, place: Frame, name: Name, *, colour: str) -> None:
    """A tag: dark, or, where the name is wrong, light and struck through."""
    paper, ink = (_WRONG_PAPER, _WRONG_INK) if name.wrong else (INK, "#ffffff")
    left, top, right, bottom = place
    pen.rounded_rectangle((left, top, right - 1, bottom - 1), radius=3, fill=paper, outline=colour, width=2)
    middle = (top + bottom) / 2
    start = left + _PAD
    if name.novel:
        _star(pen, (start + _STAR / 2 - 1.5, middle - 0.5), ink)
        start += _STAR
    pen.text((start, middle), name.text, fill=ink, font=font(_LETTERS), anchor="lm")
    if name.wrong:
        pen.line((left + 3, middle, right - 4, middle), fill=ink, width=1)


def _star(pen: ImageDraw.ImageDraw, middle: tuple[float, float], ink: str) -> None:
    """Five points, the first of them up."""
    corners = [
        (middle[0] + radius * math.sin(math.pi * number / 5), middle[1] - radius * math.cos(math.pi * number / 5))
        for number, radius in zip(range(10), itertools.cycle((5.5, 2.2)), strict=False)
    ]
    pen.polygon(corners, fill=ink)
