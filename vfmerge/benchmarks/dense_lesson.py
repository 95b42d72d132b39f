"""Learning the classes of pixels from maps of frozen features that lie in a file.

Axis letters: N pictures, B of a step, S side of the labels in pixels, C channels, h x w cells, K labels, H x W pixels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from vfmerge import random
from vfmerge.data.source import VOID

from .features import Table, Work, spread
from .segmentation import count, mean_iou

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .probe_heads import Head

_LARGEST = 65504.0  # of float16, as which maps are kept
_HELD_OUT = 5  # one picture in so many chooses the rate (chosen here)
_BYTES = 64 * 2**20  # of enlarged logits in memory at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """AdamW for so many steps of `batch` pictures.

    rates: tried, of which the best is taken; each falls to zero as a cosine. decay: of the weights.
    """

    steps: int
    batch: int
    rates: tuple[float, ...]
    decay: float

    @property
    def work(self) -> int:
        """Steps in all: for each rate that is tried, and for the best; one rate need not be tried."""
        return self.steps * (len(self.rates) + 1 if len(self.rates) > 1 else 1)


class DenseLesson:
    """What is learnt from: maps [N, C, h, w] and labels of pixels [N, S, S], both in files.

    classes: K. side: S. device: where to compute.
    """

    def __init__(self, *, classes: int, side: int, device: torch.device) -> None:
        self._classes, self._side, self._device = classes, side, device
        self._maps = Table("float16")
        self._labels = Table("uint8" if classes < 256 else "uint16")
        self._none = np.iinfo(self._labels.dtype).max  # how VOID is kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._maps.__exit__()
        self._labels.__exit__()

    def __len__(self) -> int:
        return len(self._maps)

    def add(self, cells: Tensor, labels: np.ndarray) -> None:
        """One picture: its map [C, h, w] and the labels of its own pixels, int64 [H, W], below K or VOID."""
        self._maps.append(cells.clamp(-_LARGEST, _LARGEST).cpu().numpy()[None])
        small = nearest(labels, self._side)
        self._labels.append(np.where(small == VOID, self._none, small)[None])

    def learn(self, head: Head, schedule: Schedule, *, work: Work) -> nn.Module:
        """The head, learnt from all pictures at the best rate, in eval mode: maps [B, C, h, w] -> logits [B, K, h, w].

        The best rate has the largest mean IoU on a fifth of the pictures after learning from the others.
        """
        numbers = np.arange(len(self))
        rate = schedule.rates[0]
        if len(schedule.rates) > 1 and len(self) > 1:
            mixed = random.generator("segmentation_probe", "held out", len(self)).permutation(numbers)
            held_out, others = np.split(mixed, [max(1, len(self) // _HELD_OUT)])
            tried = {rate: self._train(head, schedule, others, rate=rate, work=work) for rate in schedule.rates}
            rate = max(schedule.rates, key=lambda rate: self._judge(tried[rate], held_out))
        return self._train(head, schedule, numbers, rate=rate, work=work)

    def _train(self, head: Head, schedule: Schedule, numbers: np.ndarray, *, rate: float, work: Work) -> nn.Module:
        """The head after the schedule at a rate, learnt from the pictures of these numbers."""
        import torch

        from .probe_heads import build

        cuda = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), torch.enable_grad():
            torch.manual_seed(random.key("segmentation_probe", head))  # of first weights and dropout
            learning = build(head, channels=self._maps.shape[0], classes=self._classes).train()
            network = torch.nn.Sequential(self._standard(), learning).to(self._device)
            optimizer = torch.optim.AdamW(learning.parameters(), lr=0.0, weight_decay=schedule.decay)
            for step in range(schedule.steps):
                optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / schedule.steps))
                optimizer.zero_grad()
                self._backward(network, draw(numbers, step=step, batch=schedule.batch))
                optimizer.step()
                work.advance()
        return network.eval().requires_grad_(False)

    def _backward(self, network: nn.Module, numbers: Sequence[int]) -> None:
        """Gradients of the mean cross-entropy over the judged pixels of these pictures.

        Logits are enlarged for some pictures at a time, since with many classes those of all would fill the memory.
        """
        import torch.nn.functional as F

        maps, labels = self._read(numbers)
        judged = (labels != VOID).sum().clamp(min=1)
        logits = network(maps)  # [B, K, h, w]
        leaf = logits.detach().requires_grad_()
        together = max(1, _BYTES // (4 * self._classes * self._side**2))
        for first in range(0, len(leaf), together):
            low, truth = leaf[first : first + together], labels[first : first + together]
            large = F.interpolate(low, size=truth.shape[-2:], mode="bilinear", align_corners=False)
            loss = F.cross_entropy(large, truth, ignore_index=VOID, reduction="sum") / judged
            loss.backward()  # type: ignore[no-untyped-call]
        logits.backward(leaf.grad)

    def _judge(self, network: nn.Module, numbers: np.ndarray) -> float:
        """Mean IoU on the pictures of these numbers, at the size that was learnt at."""
        import torch

        total = np.zeros((self._classes, 3), dtype=np.int64)
        for number in numbers:
            maps, labels = self._read([number])
            with torch.no_grad():
                answer = label(network(maps)[0], (self._side, self._side))
            total += count(answer, labels[0].cpu().numpy(), classes=self._classes)
        return mean_iou(total[None]) if total[:, 2].any() else 0.0

    def _read(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Maps float [B, C, h, w] and labels int64 [B, S, S]."""
        import torch

        maps = torch.from_numpy(self._maps.read(numbers)).to(self._device).float()
        kept = self._labels.read(numbers).astype(np.int64)
        return maps, torch.from_numpy(np.where(kept == self._none, VOID, kept)).to(self._device)

    def _standard(self) -> nn.Module:
        """Maps to maps whose channels have mean 0 and deviation 1 over all cells learnt from."""
        import torch

        mean, deviation = spread(self._maps)
        layer = torch.nn.BatchNorm2d(len(mean), eps=0.0, affine=False)
        layer.load_state_dict(
            {"running_mean": torch.from_numpy(mean), "running_var": torch.from_numpy(deviation).square()}, strict=False
        )
        return layer.eval()


def draw(numbers: np.ndarray, *, step: int, batch: int) -> list[int]:
    """A step's pictures out of these numbers: consecutive ones of an endless row of shuffles."""
    places = range(step * batch, (step + 1) * batch)
    turns = {place // len(numbers) for place in places}
    orders = {turn: random.Permutation(len(numbers), random.key("segmentation_probe", turn)) for turn in turns}
    return [int(numbers[orders[place // len(numbers)][place % len(numbers)]]) for place in places]


def label(logits: Tensor, frame: tuple[int, int]) -> np.ndarray:
    """Logits of cells [K, h, w] to labels of pixels, int64 [H, W]: enlarged bilinearly, then the largest."""
    import torch.nn.functional as F

    large = F.interpolate(logits.unsqueeze(0), size=frame, mode="bilinear", align_corners=False)[0]
    return large.argmax(0).cpu().numpy()


def nearest(labels: np.ndarray, side: int) -> np.ndarray:
    """Labels [S, S] of a square that a picture with labels [H, W] is stretched to: of the pixel under each centre."""
    rows, columns = (((np.arange(side) + 0.5) * length / side).astype(int) for length in labels.shape)
    small: np.ndarray = labels[rows[:, None], columns[None, :]]
    return small
