"""What the scripts that train the tiny ViTs share: the network, its pictures, its measurement and its folder.

The networks are timm's own `VisionTransformer`. Labels of the shapes world are read by `measure` alone.

Axis letters: N pictures, B of a step, H x W pixels, S side of a picture, C channels, h x w cells, D summary width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.models import save_for_hf
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vfmerge.adapter import Features
from vfmerge.benchmarks.benchmark import Setup
from vfmerge.benchmarks.knn import KNN
from vfmerge.benchmarks.linear_probe import LinearProbe
from vfmerge.benchmarks.segmentation_probe import SegmentationProbe
from vfmerge.capability import Capability, Dense
from vfmerge.data import shapes
from vfmerge.data.world import Shapes
from vfmerge.model import Network
from vfmerge.pixels import stretch

ARCHITECTURE = "vit_tiny_patch16_224"  # of which everything but the class is replaced by SHAPE
SHAPE = {"img_size": 64, "patch_size": 8, "embed_dim": 96, "depth": 6, "num_heads": 3, "dynamic_img_size": True}
PATCH = 8
DECAY, CLIP = 0.05, 1.0


def build(**more: Any) -> VisionTransformer:
    """A ViT of the tiny shape with random weights, without a classifier; `more` are other arguments of timm's class."""
    vit = timm.create_model(ARCHITECTURE, num_classes=0, **SHAPE, **more)
    assert isinstance(vit, VisionTransformer)
    return vit


def draw(*, split: str, seed: int, count: int, size: int) -> Tensor:
    """Pictures alone, without label, mask or caption: uint8 [N, 3, S, S], none, one or several shapes in each."""
    pictures = np.empty((count, size, size, 3), dtype=np.uint8)
    for index in range(count):
        pictures[index] = shapes.scene(seed=seed, split=split, index=index, layout="mixed", size=size).image
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def crop(pictures: Tensor, *, size: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Random squares of uint8 pictures [B, 3, S, S] as images [B, 3, size, size] in [0, 1], half of them mirrored.

    area: least and largest share of a picture that a square covers.
    """
    chance = torch.rand(4, len(pictures), generator=generator)
    side = (area[0] + (area[1] - area[0]) * chance[0]).sqrt()
    mirror, none = torch.where(chance[1] < 0.5, 1.0, -1.0), torch.zeros(len(pictures))
    x, y = ((2 * each - 1) * (1 - side) for each in chance[2:])
    place = torch.stack([side * mirror, none, x, none, side, y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(place, [len(pictures), 3, size, size], align_corners=False)
    return F.grid_sample(pictures.float() / 255, grid, padding_mode="border", align_corners=False)


def see(vit: VisionTransformer, images: Tensor, places: Tensor | None = None) -> Tensor:
    """Tokens of normalised images [B, 3, H, W], prefix first, of which only the patches at places [B, k] are seen."""
    tokens = vit._pos_embed(vit.patch_embed(images))
    if places is not None:
        prefix, patches = tokens.split([vit.num_prefix_tokens, tokens.shape[1] - vit.num_prefix_tokens], dim=1)
        patches = patches.gather(1, places.unsqueeze(2).expand(-1, -1, tokens.shape[2]))
        tokens = torch.cat([prefix, patches], dim=1)
    seen: Tensor = vit.norm(vit.blocks(tokens))
    return seen


class Optimizers:
    """Muon (arXiv 2502.16982, at AdamW's rates) for the matrices of blocks, AdamW without decay for all else."""

    def __init__(self, *modules: nn.Module, steps: int, peak: float, warmup: int) -> None:
        named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
        inner = {name for name, p in named if "blocks." in name and p.ndim == 2}
        matrices = [p for name, p in named if name in inner]
        others = [p for name, p in named if name not in inner]
        self._parameters = [*matrices, *others]
        self._all = (
            torch.optim.Muon(matrices, lr=peak, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        )
        self._steps, self._peak, self._warmup = steps, peak, warmup

    def update(self, loss: Tensor, *, step: int) -> None:
        """One step, at a rate that rises linearly and falls as a cosine to a hundredth of its peak."""
        fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self._steps))
        for optimizer in self._all:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = self._peak * min(1, (step + 1) / self._warmup) * fall
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP)
        for optimizer in self._all:
            optimizer.step()


