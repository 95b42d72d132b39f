"""CLIP2SAM's head: masks and names of prompts, upon the SAM and the CLIP that the same merged model has.

Open-Vocabulary SAM, arXiv 2401.02955, section 3.3. The image embedding is that of the SAM's head, which was taught by
SAM2CLIP; prompts are embedded by its prompt encoder; texts by the CLIP's text tower. None of these is learnt here, or
belongs to this head: it keeps the two capabilities, which are no modules.

Axis letters: B images, C channels, h x w cells, M things of all images together, T classes, D embedding width.
"""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Batch, Features, FeatureSpec
from vfmerge.capability import Capability, ImageText, Vocabulary
from vfmerge.templates import Templates, embed_sentences

from ..promptable.prompts import Prompts, boxes_of, simulate
from ..sam.network import Head as SamHead
from ..text_aligned.aligned import TextAligned
from .branch import LabelBranch
from .decoder import Decoder
from .fpn import FPN
from .rois import align


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """All that prompts on images need of them.

    features: what the trunk gives. embedding: SAM's, [B, C, h, w]. levels: of the pyramid, [B, C, h, w] each, finest
    first; none where there is no pyramid.
    """

    features: Features
    embedding: Tensor
    levels: tuple[Tensor, ...]


class Head(nn.Module):
    """Features -> mask logits [M, 4h, 4w] and class logits [M, T + 1] of a batch's masks, one prompt each.

    promptable, image_text: what it is built upon. fpn: none where the label token alone says what things look like.
    """

    def __init__(
        self,
        spec: FeatureSpec,
        *,
        promptable: Capability,
        image_text: Capability,
        fpn: bool,
        use_label_token: bool,
        templates: Templates,
        side: int,
        scale: float,
    ) -> None:
        """spec: of the trunk. side: cells of a region. scale: natural logarithm of what cosines are multiplied by.

        promptable, image_text: with a `SamHead` and a `TextAligned`.
        """
        super().__init__()
        assert isinstance(image_text, ImageText)
        self.promptable, self.image_text = promptable, image_text
        width = self.sam.mask_decoder.transformer_dim
        branch = LabelBranch(width=width, embedding=self.clip.embedding, regions=fpn, token=use_label_token)
        self.fpn = FPN(spec.channels, width=width) if fpn else None
        self.decoder = Decoder(self.sam.mask_decoder, branch=branch)
        self._strides, self._templates, self._side, self._scale = spec.strides, templates, side, scale
        self._taught: dict[tuple[str, ...], Vocabulary] = {}  # the text tower is frozen; these are not saved

    @property
    def sam(self) -> SamHead:
        """Whose image embeddings and prompts are decoded."""
        head = self.promptable.network.head
        assert isinstance(head, SamHead)
        return head

    @property
    def clip(self) -> TextAligned:
        """Whose space things are named in."""
        head = self.image_text.network.head
        assert isinstance(head, TextAligned)
        return head

    def forward(self, features: Features, batch: Batch) -> tuple[Tensor, Tensor]:
        """One simulated prompt, a box or a point, for each mask; classes are the batch's, the last the background.

        Whatever the prompt was, the region that is named is the true mask's tight box, as in the published code.
        """
        assert batch.masks is not None
        assert batch.owner is not None
        frame = (batch.images.shape[-2], batch.images.shape[-1])
        seen = self.look(features)
        prompts = simulate(batch.masks, owner=batch.owner, keys=batch.keys, frame=frame)
        logits, tokens = self.decode(seen, prompts, frame)
        boxes = edges_of(batch.masks, frame)
        embeddings = self.embed(seen, tokens, boxes=boxes, owner=batch.owner)
        return logits, self.compare(embeddings, self.vocabulary(batch.classes))

    def start(self) -> None:
        """The decoder begins as the SAM's."""
        self.decoder.start(self.sam.mask_decoder)
        self._taught.clear()

    def look(self, features: Features) -> Seen:
        """What all prompts on the images share."""
        (embedding,) = self.sam.embed(features)
        return Seen(features=features, embedding=embedding, levels=self.fpn(features.maps) if self.fpn else ())

    def decode(self, seen: Seen, prompts: Prompts, frame: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Mask logits [M, 4h, 4w] and label tokens [M, C] of prompts in pixels of images of `frame`'s height, width."""
        masks, tokens = self.decoder(self.sam, seen.embedding, prompts, frame)
        return masks, tokens

    def embed(self, seen: Seen, tokens: Tensor, *, boxes: Tensor, owner: Tensor) -> Tensor:
        """Embeddings of things [M, D], not normalised, in the space of texts.

        tokens: [M, C], from `decode`. boxes: [M, 4] in pixels of the input, far edges exclusive. owner: int64 [M].
        """
        regions = None
        if self.fpn is not None:
            regions = align(seen.levels, boxes, owner, strides=self._strides, side=self._side)
        embeddings: Tensor = self.decoder.branch(regions, tokens)
        return embeddings

    def compare(self, embeddings: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Logits [M, T + 1] of embeddings [M, D]: scaled cosines, and for the background, which no text names, 0."""
        with torch.autocast(embeddings.device.type, enabled=False):  # a hundred times a cosine of eight bits is a guess
            return F.pad(math.exp(self._scale) * vocabulary.similarity(embeddings), (0, 1))

    def vocabulary(self, classes: tuple[str, ...]) -> Vocabulary:
        """The classes that a stream's labels count; embedded when they are met first."""
        if classes not in self._taught:
            with torch.no_grad(), torch.autocast(self.decoder.mask_token.device.type, enabled=False):
                words = embed_sentences(self.image_text, classes, templates=self._templates)
            self._taught[classes] = Vocabulary(words=words, seen=words.new_ones(len(words), dtype=torch.bool))
        return self._taught[classes]


def edges_of(masks: Tensor, frame: tuple[int, int]) -> Tensor:
    """Tight boxes [M, 4] of bool masks [M, h, w] over images of `frame`'s height and width, in pixels of these.

    x0, y0, x1, y1, far edges exclusive; the box of a mask without a cell is the whole image.
    """
    height, width = masks.shape[1:]
    near, far = boxes_of(masks).split(2, dim=1)
    scale = near.new_tensor([frame[1] / width, frame[0] / height])
    return torch.cat([near * scale, (far + 1) * scale], dim=1)
