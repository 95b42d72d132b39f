"""Memory that does not suffice is a fault of the machine, told with where and what to do, whatever was at work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from vfmerge_adapters.open_clip import OpenCLIP

from vfmerge import cache, memory
from vfmerge.cli import main
from vfmerge.errors import RunError


def exhausted(*arguments: Any, **more: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\na lot")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that vfmerge itself had to say."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vfmerge: ")]
    return line


def too_large() -> None:
    torch.empty(2**58, dtype=torch.uint8)


def python_too_large() -> None:
    raise MemoryError


@pytest.mark.parametrize("ask", [exhausted, too_large, python_too_large])
def test_no_memory_is_told_in_one_line(ask: Any) -> None:
    """On the device, beside it, in numpy and Python: where, doing what, and the remedy."""
    message = r"^evaluate\.x: out of memory while y; give z$"
    watched = memory.watch("evaluate.x", doing="while y", remedy="give z")
    with pytest.raises(RunError, match=message) as caught, watched:
        ask()
    assert caught.value.__cause__ is not None


def test_other_errors_pass() -> None:
    """What is no lack of memory stays what it is."""
    with pytest.raises(RuntimeError, match="shapes") as caught, memory.watch("x", doing="y", remedy="z"):
        raise RuntimeError("shapes do not fit")
    assert not isinstance(caught.value, RunError)


@pytest.mark.parametrize(
    ("place", "name", "where"),
    [
        (
            cache.Filler,
            "add",
            "stages.probe.streams.0: out of memory with batch 4 at size 32, while its cache is filled;",
        ),
        (
            OpenCLIP,
            "calibrate",
            "stages.probe.streams.0: out of memory with batch 4 at size 32, while clip is calibrated;",
        ),
        (OpenCLIP, "loss", "stages.probe.streams.0: out of memory with batch 4 at size 32;"),
        (torch.optim.AdamW, "step", "optimizer: out of memory in its step;"),
    ],
)
def test_no_memory_in_training_is_a_fault_that_names_the_knob(
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: type,
    name: str,
    where: str,
) -> None:
    """While a cache is filled, a head is calibrated, a stream learns, the optimiser steps: exit 1, what to do."""
    monkeypatch.setattr(place, name, exhausted)
    assert main(["run", str(small), "--out", str(tmp_path / "run")]) == 1
    line = said(capsys)
    assert where in line
    assert "the last checkpoint is good: free memory and run again" in line
    assert not (tmp_path / "run" / "vfmerge-error.log").exists()
