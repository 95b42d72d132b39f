"""The recipe `sam_clip` on real photographs, by the command that `recipes/README.md` gives for a small machine.

SAM ViT-B's whole geometry with random weights: about 45 s on one core, 5 GiB of memory, 3 GB of disk for a while.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vfmerge

GUIDE = (Path(__file__).parent.parent / "recipes" / "README.md").read_text(encoding="utf-8")


def command() -> list[str]:
    """The words of the guide's command, as a shell would give them."""
    text = GUIDE.split("<!-- sam_clip small -->\n```sh\n")[1].split("```")[0]
    return shlex.split(os.path.expandvars(text.replace("\\\n", " ")))


@pytest.mark.skipif("VFMERGE_DATA" not in os.environ, reason="VFMERGE_DATA names no folder of real data")
def test_sam_clip_on_photographs(tmp_path: Path) -> None:
    """The command ends well with finite losses of every stage, SAM's too, and its merged model loads and embeds."""
    program, *arguments = command()
    assert program == "vfmerge"
    try:
        done = subprocess.run([sys.executable, "-m", program, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        run = tmp_path / arguments[arguments.index("--out") + 1]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["stage"] for line in lines] == ["probe"] * 2 + ["distill"] * 2 + ["adapt"] * 2
        for line in lines:
            losses = [value for key, value in line.items() if key.startswith("loss")]
            assert all(value is not None and math.isfinite(value) for value in losses)
            assert line["skipped"] == 0
        assert lines[2]["loss.1.sam.focal"] < 1e-6  # its own frozen original: nothing is forgotten yet
        assert lines[3]["loss.1.sam.focal"] > lines[2]["loss.1.sam.focal"]
        model = vfmerge.load(run / "merged")
        assert model.trunk.pos_embed.shape == (1, 64, 64, 768)  # ViT-B/16 at 1024 pixels
        photograph = sorted(Path(os.environ["VFMERGE_DATA"], "coco128", "images").iterdir())[0]
        picture = np.asarray(Image.open(photograph).convert("RGB"))
        embedding = model.clip.encode_image([picture], size=128)
        assert embedding.shape == (1, 512)
        assert float(embedding.norm()) == pytest.approx(1, abs=1e-4)
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)  # 3 GB
