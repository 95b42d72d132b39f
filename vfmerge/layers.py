"""Transformer layers for heads, which may start as copies of the last block of the trunk that they sit on.

SAM-CLIP, arXiv 2310.15308, appendix A: three layers, copied from the base's last one.

Axis letters: B images, C channels, n cells.
"""

from __future__ import annotations

import logging

import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import FeatureSpec

_LOG = logging.getLogger("vfmerge")

# A layer's parts, and what they are called in blocks of segment_anything, of timm, and of transformers' SAM.
_OWN = ("norm1", "qkv", "proj", "norm2", "lin1", "lin2")
_BLOCKS = (
    dict(zip(_OWN, ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.lin1", "mlp.lin2"), strict=True)),
    dict(zip(_OWN, ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"), strict=True)),
    dict(zip(_OWN, ("layer_norm1", "attn.qkv", "attn.proj", "layer_norm2", "mlp.lin1", "mlp.lin2"), strict=True)),
)
_LEFT_OUT = {"attn.rel_pos_h", "attn.rel_pos_w"}  # the trunk has told its cells where they are
# A DINOv2's block scales what attention and MLP add to each channel: that is in the weights of what went before.
_SCALED = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2"}


class Layer(nn.Module):
    """A pre-norm transformer layer as in SAM's ViT (arXiv 2010.11929), attending globally, without positions."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.lin1 = nn.Linear(width, 4 * width)
        self.lin2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, n, C] -> [B, n, C]."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1))  # [B, n, 3, heads, C / heads]
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)  # [B, heads, n, C / heads]
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        inner: Tensor = self.lin2(F.gelu(self.lin1(self.norm2(x))))
        return x + inner


def heads_for(spec: FeatureSpec, width: int) -> int:
    """Attention heads for layers of that width on a trunk: as many as its own blocks have, where it says and they fit.

    Else 64 channels each, or as near.
    """
    if spec.heads and width % spec.heads == 0:
        return spec.heads
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)


def start_from(trunk: nn.Module, layers: nn.ModuleList) -> None:
    """Give every layer the weights of the trunk's last block; a trunk without such blocks leaves them as they are."""
    for layer in layers:
        assert isinstance(layer, Layer)
        block = _last_block(trunk, layer)
        if block is None:
            _LOG.info("no block of the trunk computes what the head's layers do: they start at random")
            return
        layer.load_state_dict(block)


def _last_block(trunk: nn.Module, layer: Layer) -> dict[str, Tensor] | None:
    """The tensors of the last block that computes what the layer does but for its positions, by the layer's names."""
    wanted = {name: tensor.shape for name, tensor in layer.state_dict().items()}
    for block in reversed(list(trunk.modules())):
        given = _tensors(block)
        for names in _BLOCKS:
            theirs = {own: f"{names[part]}.{kind}" for own in wanted for part, kind in [own.split(".")]}
            if set(theirs.values()) != set(given) or not _attends_with(block, layer.heads):
                continue
            if all(given[theirs[own]].shape == shape for own, shape in wanted.items()):
                return {own: given[name] for own, name in theirs.items()}
    return None


def _tensors(block: nn.Module) -> dict[str, Tensor]:
    """A block's tensors, without what positions add, and with scales of channels multiplied in."""
    given = {name: tensor for name, tensor in block.state_dict().items() if name not in _LEFT_OUT}
    for scale, part in _SCALED.items():
        weight, bias = f"{part}.weight", f"{part}.bias"
        if given.keys() >= {scale, weight, bias}:
            gamma = given.pop(scale)
            given |= {weight: gamma.unsqueeze(1) * given[weight], bias: gamma * given[bias]}
    return given


def _attends_with(block: nn.Module, heads: int) -> bool:
    """Whether its attention has so many heads: equal tensors may mean other layers."""
    attention = block.get_submodule("attn").__dict__
    return heads in (attention.get("num_heads"), attention.get("num_attention_heads"))
