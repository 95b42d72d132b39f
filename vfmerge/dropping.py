"""Teacher dropping: for each picture some parents keep silent, never the one that is learnt worst.

Axis letters: B images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vfmerge import random


def drop(
    losses: Mapping[str, Mapping[str, Tensor]], *, chance: float, keys: Sequence[int]
) -> dict[str, dict[str, Tensor]]:
    """Every task's terms [B], 0 for the images that the task is left out for. UNIC, arXiv 2408.05088.

    chance: that a task is left out for an image (UNIC's is 0.5); the task with the image's largest loss never is.
    keys: the samples', which chance is drawn from.
    """
    totals = torch.stack([torch.stack(list(terms.values())).sum(0).detach() for terms in losses.values()])  # [tasks, B]
    drawn = [[random.generator(key, "drop", task).random() < chance for key in keys] for task in losses]
    silent = torch.tensor(drawn, device=totals.device).scatter(0, totals.argmax(0, keepdim=True), False)
    return {
        task: {term: values.masked_fill(left_out, 0) for term, values in terms.items()}
        for (task, terms), left_out in zip(losses.items(), silent, strict=True)
    }
