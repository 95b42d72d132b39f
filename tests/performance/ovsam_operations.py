"""What Open-Vocabulary SAM computes beside its two baselines: python tests/performance/ovsam_operations.py

Operations of the networks of recipe `ovsam` for a picture of 1024 pixels and a box, counted by one counter on shapes
alone (the meta device), so that nothing is downloaded and nothing is computed. Beside them the figures of the paper
(arXiv 2401.02955, table 1), which counts a multiplication with its addition as one; so does this.

Texts are embedded once for all pictures and count nowhere. RoIAlign and interpolation are not counted, in no way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from unittest import mock

import torch
from vfmerge_adapters.clip2sam import CLIP2SAM
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.promptable.prompts import Prompts
from vfmerge_adapters.sam import SAM

from vfmerge.adapter import Features
from vfmerge.benchmarks import cost
from vfmerge.model import MergedModel, Network

SIDE = 1024
PUBLISHED = {"image crop": 3748, "feature crop": 3545, "merged": 1180}


def main() -> None:
    clip, sam = OpenCLIP(model="RN50x16", random=True), SAM(variant="vit_h", random=True, learn="features", blocks=5)
    without_autocast = mock.patch("torch.autocast", return_value=contextlib.nullcontext())  # meta has none
    with torch.device("meta"), torch.no_grad(), without_autocast:
        merged = MergedModel({"clip": clip, "sam": sam, "recognition": CLIP2SAM()}, base="clip").eval()
        parents = {each: Network(each.trunk(), each.own_head()).eval() for each in (clip, sam)}
        outline = outlining(parents[sam])
        counted = {
            "image crop": giga(outline, cropping(parents[clip], side=384)),
            "feature crop": giga(outline, region(parents[clip])),
            "merged": giga(recognising(merged)),
        }
    print(f"{'':14}{'counted':>10}{'paper':>10}   (G multiplications with additions, one picture and one box)")
    for name, found in counted.items():
        print(f"{name:14}{found:10,.0f}{PUBLISHED[name]:10,.0f}")
    for name in ("image crop", "feature crop"):
        ratio, paper = counted[name] / counted["merged"], PUBLISHED[name] / PUBLISHED["merged"]
        print(f"{name} / merged: x{ratio:.2f} counted, x{paper:.2f} in the paper")


def giga(*works: Callable[[], None]) -> float:
    return sum(cost.flops(work) for work in works) / 2 / 1e9


def outlining(network: Network) -> Callable[[], None]:
    """SAM sees the picture and decodes a box."""
    head = network.head

    def work() -> None:
        head.decode(head.embed(network.encode(torch.zeros(1, 3, SIDE, SIDE))), box(), (SIDE, SIDE))

    return work


def cropping(network: Network, *, side: int) -> Callable[[], None]:
    """CLIP sees what was cut out, at its own size."""
    return lambda: network.head.embed(network.encode(torch.zeros(1, 3, side, side)))


def region(network: Network) -> Callable[[], None]:
    """CLIP sees the whole picture, and pools a region of its last map, as large as the map that its pool knows."""

    def work() -> None:
        seen = network.encode(torch.zeros(1, 3, SIDE, SIDE)).maps[-1]
        network.head.projection.embed(Features(maps=(seen[..., :12, :12],)))

    return work


def recognising(merged: MergedModel) -> Callable[[], None]:
    """One trunk, the neck, the decoder with its label branch, and the frozen CLIP's word."""
    head = merged.heads["recognition"]

    def work() -> None:
        seen = head.look(merged.trunk(torch.zeros(1, 3, SIDE, SIDE)))
        _, tokens = head.decode(seen, box(), (SIDE, SIDE))
        head.decoder.branch(seen.levels[0][..., :12, :12], tokens)
        merged.heads["clip"].projection.embed(Features(maps=(seen.features.maps[-1][..., :12, :12],)))

    return work


def box() -> Prompts:
    """One, somewhere."""
    return Prompts(
        owner=torch.zeros(1, dtype=torch.long), coords=torch.zeros(1, 2, 2), labels=torch.zeros(1, 2, dtype=torch.long)
    )


if __name__ == "__main__":
    main()
