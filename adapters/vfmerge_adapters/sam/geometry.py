"""The shapes of SAM models, and the real `segment_anything` classes built from them.

All numbers of a network stand here in one place. Building a shape and loading its weights are two steps: a merged model
is rebuilt from its shape alone.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PIXEL_MEAN = (123.675, 116.28, 103.53)  # ImageNet, in 0..255, as segment_anything has them
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
    """Everything that fixes a SAM's shape; lengths in pixels or channels."""

    image_size: int = 1024
    patch_size: int = 16
    width: int  # channels of the trunk
    depth: int
    heads: int
    global_blocks: tuple[int, ...]  # the others attend in windows
    window: int = 14  # in patches
    decoder_width: int = 256  # channels of the neck, the prompts and the mask decoder
    decoder_mlp: int = 2048
    decoder_heads: int = 8
    mask_channels: int = 16  # of the mask prompt's first convolution

    @property
    def grid(self) -> int:
        """Cells along a side of the image embedding."""
        return self.image_size // self.patch_size


VARIANTS = {
    "vit_b": Geometry(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
    "vit_l": Geometry(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "vit_h": Geometry(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    "tiny": Geometry(  # chosen here: vfmerge's own small SAM of the shapes world
        image_size=96,
        patch_size=8,
        width=128,
        depth=8,
        heads=4,
        global_blocks=(1, 3, 5, 7),
        window=4,
        decoder_width=64,
        decoder_mlp=128,
        decoder_heads=4,
        mask_channels=8,
    ),
}


def build(geometry: Geometry) -> Sam:
    """A `segment_anything` Sam of that shape, randomly initialised, in eval mode."""
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    g = geometry
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=g.image_size,
            patch_size=g.patch_size,
            embed_dim=g.width,
            depth=g.depth,
            num_heads=g.heads,
            mlp_ratio=4,
            out_chans=g.decoder_width,
            qkv_bias=True,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=g.window,
            global_attn_indexes=g.global_blocks,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=g.decoder_width,
            image_embedding_size=(g.grid, g.grid),
            input_image_size=(g.image_size, g.image_size),
            mask_in_chans=g.mask_channels,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=g.decoder_width, mlp_dim=g.decoder_mlp, num_heads=g.decoder_heads
            ),
            transformer_dim=g.decoder_width,
            iou_head_depth=3,
            iou_head_hidden_dim=g.decoder_width,
        ),
        pixel_mean=list(PIXEL_MEAN),
        pixel_std=list(PIXEL_STD),
    ).eval()
