"""What learns a CLIP on another model's trunk: transformer layers, max-pooling, LayerNorm and an MLP into its space.

SAM-CLIP, arXiv 2310.15308, appendix A. The layers start as copies of the trunk's last transformer block.

Axis letters: B images, C channels, h x w cells, n = h w, D embedding width.
"""

from __future__ import annotations

import logging
import math

import torch.nn.functional as F
from torch import Tensor, nn

from vfmerge.adapter import Features

from .towers import TextAligned

_LOG = logging.getLogger("vfmerge")

# A layer's parts, and what they are called in a block of segment_anything and in one of timm.
_OWN = ("norm1", "qkv", "proj", "norm2", "lin1", "lin2")
_BLOCKS = (
    dict(zip(_OWN, ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.lin1", "mlp.lin2"), strict=True)),
    dict(zip(_OWN, ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"), strict=True)),
)
_LEFT_OUT = {"attn.rel_pos_h", "attn.rel_pos_w"}  # the trunk has told its cells where they are


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
        return x + self.lin2(F.gelu(self.lin1(self.norm2(x))))


class ClipHead(TextAligned):
    """Features -> embeddings of images, or of their cells. Reads the trunk's coarsest map."""

    def __init__(
        self,
        text: nn.Module,
        *,
        width: int,
        heads: int,
        layers: int,
        hidden: tuple[int, int],
        embedding: int,
        cells: int,
        window: int,
        size: int,
        stride: int,
    ) -> None:
        """width: channels of the map. heads: of each layer's attention. hidden: the MLP's widths. embedding: D.

        cells: the most cells a side that the layers attend over. window: cells a side that a cell's embedding pools.
        size, stride: as in `TextAligned`.
        """
        super().__init__(text, size=(size, size), stride=stride)
        self._most, self._window = cells, window
        self.layers = nn.ModuleList([Layer(width=width, heads=heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden[0]),
            nn.GELU(),
            nn.Linear(hidden[0], hidden[1]),
            nn.GELU(),
            nn.Linear(hidden[1], embedding),
        )

    def embed(self, features: Features) -> Tensor:
        return self._project(self._attend(features).amax((2, 3)))

    def features(self, trunk: nn.Module, images: Tensor) -> Features:
        features: Features = trunk(images)
        return features

    def cells(self, trunk: nn.Module, images: Tensor) -> Tensor:
        x = F.max_pool2d(self._attend(trunk(images)), self._window, stride=1, padding=self._window // 2)
        return self._project(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _attend(self, features: Features) -> Tensor:
        """[B, C, h, w], at most so many cells a side as the head takes: attention's cost grows with their square."""
        x = features.maps[-1]
        factor = math.ceil(max(x.shape[-2:]) / self._most)
        if factor > 1:  # SAM-CLIP's own CLIP mask at 1024 pixels is 32 x 32, of 64 x 64 cells
            x = F.avg_pool2d(x, factor, ceil_mode=True)
        h, w = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return x.transpose(1, 2).unflatten(2, (h, w))

    def _project(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm(x)).float()  # [..., C] -> [..., D]


def likely_heads(width: int) -> int:
    """Attention heads for a trunk that does not say how many its own blocks have: 64 channels each, or as near."""
    return next(heads for heads in range(max(1, width // 64), 0, -1) if width % heads == 0)


def start_from(trunk: nn.Module, layers: nn.ModuleList) -> None:
    """Give every layer the weights of the trunk's last block; a trunk without such blocks leaves them as they are."""
    for layer in layers:
        block = _last_block(trunk, layer)
        if block is None:
            _LOG.info("no block of the trunk computes what the head's layers do: they start at random")
            return
        layer.load_state_dict(block)


def _last_block(trunk: nn.Module, layer: Layer) -> dict[str, Tensor] | None:
    """The tensors of the last block that computes what the layer does but for its positions, by the layer's names."""
    wanted = {name: tensor.shape for name, tensor in layer.state_dict().items()}
    for block in reversed(list(trunk.modules())):
        given = {name: tensor for name, tensor in block.state_dict().items() if name not in _LEFT_OUT}
        for names in _BLOCKS:
            theirs = {own: f"{names[part]}.{kind}" for own in wanted for part, kind in [own.split(".")]}
            if set(theirs.values()) != set(given) or block.attn.num_heads != layer.heads:
                continue
            if all(given[theirs[own]].shape == shape for own, shape in wanted.items()):
                return {own: given[name] for own, name in theirs.items()}
    return None
