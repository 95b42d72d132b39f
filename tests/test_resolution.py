"""Benchmarks at several input sizes, on a model that switches its mode between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from vfmerge import options
from vfmerge.benchmarks.benchmark import Score, Setup
from vfmerge.benchmarks.resolution import Resolution
from vfmerge.benchmarks.robustness import Robustness
from vfmerge.capability import ImageText
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError
from vfmerge.model import Network

CLASSIFY = {"benchmark": "zero_shot_classification", "templates": "plain"}


class Greys(Source):
    """Plain pictures of two classes, dark and light."""

    classes = ("dark", "light")

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> Sample:
        image = np.full((40, 40, 3), (60, 200)[index % 2], dtype=np.uint8)
        return Sample(image=image, name=f"grey/{index}", labels=np.array([index % 2]))

    def digest(self) -> str:
        return "greys"


class Switching(ImageText):
    """Tells dark from light at sizes up to 64 pixels, and above sees light alone; cells are of 16 pixels."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def text_key(self) -> str:
        return "greys"

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.eye(2)[[int("light" in text) for text in texts]]

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        assert size is not None
        if size % 16:
            raise InputError(f"size: {size} x {size} is no multiple of the trunk's 16 pixels a cell; mend it")
        return torch.eye(2)[[int(size > 64 or picture.mean() > 127) for picture in pictures]]

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        raise NotImplementedError


def measured(setup: Setup = Setup(), **asked: Any) -> list[Score]:
    return Resolution(**{"of": CLASSIFY} | asked).measure({"clip": Switching()}, Greys(), setup)


def test_mode_switching_shows() -> None:
    """A figure for each size, by which one sees where a model turns into another; each size once."""
    found = measured(sizes=[32, 64, 128, 64])
    assert {score.metric: score.value for score in found} == {"top1@32": 1.0, "top1@64": 1.0, "top1@128": 0.5}
    assert {(score.task, score.n, len(score.resampled)) for score in found} == {("clip", 4, 1000)}
    assert Resolution(of=CLASSIFY, sizes=[32]).measure({}, Greys()) == []


def test_each_size_is_compared_with_the_same_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric that is set against another of the parent's is set against that at its size."""
    around = Resolution(of={"benchmark": "zero_shot_segmentation"}, sizes=[32, 64])
    found = Score(metric="miou_two_heads", task="clip", value=0.5, resampled=np.zeros(0), n=1, against="miou_head")
    for inner in around._inner:
        monkeypatch.setattr(inner, "measure", lambda *_: [found])
    names = [(score.metric, score.against) for score in around.measure({}, Greys())]
    assert names == [("miou_two_heads@32", "miou_head@32"), ("miou_two_heads@64", "miou_head@64")]


def test_a_size_that_the_model_cannot_take_is_named() -> None:
    """With the model's stride, in one line."""
    with pytest.raises(InputError) as refused:
        measured(sizes=[32, 100])
    assert str(refused.value) == "sizes: 100: size: 100 x 100 is no multiple of the trunk's 16 pixels a cell; mend it"


def test_progress_is_of_all_sizes() -> None:
    """One count from the first picture at the first size to the last at the last."""
    told: list[tuple[int, int]] = []
    measured(Setup(progress=lambda *counts: told.append(counts)), sizes=[32, 48, 64])
    assert told == [(done, 12) for done in range(1, 13)]


def test_sizes_can_be_tried_on_corrupted_pictures() -> None:
    """A sweep inside robustness: the mean over severities for each size."""
    of = {"benchmark": "resolution", "of": CLASSIFY, "sizes": [32, 128]}
    found = Robustness(of=of, corruptions=["contrast"], severities=[1, 2]).measure({"clip": Switching()}, Greys())
    assert [(score.metric, score.value) for score in found] == [
        ("top1@32 contrast", 1.0),
        ("top1@32 corrupted", 1.0),
        ("top1@128 contrast", 0.5),
        ("top1@128 corrupted", 0.5),
    ]


@pytest.mark.parametrize(
    ("of", "problem"),
    [
        ({"benchmark": "promptable"}, "of.benchmark: promptable has no option size; name a benchmark that has"),
        ({"benchmark": "resolution"}, "of.benchmark: resolution cannot repeat itself; name another benchmark"),
        (CLASSIFY | {"size": 64}, "of.size: given beside sizes, which stand for it; leave it out"),
        (CLASSIFY | {"batch": 0}, "of.batch: too small: 0; write at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused(of: dict[str, Any], problem: str) -> None:
    """When it is made: one line, with the key below `of`."""
    with pytest.raises(InputError) as refused:
        Resolution(of=of, sizes=[32])
    assert str(refused.value) == problem


@pytest.mark.parametrize(
    ("sizes", "problem"),
    [([], "x.sizes: too few entries: []; write at least 1"), ([4], "x.sizes.0: too small: 4; write at least 8")],
)
def test_sizes_are_checked(sizes: list[int], problem: str) -> None:
    """At least one, and none of a few pixels."""
    with pytest.raises(InputError) as refused:
        options.check_options(Resolution, {"of": CLASSIFY, "sizes": sizes}, where="x")
    assert str(refused.value) == problem
