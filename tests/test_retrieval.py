"""Image-text retrieval against its definition, on embeddings that are given.

Axis letters: n pictures, T sentences, D embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vfmerge.benchmarks import retrieval
from vfmerge.benchmarks.benchmark import Setup
from vfmerge.benchmarks.predictions import Predictions
from vfmerge.benchmarks.retrieval import Retrieval, rank
from vfmerge.capability import ImageText
from vfmerge.data.folder import Folder
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError
from vfmerge.model import Network
from vfmerge.store import Store


class Album(Source):
    """Pictures of one pixel, whose value is their number, with captions."""

    has_captions = True

    def __init__(self, captions: Sequence[Sequence[str]]) -> None:
        self._captions = captions

    def __len__(self) -> int:
        return len(self._captions)

    def read(self, index: int) -> Sample:
        image = np.full((1, 1, 3), index, dtype=np.uint8)
        return Sample(image=image, name=f"picture {index}", captions=tuple(self._captions[index]))

    def digest(self) -> str:
        return ""


class Lookup(ImageText):
    """Embeds pictures by their number and texts by what is said of them."""

    def __init__(self, pictures: torch.Tensor, texts: dict[str, torch.Tensor]) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self._pictures, self._texts = pictures, texts
        self.read: list[str] = []

    def text_key(self) -> str:
        return "lookup"

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        return F.normalize(self._pictures[[int(picture[0, 0, 0]) for picture in pictures]], dim=1)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        self.read += texts
        return F.normalize(torch.stack([self._texts[text] for text in texts]), dim=1)

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        raise NotImplementedError


def noisy(pictures: int, *, captions: int, noise: float = 1.0) -> tuple[Album, Lookup]:
    """Captions that are their picture's embedding and noise, so that some are found and some are not."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(pictures, 8, generator=draw)
    said = [[f"caption {i}.{c}" for c in range(captions)] for i in range(pictures)]
    texts = {text: centres[i] + noise * torch.randn(8, generator=draw) for i, some in enumerate(said) for text in some}
    return Album(said), Lookup(centres, texts)


def measure(album: Album, model: ImageText, setup: Setup = Setup(), **options: int) -> dict[str, float]:
    return {score.metric: score.value for score in Retrieval(**options).measure({"clip": model}, album, setup)}


def test_recall_equals_its_definition() -> None:
    """With five captions a picture, both ways and at each depth: a hit is any right answer among the first."""
    album, model = noisy(40, captions=5)
    found = measure(album, model, batch=7)
    samples = [album.read(index) for index in range(40)]
    pictures = model.encode_image([sample.image for sample in samples])
    texts = model.encode_text([text for sample in samples for text in sample.captions])
    owner = torch.arange(40).repeat_interleave(5)
    nearest_texts = (pictures @ texts.T).argsort(1, descending=True)  # [n, T]
    nearest_pictures = (texts @ pictures.T).argsort(1, descending=True)  # [T, n]
    for depth in (1, 5, 10):
        any_caption = [bool((owner[nearest_texts[i, :depth]] == i).any()) for i in range(40)]
        the_picture = [int(owner[t]) in nearest_pictures[t, :depth] for t in range(200)]
        assert found[f"i2t_r{depth}"] == np.mean(any_caption)
        assert found[f"t2i_r{depth}"] == np.mean(the_picture)
    assert 0.1 < found["t2i_r1"] < found["t2i_r10"] < 1
    assert found["i2t_r1"] != found["t2i_r1"]


def slow_ranks(queries: np.ndarray, answers: np.ndarray, right: Sequence[Sequence[int]]) -> list[int]:
    """For each query, how many wrong answers are as similar as its most similar right one, or more."""
    found = []
    for query, wanted in zip(queries, right, strict=True):
        similarity = [float(query @ answer) for answer in answers]
        best = max(similarity[number] for number in wanted)
        found.append(sum(each >= best for number, each in enumerate(similarity) if number not in wanted))
    return found


def test_ranks_do_not_depend_on_how_many_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks of any size, the same as one by one."""
    draw = np.random.default_rng(0)
    queries, answers = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in draw.normal(size=(2, 30, 6)))
    right = [draw.choice(30, size=1 + number % 4, replace=False).tolist() for number in range(30)]
    expected = slow_ranks(queries, answers, right)
    for at_once in (1, 61, 1 << 20):
        monkeypatch.setattr(retrieval, "_AT_ONCE", at_once)
        ranks = rank(queries, answers, right)
        assert ranks.best.tolist() == expected
        assert [min(each) for each in ranks.right] == expected
        assert ranks.first.tolist() == np.argsort(-(queries @ answers.T), axis=1)[:, :10].tolist()


def test_a_tie_with_a_wrong_answer_is_lost() -> None:
    """A model that sees no difference finds nothing, although a stable order would let it find the first."""
    same = Lookup(torch.ones(20, 4), {f"caption {i}.0": torch.ones(4) for i in range(20)})
    assert set(measure(noisy(20, captions=1)[0], same).values()) == {0.0}


def test_what_is_no_number_is_found_by_nobody() -> None:
    """A broken model's embeddings are the worst there are."""
    broken = Lookup(torch.full((20, 4), torch.nan), {f"caption {i}.0": torch.ones(4) for i in range(20)})
    assert set(measure(noisy(20, captions=1)[0], broken).values()) == {0.0}


