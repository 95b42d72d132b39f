"""The same prompts for a merged model and for `SamPredictor`.

Axis letters: N prompts, K masks a prompt, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from segment_anything import SamPredictor
from torch import Tensor

from vfmerge.capability import Capability, Promptable

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_BOX = np.array([0.2, 0.25, 0.7, 0.8])  # of a picture's sides: x0, y0, x1, y1
_POINTS = np.array([[0.4, 0.5], [0.9, 0.1]])  # x, y: one inside, one outside
_LABELS = np.array([1, 0])


def ask_model(capability: Capability, pictures: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
    """Mask logits and IoU scores of a box, points, and both."""
    assert isinstance(capability, Promptable)
    answers = []
    for picture in pictures:
        image = capability.set_image(picture)
        for name, prompt in _prompts(picture):
            tensors = {key: torch.as_tensor(value[None]) for key, value in prompt.items()}
            logits, ious = image.predict(**tensors, multimask=_is_ambiguous(name))
            answers.append((name, logits[0], ious[0]))
    return _name(answers)


def ask_predictor(sam: Sam, pictures: Sequence[np.ndarray]) -> Mapping[str, Tensor]:
    """The same of segment_anything's own predictor."""
    predictor, answers = SamPredictor(sam), []
    for picture in pictures:
        predictor.set_image(picture)
        for name, prompt in _prompts(picture):
            logits, ious, _ = predictor.predict(
                box=prompt.get("boxes"),
                point_coords=prompt.get("points"),
                point_labels=prompt.get("labels"),
                multimask_output=_is_ambiguous(name),
                return_logits=True,
            )
            answers.append((name, torch.from_numpy(logits), torch.from_numpy(ious)))
    return _name(answers)


def _prompts(picture: np.ndarray) -> Iterable[tuple[str, dict[str, np.ndarray]]]:
    """Named prompts of one picture, in its pixels."""
    sides = np.array(picture.shape[1::-1])
    box, points = (_BOX.reshape(2, 2) * sides).reshape(-1), {"points": _POINTS * sides, "labels": _LABELS}
    return (
        ("box", {"boxes": box}),
        ("points", points),
        ("points, three masks", points),
        ("both", points | {"boxes": box}),
    )


def _is_ambiguous(name: str) -> bool:
    return name.endswith("three masks")


def _name(answers: Iterable[tuple[str, Tensor, Tensor]]) -> dict[str, Tensor]:
    """All pictures' logits [K, H, W] and scores [K] of each kind of prompt, in one row of numbers."""
    rows: dict[str, list[Tensor]] = {}
    for name, logits, ious in answers:
        rows.setdefault(f"{name}: mask logits", []).append(logits.flatten())
        rows.setdefault(f"{name}: scores", []).append(ious.flatten())
    return {name: torch.cat(parts) for name, parts in rows.items()}
