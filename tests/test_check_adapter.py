"""The contract's check: a sound adapter passes it, and each line fails on an adapter broken in just that way."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import plugins
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.features.settings import Distill
from vfmerge.testing import Finding, check_adapter, declaring, examination

SMALL = {"depth": 2, "width": 32, "heads": 2, "global_blocks": [1], "image_size": 64}
SMALL |= {"decoder_width": 16, "decoder_mlp": 32, "decoder_heads": 2}


@pytest.fixture(scope="module")
def broken() -> Iterator[ModuleType]:
    """The adapters of `fakes/broken_adapters.py`, importable by name in this process."""
    path = Path(__file__).parent / "fakes" / "broken_adapters.py"
    spec = importlib.util.spec_from_file_location("broken_adapters", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["broken_adapters"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["broken_adapters"]


@pytest.fixture(autouse=True)
def _forget_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_files", {})


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the one check that starts an interpreter."""
    rest = tuple(check for check in examination.CHECKS if check is not declaring.making_imports_no_torch)
    monkeypatch.setattr(examination, "CHECKS", rest)


def found(findings: list[Finding], outcome: str = "does not hold") -> set[str]:
    return {finding.check for finding in findings if finding.outcome == outcome}


def sound_library(adapter: AuxiliaryAdapter) -> object:
    """What a library would give that has the weights of the sound adapter: its forward pass, written out."""
    trunk = adapter.teacher().trunk

    def reference(images: Tensor) -> tuple[Tensor, Tensor]:
        cells = trunk.outer(trunk.inner((images - 0.5) / 0.25).relu())
        return cells.mean((2, 3)), cells

    return reference


def test_a_sound_adapter(broken: ModuleType) -> None:
    """Every line holds, but for the one on masks; global random numbers are as before, nothing stays installed."""
    adapter = broken.Sound()
    before = torch.random.get_rng_state()
    findings = check_adapter(adapter, reference=sound_library(adapter))
    assert found(findings) == set()
    assert found(findings, "not checked") == {"no_mask_is_no_fault"}
    assert found(findings, "warning") == set()
    assert len(findings) == len(examination.CHECKS)
    assert torch.equal(before, torch.random.get_rng_state())
    assert plugins._files == {}


BROKEN = {  # by the class in `fakes/broken_adapters.py`: its options, and the lines that do not hold
    "Positional": ({}, {"options_are_readable"}),
    "Old": ({}, {"interface_is_stated"}),
    "Blank": ({}, {"licence_is_stated"}),
    "Tuples": ({}, {"portable_is_plain"}),
    "Stuck": ({}, {"portable_is_plain"}),
    "Grounded": ({}, {"shapes_need_no_memory"}),
    "Forgetful": ({"width": 6}, {"portable_makes_the_same_shapes", "merged_model_loads_alone"}),
    "Padded": ({}, {"trunk_keeps_its_promise"}),
    "Renamed": (
        {},
        {
            "trunk_is_the_teachers",
            "teacher_is_left_alone",
            "merged_model_answers_as_its_base",
            "merged_model_loads_alone",
        },
    ),
    "Narrow": ({}, {"head_fits_any_trunk"}),
    "Restless": ({}, {"teacher_is_at_rest"}),
    "Elsewhere": ({}, {"teacher_looks_as_told"}),
    "Fickle": ({}, {"teacher_is_the_same_each_time"}),
    "Careless": ({}, {"teacher_is_the_same_each_time"}),
    "Unnormalised": ({}, {"target_is_the_librarys_own"}),
    "Sociable": ({}, {"target_is_of_its_image_alone"}),
    "Huge": ({}, {"target_can_be_cached"}),
    "Averaged": ({}, {"loss_is_of_each_sample"}),
    "Counting": ({}, {"loss_changes_nothing"}),
    "Writing": ({}, {"loss_changes_nothing"}),
    "Meddling": ({}, {"loss_changes_nothing"}),
    "Sharing": ({}, {"teacher_is_left_alone"}),
    "Detached": ({}, {"teacher_is_left_alone", "loss_falls"}),
    "Rising": ({}, {"loss_falls"}),
    "Exact": ({}, {"half_precision_is_enough"}),
    "Changeable": ({}, {"merged_model_answers_as_its_base", "merged_model_loads_alone"}),
    "Wordy": ({}, {"answer_becomes_a_target"}),
    "Twofold": ({}, {"capability_is_the_same"}),
    "Lossy": ({"scale": 2.0}, {"merged_model_loads_alone"}),
    "Full": ({"variant": "tiny", "random": True, "geometry": SMALL}, {"no_mask_is_no_fault"}),
}


