"""How features are learnt: which losses, on which scale, by how large a head. An option of every feature parent."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

Loss = Literal["cosine", "smooth_l1", "mse", "cosine_smooth_l1"]
Scale = Literal["none", "running", "fixed", "phi_s"]


class Distill(pydantic.BaseModel):
    """The defaults are AM-RADIO's losses (arXiv 2312.06709) on targets as they are."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    summary: Loss | Literal["none"] = "cosine"
    """loss on the pictures' summaries; none leaves them out"""
    cells: Loss | Literal["none"] = "cosine_smooth_l1"
    """loss on the cells' features; none leaves them out"""
    cosine: float = Field(default=0.9, ge=0, le=1)
    """share of the cosine in cosine_smooth_l1: 0.9 in AM-RADIO and EUPE, 0.5 in UNIC (arXiv 2408.05088)"""
    standardise: Scale = "none"
    """how targets are scaled first: each channel by statistics that run (UNIC) or are fixed (EUPE), or PHI-S"""
    pictures: int = Field(default=512, ge=1)
    """how many pictures fixed statistics and those of PHI-S are taken from, before the first step (chosen here)"""
    momentum: float = Field(default=0.01, gt=0, le=1)
    """how much of the statistics that run each step replaces (chosen here)"""
    layers: int = Field(default=0, ge=0)
    """transformer layers of the head, copies of the trunk's last block where it has such; none is a plain MLP"""
    hidden: int | None = Field(default=None, ge=1)
    """width of the MLPs' hidden layer; none is the wider of the trunk's and the parent's"""
