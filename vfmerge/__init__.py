"""vfmerge: merge vision foundation models into one, keep every parent's skill, and measure what was forgotten.

model = vfmerge.load("runs/quickstart/merged")
model.clip.encode_image([picture])            # what CLIP does
model.sam.set_image(picture).predict(boxes=…)  # what SAM does
model.segment(picture, ["cat", "dog"])         # what neither could: texts to masks

After `import vfmerge`, `transformers.AutoModel.from_pretrained` knows merged models too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vfmerge import bridge

if TYPE_CHECKING:
    import torch

    from vfmerge.model import MergedModel

__version__ = "0.1.0"


def load(path: str | Path, *, device: str | torch.device = "cpu", revision: str | None = None) -> MergedModel:
    """A merged model from its folder, its run's, or its id on the Hugging Face hub, without its parents' files.

    A folder needs no network, nor does what is in the hub's cache; see `vfmerge.model.load`.
    """
    from vfmerge import model

    return model.load(path, device=device, revision=revision)


bridge.build()
