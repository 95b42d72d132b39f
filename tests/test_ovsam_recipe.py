"""The recipe `ovsam` at its full geometry: what `check` says of it, and both stages on real photographs.

RN50x16 and SAM ViT-H with random weights: a minute and a half on one core, 9 GB of memory, 5 GB of disk for a while.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import vfmerge
from vfmerge.cli import main

GUIDE = (Path(__file__).parent.parent / "recipes" / "README.md").read_text(encoding="utf-8")
PUBLISHED = {  # arXiv 2401.02955, supplement 1.3: millions of parameters
    "SAM2CLIP": (("heads.sam.approach", "heads.sam.neck"), 129.0),
    "CLIP2SAM": (("heads.recognition.fpn",), 3.8),
    "decoder": (("heads.recognition.decoder",), 4.0),
    "total": (("all that answers recognition",), 304.0),
}
WITHOUT_WEIGHTS = (
    "parents.clip.options={model: RN50x16, random: true}",
    "parents.sam.options={variant: vit_h, random: true, learn: features, blocks: 5}",
    "data.sa1b={kind: shapes, count: 1000000, masks: false}",
    "data.coco={kind: shapes, count: 107000, names: colour, unseen: true, keep: seen}",
    "data.held_out={kind: shapes, count: 4800, names: colour, unseen: true}",
)


def command() -> list[str]:
    """The words of the guide's command, as a shell would give them."""
    text = GUIDE.split("<!-- ovsam small -->\n```sh\n")[1].split("```")[0]
    return shlex.split(os.path.expandvars(text.replace("\\\n", " ")))


def parameters(printed: str) -> dict[str, int]:
    """What the table `parts` says, by part."""
    rows = re.findall(r"^(\S.*?)  +([\d,]{5,})(?:  .*)?$", printed.split("\nparts")[1].split("\n\n")[0], re.MULTILINE)
    return {name: int(count.replace(",", "")) for name, count in rows}


def foretold(printed: str) -> float:
    """How many bytes all caches will take, as the title of their table says."""
    number, unit = re.search(r"^caches, ([\d.]+) (kB|MB|GB|TB) together", printed, re.MULTILINE).groups()
    return float(number) * {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]


def test_its_parts_have_the_published_size(capsys: pytest.CaptureFixture[str]) -> None:
    """Each part, and all that answers a prompt, within 2 % of what the paper says."""
    assert main(["check", "ovsam", *WITHOUT_WEIGHTS, "--device", "cpu"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    found = parameters(printed)
    for name, (parts, millions) in PUBLISHED.items():
        assert sum(found[part] for part in parts) / 1e6 == pytest.approx(millions, rel=0.02), name
    # SAM's features of 1 % of a million pictures, in half precision
    assert foretold(printed) == pytest.approx(10_000 * 256 * 64 * 64 * 2, rel=0.01)


def room() -> float:
    """Bytes of memory that are free."""
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    return next((1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable")), math.inf)


@pytest.mark.skipif("VFMERGE_DATA" not in os.environ, reason="VFMERGE_DATA names no folder of real data")
@pytest.mark.skipif(room() < 10e9, reason="needs 10 GB of free memory")
def test_both_stages_on_photographs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Finite losses, the first of which falls; a cache as large as foretold; a model that loads and knows words."""
    program, *arguments = command()
    assert program == "vfmerge"
    changes = [each for each in arguments[1:] if "=" in each]
    assert main(["check", "ovsam", *changes, "--device", "cpu"]) == 0
    expected = foretold(capsys.readouterr().out)
    out = tmp_path / arguments[arguments.index("--out") + 1]
    try:
        with subprocess.Popen(
            [sys.executable, "-m", program, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        ) as running:
            largest = 0
            while running.poll() is None:
                largest = max(largest, sum(file.stat().st_size for file in (out / "cache").glob("*/*.npy")))
                time.sleep(0.2)
            assert running.returncode == 0, running.stderr.read()[-2000:]
        assert largest == pytest.approx(expected, rel=0.05)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert [line["stage"] for line in lines] == ["sam2clip"] * 2 + ["clip2sam"] * 2
        for line in lines:
            losses = {key: value for key, value in line.items() if key.startswith("loss.")}
            assert losses
            assert all(value is not None and math.isfinite(value) for value in losses.values())
            assert line["skipped"] == 0
        assert {"loss.0.recognition.names", "loss.0.recognition.masks", "loss.0.recognition.dice"} <= lines[-1].keys()
        assert lines[1]["loss.0.sam.cells"] < lines[0]["loss.0.sam.cells"]
        model = vfmerge.load(out / "merged")
        assert model.heads["sam"].approach.position.shape == (1, 64, 64, 1280)
        words = model.recognition.encode_text(["a cat", "a dog"])
        assert words.shape == (2, 768)
        assert torch.isfinite(words).all()
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)  # 5 GB
