"""Train the tiny SAM of the shapes world: real `segment_anything` classes, masks only, never a label.

    python -m vfmerge_adapters.tiny.train_sam --out sam.safetensors

Interactive training in SAM's manner (arXiv 2304.02643, appendix A), shortened to two rounds: a box or a point from each
mask; then one more point from the error, with a mask prompt that is the round's own logits or, half the time, a coarse
picture of the mask. The losses are SAM's: 20 focal + 1 Dice on the best of the three masks and on the single one, and
squared error on the predicted IoU.

Axis letters: B images, M masks of all images, H x W pixels, K = 4 mask outputs.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from vfmerge import losses, random
from vfmerge.data import shapes

from ..promptable.prompts import Prompts, boxes_of, points_in, simulate
from ..sam.geometry import VARIANTS, build
from ..sam.network import MaskHead, Trunk

SIZE = VARIANTS["tiny"].image_size
BATCH = 16
MASKS = 4  # an image
RATE, DECAY, WARMUP, CLIP = 1e-3, 0.05, 300, 1.0


def load(step: int, seed: int, batch: int = BATCH, split: str = "sam") -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Images [B, 3, H, W] in [0, 1], masks bool [M, H, W], owners [M], and a key per image."""
    images, masks, owner, keys = [], [], [], []
    for place in range(batch):
        index = step * batch + place
        layout = "single" if index % 4 == 0 else "several"
        scene = shapes.scene(seed=seed, split=split, index=index, layout=layout, size=SIZE)
        chosen = random.generator(seed, split, index, "masks").permutation(len(scene.masks))[:MASKS]
        images.append(torch.from_numpy(scene.image))
        masks.append(torch.from_numpy(scene.masks[chosen]))
        owner += [place] * len(chosen)
        keys.append(random.key(seed, split, index))
    return torch.stack(images).permute(0, 3, 1, 2) / 255, torch.cat(masks), torch.tensor(owner), keys


def loss_of(logits: Tensor, ious: Tensor, masks: Tensor) -> Tensor:
    """SAM's training loss. logits [M, K, h, w], ious [M, K], masks bool [M, H, W]."""
    logits = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    target = masks.unsqueeze(1).expand_as(logits)
    flat, goal = logits.flatten(0, 1), target.flatten(0, 1).float()
    each = (20 * losses.soft_focal(flat, goal) + losses.soft_dice(flat, goal)).view(logits.shape[:2])  # [M, K]
    iou = losses.squared(ious.flatten().unsqueeze(1), losses.mask_iou(logits > 0, target).flatten().unsqueeze(1))
    return each[:, 0].mean() + each[:, 1:].amin(1).mean() + iou.mean()


def correct(prompts: Prompts, logits: Tensor, masks: Tensor, keys: Tensor) -> Prompts:
    """The second round: a point from the error region, and a mask prompt."""
    answer = F.interpolate(logits[:, :1], size=masks.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > 0
    error = answer ^ masks
    error = torch.where(error.flatten(1).any(1)[:, None, None], error, masks)
    point = points_in(error, keys)
    rows = torch.arange(len(masks))
    label = masks[rows, point[:, 1].long(), point[:, 0].long()].long()
    grid = VARIANTS["tiny"].grid
    coarse = (F.adaptive_avg_pool2d(masks.float().unsqueeze(1), grid) - 0.5) * 20 * keys[:, None, None, None]
    coarse = F.interpolate(coarse, size=logits.shape[-2:], mode="bilinear", align_corners=False)
    blurred = (keys * 64 % 1 < 0.5)[:, None, None, None]
    return Prompts(
        owner=prompts.owner,
        coords=torch.cat([prompts.coords, point.unsqueeze(1)], dim=1),
        labels=torch.cat([prompts.labels, label.unsqueeze(1)], dim=1),
        masks=torch.where(blurred, coarse, logits[:, :1].detach()),
    )


def train(steps: int, seed: int) -> tuple[Trunk, MaskHead, dict[str, Tensor]]:
    torch.manual_seed(seed)
    sam = build(VARIANTS["tiny"])
    torch.nn.init.trunc_normal_(sam.image_encoder.pos_embed, std=0.02)
    trunk, head = Trunk(sam.image_encoder), MaskHead(sam)
    optimizer = torch.optim.AdamW(sam.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    started = time.monotonic()
    for step in range(steps):
        rate = RATE * min(1, (step + 1) / WARMUP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = rate
        images, masks, owner, keys = load(step, seed)
        prompts = simulate(masks, owner=owner, keys=keys, frame=(SIZE, SIZE))
        maps = head.embed(trunk(images))
        logits, ious = head.decode(maps, prompts, (SIZE, SIZE))
        loss = loss_of(logits, ious, masks)
        chance = torch.from_numpy(random.generator(seed, "error", step).random(len(masks))).float()
        second = correct(prompts, logits.detach(), masks, chance)
        loss = loss + loss_of(*head.decode(maps, second, (SIZE, SIZE)), masks)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), CLIP)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
        if step % 1000 == 999:
            print(f"  held out: box and point mIoU {measure(trunk, head, seed, 8)}", flush=True)
    return trunk, head, sam.state_dict()


@torch.no_grad()
def measure(trunk: Trunk, head: MaskHead, seed: int, batches: int = 32) -> tuple[float, float]:
    """Mean IoU on held-out scenes from exact boxes and from a random point each."""
    scores: list[list[Tensor]] = [[], []]
    for step in range(batches):
        images, masks, owner, _ = load(step, seed, split="sam-held-out")
        maps = head.embed(trunk(images))
        for kind, prompts in enumerate(exact_prompts(masks, owner, step)):
            logits, ious = head.decode(maps, prompts, (SIZE, SIZE))
            best = torch.zeros(len(masks), dtype=torch.long) if kind == 0 else 1 + ious[:, 1:].argmax(1)
            chosen = logits[torch.arange(len(masks)), best].unsqueeze(1)
            answer = F.interpolate(chosen, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0] > 0
            scores[kind].append(losses.mask_iou(answer, masks))
    box, point = (float(torch.cat(s).mean()) for s in scores)
    return round(box, 4), round(point, 4)


def exact_prompts(masks: Tensor, owner: Tensor, step: int) -> tuple[Prompts, Prompts]:
    boxes = Prompts(
        owner=owner, coords=boxes_of(masks).unflatten(1, (2, 2)), labels=torch.tensor([2, 3]).expand(len(masks), 2)
    )
    chance = torch.from_numpy(random.generator("held-out points", step).random(len(masks)))
    point = points_in(masks, chance).unsqueeze(1)
    coords = torch.cat([point, torch.zeros_like(point)], dim=1)
    return boxes, Prompts(owner=owner, coords=coords, labels=torch.tensor([1, -1]).expand(len(masks), 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    trunk, head, state = train(options.steps, options.seed)
    half = {name: tensor.half().contiguous() for name, tensor in state.items()}
    save_file(half, options.out)
    for module in (trunk, head):
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.data = tensor.data.half().float()
    print(f"held out, as saved: box and point mIoU {measure(trunk, head, options.seed)}")


if __name__ == "__main__":
    main()
