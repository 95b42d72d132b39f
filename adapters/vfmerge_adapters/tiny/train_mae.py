"""Train the tiny MAE of the shapes world: a real timm ViT, pictures only, never a label, a mask or a word.

    python -m vfmerge_adapters.tiny.train_mae --out mae

A masked autoencoder (arXiv 2111.06377): of each picture the encoder sees a random quarter of the patches, and a light
decoder, which is thrown away afterwards, says what is in the others. The loss is the squared error of the hidden
patches' pixels, each patch normalised by its own mean and deviation.

Axis letters: B pictures, H x W pixels, n patches of P pixels and three colours, k patches that are seen, D width.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from . import train_vit
from .train_vit import PATCH, SHAPE, Trunk

MEAN = STD = (0.5, 0.5, 0.5)
SCENES, SIDE = 16384, 96
SIZES = (64, 48, 80)  # of the pictures of one step and the next; larger ones teach positions between those of 64
BATCH, HIDDEN, AREA = 64, 0.75, (0.35, 1.0)
RATE, WARMUP = 3e-3, 100
FLOOR = 0.05  # of a patch's deviation: the noise of a plain patch has 0.016 and cannot be foretold
MORE = {"global_pool": "avg", "fc_norm": False}


class Decoder(nn.Module):
    """Tokens of the seen patches to the pixels of all patches; thrown away after training."""

    def __init__(self, *, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.enter = nn.Linear(SHAPE["embed_dim"], width)
        self.hidden = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 3 * PATCH**2)
        nn.init.normal_(self.hidden, std=0.02)

    def forward(self, tokens: Tensor, order: Tensor, grid: tuple[int, int]) -> Tensor:
        """tokens [B, 1 + k, D], class token first; order [B, n], the patches, seen ones first -> [B, n, 3 P P]."""
        tokens = self.enter(tokens)
        seen = tokens[:, 1:]
        hidden = self.hidden.expand(len(order), order.shape[1] - seen.shape[1], -1)
        places = order.argsort(1).unsqueeze(2).expand(-1, -1, tokens.shape[2])
        patches = torch.cat([seen, hidden], dim=1).gather(1, places)
        patches = patches + build_sincos2d_pos_embed(list(grid), dim=tokens.shape[2])
        answer: Tensor = self.leave(self.norm(self.blocks(torch.cat([tokens[:, :1], patches], dim=1))))
        return answer[:, 1:]


def patches_of(images: Tensor) -> Tensor:
    """Normalised pixels of patches [B, n, 3 P P]."""
    patches = F.pixel_unshuffle(images, PATCH).flatten(2).transpose(1, 2)
    return (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True) + FLOOR**2).sqrt()


def errors(vit: VisionTransformer, decoder: Decoder, images: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of each hidden patch, [B, n - k]. images [B, 3, H, W] in [0, 1]."""
    grid = images.shape[2] // PATCH, images.shape[3] // PATCH
    order = torch.rand(len(images), grid[0] * grid[1], generator=generator).argsort(1)
    kept = round(order.shape[1] * (1 - HIDDEN))
    tokens = train_vit.see(vit, (images - MEAN[0]) / STD[0], order[:, :kept])
    wrong = (decoder(tokens, order, grid) - patches_of(images)).square().mean(2)
    return wrong.gather(1, order[:, kept:])


def train(steps: int, seed: int) -> tuple[VisionTransformer, Decoder]:
    torch.manual_seed(seed)
    vit, decoder = train_vit.build(**MORE), Decoder()
    scenes = train_vit.draw(split="mae", seed=seed, count=SCENES, size=SIDE)
    generator = torch.Generator().manual_seed(seed)
    optimizers = train_vit.Optimizers(vit, decoder, steps=steps, peak=RATE, warmup=WARMUP)
    started = time.monotonic()
    for step in range(steps):
        chosen = scenes[torch.randint(len(scenes), (BATCH,), generator=generator)]
        images = train_vit.crop(chosen, size=SIZES[step % len(SIZES)], area=AREA, generator=generator)
        loss = errors(vit, decoder, images, generator).mean()
        optimizers.update(loss, step=step)
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.4f} {time.monotonic() - started:.0f} s", flush=True)
        if step % 1000 == 999:
            print(f"  held out: {measure(vit, decoder, seed, count=500)}", flush=True)
            vit.train()
    return vit.eval(), decoder


@torch.no_grad()
def measure(vit: VisionTransformer, decoder: Decoder, seed: int, *, count: int = 1000, steps: int = 500) -> str:
    """What is wrong with the hidden patches of held-out pictures, beside what the mean patch has wrong, and probes."""
    vit.eval()
    held_out = train_vit.draw(split="mae-held-out", seed=seed, count=count, size=64).float() / 255
    wrong = errors(vit, decoder, held_out, torch.Generator().manual_seed(seed)).mean()
    truth = patches_of(held_out)
    mean = (truth - truth.mean((0, 1))).square().mean()
    with torch.enable_grad():
        trunk = Trunk(vit, mean=MEAN, std=STD)
        probes = train_vit.measure(trunk, name="mae", seed=seed, known=2 * count, asked=count, steps=steps)
    return f"reconstruction error {wrong:.4f}, of the mean patch {mean:.4f}, {probes}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    vit, decoder = train(options.steps, options.seed)
    train_vit.save(vit, options.out, mean=MEAN, std=STD, **MORE)
    print(f"held out, as saved: {measure(train_vit.load(options.out), decoder, options.seed)}")


if __name__ == "__main__":
    main()
