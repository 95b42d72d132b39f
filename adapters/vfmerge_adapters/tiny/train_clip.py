"""Train the tiny CLIP of the shapes world: a real `open_clip` CLIP, captions only, never a mask.

    python -m vfmerge_adapters.tiny.train_clip --out clip

A small ResNet tower at 64 pixels and a two-layer text tower, trained with open_clip's own contrastive loss. Half of the
pictures with one shape are captioned in one of the 80 OpenAI templates, so that every word of those is learnt.

Axis letters: B pictures and their captions.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from vfmerge import random
from vfmerge.data import shapes

CONFIG = Path(__file__).parent / "clip" / "open_clip_config.json"
BATCH = 128
RATE, DECAY, WARMUP, CLIP = 1.5e-3, 0.05, 200, 1.0
TEMPLATES = open_clip.OPENAI_IMAGENET_TEMPLATES


def load(step: int, seed: int) -> tuple[Tensor, list[str]]:
    """Images [B, 3, 64, 64] in [0, 1] and their captions."""
    images, texts = [], []
    size = json.loads(CONFIG.read_text())["model_cfg"]["vision_cfg"]["image_size"]
    for index in range(step * BATCH, (step + 1) * BATCH):
        scene = shapes.scene(seed=seed, split="clip", index=index, layout="mixed", size=size)
        draw = random.generator(seed, "template", index)
        text = scene.caption
        if len(scene.shapes) < 2 and draw.random() < 0.5:
            text = TEMPLATES[int(draw.integers(len(TEMPLATES)))](text.split(" ", 1)[1])
        images.append(torch.from_numpy(scene.image))
        texts.append(text)
    return torch.stack(images).permute(0, 3, 1, 2) / 255, texts


def normalise(images: Tensor) -> Tensor:
    config = json.loads(CONFIG.read_text())["preprocess_cfg"]
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    return (images - mean) / std


def train(steps: int, seed: int) -> open_clip.CLIP:
    torch.manual_seed(seed)
    model = open_clip.CLIP(**json.loads(CONFIG.read_text())["model_cfg"]).train()
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    criterion = open_clip.ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98), fused=True)
    started = time.monotonic()
    for step in range(steps):
        rate = RATE * min(1, (step + 1) / WARMUP) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        optimizer.param_groups[0]["lr"] = rate
        images, texts = load(step, seed)
        image = model.encode_image(normalise(images), normalize=True)
        text = model.encode_text(tokenizer(texts), normalize=True)
        loss = criterion(image, text, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        model.logit_scale.data.clamp_(0, math.log(100))
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
        if step % 500 == 499:
            print(f"  held out: zero-shot accuracy {measure(model.eval(), tokenizer, seed, 500)}", flush=True)
            model.train()
    return model.eval()


@torch.no_grad()
def measure(model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, seed: int, count: int = 2000) -> float:
    """Zero-shot top-1 accuracy over the shape names on held-out pictures of one shape, with the 80 templates."""
    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, shapes.SHAPES, TEMPLATES)
    size = model.visual.image_size
    hits = 0
    for index in range(count):
        scene = shapes.scene(seed=seed, split="clip-held-out", index=index, layout="single", size=size)
        image = normalise(torch.from_numpy(scene.image).permute(2, 0, 1).unsqueeze(0) / 255)
        answer = (model.encode_image(image, normalize=True) @ classifier).argmax().item()
        hits += shapes.SHAPES[int(answer)] == scene.shapes[0].name
    return hits / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = train(options.steps, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    half = {name: t.half().contiguous() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    save_file(half, options.out / "open_clip_model.safetensors")
    if options.out.resolve() != CONFIG.parent.resolve():
        shutil.copy(CONFIG, options.out / CONFIG.name)
    model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in half.items()})
    tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
    print(f"held out, as saved: zero-shot accuracy {measure(model, tokenizer, options.seed)}")


if __name__ == "__main__":
    main()
