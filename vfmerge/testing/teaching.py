"""Checks of the teacher: the frozen parent and its target.

Axis letters: B images, M masks of all images together.
"""

from __future__ import annotations

from typing import Any

import torch

from vfmerge.adapter import Batch
from vfmerge.testing.case import Case, alone, belonging, far, parts
from vfmerge.testing.finding import Broken, NotChecked

_SAME = 1e-5  # two ways to compute one number in single precision (chosen here)
_NEIGHBOURS = 1e-4  # the same sums in another order, through a deep network (chosen here)


def teacher_is_at_rest(case: Case) -> None:
    """The teacher comes in eval mode."""
    busy = [name or "the network itself" for name, module in case.teacher.named_modules() if module.training]
    if busy:
        raise Broken(f"{busy[0]} is in training mode; return it with `.eval()`")


def teacher_looks_as_told(case: Case) -> None:
    """The teacher looks at the side that `teaches_at` tells.

    By that side caches are foretold, before weights are read.
    """
    told, found = case.adapter.teaches_at, case.teacher.size
    if told != found:
        raise Broken(f"it tells {told}, and the teacher's size is {found}; give `Network` size=self.teaches_at")


def teacher_is_the_same_each_time(case: Case) -> None:
    """A teacher opened again gives the same target.

    Whatever random numbers came before; and neither opening nor asking it draws global ones.
    """
    batch = case.batch()
    first = parts(_target(case, batch))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    again = case.adapter.teacher().requires_grad_(False).to(case.device)
    with torch.no_grad():
        second = parts(again(batch))
    if not torch.equal(before, torch.random.get_rng_state()):
        raise Broken("it draws global random numbers; draw from `vfmerge.random`, or within torch.random.fork_rng")
    if max(far(ours, theirs) for ours, theirs in zip(second, first, strict=True)) > _SAME:
        raise Broken("the target is another one; draw random weights from a fixed seed")


def target_is_the_librarys_own(case: Case) -> None:
    """The target is what the model's own library gives."""
    if case.reference is None:
        raise NotChecked("no reference given (check_adapter takes one)")
    size = case.teacher.size or case.sizes[0]
    batch = case.batch(size=size)
    with torch.no_grad():
        theirs = parts(case.reference(batch.images))
    ours = parts(_target(case, batch))
    shapes = [tuple(each.shape) for each in ours], [tuple(each.shape) for each in theirs]
    if shapes[0] != shapes[1]:
        raise Broken(f"the target has shapes {shapes[0]}, the reference {shapes[1]}")
    differences = [far(one, other) for one, other in zip(ours, theirs, strict=True)]
    if max(differences) > _SAME:
        text = f"part {differences.index(max(differences))} differs by {max(differences):.2g}"
        raise Broken(f"{text}; compare mean, deviation and order of channels")


def target_is_of_its_image_alone(case: Case) -> None:
    """A target depends on its own image alone.

    And not on its neighbours in the batch.
    """
    batch = case.batch()
    together = parts(_target(case, batch))
    for place in range(len(batch.names)):
        chosen = belonging(batch, place)
        rows = torch.tensor([place]) if chosen is None else chosen.nonzero().flatten().cpu()
        lonely = parts(_target(case, alone(batch, place)))
        if any(far(one, whole[rows]) > _NEIGHBOURS for one, whole in zip(lonely, together, strict=True)):
            raise Broken(f"image {place} alone has another target than among {len(batch.names)}")


def target_can_be_cached(case: Case) -> None:
    """The target can be cached in half precision.

    It is tensors, with images, or masks, as their first axis.
    """
    batch = case.batch()
    samples = len(batch.names) if batch.masks is None else len(batch.masks)
    for number, part in enumerate(parts(_target(case, batch))):
        if part.dim() < 1 or len(part) != samples:
            kind = "images" if batch.masks is None else "masks"
            raise Broken(f"part {number} has shape {list(part.shape)}, but there are {samples} {kind}")
        if not part.is_floating_point():
            raise Broken(f"part {number} is {part.dtype}; give floating point numbers")
        if not torch.isfinite(part).all():
            raise Broken(f"part {number} is not finite")
        if not torch.isfinite(part.half()).all():
            raise Broken(f"part {number} reaches {float(part.abs().max()):.3g}, and half precision ends at 65504")


def _target(case: Case, batch: Batch) -> Any:
    with torch.no_grad():
        return case.teacher(batch)
