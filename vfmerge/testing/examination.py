"""Every check of the contract on one adapter, one after the other: one that fails does not keep the others from it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.errors import one_line
from vfmerge.testing import building, declaring, keeping, learning, teaching
from vfmerge.testing.case import Case
from vfmerge.testing.finding import Broken, Finding, NotChecked, Outcome, Warned

if TYPE_CHECKING:
    from vfmerge.testing.case import Reference

Check = Callable[[Case], None]

CHECKS: tuple[Check, ...] = (
    declaring.options_are_readable,
    declaring.interface_is_stated,
    declaring.licence_is_stated,
    declaring.portable_is_plain,
    declaring.making_imports_no_torch,
    building.shapes_need_no_memory,
    building.portable_makes_the_same_shapes,
    building.trunk_keeps_its_promise,
    building.trunk_is_the_teachers,
    building.head_fits_any_trunk,
    teaching.teacher_is_at_rest,
    teaching.teacher_looks_as_told,
    teaching.teacher_is_the_same_each_time,
    teaching.target_is_the_librarys_own,
    teaching.target_is_of_its_image_alone,
    teaching.target_can_be_cached,
    learning.loss_is_of_each_sample,
    learning.loss_changes_nothing,
    learning.teacher_is_left_alone,
    learning.loss_falls,
    learning.no_mask_is_no_fault,
    learning.half_precision_is_enough,
    keeping.merged_model_answers_as_its_base,
    keeping.answer_becomes_a_target,
    keeping.capability_is_the_same,
    keeping.merged_model_loads_alone,
)


def examine(adapter: AuxiliaryAdapter, *, reference: Reference | None, device: str) -> Iterator[Finding]:
    """What of the contract holds, one by one as it is found; `vfmerge.testing.check_adapter` says of what."""
    case = Case(adapter, reference=reference, device=device)
    for check in CHECKS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outcome, note = _try(check, case)
        says = (inspect.getdoc(check) or "").splitlines()[0].removesuffix(".")
        yield Finding(check=check.__name__, says=says, outcome=outcome, note=one_line(note))


def _try(check: Check, case: Case) -> tuple[Outcome, str]:
    """Its outcome, and what was found; whatever it raises is the adapter's."""
    try:
        check(case)
    except NotChecked as reason:
        return "not checked", str(reason)
    except Warned as reason:
        return "warning", str(reason)
    except Broken as reason:
        return "does not hold", str(reason)
    except Exception as error:
        return "does not hold", f"{type(error).__name__}: {error}{_place(error, type(case.adapter))}"
    return "holds", ""


def _place(error: Exception, cls: type) -> str:
    """The innermost line of the adapter's own files that the error passed."""
    home = Path(inspect.getfile(cls)).parent
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == home]
    return f" ({Path(lines[-1].filename).name}:{lines[-1].lineno})" if lines else ""
