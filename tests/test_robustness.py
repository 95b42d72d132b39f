"""Benchmarks on corrupted pictures: a reader of light and dark, for whom it is known which damage misleads it.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vfmerge import options, parts, recipe
from vfmerge.benchmarks.benchmark import Score, Setup
from vfmerge.benchmarks.classification import ZeroShotClassification
from vfmerge.benchmarks.corruptions.corruption import NAMES
from vfmerge.benchmarks.predictions import Predictions
from vfmerge.benchmarks.promptable import Promptable
from vfmerge.benchmarks.robustness import Corrupted, Robustness, average, shrink
from vfmerge.capability import ImageText
from vfmerge.data.source import Sample, Source
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.model import Network

CLASSIFY = {"benchmark": "zero_shot_classification", "templates": "plain"}


class Light(Source):
    """Plain pictures of 32 pixels, dark ones and light ones in turn."""

    classes = ("dark", "light")
    groups = ("even",)
    annotations = Path("instances.json")

    def __len__(self) -> int:
        return 8

    def read(self, index: int) -> Sample:
        image = np.full((32, 32, 3), (94, 200)[index % 2], dtype=np.uint8)  # 0.37 and 0.78
        return Sample(image=image, name=f"light/{index}", labels=np.array([index % 2]))

    def digest(self) -> str:
        return "light"


class Reader(ImageText):
    """Takes for light what is brighter than the middle."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def text_key(self) -> str:
        return "light"

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.eye(2)[[int("light" in text) for text in texts]]

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        return torch.eye(2)[[int(picture.mean() > 127.5) for picture in pictures]]

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        raise NotImplementedError


def measured(model: dict[str, Any] | None = None, setup: Setup = Setup(), **asked: Any) -> list[Score]:
    return Robustness(**{"of": CLASSIFY} | asked).measure(
        {"clip": Reader()} if model is None else model, Light(), setup
    )


def test_metrics_are_means_over_severities_and_corruptions() -> None:
    """Daylight makes dark pictures light from severity 3 on, at 32 pixels; contrast misleads nobody."""
    found = measured(corruptions=["brightness", "contrast"])
    assert {score.metric: score.value for score in found} == {
        "top1 brightness": pytest.approx((1 + 1 + 0.5 + 0.5 + 0.5) / 5),
        "top1 contrast": 1.0,
        "top1 corrupted": pytest.approx(0.85),
    }
    assert {(score.task, score.n, score.against) for score in found} == {("clip", 8, None)}
    assert measured(corruptions=["brightness"], severities=[2])[0].value == 1.0
    assert measured(corruptions=["brightness"], severities=[5, 5])[0].value == 0.5


def test_all_fifteen_are_measured() -> None:
    """In the order of the paper, and their mean last."""
    metrics = [score.metric for score in measured(severities=[1])]
    assert metrics == [*(f"top1 {name}" for name in NAMES), "top1 corrupted"]


def test_bootstrap_samples_are_means_too() -> None:
    """Each sample is of the same pictures at every severity."""
    of_one = [
        ZeroShotClassification(templates="plain").measure(
            {"clip": Reader()}, Corrupted(Light(), name="brightness", severity=severity)
        )[0]
        for severity in (1, 5)
    ]
    found = measured(corruptions=["brightness"], severities=[1, 5])[0]
    assert np.allclose(found.resampled, (of_one[0].resampled + of_one[1].resampled) / 2)
    assert found.resampled.std() > 0


def test_means_keep_what_the_metric_is_compared_with() -> None:
    """The parent's metric under the same damage; samples that were not drawn alike are dropped."""
    parts = [
        Score(metric="miou", task="clip", value=value, resampled=np.full(count, value), n=3, against="miou_head")
        for value, count in ((0.2, 4), (0.4, 4), (0.9, 5))
    ]
    mean = average(parts[:2], suffix="fog")
    assert (mean.metric, mean.against, mean.value) == ("miou fog", "miou_head fog", pytest.approx(0.3))
    assert mean.resampled.tolist() == pytest.approx([0.3] * 4)
    assert average(parts, suffix="fog").resampled.shape == (0,)


def test_corrupted_data_is_the_data_but_for_its_pictures() -> None:
    """All annotations stay; the same picture is corrupted in the same way each time, others in other ways."""
    scenes = Shapes(layout="several", split="held-out", count=2, size=64)
    source = Corrupted(scenes, name="gaussian_noise", severity=3)
    clean, sample, again = scenes.read(1), source.read(1), Corrupted(scenes, name="gaussian_noise", severity=3).read(1)
    assert (sample.image != clean.image).any()
    assert (sample.image == again.image).all()
    assert (sample.masks == clean.masks).all()
    assert (sample.labels == clean.labels).all()
    assert (sample.name, sample.captions, len(source)) == (clean.name, clean.captions, 2)
    assert (source.classes, source.has_masks, source.has_captions) == (scenes.classes, True, True)
    light = Corrupted(Light(), name="gaussian_noise", severity=3)
    first, third = light.read(0).image, light.read(2).image  # of the same grey
    assert (first != third).any()
    assert (light.groups, light.annotations) == (("even",), Path("instances.json"))


