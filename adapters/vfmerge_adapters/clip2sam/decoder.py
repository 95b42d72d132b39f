"""SAM's mask decoder with a label token: one mask of each prompt, and what its thing looks like.

Open-Vocabulary SAM, arXiv 2401.02955, section 3.3 and its published code: of SAM's four mask tokens the first, that of
the single mask, with its hypernetwork; the label token stands where SAM has the IoU token, and IoU scores are gone.

Axis letters: B images, C channels, h x w cells of the image embedding, M prompts of all images together.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..promptable.prompts import Prompts
from ..sam.network import Head as SamHead
from .branch import LabelBranch

if TYPE_CHECKING:
    from segment_anything.modeling import MaskDecoder


class Decoder(nn.Module):
    """Prompts on image embeddings -> a mask of each, and its label token. Parts that SAM has too keep its names.

    branch: the label branch, which answers to what it finds.
    """

    def __init__(self, shape: MaskDecoder, *, branch: LabelBranch) -> None:
        """shape: the SAM decoder that this is like; it shares no tensor with it."""
        super().__init__()
        width = shape.transformer_dim
        self.label_token = nn.Parameter(torch.randn(1, width))
        self.mask_token = nn.Parameter(torch.randn(1, width))
        self.transformer = copy.deepcopy(shape.transformer).requires_grad_(True)
        self.output_upscaling = copy.deepcopy(shape.output_upscaling).requires_grad_(True)
        self.hypernetwork = copy.deepcopy(shape.output_hypernetworks_mlps[0]).requires_grad_(True)
        self.branch = branch

    def forward(
        self, sam: SamHead, embedding: Tensor, prompts: Prompts, frame: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """sam: whose prompt encoder is asked. embedding: [B, C, h, w]. prompts, frame: as in `SamHead.decode`.

        Returns mask logits [M, 4h, 4w] and label tokens [M, C].
        """
        queries = torch.cat([self.label_token, self.mask_token])
        tokens, upscaled = sam.consult(self, queries, embedding=embedding, prompts=prompts, frame=frame)
        weights = self.hypernetwork(tokens[:, 1])  # [M, C / 8]
        return torch.einsum("mc,mchw->mhw", weights, upscaled), tokens[:, 0]

    @torch.no_grad()
    def start(self, parent: MaskDecoder) -> None:
        """Take all that SAM's decoder has for its single mask. The label token, which is new, stays random."""
        self.mask_token.copy_(parent.mask_tokens.weight[:1])
        self.transformer.load_state_dict(parent.transformer.state_dict())
        self.output_upscaling.load_state_dict(parent.output_upscaling.state_dict())
        self.hypernetwork.load_state_dict(parent.output_hypernetworks_mlps[0].state_dict())