def test_equal_sentences_are_one_answer() -> None:
    """Two pictures with the same caption find it, and it finds either; a picture that says it twice asks once."""
    axes = torch.eye(3)
    album = Album([["a cat", "a cat"], ["a cat"], ["a dog"]])
    model = Lookup(torch.stack([axes[0], axes[0] + 0.5 * axes[1], axes[1]]), {"a cat": axes[0], "a dog": axes[1]})
    scores = {score.metric: score for score in Retrieval().measure({"clip": model}, album)}
    assert {name: score.value for name, score in scores.items()} == {"t2i_r1": 1.0, "i2t_r1": 1.0}
    assert (scores["t2i_r1"].n, scores["i2t_r1"].n) == (3, 3)
    assert model.read == ["a cat", "a dog"]


def test_depths_need_more_pictures() -> None:
    """Among five pictures, the first five are all of them."""
    assert list(measure(*noisy(5, captions=1))) == ["t2i_r1", "i2t_r1"]
    assert list(measure(*noisy(6, captions=1))) == ["t2i_r1", "t2i_r5", "i2t_r1", "i2t_r5"]


def test_only_the_first_captions_count() -> None:
    """More than are asked for are neither queries nor answers; fewer pictures are a smaller search."""
    album, model = noisy(12, captions=7)
    scores = Retrieval(captions=2, limit=10).measure({"clip": model}, album)
    assert {score.metric: score.n for score in scores} == {"t2i_r1": 20, "t2i_r5": 20, "i2t_r1": 10, "i2t_r5": 10}
    assert all(text.endswith((".0", ".1")) for text in model.read)


def test_resampling_is_by_picture() -> None:
    """All captions of a picture are drawn together: where all agree, the spread is that of pictures, not captions."""
    pictures, captions = 64, 25
    right = torch.eye(pictures)
    said = [[f"{i}.{c}" for c in range(captions)] for i in range(pictures)]
    texts = {text: right[i if i % 2 else i - 1] for i, some in enumerate(said) for text in some}
    scores = {
        score.metric: score
        for score in Retrieval(captions=captions).measure({"clip": Lookup(right, texts)}, Album(said))
    }
    assert scores["t2i_r1"].value == 0.5
    assert scores["t2i_r1"].resampled.std() == pytest.approx(0.5 / pictures**0.5, rel=0.2)


def test_captions_are_embedded_once_for_all_models_of_a_text_tower(tmp_path: Path) -> None:
    """A second model with the same tower reads no text, and is measured alike."""
    album, model = noisy(6, captions=2)
    _, again = noisy(6, captions=2)
    remembered = Setup(store=Store(tmp_path))
    assert measure(album, model, remembered) == measure(album, again, remembered)
    assert (len(model.read), len(again.read)) == (12, 0)


def test_predictions_give_the_recall_again(tmp_path: Path) -> None:
    """From the written ranks, or from the names that came first, both ways, anybody counts the same hits."""
    album, model = noisy(30, captions=2)
    found = measure(album, model, Setup(predictions=Predictions(tmp_path)))
    for name, file, queries in (("i2t", "image_to_text", 30), ("t2i", "text_to_image", 60)):
        lines = [json.loads(line) for line in (tmp_path / f"{file}.jsonl").read_text().splitlines()]
        assert len(lines) == queries
        for depth in (1, 5, 10):
            by_rank = np.mean([min(line["ranks"]) < depth for line in lines])
            by_name = np.mean([bool(set(line["first"][:depth]) & set(line["right"])) for line in lines])
            assert found[f"{name}_r{depth}"] == pytest.approx(by_rank) == pytest.approx(by_name)


def test_data_without_captions_is_refused(tmp_path: Path) -> None:
    """By what the data is, and by what it turns out to hold."""
    (tmp_path / "a.jpg").touch()
    assert Retrieval().lacks(Folder(path=str(tmp_path))) == "captions"
    assert Retrieval().lacks(noisy(2, captions=1)[0]) == ""
    with pytest.raises(InputError, match="no picture with a caption among 2"):
        measure(Album([[], []]), noisy(2, captions=1)[1])