def test_corrupted_data_is_other_data() -> None:
    """What is remembered of one is not taken for another."""
    settings = [("fog", 1, None), ("fog", 2, None), ("snow", 1, None), ("fog", 1, 64)]
    found = {Corrupted(Light(), name=name, severity=level, side=side).digest() for name, level, side in settings}
    assert len(found | {Light().digest()}) == 5


def test_large_pictures_can_be_shrunk_first() -> None:
    """To the shorter side, masks and pixels with them; smaller ones stay, and coordinates in files are out of date."""
    masks = np.zeros((1, 120, 90), dtype=bool)
    masks[0, 30:60, 30:60] = True
    image = np.where(masks[0, ..., None], 200, 50).astype(np.uint8).repeat(3, axis=2)
    sample = Sample(image=image, name="x", masks=masks, pixels=masks[0].astype(np.int64))
    small = shrink(sample, 30)
    assert small.image.shape == (40, 30, 3)
    assert small.masks.sum() == small.pixels.sum() == 10 * 10
    assert ((small.image[..., 0] > 125) == small.masks[0]).mean() > 0.97
    assert shrink(sample, 90) is sample
    assert Corrupted(Light(), name="fog", severity=1, side=16).read(0).image.shape == (16, 16, 3)
    assert Corrupted(Light(), name="fog", severity=1, side=16).annotations is None


def test_roles_and_needs_are_those_of_the_inner_benchmark() -> None:
    """Parents that do something else are not measured; data is refused for the same reasons."""
    around = Robustness(of={"benchmark": "promptable", "promptable": "sam2"})
    assert around.tasks() == Promptable(promptable="sam2").tasks()
    assert around.lacks(Light()) == "masks"
    assert (around.learns, around.together, around.cascade()) == (False, False, None)
    assert measured({}) == []


def test_progress_is_of_all_turns() -> None:
    """One count from the first picture of the first corruption to the last of the last."""
    told: list[tuple[int, int]] = []
    measured(
        setup=Setup(progress=lambda *counts: told.append(counts)), corruptions=["fog", "contrast"], severities=[1, 3]
    )
    assert told == [(done, 32) for done in range(1, 33)]


def test_predictions_of_each_turn_are_in_a_folder(tmp_path: Path) -> None:
    """What a model answers under one damage is not mixed with what it answers under another."""
    measured(setup=Setup(predictions=Predictions(tmp_path)), corruptions=["brightness"], severities=[1, 5])
    ranked = {
        folder.name: [json.loads(line)["ranked"][0] for line in (folder / "predictions.jsonl").read_text().splitlines()]
        for folder in tmp_path.iterdir()
    }
    assert ranked == {"brightness_1": [0, 1] * 4, "brightness_5": [1] * 8}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"severities": [0]}, "severities.0: too small: 0; write at least 1"),
        ({"severities": [3, 6]}, "severities.1: too large: 6; write at most 5"),
        ({"corruptions": ["fogg"]}, "corruptions.0: not a choice: 'fogg'; write 'gaussian_noise', "),
        ({"corruptions": "some"}, "corruptions: not a choice: 'some'; write 'all'"),
        ({"of": "promptable"}, "of: not a mapping: 'promptable'; write `key: value` pairs"),
    ],
)
def test_options_are_checked(asked: dict[str, Any], problem: str) -> None:
    """Before anything is made: one line with the key, the value and the remedy."""
    with pytest.raises(InputError) as refused:
        options.check_options(Robustness, {"of": CLASSIFY} | asked, where="x")
    assert str(refused.value).startswith(f"x.{problem}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("of", "problem"),
    [
        ({}, "of.benchmark: missing; give the name of the benchmark to repeat"),
        ({"benchmark": "promptabel"}, "of.benchmark: no benchmark 'promptabel'; did you mean 'promptable'?"),
        ({"benchmark": "promptable", "points": 0}, "of.points: too small: 0; write at least 1"),
        ({"benchmark": "promptable", "data": "x"}, "of.data: unknown key; "),
        ({"benchmark": "robustness", "of": CLASSIFY}, "of.benchmark: robustness cannot repeat itself; "),
        ({"benchmark": "resolution", "sizes": [32], "of": {}}, "of.of: benchmark: missing; "),
    ],
)
def test_options_of_the_inner_benchmark_are_checked(of: dict[str, Any], problem: str) -> None:
    """When it is made, which is before any model is: with the key below `of`."""
    with pytest.raises(InputError) as refused:
        Robustness(of=of)
    assert str(refused.value).startswith(problem)
    assert "\n" not in str(refused.value)


def test_a_recipe_names_the_place_of_a_mistake(small: Path) -> None:
    """`evaluate.NAME` stands before the inner benchmark's key."""
    text = "{benchmark: robustness, data: held_out_single, of: {benchmark: zero_shot_classification, sise: 64}}"
    with pytest.raises(InputError, match=r"evaluate\.classify\.of: sise: unknown key; did you mean 'size'\?$"):
        parts.build_benchmarks(recipe.load(str(small), [f"evaluate.classify={text}"]).evaluate)
