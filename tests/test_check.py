"""`vfmerge check` of data: what of it cannot be used is told before training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfmerge.cli import main


def test_annotations_that_are_left_out_are_counted(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By data set and reason; of data without such there is no table."""
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(tmp_path / "one.png")
    square = {"image_id": 1, "category_id": 1, "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]}
    whole = [{**square, "id": number} for number in range(200)]
    instances = {
        "images": [{"id": 1, "file_name": "one.png", "height": 20, "width": 30}],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": [
            *whole,
            *({**square, "id": 1000 + number, "iscrowd": 1} for number in range(3)),
            {**square, "id": 2000, "image_id": 99},
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    change = f"data.masks={{kind: coco, images: {tmp_path}, annotations: {tmp_path / 'instances.json'}}}"
    assert main(["check", str(small), change]) == 0
    table = re.split(r"annotations left out *\n", capsys.readouterr().out)[1].split("\n\n")[0]
    rows = [line.strip().split(maxsplit=2) for line in table.splitlines()[1:]]
    assert sorted(rows) == [
        ["masks", "1", "annotation of a picture that is not listed"],
        ["masks", "3", "crowd"],
    ]
    assert main(["check", str(small)]) == 0
    assert "left out" not in capsys.readouterr().out
