"""How a picture becomes an input, as `preprocessor_config.json` says it. Imports no torch.

Pixel values are those of the library's image processors of PIL (`CLIPImageProcessorPil` and its like); those of
torchvision, which it prefers where both are there, round elsewhere and differ from them by a grey level or two.

Axis letters: B pictures, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import pydantic
from PIL import Image
from pydantic import Field

from vfmerge.errors import InputError, one_line

if TYPE_CHECKING:
    from torch import Tensor

Colours = tuple[float, float, float]
Spread = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
Side = Annotated[int, Field(ge=1)]


class Extent(pydantic.BaseModel):
    """A size in pixels: of both sides, or of the shorter one alone."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    height: Side | None = None
    width: Side | None = None
    shortest_edge: Side | None = None

    @pydantic.model_validator(mode="after")
    def _says_one(self) -> Self:
        if (self.height is None or self.width is None) == (self.shortest_edge is None):
            raise ValueError("give height and width, or shortest_edge")
        return self

    @property
    def side(self) -> int:
        """The shorter side."""
        return self.shortest_edge or min(self.height or 0, self.width or 0)

    def scaled(self, factor: float) -> Extent:
        """The same at another scale."""
        return Extent(**{name: max(1, round(value * factor)) for name, value in self if value is not None})


class Preprocess(pydantic.BaseModel):
    """What the library's image processors of PIL do: resize, crop about the middle, rescale, normalise."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    do_resize: bool = True
    resample: int = Field(default=3, ge=0, le=5)
    """PIL's number of a filter: 2 is bilinear, 3 bicubic"""
    do_center_crop: bool = False
    size: Extent
    crop_size: Extent | None = None
    do_rescale: bool = True
    rescale_factor: float = Field(default=1 / 255, gt=0)
    do_normalize: bool = True
    image_mean: Colours
    """of the rescaled colours"""
    image_std: Spread
    """of the rescaled colours"""

    @pydantic.field_validator("size", "crop_size", mode="before")
    @classmethod
    def _extend(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        """An older file's single number: the side of a crop, the shorter side of a picture before one."""
        if not isinstance(value, int):
            return value
        crops = info.field_name == "size" and info.data.get("do_center_crop", False)
        return {"shortest_edge": value} if crops else {"height": value, "width": value}

    @classmethod
    def parse(cls, content: Mapping[str, Any], *, default: Mapping[str, Any], source: str) -> Self:
        """From a file's content. default: what stands for all that the file leaves out or has as null.

        Raises InputError, which calls the file `source`.
        """
        given = {name: value for name, value in content.items() if value is not None}
        try:
            return cls.model_validate(dict(default) | given)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(one_line(f"{source}: preprocessing: {place}: {first['msg']}; mend it")) from None

    @property
    def side(self) -> int:
        """Side in pixels of the input; the shorter one, where it is no square."""
        return self.crop_size.side if self.do_center_crop and self.crop_size is not None else self.size.side

    @property
    def mean(self) -> Colours:
        """To be taken from colours in [0, 1]."""
        red, green, blue = self.image_mean if self.do_normalize else (0.0, 0.0, 0.0)
        return (red / self._scale, green / self._scale, blue / self._scale)

    @property
    def std(self) -> Colours:
        """What they are divided by then."""
        red, green, blue = self.image_std if self.do_normalize else (1.0, 1.0, 1.0)
        return (red / self._scale, green / self._scale, blue / self._scale)

    def square(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        """Pictures, uint8 [H, W, 3], as images in [0, 1], not normalised. size: another side; the scale goes with it.

        A picture that would be no square is stretched to one.
        """
        side = size or self.side
        return stack([self._fit(picture, side) for picture in pictures])

    def stretch(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        """The same of whole pictures, each side scaled by itself."""
        side = size or self.side
        return stack([self._resize(Image.fromarray(picture), side, side) for picture in pictures])

    @property
    def _scale(self) -> float:
        return 255 * self.rescale_factor if self.do_rescale else 255.0

    def _fit(self, picture: np.ndarray, side: int) -> Image.Image:
        image, factor = Image.fromarray(picture), side / self.side
        if self.do_resize:
            image = self._resize(image, *_target(image, self.size.scaled(factor)))
        if self.do_center_crop:
            image = _crop(image, side)
        return image if image.size == (side, side) else self._resize(image, side, side)

    def _resize(self, image: Image.Image, height: int, width: int) -> Image.Image:
        return image.resize((width, height), Image.Resampling(self.resample))


def stack(images: Sequence[Image.Image]) -> Tensor:
    """Images of one size as floats [B, 3, H, W] in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack([np.asarray(each) for each in images])).permute(0, 3, 1, 2).float() / 255


def _target(image: Image.Image, extent: Extent) -> tuple[int, int]:
    """Height and width that a picture is resized to."""
    if extent.height is not None and extent.width is not None:
        return extent.height, extent.width
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(extent.side * long / short)
    return (extent.side, other) if height <= width else (other, extent.side)


def _crop(image: Image.Image, side: int) -> Image.Image:
    """The middle square; what it has more than the picture is black."""
    width, height = image.size
    left, top = _start(width, side), _start(height, side)
    return image.crop((left, top, left + side, top + side))


def _start(length: int, side: int) -> int:
    """Where the square begins, on the left of the middle where there are two; negative where the picture is smaller."""
    return (length - side) // 2
