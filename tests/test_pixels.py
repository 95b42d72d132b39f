"""Labels of pixels as the truth: what is judged, what is not, and what is written for other tools.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vfmerge.benchmarks import predictions, segmentation
from vfmerge.benchmarks.benchmark import Setup
from vfmerge.benchmarks.predictions import Predictions
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.capability import ImageText
from vfmerge.data.source import BACKGROUND, VOID, Sample, Source
from vfmerge.errors import InputError
from vfmerge.model import Network

GREYS = np.array([80, 160, 0], dtype=np.uint8)  # of two classes, and of the background
TRUTH = np.full((8, 8), BACKGROUND)
TRUTH[:4, :4], TRUTH[4:, 4:], TRUTH[:2, 6:] = 0, 1, VOID


class Reader(ImageText):
    """Sees the grey of each pixel; its cells are the pixels."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def text_key(self) -> str:
        return "greys"

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        return F.normalize(self.encode_cells(pictures).mean((2, 3)), dim=1)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.stack([torch.tensor([float(n in text) for n in ("cat", "dog", "background")]) for text in texts])

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        return torch.from_numpy(np.stack([picture[..., 0] == GREYS[:, None, None] for picture in pictures])).float()


class Pixels(Source):
    """One picture, whose greys say what `seen` says; the truth is `TRUTH`, unless `masks` hides it behind others."""

    has_pixels = True
    classes: tuple[str, ...] = ("cat", "dog")

    def __init__(self, seen: np.ndarray, *, masks: bool = False) -> None:
        self._seen, self.has_masks = seen, masks

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Sample:
        wrong = {"masks": np.ones((1, 8, 8), dtype=bool), "labels": np.zeros(1, dtype=np.int64)}
        grey = GREYS[self._seen][..., None].repeat(3, axis=2)
        return Sample(image=grey, name="one/1", pixels=TRUTH, **(wrong if self.has_masks else {}))

    def digest(self) -> str:
        return ""


def perfect() -> np.ndarray:
    """What is seen where all that is judged is right and all that is not is called a dog."""
    return np.where(TRUTH == BACKGROUND, 2, np.where(TRUTH == VOID, 1, TRUTH))


def miou(source: Source, folder: Path | None = None, **options: object) -> float:
    benchmark = ZeroShotSegmentation(templates="plain", **options)  # type: ignore[arg-type]
    (score,) = benchmark.measure({"clip": Reader()}, source, Setup(predictions=Predictions(folder)))
    assert score.metric == "miou_head"
    return score.value


@pytest.mark.parametrize("masks", [False, True])
def test_a_map_of_pixels_is_the_truth(masks: bool) -> None:
    """Also where there are masks: a map says more, such as what is not judged."""
    assert miou(Pixels(perfect(), masks=masks)) == 1.0


def test_void_is_never_counted() -> None:
    """What is answered there is neither right nor wrong; on judged pixels of background it is wrong."""
    seen = perfect()
    seen[:2, 6:] = 0
    assert miou(Pixels(seen)) == 1.0
    seen[2, 6] = 0  # of the 28 judged pixels of background
    assert miou(Pixels(seen)) == pytest.approx((16 / 17 + 1 + 27 / 28) / 3)


def test_background_is_judged_or_not() -> None:
    """Where it is not, both kinds of pixels without a class have no say."""
    seen = perfect()
    seen[TRUTH < 0] = 0
    assert miou(Pixels(seen), background="ignore") == 1.0
    assert miou(Pixels(seen)) < 0.6


def test_the_label_map_tells_background_from_void() -> None:
    """The background has the number that is asked for; void keeps its own, below every class."""
    labels = segmentation.label_map(Pixels(perfect()).read(0), background=7)
    assert (labels == np.where(TRUTH == BACKGROUND, 7, TRUTH)).all()
    assert (labels == VOID).sum() == 4


def test_counts_leave_void_out() -> None:
    """Neither answers nor truths of such pixels are in any class's row."""
    answer = np.array([[0, 1, 2], [0, 1, 2]])
    truth = np.array([[0, 1, 2], [VOID, VOID, VOID]])
    assert segmentation.count(answer, truth, classes=3).tolist() == [[1, 1, 1]] * 3
    assert segmentation.count(answer, truth, classes=3, ignored=2).tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]


def test_data_with_pixels_is_enough() -> None:
    """Masks or pixels, and class names."""

    class Nameless(Pixels):
        classes = ()

    assert ZeroShotSegmentation().lacks(Pixels(perfect())) == ""
    assert ZeroShotSegmentation().lacks(Nameless(perfect())) == "class names"


@pytest.mark.parametrize("background", ["prompt", "ignore"])
def test_predictions_give_the_figure_to_other_tools(tmp_path: Path, background: str) -> None:
    """Index PNGs of answer and truth, the names of their numbers, and 255 for all that is not judged."""
    seen = perfect()
    seen[0, 0], seen[5, 5] = 1, 2
    found = miou(Pixels(seen), tmp_path, background=background)
    assert json.loads((tmp_path / "classes.json").read_text()) == ["cat", "dog", "background"]
    (written,) = (tmp_path / "truth").iterdir()
    truth = np.array(Image.open(written))
    answer = np.array(Image.open(tmp_path / "miou_head" / written.name))
    unjudged = TRUTH == VOID if background == "prompt" else TRUTH < 0
    assert ((truth == predictions.UNJUDGED) == unjudged).all()
    assert (truth[TRUTH >= 0] == TRUTH[TRUTH >= 0]).all()
    assert answer.max() <= 2
    ious = []
    for label in range(3):
        a, t = (answer == label)[~unjudged], (truth == label)[~unjudged]
        if t.any():
            ious.append((a & t).sum() / (a | t).sum())
    assert found == pytest.approx(np.mean(ious))
    assert len(ious) == (3 if background == "prompt" else 2)


def test_more_classes_than_a_png_can_tell_apart(tmp_path: Path) -> None:
    """They are measured, and refused only where predictions are to be written: one line."""

    class Many(Pixels):
        classes = ("cat", "dog", *(f"thing {n}" for n in range(253)))

    assert miou(Many(perfect()), background="ignore") == 1.0
    with pytest.raises(InputError, match="--save-predictions: 255 classes") as error:
        miou(Many(perfect()), tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_pictures_without_truth_are_not_judged() -> None:
    """A picture that lacks what its data has otherwise is left out; of nothing else there is no figure."""

    class Bare(Pixels):
        def read(self, index: int) -> Sample:
            return Sample(image=np.zeros((8, 8, 3), np.uint8), name="bare")

    with pytest.raises(InputError, match="no picture with masks and labels among 1"):
        miou(Bare(perfect()))
