"""What one pass of the trunk for text and masks is worth: python tests/performance/one_pass.py [--quick]

At 224 pixels, four pictures: the merged model (SAM ViT-B's trunk with a head of three layers) against its two parents,
SAM ViT-B and CLIP ViT-B/16, each with an encoder of its own. The parents' encoders run by the merged trunk's own code,
so that what is compared is the merge and not two implementations; CLIP by open_clip's code is printed beside. At 1024
pixels, one picture: what the CLIP head adds to SAM's own time. Random weights, medians of rounds in which all take
turns.

--quick leaves 1024 pixels to the operations alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.promptable.prompts import Prompts
from vfmerge_adapters.sam import SAM

from vfmerge.adapter import Features
from vfmerge.benchmarks import cost
from vfmerge.model import MergedModel

ROUNDS, LARGE_ROUNDS = 9, 3


def main() -> None:
    torch.manual_seed(0)
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    sam, clip = SAM(variant="vit_b", random=True), OpenCLIP(model="ViT-B-16", random=True)
    with torch.no_grad():
        merged = MergedModel({"sam": sam, "clip": clip}, base="sam").eval()
        works = small(merged, alike=sam.trunk().eval(), own=clip.trunk().eval(), projection=clip.own_head().eval())
        report(f"224 pixels, 4 pictures, {torch.get_num_threads()} threads", works, rounds=ROUNDS)
        report("1024 pixels, 1 picture", large(merged), rounds=0 if quick else LARGE_ROUNDS)


def small(
    merged: MergedModel, *, alike: nn.Module, own: nn.Module, projection: nn.Module
) -> dict[str, Callable[[], None]]:
    """alike: an encoder of CLIP's geometry by the merged trunk's code. own, projection: CLIP by open_clip's."""
    images = torch.rand(4, 3, 224, 224)

    def one_pass() -> None:
        seen = merged.trunk(images)
        decode(merged, seen, side=224)
        merged.heads["clip"].embed(seen)

    def sam_alone() -> None:
        decode(merged, merged.trunk(images), side=224)

    def parents() -> None:
        sam_alone()
        seen = alike(images)
        projection.embed(Features(maps=seen.maps, summary=seen.maps[-1].mean((2, 3))))  # as much as CLIP's own gives

    def parents_own() -> None:
        sam_alone()
        projection.embed(own(images))

    return {"merged": one_pass, "parents": parents, "parents, open_clip's code": parents_own}


def large(merged: MergedModel) -> dict[str, Callable[[], None]]:
    image = torch.rand(1, 3, 1024, 1024)

    def sam_alone() -> None:
        decode(merged, merged.trunk(image), side=1024)

    def one_pass() -> None:
        seen = merged.trunk(image)
        decode(merged, seen, side=1024)
        merged.heads["clip"].embed(seen)

    return {"merged": one_pass, "SAM alone": sam_alone}


def decode(merged: MergedModel, seen: Features, *, side: int) -> None:
    """A box for each picture."""
    head = merged.heads["sam"]
    maps = head.embed(seen)
    count = len(maps[0])
    box = torch.tensor([[side / 4, side / 4], [3 * side / 4, 3 * side / 4]]).expand(count, 2, 2)
    prompts = Prompts(owner=torch.arange(count), coords=box, labels=torch.tensor([2, 3]).expand(count, 2))
    head.decode(maps, prompts, (side, side))


def report(title: str, works: Mapping[str, Callable[[], None]], *, rounds: int) -> None:
    print(title)
    spent: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1 if rounds else 0):  # the first warms up
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if number:
                spent[name].append(time.perf_counter() - began)
    counted = {name: cost.flops(work) / 1e9 for name, work in works.items()}
    for name in works:
        seconds = f"{statistics.median(spent[name]):8.3f} s" if spent[name] else "        - "
        print(f"  {name:28}{seconds}{counted[name]:10,.0f} GFLOP")
    for name in list(works)[1:]:
        ratios = [other / own for other, own in zip(spent[name], spent["merged"], strict=True)]
        timed = f"x{statistics.median(ratios):.2f} in time, " if ratios else ""
        print(f"  {name} / merged: {timed}x{counted[name] / counted['merged']:.2f} in operations")


if __name__ == "__main__":
    main()
