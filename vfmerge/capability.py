"""What a person does with a model. A parent and a merged model offer the same capability through the same code.

Every capability takes pictures as they come from a file, uint8 RGB arrays [H, W, 3] of any size, and brings them to its
model's size, normalisation and type of numbers itself. It runs without gradients. Those that come with vfmerge take
pictures in any form of `vfmerge.images`, by `as_pictures`.

Axis letters: B pictures, H x W pixels, D embedding width, T texts or classes, S sentences of a class, h x w cells,
N prompts, K masks a prompt.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeGuard

from vfmerge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from vfmerge.adapter import Features
    from vfmerge.images import One, Several
    from vfmerge.model import Network
    from vfmerge.templates import Templates

    Picture = np.ndarray  # uint8 [H, W, 3], RGB
    Pictures = One | Several | Sequence[Picture]


def as_pictures(images: Pictures) -> list[Picture]:
    """One picture or several, in any form of `vfmerge.images.pictures`, as capabilities look at them.

    An array that is one already passes as it is, however small. Raises InputError for what is no picture.
    """
    from vfmerge.images import pictures, several

    if isinstance(images, Sequence) and not isinstance(images, str):
        images = list(images)
    each: list[One] = list(images) if several(images) else [images]  # type: ignore[arg-type, list-item]
    arrays = [one for one in each if _is_picture(one)]
    return arrays if arrays and len(arrays) == len(each) else list(pictures(images))


def as_picture(image: One) -> Picture:
    """The same of a single picture. Raises InputError for several, too."""
    found = as_pictures(image)
    if len(found) != 1:
        raise InputError(f"image: {len(found)} pictures; give one at a time")
    return found[0]


def _is_picture(image: object) -> TypeGuard[Picture]:
    import numpy as np

    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        return False
    return image.ndim == 3 and image.shape[2] == 3 and image.size > 0


class Capability(abc.ABC):
    """Base of all capabilities; `name` is the word that reports use."""

    name: str
    fixed_size: int | None = None
    """Side in pixels of the only square that its model takes; none where it takes several sizes."""

    def __init__(self, network: Network) -> None:
        """network: the trunk and the head that answer; probes and counts look at it too."""
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where its trunk is, and its inputs go."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The numbers that its trunk is made of, and its inputs become."""
        return next(self.network.parameters()).dtype

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves its network as `torch.nn.Module.to` does, in place: the trunk too, which other heads may share."""
        self.network.to(*args, **kwargs)
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets its network's mode, and so the trunk's."""
        self.network.train(mode)
        return self

    def eval(self) -> Self:
        return self.train(False)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trunk's and its head's."""
        return self.network.parameters()

    @property
    def seen_by(self) -> nn.Module:
        """The module whose work `features` is: of capabilities that share it, one is probed for all."""
        return self.network.trunk

    def features(self, images: Tensor) -> Features:
        """What the trunk sees in images [B, 3, H, W] in [0, 1], for probes that learn from it.

        A parent whose own task needs less than its trunk could give (a CLIP needs no map) gives all of it here.
        """
        return self.network.encode(images)

    @abc.abstractmethod
    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Do once, on one picture, what a person asks of it most, for what that costs; the answer is dropped.

        size: the model's input side in pixels, where it takes several; none is its own default.
        """


