"""Labels of pixels from two heads: text-aligned cells say what is where, and prompt the mask decoder for its outline.

SAM-CLIP, arXiv 2310.15308, section 4.4: the cells' map of a class, and one to three points drawn at random where it
exceeds a threshold, prompt a mask; of the masks at a pixel the strongest wins.
Chosen here, where the paper is silent or a scene holds several things of a class:
* a prompt is for one connected component of a class's winning cells, not for all of them;
* a mask prompt is linear in the cell's probability, because raw cosines are not on the scale of SAM's mask logits;
* masks compete by sigmoid(mask logit) x presence, the class's mean probability over the cells that the mask covers, so
  that a stray cell which calls up the whole of another class's object loses against that class (dropping masks of
  little presence as well was tried on the shapes world, and lost more than it gained);
* a pixel in no mask is background, or keeps the cells' own label where background is not judged.

Axis letters: H x W pixels, h x w cells, K classes with the background if it is one, N things, P points, S mask side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from vfmerge import random
from vfmerge.capability import Promptable, PromptableImage

from .cells import Cells

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE, _PIXELS = 32, 2**24  # at most so many prompts, and pixels of logits, are decoded in one call


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Thing:
    """What the cells think is one thing: its class, and its cells, bool [h, w]."""

    label: int
    cells: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Claims:
    """Some things and their masks. labels: int64 [N], their classes. logits: float [N, H, W], of the masks.

    strength: float [N, H, W], how strongly each claims each pixel, in 0..1; 0 where its mask is not.
    """

    labels: Tensor
    logits: Tensor
    strength: Tensor


class TwoHeads:
    """A picture's cells prompt masks.

    points: P, of each prompt. prompts: one for each class (the paper's), or for each connected component of its cells.
    least: a component of fewer cells is no thing. mask_scale: the mask logit of probability 1; 0 for no mask prompt.
    """

    def __init__(
        self,
        cells: Cells,
        promptable: Promptable,
        *,
        points: int,
        prompts: Literal["component", "class"],
        least: int,
        mask_scale: float,
    ) -> None:
        self._cells, self._promptable = cells, promptable
        self._points, self._prompts, self._least, self._mask_scale = points, prompts, least, mask_scale

    def label(self, picture: np.ndarray, *, name: str) -> np.ndarray:
        """The class of each pixel: int64 [H, W] in 0..classes. name: the picture's, which its points are drawn by."""
        import torch

        logits = self._cells.logits(picture)
        frame = (picture.shape[0], picture.shape[1])
        labels = torch.full(frame, self._cells.classes, dtype=torch.long, device=logits.device)
        if self._cells.background == "ignore":
            labels = self._cells.spread(logits, frame)
        best = torch.zeros(frame, device=logits.device)
        for claims in self.claims(picture, logits.softmax(0), name=name):
            strength, winner = claims.strength.max(0)
            labels = torch.where(strength > best, claims.labels[winner], labels)
            best = torch.maximum(best, strength)
        return labels.cpu().numpy()

    def claims(
        self, picture: np.ndarray, chance: Tensor, *, name: str, frame: tuple[int, int] | None = None
    ) -> Iterator[Claims]:
        """What the cells' probabilities of classes [K, h, w] call up in a picture, some things at a time.

        frame: H, W of the masks, where the promptable's are not of the picture's size.
        """
        import torch

        things = self._find(chance.cpu().numpy())
        if not things:
            return
        frame = frame or (picture.shape[0], picture.shape[1])
        image = self._promptable.set_image(picture)
        size = max(1, min(_AT_ONCE, _PIXELS // (frame[0] * frame[1])))
        for start in range(0, len(things), size):
            some = things[start : start + size]
            masks = self._predict(image, some, chance, frame, name=name, first=start)
            labels = torch.tensor([thing.label for thing in some], device=chance.device)
            yield Claims(labels=labels, logits=masks, strength=self._weigh(masks, labels, chance))

    def _find(self, chance: np.ndarray) -> list[Thing]:
        """What to prompt for: components (or all) of the cells that a class wins, where it is sure of one at least."""
        winner = chance.argmax(0)
        found = []
        for label in range(self._cells.classes):
            won = winner == label
            for cells in components(won) if self._prompts == "component" else [won]:
                sure = cells & (chance[label] > self._cells.threshold)
                if sure.any() and cells.sum() >= self._least:
                    found.append(Thing(label=label, cells=cells))
        return found

    def _predict(
        self,
        image: PromptableImage,
        things: list[Thing],
        chance: Tensor,
        frame: tuple[int, int],
        *,
        name: str,
        first: int,
    ) -> Tensor:
        """One mask for each thing: logits [N, H, W]. first: the number of the first thing in its picture."""
        import torch

        known = chance.cpu().numpy()
        points = np.stack([self._draw(thing, known, frame, key=(name, n)) for n, thing in enumerate(things, first)])
        coarse = None
        if self._mask_scale:
            rivals = torch.stack([self._own(thing, chance) for thing in things])
            coarse = to_square(
                self._mask_scale * (2 * rivals - 1), frame, side=image.mask_side, outside=-self._mask_scale
            )
        labels = torch.ones(points.shape[:2], dtype=torch.long)
        logits, _ = image.predict(points=torch.from_numpy(points), labels=labels, masks=coarse)
        return logits[:, 0]

    def _own(self, thing: Thing, chance: Tensor) -> Tensor:
        """The class's probability per cell [h, w], without the cells that another thing of the class won."""
        import torch

        won = chance.argmax(0) == thing.label
        own = torch.from_numpy(thing.cells).to(chance.device)
        return torch.where(won & ~own, torch.zeros_like(chance[0]), chance[thing.label])

    def _draw(self, thing: Thing, chance: np.ndarray, frame: tuple[int, int], *, key: tuple[str, int]) -> np.ndarray:
        """Centres of cells that are sure of the class, as pixels x, y: float32 [P, 2]; repeated where they are few."""
        rows, columns = (thing.cells & (chance[thing.label] > self._cells.threshold)).nonzero()
        draw = random.generator("zero_shot_segmentation", 0, *key)
        chosen = draw.choice(len(rows), size=self._points, replace=len(rows) < self._points)
        height, width = thing.cells.shape
        x = (columns[chosen] + 0.5) * frame[1] / width - 0.5
        y = (rows[chosen] + 0.5) * frame[0] / height - 0.5
        return np.stack([x, y], axis=1).astype(np.float32)

    def _weigh(self, masks: Tensor, labels: Tensor, chance: Tensor) -> Tensor:
        """How strongly each thing claims each pixel [N, H, W], 0 where its mask is not."""
        import torch.nn.functional as F

        inside = masks > 0
        share = F.adaptive_avg_pool2d(
            inside.float(), (chance.shape[-2], chance.shape[-1])
        )  # of a cell that the mask covers, [N, h, w]
        covered = share.flatten(1).sum(1).clamp(min=1e-6)
        presence = (share * chance[labels]).flatten(1).sum(1) / covered
        return masks.sigmoid().mul_(presence[:, None, None]).masked_fill_(~inside, 0)


def to_square(grid: Tensor, frame: tuple[int, int], *, side: int, outside: float) -> Tensor:
    """Cells that cover a picture [N, h, w] to a low-resolution mask [N, 1, S, S] over its padded square.

    The promptable's input is the picture with its longer side made the square's, padded below and to the right; cells
    are of the picture stretched. frame: H, W of the picture. outside: the value over the padding.
    """
    import torch.nn.functional as F

    height, width = (max(round(side * length / max(frame)), 1) for length in frame)
    inner = F.interpolate(grid.unsqueeze(1), size=(height, width), mode="bilinear", align_corners=False)
    return F.pad(inner, (0, side - width, 0, side - height), value=outside)


def components(inside: np.ndarray) -> list[np.ndarray]:
    """The connected components of a bool map [h, w], each as one; cells are neighbours by their sides.

    Each cell takes the smallest number among its neighbours' until nothing changes: as many rounds as the longest way
    through a component, on maps of a few thousand cells.
    """
    none = inside.size
    numbers = np.where(inside, np.arange(none).reshape(inside.shape), none)
    while True:
        framed = np.pad(numbers, 1, constant_values=none)
        around = [framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]]
        smallest = np.where(inside, np.minimum.reduce([numbers, *around]), none)
        if (smallest == numbers).all():
            return [numbers == number for number in np.unique(numbers[inside])]
        numbers = smallest
