"""The typed recipe: frozen, strict models of what `vfmerge run` reads. Imports no torch.

A recipe is data. Nothing in it is imported or executed: `adapter`, `kind` and `benchmark` are names of installed plug-ins.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from omegaconf import OmegaConf
from pydantic import Discriminator, Field, Tag

from vfmerge import document, options, plugins
from vfmerge.errors import InputError, one_line
from vfmerge.problem import Keys, Problem, explain, missing, refuse, shown, suggestion, unknown


class Model(pydantic.BaseModel):
    """Frozen, strict, closed: an unknown key or a wrong type is an error."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Plugged(Model):
    """A plug-in's name and, beside it, the plug-in's own options, which its signature checks."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the declared ones."""
        return dict(self.__pydantic_extra__ or {})


class Parent(Model):
    adapter: str
    """name of an installed adapter (`vfmerge ls adapters`)"""
    options: dict[str, Any] = Field(default_factory=dict)
    """what that adapter's signature takes"""


class Data(Plugged):
    kind: str
    """name of an installed data source (`vfmerge ls data`); its options stand beside it"""


Size = Annotated[int, Field(ge=8, le=8192)]


class Stream(Model):
    data: str
    """which data set"""
    size: Annotated[
        Annotated[Size, Tag("one")] | Annotated[tuple[Size, ...], Field(min_length=1), Tag("several")],
        Discriminator(lambda size: "several" if isinstance(size, list | tuple) else "one"),
    ]
    """side of the square input in pixels; of several, each step draws one"""
    batch: int = Field(ge=1)
    """images a step, over all processes"""
    tasks: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """which parents teach on these images, and the weight of each one's loss"""
    fit: Literal["crop", "pad"] = "crop"
    """how a picture becomes square: centre crop of the resized picture (CLIP's way), or padding below and right (SAM's)"""
    masks: int = Field(default=32, ge=1)
    """at most so many masks an image, drawn per step, where the data has masks"""


class Stage(Model):
    steps: int | None = Field(default=None, ge=1)
    """how long: optimiser steps"""
    epochs: float | None = Field(default=None, gt=0)
    """how long: passes over the first stream's data (give steps or epochs)"""
    train: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """parameter prefix: peak learning rate; everything else is frozen, the longest matching prefix counts"""
    streams: tuple[Stream, ...] = Field(min_length=1)
    warmup: int = Field(default=0, ge=0)
    """optimiser steps of linear warm-up"""
    schedule: Literal["cosine", "constant"] = "cosine"
    """how the rate falls after the warm-up"""
    end: float = Field(default=0.0, ge=0, le=1)
    """fraction of the peak rate that a cosine ends at"""
    cache: bool = False
    """keep frozen trunk features and targets of every sample on disk, once per size (needs a frozen trunk)"""


class AdamW(Model):
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """decoupled; not applied to parameters of one axis (biases, norms)"""


class Evaluation(Plugged):
    benchmark: str
    """name of an installed benchmark (`vfmerge ls benchmarks`); its options stand beside it"""
    data: str
    """which data set"""


class Recipe(Model):
    base: str
    """the parent that lends its trunk"""
    parents: dict[str, Parent] = Field(min_length=1)
    data: dict[str, Data] = Field(default_factory=dict)
    stages: dict[str, Stage] = Field(min_length=1)
    evaluate: dict[str, Evaluation] = Field(default_factory=dict)
    optimizer: AdamW = AdamW()
    clip: float | None = Field(default=None, gt=0)
    """largest norm of the gradient of all streams together"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast: weights and optimiser stay fp32"""
    seed: int = Field(default=0, ge=0, lt=2**31)
    workers: int = Field(default=0, ge=0, le=256)
    """processes that load data, per stream; not part of the result"""
    log_every: int = Field(default=50, ge=1)
    """steps between lines of the log; not part of the result"""
    save_minutes: float = Field(default=10.0, gt=0)
    """minutes between checkpoints; not part of the result"""
    save_steps: int | None = Field(default=None, ge=1)
    """steps between checkpoints instead of minutes; not part of the result"""
    bad_samples: float = Field(default=0.01, ge=0, le=1)
    """largest share of unusable samples before the run stops"""
