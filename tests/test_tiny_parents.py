"""The tiny parents: the shipped files are as good as their README says, and the scripts make such files."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from vfmerge_adapters import tiny
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM
from vfmerge_adapters.tiny import train_clip, train_sam

from vfmerge.benchmarks.classification import ZeroShotClassification
from vfmerge.benchmarks.promptable import Promptable
from vfmerge.data.world import Shapes
from vfmerge.weights import digest

FOLDER = Path(tiny.__file__).parent
FILES = {"sam": FOLDER / "sam.safetensors", "clip": FOLDER / "clip" / "open_clip_model.safetensors"}


def test_the_files_are_small() -> None:
    """Together they are at most 12 MB, each as large as the README says."""
    sizes = {name: path.stat().st_size for name, path in FILES.items()}
    assert sum(sizes.values()) <= 12e6
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"{size / 1e6:.1f} MB" in text for size in sizes.values())


def test_the_sam_segments_held_out_scenes() -> None:
    """On scenes that it was never trained on, exact boxes give masks of at least 0.85 mean IoU."""
    adapter = SAM(variant="tiny")
    scenes = Shapes(layout="several", split="sam-held-out", count=24)
    scores = Promptable().measure({"sam": adapter.capability(adapter.teacher())}, scenes)
    assert {score.metric: score.value for score in scores}["box_miou"] >= 0.85


def test_the_clip_names_held_out_shapes() -> None:
    """On pictures that it was never trained on, it finds at least 0.90 of the shapes' names, zero-shot."""
    adapter = OpenCLIP(model="tiny")
    pictures = Shapes(layout="single", split="clip-held-out", count=100, size=64, masks=False)
    scores = ZeroShotClassification().measure({"clip": adapter.capability(adapter.teacher())}, pictures)
    assert {score.metric: score.value for score in scores}["top1"] >= 0.90


def run(script: ModuleType, out: Path, *, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of a script as `python -m` runs it."""
    monkeypatch.setattr(sys, "argv", [script.__name__, "--out", str(out), "--steps", "2", "--seed", str(seed)])
    state = torch.random.get_rng_state()
    script.main()
    torch.random.set_rng_state(state)


def test_train_sam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The script makes the same file from the same seed, another from another; it loads, and says what it measured."""
    monkeypatch.setattr(train_sam, "measure", functools.partial(train_sam.measure, batches=1))
    out = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, seed in zip(out, (0, 0, 1), strict=True):
        run(train_sam, path, seed=seed, monkeypatch=monkeypatch)
    assert digest(out[0]) == digest(out[1]) != digest(out[2])
    SAM(variant="tiny", checkpoint=str(out[0])).teacher()
    assert "held out, as saved: box and point mIoU (0." in capsys.readouterr().out


def test_train_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The script makes the same file from the same seed, another from another; it loads, and says what it measured."""
    monkeypatch.setattr(train_clip, "measure", functools.partial(train_clip.measure, count=8))
    monkeypatch.setattr(train_clip, "BATCH", 8)
    out = [tmp_path / f"{number}" for number in range(3)]
    for path, seed in zip(out, (0, 0, 1), strict=True):
        run(train_clip, path, seed=seed, monkeypatch=monkeypatch)
    weights = [digest(path / "open_clip_model.safetensors") for path in out]
    assert weights[0] == weights[1] != weights[2]
    OpenCLIP(checkpoint=str(out[0])).teacher()
    assert "held out, as saved: zero-shot accuracy" in capsys.readouterr().out
