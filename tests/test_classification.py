"""Zero-shot classification by group, with sentences of one's own, and with its answers on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vfmerge import options, templates
from vfmerge.benchmarks.benchmark import Benchmark, Score, Setup
from vfmerge.benchmarks.classification import ZeroShotClassification
from vfmerge.benchmarks.predictions import Predictions
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.capability import ImageText
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError
from vfmerge.model import Network
from vfmerge.store import Store

NAMES = tuple("abcdefgh")


class Numbers(Source):
    """Pictures whose grey says their class, in groups; `seen` is the class that the reader will see."""

    classes = NAMES

    def __init__(self, *pictures: tuple[int, int, str | None], groups: Sequence[str] = ()) -> None:
        """pictures: true class, seen class, group."""
        self._pictures, self.groups = pictures, tuple(groups)

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, index: int) -> Sample:
        label, seen, group = self._pictures[index]
        image = np.full((8, 8, 3), seen, dtype=np.uint8)
        return Sample(image=image, name=f"picture {index}", labels=np.array([label]), group=group)

    def digest(self) -> str:
        return ""


class Reader(ImageText):
    """Sees the class that the grey of a picture is the number of, and the next ones as the next likeliest."""

    def text_key(self) -> str:
        return "numbers"

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self.asked: list[str] = []

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += texts
        return torch.eye(len(NAMES))[[NAMES.index(text.strip("<>.")[-1]) for text in texts]]

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        falling = torch.linspace(1, 0, len(NAMES))
        return torch.stack([falling.roll(int(picture[0, 0, 0])) for picture in pictures])

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        raise NotImplementedError


def measured(source: Source, setup: Setup = Setup(), **asked: Any) -> dict[str, Score]:
    found = ZeroShotClassification(**{"templates": ["{}"]} | asked).measure({"clip": Reader()}, source, setup)
    assert len({score.metric for score in found}) == len(found)
    return {score.metric: score for score in found}


def test_groups_have_figures_of_their_own() -> None:
    """The share of right answers of each group that has a picture, and the worst; pictures of no group are in none."""
    right, wrong = (0, 0), (0, 1)
    source = Numbers(
        *[(*right, "sea")] * 3,
        (*wrong, "sea"),
        (*right, "land"),
        (*wrong, "land"),
        (*wrong, None),
        groups=["land", "air", "sea"],
    )
    found = measured(source, batch=2)
    assert {metric: (score.value, score.n) for metric, score in found.items()} == {
        "top1": (pytest.approx(4 / 7), 7),
        "top1 worst_group": (0.5, 6),
        "top1 group=land": (0.5, 2),
        "top1 group=sea": (0.75, 4),
    }


def test_data_without_groups_has_one_figure() -> None:
    """Also where groups are named and no picture is of one."""
    assert list(measured(Numbers((0, 0, None)))) == ["top1"]
    assert list(measured(Numbers((0, 0, None), groups=["sea"]))) == ["top1"]


def test_the_worst_group_is_found_in_each_sample() -> None:
    """Two groups of equal accuracy: by chance one is worse in most samples, so their mean lies below."""
    pictures = [(0, number % 2, group) for number in range(20) for group in ("sea", "land")]
    worst = measured(Numbers(*pictures, groups=["sea", "land"]))["top1 worst_group"]
    assert worst.value == 0.5
    assert 0.3 < worst.resampled.mean() < 0.47
    one = measured(Numbers(*pictures[::2], groups=["sea", "land"]))
    assert (one["top1 worst_group"].resampled == one["top1 group=sea"].resampled).all()


def test_names_of_groups_are_one_line() -> None:
    """A name that is not, is shown as if it were."""
    assert "top1 group=a b" in measured(Numbers((0, 0, "a\nb"), groups=["a\nb"]))


@pytest.mark.parametrize(
    ("asked", "expected"), [("plain", ["a photo of a a."]), (("<{}>", "my {}."), ["<a>", "my a."])]
)
def test_templates_are_filled_with_names(asked: Any, expected: list[str]) -> None:
    """Sentences of one's own are used as they are, each for each class."""
    reader = Reader()
    words = templates.embed_classes(reader, ["a"], templates=asked, store=Store())
    assert reader.asked == expected
    assert words.argmax(1).tolist() == [0]


def test_other_templates_are_other_embeddings(tmp_path: Path) -> None:
    """What is remembered of some sentences is not taken for that of others, however they are named."""
    reader, store = Reader(), Store(tmp_path)
    for asked in (("my {}.",), ("your {}.",), ("my {}.",), "plain", templates.PLAIN):
        templates.embed_classes(reader, ["a"], templates=asked, store=store)
    assert reader.asked == ["my a.", "your a.", "a photo of a a."]


@pytest.mark.parametrize("benchmark", [ZeroShotClassification, ZeroShotSegmentation])
@pytest.mark.parametrize("sentence", ["a photo", "{} on {}", "a {thing}", "a {} in {", "{{}}", "{0}"])
def test_sentences_without_one_place_are_refused(benchmark: type[Benchmark], sentence: str) -> None:
    """When options are checked: one line with the place, the sentence and the remedy."""
    with pytest.raises(InputError) as refused:
        options.check_options(benchmark, {"templates": ["a {}.", sentence]}, where="x")
    remedy = "write {} once, where the name of the class goes, and no other brace"
    assert str(refused.value) == f"x.templates.1: no template: {sentence!r}; {remedy}"


@pytest.mark.parametrize("asked", ["opnai", [], 3])
def test_templates_are_a_known_name_or_sentences(asked: object) -> None:
    """Anything else is told what there is to choose from."""
    with pytest.raises(InputError, match=r"^x.templates: not a choice: .*; write 'openai', 'vild' or 'plain'$"):
        options.check_options(ZeroShotClassification, {"templates": asked}, where="x")


def test_a_list_of_sentences_is_an_option() -> None:
    """As a recipe has it."""
    checked = options.check_options(ZeroShotClassification, {"templates": ["a {}.", "the {}."]})
    assert checked == {"templates": ("a {}.", "the {}.")}


def test_answers_are_written(tmp_path: Path) -> None:
    """A line for each picture, from which anybody can compute accuracy; and what the numbers stand for."""
    source = Numbers((0, 0, "sea"), (7, 6, None), (3, 0, "sea"), groups=["sea"])
    found = measured(source, Setup(predictions=Predictions(tmp_path)), batch=2)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert lines == [
        {"name": "picture 0", "label": 0, "ranked": [0, 1, 2, 3, 4], "group": "sea"},
        {"name": "picture 1", "label": 7, "ranked": [6, 7, 0, 1, 2]},
        {"name": "picture 2", "label": 3, "ranked": [0, 1, 2, 3, 4], "group": "sea"},
    ]
    assert json.loads((tmp_path / "classes.json").read_text()) == list(NAMES)
    assert np.mean([line["ranked"][0] == line["label"] for line in lines]) == found["top1"].value
