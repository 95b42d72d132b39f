"""The label branch: where in the space of texts a prompted thing lies.

Open-Vocabulary SAM, arXiv 2401.02955, section 3.3. It reads the thing's region of the pyramid, or what the label token
has learnt in the decoder, or both. In the paper it reads both; the published code multiplies what the token says by
zero and so reads the region alone.

Axis letters: M things of all images together, C channels, s x s cells of a region, D embedding width.
"""

from __future__ import annotations

import torch.nn.functional as F
from segment_anything.modeling.mask_decoder import MLP
from torch import Tensor, nn


class LabelBranch(nn.Module):
    """Regions [M, C, s, s] and label tokens [M, C] -> embeddings [M, D], not normalised; of two, it is their sum.

    A branch that does not read the token has what would read it all the same, idle and frozen, as in the published
    code: its 4.0 M parameters of a decoder are counted with it.
    """

    def __init__(self, *, width: int, embedding: int, regions: bool, token: bool) -> None:
        """width: C. embedding: D. regions, token: which of the two are read; one at least."""
        super().__init__()
        assert regions or token
        self._token = token
        self.project = nn.Conv2d(width, embedding, kernel_size=1, bias=False) if regions else None
        if self.project is not None:
            nn.init.kaiming_normal_(self.project.weight, mode="fan_out", nonlinearity="relu")  # mmcv's, before a ReLU
        self.read = MLP(width, width, embedding, num_layers=3).requires_grad_(token)

    def forward(self, regions: Tensor | None, tokens: Tensor) -> Tensor:
        """regions: none where they are not read."""
        if self.project is None:
            told: Tensor = self.read(tokens)
            return told
        assert regions is not None
        seen = F.relu(self.project(regions)).mean((2, 3))
        return seen + self.read(tokens) if self._token else seen