@pytest.mark.usefixtures("swift")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_adapter(broken: ModuleType, name: str) -> None:
    """The lines that it breaks do not hold, each says in a line what was found, and the others go on."""
    options, lines = BROKEN[name]
    adapter = getattr(broken, name)(**options)
    findings = check_adapter(adapter, reference=sound_library(adapter) if name == "Unnormalised" else None)
    assert found(findings) == lines
    assert all(finding.note and "\n" not in finding.note for finding in findings if finding.broken)


def test_one_that_imports_torch(broken: ModuleType) -> None:
    """Seen in a fresh interpreter, whatever this one has imported; and so is a module that cannot be imported there."""
    findings = {finding.check: finding for finding in check_adapter(broken.Heavy())}
    assert findings["making_imports_no_torch"].broken
    assert found(list(findings.values())) == {"making_imports_no_torch"}


@pytest.mark.usefixtures("swift")
def test_a_licence_that_is_not_stated(broken: ModuleType) -> None:
    """Is a warning: weights may be of nobody knows whom."""
    findings = check_adapter(broken.Unlicensed())
    assert found(findings) == set()
    assert found(findings, "warning") == {"licence_is_stated"}


@pytest.mark.usefixtures("swift")
def test_a_teacher_that_cannot_be_opened(broken: ModuleType) -> None:
    """Is told once, with the adapter's own line; what needs a teacher is not checked, all else is."""
    findings = check_adapter(broken.Locked())
    assert found(findings) == {"trunk_is_the_teachers"}
    (told,) = [finding for finding in findings if finding.broken]
    assert re.fullmatch(r"OSError: no key \(broken_adapters\.py:\d+\)", told.note)
    assert {"loss_falls", "capability_is_the_same"} < found(findings, "not checked")
    assert {"trunk_keeps_its_promise", "making_imports_no_torch"} - found(findings, "holds") == {
        "making_imports_no_torch"
    }


@pytest.mark.parametrize("standardise", ["running", "phi_s"])
@pytest.mark.usefixtures("swift")
def test_calibration(broken: ModuleType, standardise: str) -> None:
    """Heads that keep statistics of their targets get them, endlessly, before they learn."""
    settings = Distill(standardise=standardise, pictures=7)
    assert found(check_adapter(broken.Sound(size=48, distill=settings))) == set()


@pytest.mark.usefixtures("swift")
def test_sam() -> None:
    """A base whose task is learnt from masks."""
    findings = check_adapter(SAM(variant="tiny", random=True, geometry=SMALL))
    assert found(findings) == set()
    assert found(findings, "not checked") == {"target_is_the_librarys_own"}


@pytest.mark.usefixtures("swift")
def test_open_clip() -> None:
    """A parent with a part that never learns, its text tower."""
    assert found(check_adapter(OpenCLIP(model="tiny"))) == set()


@pytest.mark.usefixtures("swift")
def test_one_without_a_trunk(broken: ModuleType) -> None:
    """What is of trunks is not checked; its head is, on trunks of others."""
    findings = check_adapter(broken.Borrower())
    assert found(findings) == set()
    trunks = {"trunk_keeps_its_promise", "trunk_is_the_teachers", "merged_model_answers_as_its_base"}
    assert trunks < found(findings, "not checked")
    assert {"head_fits_any_trunk", "loss_falls", "merged_model_loads_alone"} < found(findings, "holds")
