"""vfmerge: merge vision foundation models into one, keep every parent's skill, and measure what was forgotten.

model = vfmerge.load("runs/quickstart/merged")
model.clip.encode_image([picture])            # what CLIP does
model.sam.set_image(picture).predict(boxes=…)  # what SAM does
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vfmerge.model import MergedModel

__version__ = "0.1.0"


def load(path: str | Path, *, device: str = "cpu") -> MergedModel:
    """A merged model from its folder, without its parents' files and without network; see `vfmerge.model.load`."""
    from vfmerge import model

    return model.load(path, device=device)
