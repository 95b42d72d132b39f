"""What `vfmerge predict` is asked of every picture. Imports no torch.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from vfmerge.errors import BadSample, InputError, one_line
from vfmerge.naming import named
from vfmerge.problem import shown

Point = tuple[float, float]
"""x, y in pixels."""
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """Names alone ask for what is called so; points, boxes or everything ask for masks, which names are then given to.

    classes: the names. background: text for whatever is of none of them, if names alone are asked for. points, boxes:
    each asks for a mask of its own. everything: masks of whatever there is, looked for from `grid` points a side and
    kept if their `stability`, in 0..1, is at least this; see `vfmerge.benchmarks.everything`.
    """

    classes: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    everything: bool = False
    background: str = "background"
    grid: int = 32
    stability: float = 0.95

    def __post_init__(self) -> None:
        """Raises InputError where nothing is asked, or one thing excludes another."""
        if not (self.classes or self.prompted or self.everything):
            raise InputError("nothing is asked; give --text, --point, --box or --everything")
        if self.everything and self.prompted:
            raise InputError("--everything: together with --point or --box; give one or the other")
        if len(self.classes) > 255:
            raise InputError(f"--text: {len(self.classes)} names, more than a label map of 8 bits can tell; give 255")
        if self.alone:
            (background,) = named([self.background], option="--background")
            if background in self.classes:
                text = f"--background: {shown(background)} is one of the names; call it otherwise"
                raise InputError(one_line(text))

    @property
    def prompted(self) -> bool:
        """Whether there are points or boxes."""
        return bool(self.points or self.boxes)

    @property
    def alone(self) -> bool:
        """Whether there are names alone, which say what to look for."""
        return bool(self.classes) and not self.prompted and not self.everything

    @property
    def asked(self) -> dict[str, Any]:
        """All that answers depend on: of the options, those that have a part in it."""
        found: dict[str, Any] = {"classes": self.classes, "points": self.points, "boxes": self.boxes}
        if self.alone:
            found |= {"background": self.background}
        if self.everything:
            found |= {"grid": self.grid, "stability": self.stability}
        return found

    @property
    def prompts(self) -> tuple[Point | Box, ...]:
        """The points, then the boxes: the order of their masks."""
        return (*self.points, *self.boxes)

    def fit(self, frame: tuple[int, int], *, name: str) -> None:
        """Raise BadSample if a point or box is not inside a picture of H x W pixels."""
        height, width = frame
        for prompt in self.prompts:
            reach = 0 if len(prompt) == 2 else 1  # a box may end at the picture's far edge
            if max(prompt[0::2]) >= width + reach or max(prompt[1::2]) >= height + reach:
                option = "--point" if len(prompt) == 2 else "--box"
                text = f"{name}: has {width} x {height} pixels; {option} {written(prompt)} is not inside"
                raise BadSample(f"{text}; give one that is, or leave the picture out")


def written(prompt: Point | Box) -> str:
    """A point or box as it is written on the command line."""
    return ",".join(f"{value:g}" for value in prompt)
