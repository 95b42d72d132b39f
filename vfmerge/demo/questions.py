"""What the page may ask, and how much of it: checked before any of it reaches a model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .refusal import Refusal

MAX_BYTES = 100_000  # of a question
MAX_THINGS, MAX_POINTS, MAX_NAMES, MAX_LETTERS = 24, 64, 48, 80  # chosen here

Pixel = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Point(_Strict):
    """x, y: in pixels of the picture. inside: whether it is in the thing, or outside of it."""

    x: Pixel
    y: Pixel
    inside: bool = True


class Box(_Strict):
    """Corners, in pixels of the picture."""

    x0: Pixel
    y0: Pixel
    x1: Pixel
    y1: Pixel


class Place(_Strict):
    """In pixels of the picture."""

    x: Pixel
    y: Pixel


class Thing(_Strict):
    """One thing to be outlined: by points, a box, or both."""

    points: Annotated[list[Point], Field(max_length=MAX_POINTS)] = Field(default_factory=list)
    box: Box | None = None


class Question(_Strict):
    """What is asked of a model about a picture. Which of the rest it needs, its path says.

    task: whose features. place: with which all is compared. fine: whether cells are small.
    """

    picture: Annotated[str, Field(max_length=64)]
    model: Annotated[str, Field(max_length=200)]
    things: Annotated[list[Thing], Field(max_length=MAX_THINGS)] = Field(default_factory=list)
    names: Annotated[list[Annotated[str, Field(max_length=MAX_LETTERS)]], Field(max_length=MAX_NAMES)] = Field(
        default_factory=list
    )
    task: Annotated[str, Field(max_length=200)] = ""
    place: Place | None = None
    fine: bool = True

    def fit(self, *, width: int, height: int) -> None:
        """Raises Refusal for a thing or place that is not in a picture of that size, or a thing that says nothing."""
        if self.place is not None and (self.place.x > width or self.place.y > height):
            raise Refusal(422, f"place: is not inside the picture of {width} x {height} pixels")
        for number, thing in enumerate(self.things, start=1):
            if thing.box is None and not any(point.inside for point in thing.points):
                raise Refusal(422, f"object {number}: needs a point inside or a box; give one")
            places = [(point.x, point.y) for point in thing.points]
            if thing.box is not None:
                box = thing.box
                places += [(box.x0, box.y0), (box.x1, box.y1)]
                if not (box.x0 < box.x1 and box.y0 < box.y1):
                    raise Refusal(422, f"object {number}: its box is empty or inside out; draw it again")
            if any(x > width or y > height for x, y in places):
                raise Refusal(422, f"object {number}: is not inside the picture of {width} x {height} pixels")


Ask = Literal["outline", "find", "similar", "features", "alike"]


def read(body: bytes) -> Question:
    """Raises Refusal for what is no question, with the first thing that is wrong about it."""
    try:
        return Question.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise Refusal(422, f"{where}: {first['msg']}; ask as the page does") from None
