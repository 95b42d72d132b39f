"""Pictures of lines and text as inline SVG. Colours are the page's: each shape has a class that the page's style knows.

Text is escaped by the XML writer. Lengths are in units of the view box, about a pixel of the screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from markupsafe import Markup

Point = tuple[float, float]

_LETTER = 0.53  # of the size of the type: how wide a letter is on average
_PRINTABLE = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], "\ufffd")


class Drawing:
    """An SVG that grows shape by shape.

    title: what it is. description: what it shows, in words, for those who do not see it.
    """

    def __init__(self, width: float, height: float, *, title: str, description: str) -> None:
        self.width, self.height = width, height
        size = f"0 0 {_short(width)} {_short(height)}"
        self._root = ElementTree.Element("svg", {"viewBox": size, "role": "img", "aria-label": _safe(title)})
        self._add("title", text=title)
        self._add("desc", text=description)

    def line(self, start: Point, end: Point, kind: str) -> None:
        (x1, y1), (x2, y2) = start, end
        self._add("line", kind, x1=x1, y1=y1, x2=x2, y2=y2)

    def path(self, points: Iterable[Point], kind: str, *, closed: bool = False) -> None:
        """Straight lines from point to point."""
        steps = [f"{_short(x)} {_short(y)}" for x, y in points]
        if steps:
            self._add("path", kind, d="M" + "L".join(steps) + ("Z" if closed else ""))

    def box(self, corner: Point, width: float, height: float, kind: str, *, label: str = "") -> None:
        self._add("rect", kind, label=label, x=corner[0], y=corner[1], width=max(width, 0), height=max(height, 0))

    def dot(self, centre: Point, kind: str, *, radius: float = 4.5, label: str = "") -> None:
        self._add("circle", kind, label=label, cx=centre[0], cy=centre[1], r=radius)

    def diamond(self, centre: Point, kind: str, *, radius: float = 7, label: str = "") -> None:
        (x, y), r = centre, radius
        corners = (
            f"M{_short(x)} {_short(y - r)}l{_short(r)} {_short(r)}l{_short(-r)} {_short(r)}l{_short(-r)} {_short(-r)}Z"
        )
        self._add("path", kind, label=label, d=corners)

    def text(self, at: Point, text: str, kind: str = "label", *, anchor: str = "start") -> None:
        """A line of text. at: its left end, middle or right end (anchor: start, middle, end) on the base line."""
        self._add("text", kind, text=text, x=at[0], y=at[1], text_anchor=anchor)

    def markup(self) -> Markup:
        """The whole, as HTML takes it."""
        return Markup(ElementTree.tostring(self._root, encoding="unicode"))

    def _add(self, tag: str, kind: str = "", *, text: str = "", label: str = "", **attributes: float | str) -> None:
        named = {key.replace("_", "-"): value for key, value in attributes.items()}
        given = {key: value if isinstance(value, str) else _short(value) for key, value in named.items()}
        child = ElementTree.SubElement(self._root, tag, ({"class": kind} if kind else {}) | given)
        child.text = _safe(text) or None
        if label:
            ElementTree.SubElement(child, "title").text = _safe(label)


def span(text: str, *, size: float = 12) -> float:
    """About how wide a text is."""
    return _LETTER * size * len(text)


def cut(text: str, *, width: float, size: float = 12) -> str:
    """The text, or as much of it as is about so wide."""
    letters = max(int(width / (_LETTER * size)), 2)
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes (left, top, right, bottom) share room."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _short(value: float) -> str:
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _safe(text: str) -> str:
    """Without the characters that no XML or HTML can hold."""
    return text.translate(_PRINTABLE)