class Trunk(nn.Module):
    """A ViT as benchmarks see it: images [B, 3, H, W] in [0, 1] to its cells [B, C, h, w] and summary [B, D]."""

    mean: Tensor
    std: Tensor

    def __init__(self, vit: VisionTransformer, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.vit = vit
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Features:
        tokens = self.vit.forward_features((images - self.mean) / self.std)
        cells = tokens[:, self.vit.num_prefix_tokens :].transpose(1, 2)
        cells = cells.unflatten(2, (images.shape[2] // PATCH, images.shape[3] // PATCH))
        return Features(maps=(cells,), summary=self.vit.forward_head(tokens, pre_logits=True))


class Seen(Dense):
    """What benchmarks ask of a trunk alone."""

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        return self.features(stretch(pictures, size or SHAPE["img_size"])).maps[0]


def measure(trunk: nn.Module, *, name: str, seed: int, known: int, asked: int, steps: int) -> str:
    """Probes of held-out pictures, in a line: the eight shapes by summary, shapes and background by cells.

    name: the first word of the splits. known, asked: pictures to learn from and to judge; of scenes half as many, from
    which the cells' probe learns for so many steps.
    """
    found = shapes_apart(trunk, name=name, seed=seed, known=known, asked=asked)
    learnt = Shapes(layout="several", split=f"{name}-known", count=known // 2, seed=seed)
    judged = Shapes(layout="several", split=f"{name}-held-out", count=asked // 2, seed=seed)
    probe = SegmentationProbe(size=96, steps=steps, rates=(1e-2,))
    found["cells' linear probe mIoU"] = probe.measure(_seen(trunk, name), judged, Setup(train=learnt))[0].value
    return ", ".join(f"{word} {value:.4f}" for word, value in found.items())


def shapes_apart(trunk: nn.Module, *, name: str, seed: int, known: int, asked: int) -> dict[str, float]:
    """Top-1 over the eight shapes of held-out pictures, by summary: k-NN and linear probe. Options as in `measure`."""
    learnt, judged = _objects(f"{name}-known", known, seed), _objects(f"{name}-held-out", asked, seed)
    probes = {"k-NN top1": KNN(size=64), "linear probe top1": LinearProbe(size=64)}
    model = _seen(trunk, name)
    return {word: probe.measure(model, judged, Setup(train=learnt))[0].value for word, probe in probes.items()}


def _seen(trunk: nn.Module, name: str) -> dict[str, Capability]:
    return {name: Seen(Network(trunk.eval(), nn.Identity()))}


def _objects(split: str, count: int, seed: int) -> Shapes:
    return Shapes(layout="single", split=split, count=count, size=64, masks=False, seed=seed)


def save(vit: VisionTransformer, folder: Path, *, mean: Sequence[float], std: Sequence[float], **more: Any) -> None:
    """Write the folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads, in half precision."""
    side = SHAPE["img_size"]
    told = {"input_size": (3, side, side), "mean": tuple(mean), "std": tuple(std), "crop_pct": 1.0}
    told |= {"interpolation": "bicubic", "license": "apache-2.0", "tag": "shapes", "num_classes": 0}
    config, arguments = {"pretrained_cfg": told}, {**SHAPE, **more}
    half = copy.deepcopy(vit).half()
    save_for_hf(half, str(folder), model_config=config, model_args=arguments, safe_serialization=True)
    (folder / "model.safetensors").chmod(0o644)  # the library makes it for its owner alone


def load(folder: Path) -> VisionTransformer:
    """The ViT of a folder."""
    vit = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert isinstance(vit, VisionTransformer)
    return vit
