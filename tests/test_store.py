"""The store of scores and embeddings, the bootstrap, and written predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfmerge import provenance, store, trial
from vfmerge.benchmarks import bootstrap
from vfmerge.benchmarks.benchmark import mean, score
from vfmerge.benchmarks.predictions import Predictions, file_name
from vfmerge.data.source import VOID
from vfmerge.left_out import LeftOut
from vfmerge.store import Store


def test_what_is_made_once_is_remembered(tmp_path: Path) -> None:
    """The second time it is read, bit for bit."""
    made: list[int] = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"a": np.linspace(0, 1, 7), "b": np.zeros((0, 3), dtype=np.float32)}

    kept = Store(tmp_path / "new" / "folder")
    first, second = kept.recall("k", make), kept.recall("k", make)
    assert made == [1]
    for name, array in first.items():
        assert second[name].dtype == array.dtype
        assert np.array_equal(second[name], array)


def test_nowhere_remembers_nothing() -> None:
    """Without a folder everything is made anew."""
    kept = Store()
    kept.put("k", {"a": np.ones(1)})
    assert kept.get("k") is None
    assert not kept.remembers


def test_fresh_uses_nothing_old_and_remembers_what_is_new(tmp_path: Path) -> None:
    """What was there before is made anew, once, and is what the next one finds."""
    Store(tmp_path).put("k", {"a": np.zeros(1)})
    fresh = Store(tmp_path, fresh=True)
    assert fresh.recall("k", lambda: {"a": np.ones(1)})["a"].tolist() == [1]
    assert fresh.recall("k", lambda: {"a": np.full(1, 2.0)})["a"].tolist() == [1]
    assert Store(tmp_path).recall("k", lambda: {"a": np.full(1, 3.0)})["a"].tolist() == [1]


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    """Cut short or overwritten, it is as if it were not there."""
    kept = Store(tmp_path)
    kept.put("k", {"a": np.ones(100)})
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert kept.get("k") is None
    assert kept.recall("k", lambda: {"a": np.zeros(2)})["a"].tolist() == [0, 0]
    assert kept.get("k") is not None


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    """A file where the folder should be: the result is given all the same."""
    (tmp_path / "file").write_text("")
    assert Store(tmp_path / "file").recall("k", lambda: {"a": np.ones(1)})["a"].tolist() == [1]


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`VFMERGE_CACHE`, empty for nowhere, else the user's cache."""
    monkeypatch.setenv("VFMERGE_CACHE", str(tmp_path / "x"))
    store.default().put("k", {"a": np.ones(1)})
    assert (tmp_path / "x" / "k.safetensors").exists()
    monkeypatch.setenv("VFMERGE_CACHE", "")
    assert not store.default().remembers
    monkeypatch.delenv("VFMERGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "y"))
    store.default().put("k", {"a": np.ones(1)})
    assert (tmp_path / "y" / "vfmerge" / "k.safetensors").exists()


@pytest.mark.parametrize(
    "name", ["vfmerge", "torch", "pillow", "torchvision", "timm", "open_clip_torch", "transformers"]
)
def test_other_libraries_other_keys(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What was computed with another version of a library is not used."""
    known, before = provenance.versions(), store.key("scores")
    assert store.key("scores") == before
    assert known[name]
    monkeypatch.setattr(provenance, "versions", lambda: known | {name: "0.0.1"})
    assert store.key("scores") != before


def test_scores_survive_packing() -> None:
    """Value, samples and all words of a score come back as they were, and which pictures are in none."""
    scores = [
        score(metric="top1", task="clip", values=np.array([0.0, 1, 1]), reduce=mean, n=3, against="other"),
        score(metric="ms", task="all", values=np.array([3.0]), reduce=mean, n=1, better="lower", times=5),
    ]
    missed = [LeftOut(data="held_out", sample=7, reason="a.png: torn", among=9)]
    found, left_out = trial.unpack(trial.pack(scores, missed))
    assert left_out == missed
    for before, after in zip(scores, found, strict=True):
        assert np.array_equal(before.resampled, after.resampled)
        assert (before.metric, before.task, before.value, before.n) == (after.metric, after.task, after.value, after.n)
        assert (before.against, before.better) == (after.against, after.better)


def test_intervals_cover_what_they_say() -> None:
    """Of many data sets drawn with a known mean, about 95 % of the intervals hold it."""
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = bootstrap.interval(bootstrap.resample(draw.normal(1, 1, 100), mean, times=400))
        held += low <= 1 <= high
    assert 180 <= held <= 198


def test_samples_are_the_same_pictures_for_every_model() -> None:
    """Two models that answer alike have a ratio of one in every sample."""
    values = np.random.default_rng(1).random(50)
    assert np.array_equal(bootstrap.resample(values, mean, times=20), bootstrap.resample(values, mean, times=20))
    assert np.allclose(bootstrap.resample(values / 2, mean, times=20) * 2, bootstrap.resample(values, mean, times=20))


def test_an_interval_of_nothing_is_none() -> None:
    """Too few samples with a meaning give none."""
    assert bootstrap.interval(np.array([])) is None
    assert bootstrap.interval(np.array([np.nan, np.nan, 1.0])) is None
    assert bootstrap.interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)


def test_predictions_are_plain_files(tmp_path: Path) -> None:
    """JSON lines, JSON, and index PNGs called after the picture, whatever its name."""
    written = Predictions(tmp_path)
    written.line("a.jsonl", {"x": 1})
    written.line("a.jsonl", {"x": 2})
    written.whole("b.json", ["c"])
    written.labels("maps", "deep/../er/é.jpg", np.array([[0, VOID], [3, 4]]))
    assert [json.loads(line)["x"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [1, 2]
    (picture,) = (tmp_path / "maps").iterdir()
    assert np.array(Image.open(picture)).tolist() == [[0, 255], [3, 4]]
    again = Predictions(tmp_path)
    again.line("a.jsonl", {"x": 3})
    assert (tmp_path / "a.jsonl").read_text().count("\n") == 1


def test_names_of_files_stay_apart() -> None:
    """Different samples have different files, none outside the folder."""
    names = ["a/b", "a_b", "../a", "a b", "x" * 300, "x" * 301, ".hidden"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert all("/" not in file and not file.startswith(".") and len(file) < 120 for file in files)
