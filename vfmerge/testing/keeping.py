"""Checks of what is kept: a merged model in its folder, and what a person does with it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vfmerge import model as models
from vfmerge import plugins
from vfmerge.adapter import BaseAdapter
from vfmerge.capability import Capability, Dense, ImageText, Promptable
from vfmerge.errors import InputError
from vfmerge.testing.case import SINGLE, TASK, TRUNK, Case, far, parts
from vfmerge.testing.finding import Broken
from vfmerge.testing.standin import StandIn


def merged_model_answers_as_its_base(case: Case) -> None:
    """An untrained merge answers exactly as its base."""
    model = case.merged(None).requires_grad_(
        False
    )  # as a loaded one: torch takes other ways where gradients are wanted
    _compare(case, case.adapter.capability(case.teacher), model.capability(TASK))


def capability_is_the_same(case: Case) -> None:
    """Parent and merged model answer through one class."""
    mine, its = case.adapter.capability(case.teacher), case.merged(SINGLE).capability(TASK)
    for each in (mine, its):
        if not isinstance(each, Capability):
            raise Broken(f"capability() gives {type(each).__name__}; give a vfmerge.capability.Capability")
    if type(mine) is not type(its):
        raise Broken(f"{type(mine).__name__} for the parent, {type(its).__name__} for the merged model")
    for each in (mine, its):
        each.exercise(case.picture())


def answer_becomes_a_target(case: Case) -> None:
    """An answer becomes a target of the teacher's form.

    So that a merged model can teach in its turn: as many parts, of as many axes, of the same width.
    """
    batch, model = case.batch(), case.merged(SINGLE)
    with torch.no_grad():
        ours = parts(case.adapter.target(model.network(TASK)(batch)))
        theirs = parts(case.teacher(batch))
    forms = [[(each.dim(), *each.shape[:2]) for each in target] for target in (ours, theirs)]
    if forms[0] != forms[1]:
        shapes = [[list(each.shape) for each in target] for target in (ours, theirs)]
        raise Broken(f"it has shapes {shapes[0]}, the teacher's target {shapes[1]}; mend `target`")


def merged_model_loads_alone(case: Case) -> None:
    """A saved merge loads without the parent's files.

    And answers as before.
    """
    model = case.merged(None if isinstance(case.adapter, BaseAdapter) else SINGLE).requires_grad_(False)
    kinds: dict[str, type] = {TASK: type(case.adapter), TRUNK: StandIn}
    with tempfile.TemporaryDirectory(prefix="vfmerge-check-") as place, plugins.lend(kinds):
        folder = Path(place, "merged")
        model.save(folder, names={name: name for name in model.adapters}, texts={})
        loaded = models.load(folder, device=case.device)
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor, loaded.state_dict()[name]):
            raise Broken(f"{name} came back another one")
    _compare(case, model.capability(TASK), loaded.capability(TASK))


def _compare(case: Case, mine: Capability, its: Capability) -> None:
    """Refuse answers to one picture that are not the same bits."""
    ours, theirs = _answers(case, mine), _answers(case, its)
    if ours.keys() != theirs.keys():
        raise Broken(f"one of the two has no {', '.join(sorted(ours.keys() ^ theirs.keys()))}")
    for what, answer in ours.items():
        if answer.shape != theirs[what].shape:
            raise Broken(f"{what} is {list(theirs[what].shape)} instead of {list(answer.shape)}")
        if not torch.equal(answer, theirs[what]):
            raise Broken(f"{what} differs by {far(theirs[what], answer):.2g}")


@torch.no_grad()
def _answers(case: Case, capability: Capability) -> dict[str, Tensor]:
    """All that a capability says of one picture, by what was asked; without what it refuses for lack of a part."""
    seen = capability.features(case.batch(size=capability.fixed_size).images)
    told = {f"map {number} of its features": each for number, each in enumerate(seen.maps)}
    told |= {} if seen.summary is None else {"summary of its features": seen.summary}
    for what, ask in _questions(capability, case.picture()).items():
        with contextlib.suppress(InputError):  # a text tower without words, features without cells
            told[what] = ask()
    return told


def _questions(capability: Capability, picture: np.ndarray) -> dict[str, Callable[[], Tensor]]:
    """What a person asks of each kind of capability."""
    match capability:
        case ImageText():
            return {
                "encode_image": lambda: capability.encode_image([picture]),
                "encode_text": lambda: capability.encode_text(["a picture", "another"]),
            }
        case Promptable():
            box = torch.tensor([[8.0, 8.0, 60.0, 50.0]])
            return {"predict": lambda: capability.set_image(picture).predict(boxes=box)[0]}
        case Dense():
            return {"encode_cells": lambda: capability.encode_cells([picture])}
    return {}
