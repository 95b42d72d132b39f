"""The parts of a recogniser as modules that take and give plain tensors.

Open-Vocabulary SAM, arXiv 2401.02955, sections 3.3 and 3.4.

Axis letters: B images, C channels, h x w cells, M prompts of all images together, n points of a prompt, s x s pixels of
a low-resolution mask, D embedding width, T classes, S sentences of a class, H x W pixels of a picture.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.capability import Vocabulary

from ..clip2sam.fusion import covers, fuse
from ..clip2sam.head import Head, Seen, edges_of
from ..clip2sam.use import stability
from ..promptable.prompts import Prompts
from .parts import features_of, replaced


class Pyramid(nn.Module):
    """What the encoder gives -> what regions are read from, [B, C, h, w] each, finest first."""

    def __init__(self, fpn: nn.Module, *, maps: int) -> None:
        """maps: how many the trunk has."""
        super().__init__()
        self.fpn, self._maps = fpn, maps

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        levels: tuple[Tensor, ...] = self.fpn(features[: self._maps])
        return levels


class Outliner(nn.Module):
    """Prompts, as `parts.Decoder` takes them, and SAM's embedding -> masks, what names them, and where they are.

    Mask logits [M, s, s], label tokens [M, C], and the masks' tight boxes [M, 4] in pixels of the encoder's square, far
    edges exclusive, of an empty mask the whole square.
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.decoder = replaced(head.decoder, branch=nn.Identity())
        unasked = {name: nn.Identity() for name in ("approach", "neck", "mask_decoder")}
        self.sam = replaced(head.sam, **unasked)

    def forward(self, coords: Tensor, labels: Tensor, owner: Tensor, embedding: Tensor) -> tuple[Tensor, ...]:
        frame = (self.sam.side, self.sam.side)
        masks, tokens = self.decoder(self.sam, embedding, Prompts(owner=owner, coords=coords, labels=labels), frame)
        return masks, tokens.clone(), edges_of(masks > 0, frame)


class Regions(nn.Module):
    """Regions of images -> unit embeddings [M, D] by the label branch.

    With fusion also unit embeddings [M, D] by the CLIP, and whether a mask covers a cell of its map, bool [M].

    boxes [M, 4] in pixels of the encoder's square, far edges exclusive; owner [M], the image of each; tokens [M, C] and
    masks [M, s, s], the outliner's; then the pyramid's levels and what the encoder gives.
    """

    def __init__(self, head: Head, *, levels: int, maps: int, fused: bool) -> None:
        """levels, maps: how many the pyramid and the trunk have."""
        super().__init__()
        unasked = {name: nn.Identity() for name in ("transformer", "output_upscaling", "hypernetwork")}
        parts: dict[str, nn.Module] = {"decoder": replaced(head.decoder, **unasked)}
        if head.fpn is not None:
            parts["fpn"] = nn.Identity()
        self.head = replaced(head, **parts)
        self.clip = replaced(head.clip, text=nn.Identity()) if fused else None
        self._levels, self._maps = levels, maps

    def forward(self, boxes: Tensor, owner: Tensor, tokens: Tensor, masks: Tensor, *seen: Tensor) -> tuple[Tensor, ...]:
        features = features_of(seen[self._levels :], maps=self._maps)
        known = Seen(features=features, embedding=masks, levels=seen[: self._levels])  # no embedding is asked for
        own = F.normalize(self.head.embed(known, tokens, boxes=boxes, owner=owner), dim=-1)
        if self.clip is None:
            return (own,)
        frame = (self.head.sam.side, self.head.sam.side)
        regions = self.clip.regions(features, boxes=boxes, masks=masks, owner=owner, frame=frame)
        return own, F.normalize(regions, dim=-1), covers(masks, *features.maps[-1].shape[-2:])


class Names(nn.Module):
    """Embeddings of regions, as `Regions` gives them, and of texts -> how likely each class is, float64 [M, T].

    words: unit embeddings [T, S, D] of the sentences of each class; seen: bool [T], classes that were taught.
    """

    def __init__(self, head: Head, *, shares: tuple[float, float]) -> None:
        """shares: the CLIP's part in the scores of classes that were seen in training, and of others."""
        super().__init__()
        self._compare, self._shares = head.compare, shares

    def forward(self, embeddings: Tensor, regions: Tensor, covered: Tensor, words: Tensor, seen: Tensor) -> Tensor:
        vocabulary, (alpha, beta) = Vocabulary(words=words, seen=seen), self._shares
        branch, clip = self._compare(embeddings, vocabulary), self._compare(regions, vocabulary)
        return fuse(branch, clip, seen=seen, covered=covered, alpha=alpha, beta=beta)


class NamesAlone(nn.Module):
    """As `Names` of a recogniser without fusion: embeddings [M, D] and words [T, S, D] -> float64 [M, T]."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self._compare = head.compare

    def forward(self, embeddings: Tensor, words: Tensor) -> Tensor:
        logits: Tensor = self._compare(embeddings, Vocabulary(words=words, seen=words[:, 0, 0] > 0))
        return logits.double().softmax(1)[:, :-1]


class Stability(nn.Module):
    """Mask logits [M, H, W] at the picture's own size -> how good each mask is thought to be, [M] in 0..1."""

    def forward(self, logits: Tensor) -> Tensor:
        return stability(logits)
