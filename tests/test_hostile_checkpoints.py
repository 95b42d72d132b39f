"""What `vfmerge run` does with a parent's file that is no parent's file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from vfmerge_adapters.sam.geometry import VARIANTS, build

from vfmerge.cli import main


class Payload:
    """A pickle that leaves a mark where it is run."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.canary), "w"))


def truncated(path: Path, canary: Path) -> None:
    torch.save(build(VARIANTS["tiny"]).state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])


def html(path: Path, canary: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")


def other_architecture(path: Path, canary: Path) -> None:
    torch.save(torch.nn.Linear(3, 4).state_dict(), path)


def not_finite(path: Path, canary: Path) -> None:
    state = build(VARIANTS["tiny"]).state_dict()
    state["image_encoder.pos_embed"][0, 0, 0, 0] = torch.nan
    torch.save(state, path)


def malware(path: Path, canary: Path) -> None:
    torch.save({"image_encoder.pos_embed": Payload(canary)}, path)


def bare_malware(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(canary)))


def misnamed(path: Path, canary: Path) -> None:
    save_file({"x": torch.zeros(3)}, path)


@pytest.mark.parametrize("make", [truncated, html, other_architecture, not_finite, malware, bare_malware, misnamed])
def test_a_bad_checkpoint_is_exit_2_and_one_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object
) -> None:
    """The line names the file; nothing is executed, nothing trained, and a good file then runs in the same folder."""
    path, canary, out = tmp_path / "parent.pth", tmp_path / "canary", tmp_path / "run"
    make(path, canary)  # type: ignore[operator]
    code = main(["run", str(small), f"parents.sam.options={{variant: tiny, checkpoint: {path}}}", "--out", str(out)])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1
    assert len(lines[0]) <= 310
    assert "parent.pth" in lines[0]
    assert "weights_only" not in lines[0]
    assert not canary.exists()
    assert not (out / "checkpoints").exists()


def test_the_payload_would_fire(tmp_path: Path) -> None:
    """The control: where the guard is off, the mark is left."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "canary"))).close()
    assert (tmp_path / "canary").exists()
