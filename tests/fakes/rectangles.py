"""A world of coloured rectangles, and models that see nothing but their colours, mistaken where they are told to be.

Axis letters: N prompts, H x W pixels, T classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vfmerge.capability import (
    ImageText,
    Promptable,
    PromptableImage,
    PromptableRecognition,
    RecognisedImage,
    Recognition,
    Vocabulary,
)
from vfmerge.data.source import Sample, Source
from vfmerge.model import Network

CLASSES = ("red", "green", "blue")
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], dtype=np.uint8)
DRAWN = [0, 2, 3]
"""Which of a whole picture's four masks have pixels."""


class World(Source):
    """Pictures of a red, a green and a blue rectangle on grey.

    things: how many of them are annotated in each picture, red first; behind the red one is a green one without a
    pixel. changes: of each sample.
    """

    has_masks = True
    classes = CLASSES

    def __init__(
        self, things: Sequence[int] = (3, 3, 0), *, unseen: frozenset[str] = frozenset({"blue"}), **changes: Any
    ) -> None:
        self.unseen = unseen
        self._things, self._changes = things, changes

    def __len__(self) -> int:
        return len(self._things)

    def read(self, index: int) -> Sample:
        masks = np.zeros((4, 40, 60), dtype=bool)
        masks[0, 4:20, 6:30], masks[2, 24:36, 10:26], masks[3, 10:34, 36:56] = True, True, True
        image = np.full((40, 60, 3), 100, dtype=np.uint8)
        for mask, colour in zip(masks[DRAWN], COLOURS, strict=True):
            image[mask] = colour
        kept = slice(self._things[index] + 1 if self._things[index] else 0)
        told = {"masks": masks[kept], "labels": np.array([0, 1, 1, 2])[kept]}
        return Sample(image=image, name=f"world/{index}", key=index, **(told | self._changes))

    def digest(self) -> str:
        return str(self._things)


def under(picture: np.ndarray, prompts: Mapping[str, torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """The colour in the middle of each prompt [N, 3], and the region of that colour, bool [N, H, W]."""
    boxes, points = prompts.get("boxes"), prompts.get("points")
    places = points[:, 0].long() if boxes is None else (boxes[:, :2] + boxes[:, 2:]).div(2).long()
    colours = torch.from_numpy(picture)[places[:, 1], places[:, 0]]
    return colours, (torch.from_numpy(picture) == colours[:, None, None]).all(3)


class Outliner(Promptable):
    """The right half of a thing from a box; from a point three masks, the thing itself as the best."""

    fixed_size = 32

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        class Image(PromptableImage):
            mask_side = 8

            def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
                _, region = under(picture, {"boxes": boxes, "points": points})
                if boxes is not None:
                    assert not multimask
                    middle = boxes[:, ::2].mean(1)[:, None, None]
                    half = region & (torch.arange(region.shape[2]) >= middle)
                    return half[:, None] * 2.0 - 1, torch.ones(len(region), 1)
                assert multimask
                assert labels.tolist() == [[1]] * len(points)
                logits = torch.stack([~region, region, ~region], 1) * 2.0 - 1
                return logits, torch.tensor([[0.2, 0.8, 0.5]]).expand(len(region), 3)

        return Image()


class Reader(ImageText):
    """Sees which colour there is most of, as a picture or under a mask; or takes everything for one class.

    sizes: at which it was asked about regions.
    """

    def __init__(self, *, always: str | None = None) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self._always = always
        self.sizes: list[int | None] = []

    def text_key(self) -> str:
        return "colours"

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.stack([torch.tensor([float(name in text) for name in CLASSES]) for text in texts])

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        if self._always is not None:
            return self.encode_text([self._always] * len(pictures))
        amounts = [[(picture == colour).all(2).sum() for colour in COLOURS] for picture in pictures]
        return F.one_hot(torch.tensor(np.array(amounts)).argmax(1), 3).float()

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        raise AssertionError("not asked for here")

    def encode_regions(self, picture: np.ndarray, masks: torch.Tensor, *, size: int | None = None) -> torch.Tensor:
        self.sizes.append(size)
        return self.encode_image([picture * mask.numpy()[:, :, None] for mask in masks])


class Namer(PromptableRecognition):
    """The whole thing, called by its colour, or by another where it is mistaken; alone it takes blue for green.

    told: the vocabularies that it was given. asked: how many prompts at a time.
    """

    def __init__(self, *, mistaken: Mapping[str, str] | None = None) -> None:
        """mistaken: the class that another is taken for."""
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self._mistaken = dict(mistaken or {})
        self.told: list[Vocabulary] = []
        self.asked: list[int] = []

    encode_text, text_key = Reader.encode_text, Reader.text_key

    def alone(self) -> PromptableRecognition | None:
        return None if self._mistaken else Namer(mistaken={"blue": "green"})

    def set_image(self, picture: np.ndarray) -> RecognisedImage:
        namer = self

        class Image(RecognisedImage):
            def recognise(self, vocabulary, *, boxes=None, points=None, labels=None):
                colours, region = under(picture, {"boxes": boxes, "points": points})
                namer.told.append(vocabulary)
                namer.asked.append(len(region))
                names = [CLASSES[number] for number in colours.argmax(1)]
                seen = namer.encode_text([namer._mistaken.get(name, name) for name in names])
                scores = vocabulary.similarity(seen)
                return Recognition(logits=region * 2.0 - 1, ious=torch.ones(len(region)), scores=scores)

        return Image()
