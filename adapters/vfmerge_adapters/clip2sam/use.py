"""What a person does with a recogniser: points or boxes to masks that have names.

Open-Vocabulary SAM, arXiv 2401.02955, section 3.4. A picture lies in the input as SAM's does.

Axis letters: N prompts, T texts or classes, D embedding width, H x W pixels of the picture, s x s of a low-resolution
mask over the padded input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vfmerge.capability import PromptableRecognition, RecognisedImage, Recognition, Vocabulary, as_picture

from ..promptable.placement import Placement, place
from ..promptable.prompts import Prompts
from ..sam.use import PADDING, resize
from .fusion import covers, fuse
from .head import Head, Seen, edges_of

if TYPE_CHECKING:
    from vfmerge.images import One
    from vfmerge.model import Network

_OFFSET = 1.0  # of mask logits, up and down: SAM's own


class Recogniser(PromptableRecognition):
    """A recogniser at one input size, its SAM's side.

    shares: the frozen CLIP's part in the scores of classes that were seen in training, and of others; none where it
    has none, and the label branch names things alone.
    """

    def __init__(self, network: Network, *, alpha: float, beta: float, fuse: bool) -> None:
        """alpha, beta: the two shares. fuse: whether there are such."""
        assert isinstance(network.head, Head)
        super().__init__(network)
        self._head = network.head
        self.shares = (alpha, beta) if fuse else None
        self.fixed_size = network.head.sam.side

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._head.image_text.encode_text(texts)

    def text_key(self) -> str:
        return self._head.image_text.text_key()

    def alone(self) -> Recogniser | None:
        return None if self.shares is None else Recogniser(self.network, alpha=0.0, beta=0.0, fuse=False)

    @torch.no_grad()
    def set_image(self, picture: One) -> RecogniserImage:
        array = as_picture(picture)
        side = self._head.sam.side
        square, placement = place(array, side=side, padding=PADDING, resize=resize, device=self.device)
        seen = self._head.look(self.network.encode(square.to(self.dtype)))
        return RecogniserImage(self._head, seen, placement=placement, shares=self.shares)


class RecogniserImage(RecognisedImage):
    """An encoded picture. shares: CLIP's part in scores, alpha and beta; none where it has none."""

    def __init__(self, head: Head, seen: Seen, *, placement: Placement, shares: tuple[float, float] | None) -> None:
        self._head, self._seen, self._placement, self._shares = head, seen, placement, shares
        self._frame = (placement.side, placement.side)

    @torch.no_grad()
    def recognise(
        self,
        vocabulary: Vocabulary,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Recognition:
        """The region that is named is the prompt's box, and without one the box of the predicted mask.

        Where that mask is empty, it is the whole input. There is no head for IoUs: they are stability scores.
        """
        prompts = self._placement.prompts(
            boxes=boxes, points=points, labels=labels, masks=None, device=self._seen.embedding.device
        )
        low, tokens = self._head.decode(self._seen, prompts, self._frame)  # [N, s, s]
        edges = edges_of(low > 0, self._frame) if boxes is None else edges_in(self._placement, boxes.to(low.device))
        logits = self._placement.outward(low.unsqueeze(1))[:, 0]
        scores = self._scores(vocabulary, low, tokens, edges=edges, prompts=prompts)
        return Recognition(logits=logits, ious=stability(logits), scores=scores)

    def _scores(
        self, vocabulary: Vocabulary, low: Tensor, tokens: Tensor, *, edges: Tensor, prompts: Prompts
    ) -> Tensor:
        """How likely each class is, [N, T]; without what goes to the background."""
        head, seen, owner = self._head, self._seen, prompts.owner
        branch = head.compare(head.embed(seen, tokens, boxes=edges, owner=owner), vocabulary)
        if self._shares is None:
            return branch.double().softmax(1)[:, :-1]
        regions = head.clip.regions(seen.features, boxes=edges, masks=low, owner=owner, frame=self._frame)
        alpha, beta = self._shares
        return fuse(
            branch,
            head.compare(regions, vocabulary),
            seen=vocabulary.seen.to(branch.device),
            covered=covers(low, *seen.features.maps[-1].shape[-2:]),
            alpha=alpha,
            beta=beta,
        )


def edges_in(placement: Placement, boxes: Tensor) -> Tensor:
    """Boxes [N, 4] of the picture, far pixels inclusive, in pixels of the input, far edges exclusive.

    What lies far beyond the input is cut off: a region's cost grows with its area.
    """
    corners = boxes.reshape(-1, 2, 2) + boxes.new_tensor([[0.0], [1.0]])
    return placement.inward(corners).flatten(1).clamp(-placement.side, 2 * placement.side)


def stability(logits: Tensor) -> Tensor:
    """IoU of each mask [N, H, W] at a higher with itself at a lower threshold: [N], in 0..1, of one nowhere 0.

    SAM filters masks by it (arXiv 2304.02643, appendix B); as an estimate of how good a mask is, chosen here.
    """
    inner, outer = ((logits > threshold).sum((1, 2)) for threshold in (_OFFSET, -_OFFSET))
    return inner / outer.clamp(min=1)
