"""What the promptable benchmark writes of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vfmerge.benchmarks import promptable
from vfmerge.benchmarks.benchmark import Score, Setup
from vfmerge.benchmarks.predictions import Predictions, run_lengths
from vfmerge.benchmarks.promptable import Promptable
from vfmerge.benchmarks.prompts import tight_boxes
from vfmerge.capability import Promptable as PromptableCapability
from vfmerge.capability import PromptableImage
from vfmerge.data import rle
from vfmerge.data.world import Shapes
from vfmerge.model import Network

SCENES = Shapes(layout="several", count=3, size=48)


class Left(PromptableCapability):
    """Answers every prompt with the left part of the picture, as far as the prompt's middle."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        class Image(PromptableImage):
            mask_side = 32

            def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
                middles = boxes[:, ::2].mean(1) if points is None else points[:, :, 0].mean(1)
                columns = torch.arange(picture.shape[1])
                logits = (middles[:, None] - columns).expand(picture.shape[0], -1, -1).permute(1, 0, 2)[:, None]
                count = 3 if multimask else 1
                return logits.expand(-1, count, -1, -1), torch.ones(len(middles), count)

        return Image()


def draw(segmentation: dict) -> np.ndarray:
    height, width = segmentation["size"]
    masks, _ = rle.draw([rle.parse(segmentation, height=height, width=width)], height=height, width=width)
    return masks[0]


def measure(setup: Setup, **options: int) -> dict[str, Score]:
    return {score.metric: score for score in Promptable(**options).measure({"sam": Left()}, SCENES, setup)}


def lines(path: Path) -> Iterator[tuple[dict, np.ndarray, np.ndarray]]:
    for line in map(json.loads, path.read_text().splitlines()):
        yield line, draw(line["mask"]), draw(line["truth"])


@pytest.mark.parametrize("points", [1, 2])
def test_written_masks_give_the_scores_again(tmp_path: Path, points: int) -> None:
    """Each line has the prompt, its IoU, and both masks, from which anybody computes that IoU and the mean."""
    scores = measure(Setup(predictions=Predictions(tmp_path)), points=points)
    for metric, file in (("box_miou", "boxes.jsonl"), ("point_miou", "points.jsonl")):
        ious = []
        for line, mask, truth in lines(tmp_path / file):
            ious.append((mask & truth).sum() / (mask | truth).sum())
            assert line["iou"] == pytest.approx(ious[-1], abs=1e-6)
            prompt = np.array(line["prompt"])
            if metric == "box_miou":
                assert prompt.tolist() == tight_boxes(truth[None])[0].tolist()
            else:
                assert prompt.shape == (points, 2)
                assert truth[prompt[:, 1].astype(int), prompt[:, 0].astype(int)].all()
        assert scores[metric].value == pytest.approx(np.mean(ious), abs=1e-6)
        assert scores[metric].n == len(ious)


def test_lines_say_which_mask_they_are_of(tmp_path: Path) -> None:
    """By the picture's name and the mask's number in it."""
    measure(Setup(predictions=Predictions(tmp_path)))
    found = {(line["name"], line["number"]): truth for line, _, truth in lines(tmp_path / "boxes.jsonl")}
    samples = [SCENES.read(index) for index in range(3)]
    expected = {(sample.name, number): mask for sample in samples for number, mask in enumerate(sample.masks)}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[place], expected[place]) for place in expected)


def test_nothing_is_encoded_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder, masks are not brought from the device nor run-length encoded."""
    monkeypatch.setattr(promptable, "run_lengths", lambda masks: pytest.fail("encoded"))
    assert not Predictions().wanted
    assert measure(Setup())["box_miou"].n > 3


def test_run_lengths_are_those_of_coco() -> None:
    """Read back by the reader of COCO's files, any mask is itself; the text is plain, so that JSON can hold it."""
    masks = np.random.default_rng(0).random((4, 5, 9)) < 0.5
    encoded = run_lengths(masks)
    assert json.loads(json.dumps(encoded)) == encoded
    assert all(np.array_equal(draw(each), mask) for each, mask in zip(encoded, masks, strict=True))
    assert run_lengths(masks[:0]) == []
