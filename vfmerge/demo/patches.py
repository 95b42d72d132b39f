"""What the dense heads of a model make of a picture's cells: as colours, and how like one of them the others are.

Parent and merged model are shown the same stretched square, by the same rule, and in the same colours: those of the
parent's principal components, where the parent is here, since the merged model's head answers in its parent's space.

Axis letters: C channels, h x w cells, H x W pixels of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfmerge.capability import Dense
from vfmerge.errors import InputError

from .newest import Newest
from .projection import Projection
from .questions import Place

_FINE = 32  # cells a side that show what things are like; chosen here
_TRIAL = 224  # pixels a side that most strides divide: 7, 8, 14, 16, 28 and 32
_PICTURES = 4  # of which features are remembered


class Patches:
    """The dense heads of one model, by task."""

    def __init__(self, heads: Mapping[str, Dense], *, parents: Mapping[str, Patches]) -> None:
        """parents: by task, those whose colours are taken."""
        self._heads, self._parents = dict(heads), parents
        self._seen: Newest[tuple[str, str, bool], Tensor] = Newest(count=_PICTURES)
        self._projections: Newest[tuple[str, str, bool], Projection] = Newest(count=_PICTURES)
        self._sides: dict[str, int | None] = {}

    @property
    def tasks(self) -> list[str]:
        return list(self._heads)

    def colours(self, picture: np.ndarray, task: str, *, key: str, fine: bool) -> dict[str, Any]:
        """The colour of every cell, row by row, three numbers in 0..255 each; how much of the variance they show; and
        whether their components are the parent's.

        picture: uint8 [H, W, 3]. key: its id. fine: whether cells are small, or those that the model has by itself.
        Raises InputError for a head without features of cells.
        """
        cells = self._see(picture, task, key=key, fine=fine)
        projection, borrowed = self._project(picture, task, key=key, fine=fine)
        return {
            "height": cells.shape[1],
            "width": cells.shape[2],
            "colours": projection.colours(cells).flatten().tolist(),
            "share": round(projection.share(cells), 4),
            "borrowed": borrowed,
        }

    def alike(self, picture: np.ndarray, task: str, place: Place, *, key: str, fine: bool) -> dict[str, Any]:
        """The cosine of every cell's features to those of the cell under a place, in -1..1, row by row; and the row
        and column of that cell. DINO's correspondence of parts. Otherwise as `colours`.
        """
        cells = self._see(picture, task, key=key, fine=fine)
        h, w = cells.shape[1:]
        row = min(int(place.y / picture.shape[0] * h), h - 1)
        column = min(int(place.x / picture.shape[1] * w), w - 1)
        cosines = torch.einsum("chw,c->hw", cells, cells[:, row, column])
        values = [round(value, 4) for value in cosines.flatten().tolist()]
        return {"height": h, "width": w, "values": values, "row": row, "column": column}

    def _see(self, picture: np.ndarray, task: str, *, key: str, fine: bool) -> Tensor:
        """Features of the cells [C, h, w], each of length 1: colours are as alike as cosines say."""
        return self._seen.recall((key, task, fine), lambda: self._encode(picture, task, fine=fine))

    @torch.no_grad()
    def _encode(self, picture: np.ndarray, task: str, *, fine: bool) -> Tensor:
        size = self._side(picture, task) if fine else None
        return F.normalize(self._heads[task].encode_cells([picture], size=size)[0].float().cpu(), dim=0)

    def _side(self, picture: np.ndarray, task: str) -> int | None:
        """Pixels at which a head has fine cells; none where it takes one size, or has cells as fine by itself."""
        if task not in self._sides:
            self._sides[task] = self._try(self._heads[task], picture)
        return self._sides[task]

    def _try(self, head: Dense, picture: np.ndarray) -> int | None:
        if head.fixed_size is not None or head.encode_cells([picture]).shape[-1] >= _FINE:
            return None
        try:
            cells = head.encode_cells([picture], size=_TRIAL).shape[-1]
        except InputError:  # of a stride that is none of those
            return None
        return _FINE * (_TRIAL // cells)

    def _project(self, picture: np.ndarray, task: str, *, key: str, fine: bool) -> tuple[Projection, bool]:
        """Onto the parent's components where it is here and has as many channels, else onto the model's own."""
        cells = self._see(picture, task, key=key, fine=fine)
        if task in self._parents:
            theirs, _ = self._parents[task]._project(picture, task, key=key, fine=fine)
            if len(theirs.mean) == len(cells):
                return theirs, True
        return self._projections.recall((key, task, fine), lambda: Projection.of(cells)), False