class Words(Capability):
    """Base of capabilities that know texts."""

    @abc.abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings [T, D]."""

    @abc.abstractmethod
    def text_key(self) -> str:
        """A hash of all that embeddings of texts depend on, the same for all models that share a text tower."""


class ImageText(Words):
    """Embed pictures and texts into one space, and cells of pictures too: CLIP's use."""

    name = "image_text"

    @abc.abstractmethod
    def encode_image(self, pictures: Sequence[Picture], *, size: int | None = None) -> Tensor:
        """Unit embeddings [B, D]. size: the model's input side in pixels; none is its own default."""

    @abc.abstractmethod
    def encode_cells(self, pictures: Sequence[Picture], *, size: int | None = None) -> Tensor:
        """Unit embeddings of the pictures' cells [B, D, h, w]; the whole picture, stretched to a square of `size`."""

    def encode_regions(self, picture: Picture, masks: Tensor, *, size: int | None = None) -> Tensor:
        """Unit embeddings [N, D] of what lies under masks, bool [N, H, W], in one look at the whole picture.

        A model that has nothing better gives the mean of its cells under each mask, an empty one's of all cells.
        """
        import torch.nn.functional as F

        cells = self.encode_cells([picture], size=size)[0]  # [D, h, w]
        shares = F.interpolate(masks.to(cells)[:, None], size=cells.shape[-2:], mode="area")[:, 0]  # [N, h, w]
        shares = shares + (shares.sum((1, 2), keepdim=True) == 0)
        pooled = (cells.flatten(1) @ shares.flatten(1).T / shares.sum((1, 2))).T
        return F.normalize(pooled, dim=-1)

    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Embeds it. Texts are not embedded: a person does that once for all pictures."""
        self.encode_image([picture], size=size)


class Promptable(Capability):
    """Points or boxes to masks: SAM's use."""

    name = "promptable"

    @abc.abstractmethod
    def set_image(self, picture: Picture) -> PromptableImage:
        """Encode a picture once, to be prompted many times."""

    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Encodes it, and decodes one box around its middle."""
        import torch

        height, width = picture.shape[:2]
        box = torch.tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])
        self.set_image(picture).predict(boxes=box)


class PromptableImage(abc.ABC):
    """A picture that waits for prompts. Pixels are the original picture's.

    mask_side: side of the low-resolution masks that `predict` takes, over the padded input square.
    """

    mask_side: int

    @abc.abstractmethod
    def predict(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Masks for N prompts.

        boxes: float [N, 4], x0, y0, x1, y1. points: float [N, P, 2], x and y, with labels int [N, P]: 1 inside, 0
        outside. masks: float [N, 1, mask_side, mask_side], low-resolution logits over the padded input square, as SAM
        returns them.
        multimask: the three masks of an ambiguous prompt (K = 3) instead of the single one (K = 1).
        Returns logits [N, K, H, W] at the picture's own size (a mask is where they exceed 0) and IoU scores [N, K].
        """


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """The classes that things are named by.

    words: unit embeddings [T, S, D] of the sentences of each class. seen: bool [T], classes that the recogniser was
    taught with; the others are named out of what the embeddings of texts and pictures have in common.
    """

    words: Tensor
    seen: Tensor

    def similarity(self, embeddings: Tensor) -> Tensor:
        """The cosine of embeddings [N, D], of any length, to the nearest sentence of each class: [N, T]."""
        import torch
        import torch.nn.functional as F

        near = torch.einsum("nd,tsd->nts", F.normalize(embeddings.float(), dim=-1), self.words.to(embeddings.device))
        return near.amax(2)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recognition:
    """What prompts call up. logits: float [N, H, W], a mask is where they exceed 0. ious: float [N], how good the model
    thinks each mask is, in 0..1. scores: float [N, T], how likely each class is, larger is likelier.
    """

    logits: Tensor
    ious: Tensor
    scores: Tensor


class PromptableRecognition(Words):
    """Points or boxes to masks that have names: Open-Vocabulary SAM's use."""

    name = "promptable_recognition"

    def vocabulary(
        self, names: Sequence[str], *, templates: Templates = "plain", unseen: Collection[str] = ()
    ) -> Vocabulary:
        """What things are to be named by. unseen: names among them that the recogniser was not taught with."""
        import torch

        from vfmerge.templates import embed_sentences

        words = embed_sentences(self, names, templates=templates)
        seen = torch.tensor([name not in unseen for name in names], device=words.device)
        return Vocabulary(words=words, seen=seen)

    @abc.abstractmethod
    def set_image(self, picture: Picture) -> RecognisedImage:
        """Encode a picture once, to be prompted many times."""

    def alone(self) -> PromptableRecognition | None:
        """The same without its help from elsewhere (fusion), for ablations; none where it has no help."""
        return None

    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Encodes it, and decodes and names one box around its middle, by a single class."""
        import torch

        height, width = picture.shape[:2]
        box = torch.tensor([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])
        self.set_image(picture).recognise(self.vocabulary(["thing"]), boxes=box)


class RecognisedImage(abc.ABC):
    """A picture that waits for prompts. Pixels are the original picture's."""

    @abc.abstractmethod
    def recognise(
        self,
        vocabulary: Vocabulary,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Recognition:
        """The mask and the class of each of N prompts, which are as in `PromptableImage.predict`."""


class Dense(Capability):
    """Patch features without words: DINO's use."""

    name = "dense"

    @abc.abstractmethod
    def encode_cells(self, pictures: Sequence[Picture], *, size: int | None = None) -> Tensor:
        """Features [B, C, h, w] of the whole pictures, stretched to a square of `size`."""

    def exercise(self, picture: Picture, *, size: int | None = None) -> None:
        """Encodes it."""
        self.encode_cells([picture], size=size)
