"""Train the tiny DINO of the shapes world: a real timm ViT, never a label, a mask or a word.

    python -m vfmerge_adapters.tiny.train_dino --out dino

Self-distillation in DINO's manner (arXiv 2104.14294): a student learns what a moving average of itself, the teacher,
says of another view. A photograph's views are crops in other colours; here the world draws the very shapes anew, in
other colours and textures on another background, a single shape at another place and size too (`shapes.views`). So a
view's partner is known to show the same shapes, which ones is not.

The class token has to find its partner's among all of the batch (as in MoCo v3, arXiv 2104.02057, for DINO's own loss
starts too slowly here). Where shapes stayed in place, each cell has to name what the teacher says of that cell in the
other view (as in iBOT, arXiv 2111.07832), answers being balanced over the batch by Sinkhorn-Knopp (SwAV, arXiv
2006.09882), so that they cannot all be the same. What is kept is the teacher.

Axis letters: N pairs, B pairs of a step, S side of a picture, n cells, D width, K prototypes.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN as MEAN
from timm.data import IMAGENET_DEFAULT_STD as STD
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vfmerge.data import shapes

from . import train_vit
from .train_vit import SHAPE, Trunk

SCENES, BATCH = 6000, 48
RATE, WARMUP = 2e-3, 60
PROTOTYPES, EMBEDDING = 128, 64
NEAR = 0.15  # temperature of the class token's loss
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05  # of the cells' loss
MOMENTUM = (0.97, 0.9995)  # of the moving average, at first and at last
MORE = {"reg_tokens": 4, "no_embed_class": True}


class Head(nn.Module):
    """Tokens [..., D] to unit embeddings [..., 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SHAPE["embed_dim"], 256), nn.GELU(), nn.Linear(256, EMBEDDING))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.layers(tokens), dim=-1)


class Model(nn.Module):
    """A ViT with a head for its class token, and one with prototypes for its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = train_vit.build(**MORE)
        self.whole, self.cell = Head(), Head()
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, EMBEDDING))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, S, S] in [0, 1] to embeddings [B, 64] and cosines of their cells [B, n, K]."""
        mean, std = (images.new_tensor(colours).view(3, 1, 1) for colours in (MEAN, STD))
        tokens = train_vit.see(self.vit, (images - mean) / std)
        cells = self.cell(tokens[:, self.vit.num_prefix_tokens :])
        return self.whole(tokens[:, 0]), cells @ F.normalize(self.prototypes, dim=1).T


def draw(seed: int) -> tuple[Tensor, Tensor]:
    """Pairs of views, uint8 [N, 2, 3, S, S], and whether their shapes stayed in place, bool [N]."""
    side = SHAPE["img_size"]
    pictures, in_place = np.empty((SCENES, 2, side, side, 3), dtype=np.uint8), np.empty(SCENES, dtype=bool)
    for index in range(SCENES):
        first, second, in_place[index] = shapes.views(seed=seed * SCENES + index, size=side)
        pictures[index] = first, second
    return torch.from_numpy(pictures).permute(0, 1, 4, 2, 3), torch.from_numpy(in_place)


@torch.no_grad()
def balance(cosines: Tensor, *, turns: int = 3) -> Tensor:
    """The teacher's answers: shares of prototypes for each row [..., K], where all prototypes are used equally."""
    shares = (cosines / TEACHER_TEMPERATURE).exp()
    for _ in range(turns):
        shares = shares / shares.sum(0, keepdim=True)
        shares = shares / shares.sum(1, keepdim=True)
    return shares


def find(asked: Tensor, partners: Tensor) -> Tensor:
    """InfoNCE of embeddings [2 B, 64]: which of the teacher's is the partner's; that of the same view is left out."""
    own = torch.eye(len(asked), dtype=torch.bool)
    cosines = (asked @ partners.T / NEAR).masked_fill(own, -torch.inf)
    return F.cross_entropy(cosines, torch.arange(len(asked)).roll(len(asked) // 2))


def loss_of(student: Model, teacher: Model, pairs: Tensor, in_place: Tensor) -> tuple[Tensor, Tensor]:
    """What class tokens and cells cost, for pairs of views [B, 2, 3, S, S] in [0, 1]."""
    views, half = torch.cat([pairs[:, 0], pairs[:, 1]]), len(pairs)
    stayed = torch.cat([in_place, in_place])
    with torch.no_grad():
        known, cells = teacher(views)
        goal = balance(cells.roll(half, 0)[stayed].flatten(0, 1))
    asked, named = student(views)
    answer = F.log_softmax(named[stayed].flatten(0, 1) / STUDENT_TEMPERATURE, dim=1)
    return find(asked, known), -(goal * answer).sum() / max(len(goal), 1)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, *, momentum: float) -> None:
    """Move the teacher towards the student."""
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.lerp_(theirs, 1 - momentum)


def train(steps: int, seed: int) -> VisionTransformer:
    torch.manual_seed(seed)
    student = Model()
    teacher = copy.deepcopy(student).requires_grad_(False)
    scenes, in_place = draw(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizers = train_vit.Optimizers(student, steps=steps, peak=RATE, warmup=WARMUP)
    started = time.monotonic()
    for step in range(steps):
        chosen = torch.randint(len(scenes), (BATCH,), generator=generator)
        pairs, mirrored = scenes[chosen].float() / 255, torch.rand(BATCH, generator=generator) < 0.5
        pairs[mirrored] = pairs[mirrored].flip(-1)
        whole, cells = loss_of(student, teacher, pairs, in_place[chosen])
        optimizers.update(whole + cells, step=step)
        share = 0.5 * (1 - math.cos(math.pi * step / steps))
        follow(teacher, student, momentum=MOMENTUM[0] + (MOMENTUM[1] - MOMENTUM[0]) * share)
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} loss {whole.item():.3f} + {cells.item():.3f} {time.monotonic() - started:.0f} s")
    return teacher.vit.eval()


@torch.no_grad()
def measure(vit: VisionTransformer, seed: int, count: int = 1000, steps: int = 500) -> str:
    """The probes' results on held-out pictures."""
    trunk = Trunk(vit, mean=MEAN, std=STD)
    return train_vit.measure(trunk, name="dino", seed=seed, known=2 * count, asked=count, steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    vit = train(options.steps, options.seed)
    train_vit.save(vit, options.out, mean=MEAN, std=STD, **MORE)
    print(f"held out, as saved: {measure(train_vit.load(options.out), options.seed)}")


if __name__ == "__main__":
    main()
