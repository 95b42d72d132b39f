"""What a large photograph costs: `segment`, points with names, and everything, reduced and at full resolution.

    python tests/performance/large_pictures.py MODEL [MEGAPIXELS]

MODEL is the folder of a merged model of the shapes world, such as runs/quickstart/merged. The picture is a held-out
scene, enlarged to 4:3 and so many megapixels (default: 12). The full resolution is the same code, which is told that no
picture is large. Each is measured in a process of its own, on one thread, after a small picture has warmed it up.
Prints processor seconds and peak memory beyond what the model and the picture take, both ways and their ratios; exits
with 1 if a reduced picture costs more than a full one. Linux only.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(megapixels: float) -> np.ndarray:
    """uint8 [H, W, 3]."""
    from vfmerge.data.shapes import scene

    small = Image.fromarray(scene(seed=0, split="held-out", index=3, layout="several", size=96).image)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    return np.asarray(small.resize((height * 4 // 3, height), Image.Resampling.BICUBIC))


def work(folder: str, *, kind: str) -> Callable[[np.ndarray], int]:
    """What is done with a picture; it says how many masks it found."""
    import vfmerge
    from vfmerge.data.shapes import SHAPES
    from vfmerge.predict.answerer import answerer, cast
    from vfmerge.predict.question import Question

    model = vfmerge.load(folder)
    if kind == "segment":
        return lambda image: len(model.segment(image, SHAPES).masks)
    capabilities = model.capabilities()

    def answer(image: np.ndarray) -> int:
        height, width = image.shape[:2]
        points = tuple((share * width, share * height) for share in (0.3, 0.5, 0.7))
        prompts = {"points": points} if kind == "points" else {"everything": True, "grid": 6, "stability": 0.7}
        question = Question(classes=SHAPES, **prompts)
        answers = answerer(capabilities, question, cast=cast(capabilities, question, tasks=()))
        return len(answers.answer(image).masks)

    return answer


def measure(folder: str, kind: str, megapixels: float, *, reduced: bool) -> tuple[int, float, float]:
    """Masks, processor seconds, and bytes beyond what was there before."""
    import torch

    from vfmerge import reduction

    torch.set_num_threads(1)
    if not reduced:
        reduction.SIDE = 10**9
    ask, image = work(folder, kind=kind), picture(megapixels)
    ask(picture(0.01))
    before, began = memory("VmRSS"), time.process_time()
    masks = ask(image)
    return masks, time.process_time() - began, max(memory("VmHWM") - before, 0)


def memory(kind: str) -> int:
    """Of this process, in bytes: what it has (VmRSS) or has had at most (VmHWM)."""
    (line,) = re.findall(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(line)


def measure_apart(folder: str, kind: str, megapixels: str, way: str) -> tuple[int, float, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--here", folder, kind, megapixels, way]
    words = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-3:]
    return int(words[0]), float(words[1]), float(words[2])


def main(folder: str, megapixels: str = "12") -> int:
    """Print seconds, memory and ratios; 1 if reduced is worse."""
    worse = False
    print(f"{megapixels} megapixels     full: masks  seconds       MB   reduced: masks  seconds       MB")
    for kind in ("segment", "points", "everything"):
        full, reduced = (measure_apart(folder, kind, megapixels, way) for way in ("full", "reduced"))
        columns = "".join(f"{masks:18}{seconds:9.2f}{most / 1e6:9.0f}" for masks, seconds, most in (full, reduced))
        ratios = full[1] / reduced[1], full[2] / reduced[2]
        print(f"{kind:12}{columns}   {ratios[0]:.1f} x less time, {ratios[1]:.1f} x less memory", flush=True)
        worse = worse or min(ratios) < 1
    return int(worse)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        folder, kind, megapixels, way = sys.argv[2:]
        print(*measure(folder, kind, float(megapixels), reduced=way == "reduced"))
    elif len(sys.argv) < 2:
        sys.exit(__doc__)
    else:
        sys.exit(main(*sys.argv[1:]))
