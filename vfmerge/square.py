"""Pictures in a square that all heads look at, so that the trunk sees each picture once, whoever asks.

A promptable model looks at a picture padded below and to the right until it is square (SAM, arXiv 2304.02643), text-
aligned cells are of the picture stretched: of a picture that is not square these are two images. Here both are given
the padded one, as in SAM-CLIP's own text-to-mask inference (arXiv 2310.15308, section 4.4), and what they answer is
brought back to the picture.

Axis letters: S side of the square, H x W pixels of the picture, h x w cells of the square, h' x w' cells of the
picture, N prompts or masks, P points a prompt, K masks a prompt, D channels.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vfmerge.capability import Promptable, PromptableImage
from vfmerge.fitting import PADDING
from vfmerge.reduction import Reduction


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Square:
    """A picture in its square. pixels: uint8 [S, S, 3]. inner: the height and width that it has there.

    frame: H, W of the picture; where that is a large one, of what is found in it.
    """

    pixels: np.ndarray
    frame: tuple[int, int]
    inner: tuple[int, int]

    @classmethod
    def of(cls, picture: np.ndarray, *, side: int) -> Square:
        """picture: uint8 [H, W, 3]; its longer side becomes the square's, by the same filter as SAM's own."""
        height, width = picture.shape[:2]
        scale = side / max(height, width)
        inner = max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
        pixels = np.full((side, side, 3), PADDING, dtype=np.uint8)
        resized = Image.fromarray(picture).resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
        pixels[: inner[0], : inner[1]] = np.asarray(resized)
        return cls(pixels=pixels, frame=(height, width), inner=inner)

    @property
    def side(self) -> int:
        return len(self.pixels)

    def inward(self, places: Tensor) -> Tensor:
        """Pixels of the picture [..., 2], x and y, to those of the square."""
        return places * places.new_tensor([self.inner[1] / self.frame[1], self.inner[0] / self.frame[0]])

    def outward(self, logits: Tensor) -> Tensor:
        """Mask logits of the square [N, K, S, S] to those of the picture [N, K, H, W]."""
        inside = logits[..., : self.inner[0], : self.inner[1]]
        if self.inner == self.frame:
            return inside
        return F.interpolate(inside, size=self.frame, mode="bilinear", align_corners=False)

    def cells(self, grid: Tensor) -> Tensor:
        """Cells of the square [D, h, w] to cells of the picture [D, h', w'], about as large, which cover it exactly.

        The padding ends within a cell: the centres of the picture's cells are looked up bilinearly.
        """
        if self.inner == (self.side, self.side):
            return grid
        ends = [inner / self.side for inner in self.inner]  # where the picture ends, as shares of the square
        counts = [max(round(cells * end), 1) for cells, end in zip(grid.shape[1:], ends, strict=True)]
        y, x = (
            2 * end * (torch.arange(count, device=grid.device) + 0.5) / count - 1
            for count, end in zip(counts, ends, strict=True)
        )
        places = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1).to(grid)  # [h', w', 2]
        found = F.grid_sample(grid[None], places[None], mode="bilinear", padding_mode="border", align_corners=False)
        return found[0]

    def masks(self, masks: Tensor) -> Tensor:
        """Masks of the picture, bool [N, H, W], to masks of the square, bool [N, S, S]: where they cover half a pixel.

        One too thin for that keeps the pixels that it covers most.
        """
        share = F.interpolate(masks[:, None].float(), size=self.inner, mode="area")[:, 0]
        most = share.amax((1, 2), keepdim=True)
        inside = (share >= most.clamp(max=0.5)) & (share > 0)
        return F.pad(inside, (0, self.side - self.inner[1], 0, self.side - self.inner[0]))


class SquarePrompts(Promptable):
    """A promptable model that is shown pictures in their squares: whoever shows those to another head of the same
    model causes no second pass of the trunk. Otherwise as the model itself.

    side: S; a model that takes several sizes is shown a square of each picture's longer side.
    """

    def __init__(self, promptable: Promptable, *, reduced: bool = False) -> None:
        """reduced: whether prompts and masks of a large picture are those of its `Reduction`, not of its own pixels."""
        super().__init__(promptable.network)
        self._promptable, self._reduced = promptable, reduced
        self.fixed_size = promptable.fixed_size

    def square(self, picture: np.ndarray) -> Square:
        """What the model is shown of a picture, uint8 [H, W, 3]."""
        reduction = Reduction.of(picture)
        frame = reduction.inner if self._reduced else reduction.frame
        square = Square.of(picture, side=self.fixed_size or max(frame))
        return dataclasses.replace(square, frame=frame)

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        square = self.square(picture)
        return _SquareImage(self._promptable.set_image(square.pixels), square)


class ReducedPrompts(Promptable):
    """A promptable model whose prompts and masks, for a large picture, are those of its `Reduction`. Otherwise as the
    model itself, which is shown the very pixels that it would have made of the picture, if it is one of SAM's kind.
    """

    def __init__(self, promptable: Promptable) -> None:
        super().__init__(promptable.network)
        self._promptable = promptable
        self.fixed_size = promptable.fixed_size

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        reduction = Reduction.of(picture)
        if reduction.none:
            return self._promptable.set_image(picture)
        square = Square.of(picture, side=self.fixed_size or max(reduction.inner))
        alone = square.pixels[: square.inner[0], : square.inner[1]]
        image = self._promptable.set_image(np.ascontiguousarray(alone))
        return _SquareImage(image, dataclasses.replace(square, frame=reduction.inner))


class _SquareImage(PromptableImage):
    """A picture that waits for prompts in its square."""

    def __init__(self, image: PromptableImage, square: Square) -> None:
        self._image, self._square = image, square
        self.mask_side = image.mask_side

    @torch.no_grad()
    def predict(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        logits, scores = self._image.predict(
            boxes=None if boxes is None else self._square.inward(boxes.view(-1, 2, 2)).flatten(1),
            points=None if points is None else self._square.inward(points),
            labels=labels,
            masks=masks,
            multimask=multimask,
        )
        return self._square.outward(logits), scores
