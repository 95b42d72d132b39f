"""`SamPredictor` as a promptable capability, so that benchmarks can measure what it answers.

Axis letters: N prompts, P points a prompt, K masks a prompt, H x W pixels of a picture, s side of low-resolution masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from segment_anything import SamPredictor
from torch import Tensor

from vfmerge.capability import Promptable, PromptableImage
from vfmerge.model import Network

if TYPE_CHECKING:
    import numpy as np
    from segment_anything.modeling import Sam


class Predicted(Promptable):
    """A Sam that its own predictor asks. It remembers one picture: the one before can be prompted no more."""

    def __init__(self, sam: Sam) -> None:
        super().__init__(Network(sam.image_encoder, sam))
        self._predictor = SamPredictor(sam)
        self.fixed_size = sam.image_encoder.img_size

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        self._predictor.set_image(picture)
        return PredictedImage(self._predictor)


class PredictedImage(PromptableImage):
    """The picture that a predictor was set to."""

    def __init__(self, predictor: SamPredictor) -> None:
        self._predictor = predictor
        self.mask_side = predictor.model.prompt_encoder.mask_input_size[0]

    @torch.no_grad()
    def predict(
        self,
        *,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        transform, frame = self._predictor.transform, self._predictor.original_size
        logits, ious, _ = self._predictor.predict_torch(
            point_coords=None if points is None else transform.apply_coords_torch(points, frame),
            point_labels=labels,
            boxes=None if boxes is None else transform.apply_boxes_torch(boxes, frame),
            mask_input=masks,
            multimask_output=multimask,
            return_logits=True,
        )
        return logits, ious
