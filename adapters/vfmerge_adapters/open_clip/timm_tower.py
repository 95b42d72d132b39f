"""timm's towers in open_clip (SigLIP, ConvNeXt, MobileCLIP, EVA and others) as trunk and own head.

Axis letters: B images, C channels, h x w cells, D embedding width, N cells of all images, S summary width, n tokens,
M regions of all images together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
import torch.nn.functional as F
from timm.layers import Format, NormMlpClassifierHead
from timm.models import ConvNeXt, Eva, FastVit, ResNet, VisionTransformer
from torch import Tensor, nn

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.errors import InputError

from ..text_aligned.own import Projection
from ..text_aligned.regions import mean_under
from .config import Config
from .trunk import Trunk

_PYRAMIDS = (ConvNeXt, FastVit, ResNet)  # convolutional: they give a map of each stage and take any size
_STRIDES = (4, 8, 16, 32)


class TimmTrunk(Trunk):
    """timm's map (of a pyramid all four, at strides 4, 8, 16 and 32), and its pooling without a classifier.

    levels: which of timm's intermediates the finer maps are. pooled: whether timm has a pooling of its own.
    """

    def __init__(
        self, visual: nn.Module, *, config: Config, spec: FeatureSpec, levels: Sequence[int], pooled: bool
    ) -> None:
        super().__init__(visual, config=config, spec=spec)
        self._levels, self._pooled = list(levels), pooled

    def see(self, images: Tensor) -> Features:
        tower = self.visual.trunk
        if self._levels:
            x, finer = tower.forward_intermediates(images, indices=self._levels)
        else:
            x, finer = tower.forward_features(images), ()
        cells = self._cells(x, images)
        summary = tower.forward_head(x, pre_logits=True) if self._pooled else cells.mean((2, 3))
        return Features(maps=(*finer, cells), summary=summary)

    def see_alone(self, images: Tensor) -> Tensor:
        """timm's pooling for each cell as if the picture were that cell."""
        x = self.visual.trunk.forward_features(images)
        cells = self._cells(x, images)
        if not self._pooled:
            return cells
        b, _, h, w = cells.shape
        one = cells.permute(0, 2, 3, 1).flatten(0, 2)  # [N, C]
        if x.ndim == 3:
            pictures = one.unsqueeze(1).expand(-1, x.shape[1] - h * w + 1, -1)
        else:
            pictures = one[:, :, None, None] if x.shape == cells.shape else one[:, None, None]
        known: Tensor = self.visual.trunk.forward_head(pictures, pre_logits=True)  # [N, S]
        return known.unflatten(0, (b, h, w)).permute(0, 3, 1, 2)

    def _cells(self, x: Tensor, images: Tensor) -> Tensor:
        """timm's features as a map [B, C, h, w]: of tokens, or channels last, or what they are already."""
        h, w = (side // self.spec.strides[-1] for side in images.shape[-2:])
        if x.ndim == 3:
            return x[:, x.shape[1] - h * w :].transpose(1, 2).unflatten(2, (h, w))
        return x if x.shape[1] == self.spec.channels[-1] else x.permute(0, 3, 1, 2)


class Layers(Projection):
    """timm's classifier, if it is the projection, and what open_clip puts behind it.

    norm: what a pooled map [N, S, 1, 1] goes through first, to [N, S'] (of a ConvNeXt a LayerNorm).
    regional: whether the trunk pools a map by its mean, so that a region's mean is to it as a picture's.
    """

    def __init__(self, fc: nn.Module, head: nn.Module, *, norm: nn.Module, regional: bool) -> None:
        super().__init__()
        self.fc, self.head, self.norm, self.regional = fc, head, norm, regional

    def embed(self, features: Features) -> Tensor:
        return self.head(self.fc(self.summarise(features)))

    def summarise(self, features: Features) -> Tensor:
        assert features.summary is not None
        return self._normalise(features.summary)

    def cells(self, alone: Tensor) -> Tensor:
        one = alone.permute(0, 2, 3, 1).flatten(0, 2)  # [N, S]
        known: Tensor = self.head(self.fc(self._normalise(one)))
        return known.unflatten(0, (alone.shape[0], *alone.shape[-2:])).permute(0, 3, 1, 2)

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        """The mean of the last map under each mask, as the mean of a whole map is embedded."""
        if not self.regional:
            raise InputError("model: the features of this tower alone have no embeddings of regions; use another CLIP")
        return self.head(self.fc(self._normalise(mean_under(features.maps[-1], masks, owner))))

    def _normalise(self, summary: Tensor) -> Tensor:
        """[N, S] -> [N, S']."""
        known: Tensor = self.norm(summary[:, :, None, None])
        return known


class TokenPool(Projection):
    """Attention over a transformer's tokens, as SigLIP pools (arXiv 2303.15343), and what follows.

    whole: whether the token of the whole image is pooled too.
    """

    regional = True

    def __init__(self, pool: nn.Module, norm: nn.Module, layers: Layers, *, whole: bool) -> None:
        super().__init__()
        self.attn_pool, self.fc_norm, self.layers = pool, norm, layers
        self._whole = whole

    def embed(self, features: Features) -> Tensor:
        return self.layers.embed(Features(maps=(), summary=self.summarise(features)))

    def summarise(self, features: Features) -> Tensor:
        x = features.maps[-1].flatten(2).transpose(1, 2)  # [B, n, C]
        if self._whole:
            assert features.summary is not None
            x = torch.cat([features.summary.unsqueeze(1), x], dim=1)
        return self.fc_norm(self.attn_pool(x))

    def cells(self, alone: Tensor) -> Tensor:
        one = alone.permute(0, 2, 3, 1).flatten(0, 2)  # [N, C]
        pooled = self.fc_norm(self.attn_pool(one.unsqueeze(1).expand(-1, 1 + self._whole, -1)))
        return self.layers.cells(pooled.unflatten(0, (alone.shape[0], *alone.shape[-2:])).permute(0, 3, 1, 2))

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> Tensor:
        """The mean of the unit embeddings of the cells under each mask: what is pooled here is what the trunk gives."""
        return mean_under(F.normalize(self.cells(features.maps[-1]).float(), dim=1), masks, owner)


class MapPool(Projection):
    """open_clip's attention over a convolutional tower's map."""

    regional = False

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def embed(self, features: Features) -> Tensor:
        return self.head(features.maps[-1])

    def summarise(self, features: Features) -> Tensor:
        return self.embed(features)

    def cells(self, alone: Tensor) -> NoReturn:
        raise InputError("timm_pool: attentional pooling has no embeddings of cells; use another CLIP")

    def regions(
        self, features: Features, *, boxes: Tensor, masks: Tensor, owner: Tensor, frame: tuple[int, int]
    ) -> NoReturn:
        raise InputError("timm_pool: attentional pooling has no embeddings of regions; use another CLIP")


def cut(visual: nn.Module, *, config: Config) -> tuple[TimmTrunk, Projection]:
    """An open_clip `TimmModel` as trunk and projection; it is taken apart."""
    tower, pool = visual.trunk, config.model_cfg.vision_cfg.get("timm_pool", "avg")
    own = pool in ("abs_attn", "rot_attn")
    projection = MapPool(visual.head) if own else _cut_head(tower, visual.head, pool)
    visual.head = nn.Identity()
    if isinstance(tower, VisionTransformer):
        _take_any_size(tower)
    levels = _levels(tower) if isinstance(tower, _PYRAMIDS) else []
    spec = _spec(tower, levels, side=config.size[0], pooled=not own)
    return TimmTrunk(visual, config=config, spec=spec, levels=levels, pooled=not own), projection


def _cut_head(tower: nn.Module, head: nn.Module, pool: str) -> Projection:
    """What timm's tower has behind its cells, as far as it learns something, and open_clip's head."""
    fc = tower.get_classifier()
    if not isinstance(fc, nn.Identity):
        tower.reset_classifier(0, **({"global_pool": pool} if pool else {}))
    layers = Layers(fc, head, norm=_cut_norm(tower), regional=isinstance(tower, _PYRAMIDS))
    if not isinstance(tower, VisionTransformer | Eva) or tower.attn_pool is None:
        return layers
    whole = isinstance(tower, Eva) or tower.pool_include_prefix
    if whole and tower.num_prefix_tokens > 1:
        return layers  # more tokens than a summary can hold: they are pooled in the trunk
    projection = TokenPool(tower.attn_pool, tower.fc_norm, layers, whole=whole and tower.num_prefix_tokens == 1)
    tower.attn_pool, tower.fc_norm = None, nn.Identity()
    tower.global_pool = "token" if tower.num_prefix_tokens else "avg"
    return projection


def _cut_norm(tower: nn.Module) -> nn.Module:
    """What timm's tower puts between pooling and classifier, where it goes for a region as for the whole map."""
    if not (isinstance(tower, ConvNeXt) and isinstance(tower.head, NormMlpClassifierHead)):
        return nn.Flatten()
    norm = nn.Sequential(tower.head.norm, nn.Flatten(), tower.head.pre_logits)
    tower.head.norm, tower.head.pre_logits = nn.Identity(), nn.Identity()
    tower.head_hidden_size = tower.num_features
    return norm


def _take_any_size(tower: VisionTransformer) -> None:
    """Positions interpolated to the grid: timm's `dynamic_img_size`, which open_clip does not pass on."""
    embed = tower.patch_embed
    tower.dynamic_img_size = True
    embed.img_size, embed.flatten, embed.output_fmt = None, False, Format.NHWC


def _levels(tower: nn.Module) -> list[int]:
    """Of timm's intermediates the last at each stride, but for the last stride, which is the tower's own map."""
    last = {info["reduction"]: number for number, info in enumerate(tower.feature_info)}
    return [last[stride] for stride in _STRIDES[:-1]]


def _spec(tower: nn.Module, levels: Sequence[int], *, side: int, pooled: bool) -> FeatureSpec:
    infos = [tower.feature_info[number] for number in levels]
    plain = isinstance(tower, VisionTransformer)
    return FeatureSpec(
        channels=(*(info["num_chs"] for info in infos), tower.num_features),
        strides=(*(info["reduction"] for info in infos), tower.feature_info[-1]["reduction"]),
        summary=tower.head_hidden_size if pooled else tower.num_features,
        heads=tower.blocks[-1].attn.num_heads if plain else None,
        fixed_size=None if plain or levels else side,
    )
