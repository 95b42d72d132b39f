"""Probes of frozen trunks, on features whose right answers are known, and on the tiny parents.

Axis letters: N pictures, B of a batch, C channels, h x w cells, D feature width, K classes, H x W pixels.
"""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import options, plugins
from vfmerge.adapter import Features
from vfmerge.benchmarks import dense_lesson, features, linear_probe, logistic, probe_heads
from vfmerge.benchmarks.benchmark import Benchmark, Score, Setup
from vfmerge.benchmarks.features import Table, Work, spread
from vfmerge.benchmarks.knn import KNN, vote
from vfmerge.benchmarks.linear_probe import LinearProbe
from vfmerge.benchmarks.predictions import Predictions
from vfmerge.benchmarks.probe import Lesson
from vfmerge.benchmarks.segmentation import count, mean_iou
from vfmerge.benchmarks.segmentation_probe import SegmentationProbe
from vfmerge.capability import Capability, Dense
from vfmerge.data.source import BACKGROUND, VOID, Sample, Source
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.model import Network

CLASSES = ("apple", "brick", "cloud", "door")
GREYS = np.array([60, 110, 160, 210, 0], dtype=np.uint8)  # the colour of each class, and of the background

See = Callable[[Tensor], Features]


class Trunk(nn.Module):
    """Sees in images what it is told to, and counts them."""

    def __init__(self, see: See) -> None:
        super().__init__()
        self.see, self.seen = see, 0

    def forward(self, images: Tensor) -> Features:
        self.seen += len(images)
        return self.see(images)


class Eye(Dense):
    """A capability of nothing but a trunk."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk = trunk

    @property
    def network(self) -> Network:
        return Network(self.trunk, nn.Identity())

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        raise AssertionError("probes look at the trunk itself")


class World(Source):
    """Pictures given as maps of labels [H, W], 4 for the background; a picture's own label is of its largest class."""

    has_masks = True
    classes = CLASSES

    def __init__(self, maps: Sequence[np.ndarray]) -> None:
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def read(self, index: int) -> Sample:
        labels = self._maps[index]
        areas = np.bincount(labels.ravel(), minlength=5)[:4]
        there = [number for number in np.argsort(-areas, kind="stable") if areas[number]]
        return Sample(
            image=np.repeat(GREYS[labels][..., None], 3, axis=2),
            name=f"world/{index}",
            masks=np.array([labels == number for number in there], dtype=bool).reshape(-1, *labels.shape),
            labels=np.array(there, dtype=np.int64),
        )

    def digest(self) -> str:
        return ""


def colours(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] -> one-hot maps of the five greys [B, 5, H, W]."""
    greys = torch.from_numpy(GREYS) / 255
    return F.one_hot((images[:, 0, ..., None] - greys).abs().argmin(-1), 5).permute(0, 3, 1, 2).float()


def perfect(images: Tensor) -> Features:
    """Cells of 4 x 4 pixels that say of which grey they are."""
    return Features(maps=(F.avg_pool2d(colours(images), 4),))


def constant(images: Tensor) -> Features:
    return Features(maps=(torch.ones(len(images), 5, images.shape[2] // 4, images.shape[3] // 4),))


def dim(images: Tensor) -> Features:
    """What says little: the colours behind noise that depends on where the picture is bright."""
    cells = F.avg_pool2d(colours(images), 8)
    return Features(maps=(torch.cat([cells, torch.sin(37 * cells.cumsum(2) + 11 * cells.cumsum(3))], dim=1),))


def singles(count: int, *, start: int = 0, side: int = 16) -> list[np.ndarray]:
    """One thing each, classes in turn."""
    maps = []
    for index in range(start, start + count):
        labels = np.full((side, side), 4)
        labels[4:12, 4:12] = index % 4
        maps.append(labels)
    return maps


def scenes(count: int, *, height: int = 32, width: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Four by four blocks of random labels."""
    blocks = np.random.default_rng(seed).integers(0, 5, (count, 4, 4))
    return list(blocks.repeat(height // 4, axis=1).repeat(width // 4, axis=2))


def values(scores: Sequence[Score]) -> dict[tuple[str, str], float]:
    return {(each.task, each.metric): each.value for each in scores}


def measure(
    benchmark: Benchmark, see: See, train: Source, source: Source, predictions: Path | None = None
) -> dict[str, float]:
    setup = Setup(train=train, predictions=Predictions(predictions))
    return {each.metric: each.value for each in benchmark.measure({"eye": Eye(Trunk(see))}, source, setup)}


QUICK: dict[str, Any] = {"size": 32, "steps": 30, "batch": 8, "rates": (0.1,)}


# What is kept in a file


def test_rows_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number in any order, and all of them some at a time, as the numbers they were."""
    monkeypatch.setattr(features, "_ROWS", 3)
    rows = np.random.default_rng(0).random((8, 2, 5)).astype(np.float32)
    with Table("float32") as table:
        table.append(rows[:3])
        table.append(rows[3:])
        assert len(table) == 8
        assert np.array_equal(table.read([5, 0, 5]), rows[[5, 0, 5]])
        parts = list(table.chunks())
    assert [first for first, _ in parts] == [0, 3, 6]
    assert np.array_equal(np.concatenate([part for _, part in parts]), rows)


def test_a_chunk_is_at_most_so_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long rows come fewer at a time, at least one."""
    monkeypatch.setattr(features, "_BYTES", 100)
    with Table("float32") as table:
        table.append(np.zeros((5, 10), dtype=np.float32))
        assert [len(part) for _, part in table.chunks()] == [2, 2, 1]
    with Table("float32") as table:
        table.append(np.zeros((2, 1000), dtype=np.float32))
        assert [len(part) for _, part in table.chunks()] == [1, 1]


def test_spread_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean and deviation over all but the channels, also far from zero; a constant channel is left as wide as it is."""
    monkeypatch.setattr(features, "_ROWS", 3)
    rows = np.random.default_rng(0).normal(1000, [[[1]], [[5]], [[0]]], (7, 3, 2, 4)).astype(np.float32)
    with Table("float32") as table:
        table.append(rows)
        mean, deviation = spread(table)
    assert np.allclose(mean, rows.mean((0, 2, 3), dtype=np.float64), rtol=1e-6)
    assert np.allclose(deviation[:2], rows.std((0, 2, 3), dtype=np.float64)[:2], rtol=1e-4)
    assert deviation[2] == 1


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the folder and what to do."""
    with Table("float32") as table:

        class Full:
            def write(self, data: bytes) -> int:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(table, "_file", Full())
            with pytest.raises(InputError, match="No space left on device, so no room for features; let TMPDIR name"):
                table.append(np.zeros((1, 1)))


def test_memory_does_not_grow_with_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times as many pictures, of features that together would be larger than all else, take no more memory."""
    monkeypatch.setattr(features, "_BYTES", 10**6)

    def wide(images: Tensor) -> Features:
        return Features(maps=(), summary=colours(images).mean((2, 3)).repeat(1, 4000))  # 80 kB a picture

    def peak(count: int) -> int:
        train, source = World(singles(count)), World(singles(8))
        tracemalloc.start()
        measure(KNN(size=16, batch=8), wide, train, source)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(8)
    few, many = peak(64), peak(256)  # 5 and 20 MB
    assert many < few + 1e6


# Classification


@pytest.mark.parametrize("benchmark", [LinearProbe(size=16, batch=3), KNN(size=16, batch=3)])
def test_perfect_features_are_all_right(benchmark: Benchmark) -> None:
    """Where features say the class, every picture is told, of training pictures that are others."""
    assert measure(benchmark, perfect, World(singles(21)), World(singles(9, start=2))) == {"top1": 1.0}


@pytest.mark.parametrize("benchmark", [LinearProbe(size=16), KNN(size=16)])
def test_constant_features_are_chance(benchmark: Benchmark) -> None:
    """Where features say nothing, one class is always the answer."""
    assert measure(benchmark, constant, World(singles(20)), World(singles(8))) == {"top1": 0.25}


@pytest.mark.parametrize("kind", [LinearProbe, KNN])
def test_top5_needs_ten_classes(kind: type[Benchmark]) -> None:
    """With ten classes or more, the five likeliest count too."""

    class Ten(World):
        classes = (*CLASSES, *(f"none{n}" for n in range(6)))

    found = measure(kind(size=16), constant, Ten(singles(20)), Ten(singles(8)))
    assert found == {"top1": 0.25, "top5": 1.0}


def lesson(rows: np.ndarray, labels: np.ndarray, *, classes: int) -> Lesson:
    table = Table("float32")
    table.append(rows)
    work = Work(Setup(), total=1)
    return Lesson(features=table, labels=labels, classes=classes, device=torch.device("cpu"), work=work)


def noisy(count: int, *, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, D], of which the first tells three classes apart, but not always."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    rows = draw.normal(5, 2, (count, width))
    rows[:, 0] += 2 * labels
    return rows.astype(np.float32), labels


def test_logistic_regression_is_at_its_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient, spelt out in float64 from the definition, vanishes; the pictures left out have no part in it."""
    monkeypatch.setattr(features, "_ROWS", 17)
    rows, labels = noisy(60, width=6)
    among = np.arange(60) % 5 > 0
    with (given := lesson(rows, labels, classes=3)).features:
        line = logistic.Problem(given, iterations=500).solve(penalty=0.02, among=among)
    x = (rows.astype(np.float64) - rows.mean(0)) / rows.std(0)
    x, y = x[among], np.eye(3)[labels[among]]
    weight, bias = line.weight.double().numpy(), line.bias.double().numpy()
    chance = np.exp(x @ weight.T + bias)
    wrong = chance / chance.sum(1, keepdims=True) - y
    assert abs(wrong.T @ x / len(x) + 0.02 * weight).max() < 1e-4
    assert abs(wrong.mean(0)).max() < 1e-4
    assert abs(weight).max() > 0.1


def test_the_penalty_is_chosen_on_held_out_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two it is the one that tells a fifth of the pictures better, and all are learnt from with that."""
    rows, labels = noisy(50, width=60)
    asked: list[tuple[float, int]] = []
    solve = logistic.Problem.solve

    def spy(problem: logistic.Problem, *, penalty: float, among: np.ndarray, **more: Any) -> logistic.Line:
        asked.append((penalty, int(among.sum())))
        return solve(problem, penalty=penalty, among=among, **more)

    monkeypatch.setattr(logistic.Problem, "solve", spy)
    monkeypatch.setattr(
        logistic.Problem, "accuracy", lambda problem, line, *, among: float(abs(asked[-1][0] - 0.1) < 0.01)
    )
    monkeypatch.setattr(linear_probe, "PENALTIES", (1.0, 0.1, 0.01))
    with (given := lesson(rows, labels, classes=3)).features:
        LinearProbe()._learn(given)
    assert asked == [(1.0, 40), (0.1, 40), (0.01, 40), (0.1, 50)]


def test_accuracy_is_of_the_pictures_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of right answers among these and no others, however many are read at once."""
    monkeypatch.setattr(features, "_ROWS", 17)
    rows, labels = noisy(50, width=4)
    among = np.arange(50) % 3 == 0
    with (given := lesson(rows, labels, classes=3)).features:
        problem = logistic.Problem(given, iterations=20)
        line = problem.solve(penalty=0.1, among=~among)
        found = problem.accuracy(line, among=among)
    right = line(torch.from_numpy(rows)).argmax(1).numpy() == labels
    assert found == pytest.approx(right[among].mean())
    assert found != pytest.approx(right.mean())


def test_one_picture_is_enough_to_learn_from() -> None:
    """Too few to hold any out is no reason to stop."""
    assert measure(LinearProbe(size=16), perfect, World(singles(1)), World(singles(4))) == {"top1": 0.25}


def test_votes_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """k-NN in a slow loop, whatever number of rows is read at once, and where there are fewer rows than neighbours."""
    monkeypatch.setattr(features, "_ROWS", 4)
    draw = np.random.default_rng(0)
    rows, labels, asked = draw.normal(size=(11, 3)), draw.integers(0, 4, 11), draw.normal(size=(5, 3))
    for neighbours in (3, 6, 50):
        with (given := lesson(rows.astype(np.float32), labels, classes=4)).features:
            found = vote(torch.tensor(asked).float(), lesson=given, neighbours=neighbours, temperature=0.5)
        for query, votes in zip(asked, found, strict=True):
            cosines = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in rows]
            expected = np.zeros(4)
            for number in sorted(range(11), key=lambda n: -cosines[n])[:neighbours]:
                expected[labels[number]] += np.exp(cosines[number] / 0.5)
            assert np.allclose(votes.numpy(), expected, rtol=1e-4)


def test_pool_says_what_stands_for_a_picture() -> None:
    """The summary where there is one and it is wanted, else the mean or the maximum over the coarsest map."""
    fine, coarse = torch.rand(1, 2, 4, 4), torch.rand(1, 3, 2, 2)
    whole = torch.rand(1, 5)
    from vfmerge.benchmarks.probe import pool

    both = Features(maps=(fine, coarse), summary=whole)
    assert torch.equal(pool(both, "summary"), whole)
    assert torch.equal(pool(Features(maps=(fine, coarse)), "summary"), coarse.mean((2, 3)))
    assert torch.equal(pool(both, "mean"), coarse.mean((2, 3)))
    assert torch.equal(pool(both, "max"), coarse.amax((2, 3)))
    with pytest.raises(InputError, match="pool: 'max' needs a map"):
        pool(Features(maps=(), summary=whole), "max")


# Segmentation


@pytest.mark.parametrize("head", ["linear", "deeplabv3", "pspnet"])
def test_heads_learn_perfect_features(head: str) -> None:
    """Where cells say their class every head learns it, and is judged on other pictures of another size."""
    benchmark = SegmentationProbe(heads=(head,), **QUICK | {"steps": 40, "batch": 4, "rates": (0.03,)})
    found = measure(benchmark, perfect, World(scenes(24)), World(scenes(6, height=64, width=96, seed=1)))
    assert found.keys() == {f"{head}_miou"}
    assert found[f"{head}_miou"] > (0.9 if head == "linear" else 0.6)


def test_constant_features_segment_nothing() -> None:
    """One class everywhere: its share of the pixels, over the five there are."""
    source = World(scenes(6, seed=1))
    found = measure(SegmentationProbe(**QUICK), constant, World(scenes(24)), source)
    shares = [np.mean([labels == label for labels in scenes(6, seed=1)]) / 5 for label in range(5)]
    assert any(found["linear_miou"] == pytest.approx(share) for share in shares)


def test_pictures_are_judged_at_their_own_size(tmp_path: Path) -> None:
    """Answers have the picture's size, whatever was learnt at; their mIoU, from the files, is the score."""
    source = World(scenes(5, height=64, width=40, seed=1))
    found = measure(SegmentationProbe(**QUICK), perfect, World(scenes(24)), source, tmp_path)
    rows = []
    for index in range(5):
        answer, truth = (
            np.array(Image.open(path)).astype(np.int64)
            for path in (next((tmp_path / kind).glob(f"world_{index}*.png")) for kind in ("linear_miou", "truth"))
        )
        assert answer.shape == (64, 40)
        assert np.array_equal(truth, scenes(5, height=64, width=40, seed=1)[index])
        rows.append(count(answer, truth, classes=5))
    assert mean_iou(np.stack(rows)) == found["linear_miou"] > 0.9


def test_the_background_is_a_class_or_has_no_part(tmp_path: Path) -> None:
    """Ignored, it is neither judged nor ever answered, and what is learnt does not depend on it."""
    source = World(scenes(6, seed=1))
    found = measure(SegmentationProbe(background="ignore", **QUICK), perfect, World(scenes(24)), source, tmp_path)
    assert found["linear_miou"] > 0.98
    for kind, allowed in (("linear_miou", {0, 1, 2, 3}), ("truth", {0, 1, 2, 3, 255})):
        seen = [np.unique(np.array(Image.open(path))) for path in (tmp_path / kind).glob("*.png")]
        assert set(np.concatenate(seen).tolist()) == allowed


def test_void_is_neither_learnt_nor_judged(tmp_path: Path) -> None:
    """In maps of pixels: what is wrong there spoils nothing, neither what is learnt nor the score."""

    class Pixels(World):
        has_masks, has_pixels = False, True

        def __init__(self, maps: Sequence[np.ndarray], *, left: int | None = None) -> None:
            super().__init__(maps)
            self._left = left  # what every pixel of the left half is said to be

        def read(self, index: int) -> Sample:
            sample = super().read(index)
            pixels = np.where(self._maps[index] == 4, BACKGROUND, self._maps[index])
            if self._left is not None:
                pixels[:, : pixels.shape[1] // 2] = self._left
            return Sample(image=sample.image, name=sample.name, pixels=pixels)

    train, source = scenes(24), scenes(6, seed=1)
    probe = SegmentationProbe(**QUICK)
    assert probe.lacks(Pixels(train)) == ""
    assert measure(probe, perfect, Pixels(train, left=VOID), Pixels(source))["linear_miou"] > 0.9
    assert measure(probe, perfect, Pixels(train, left=3), Pixels(source))["linear_miou"] < 0.6
    assert measure(probe, perfect, Pixels(train), Pixels(source, left=3))["linear_miou"] < 0.6
    judged = measure(probe, perfect, Pixels(train), Pixels(source, left=VOID), tmp_path)
    assert judged["linear_miou"] > 0.9
    truth = np.array(Image.open(next((tmp_path / "truth").glob("*.png"))))
    assert (truth[:, :16] == 255).all()
    assert (truth[:, 16:] < 5).all()


def test_labels_learnt_from_are_of_the_side_that_is_asked_for() -> None:
    """Half of the input's by default."""
    read: list[tuple[int, ...]] = []
    for side in ({}, {"side": 20}):
        with pytest.MonkeyPatch.context() as patch:
            shrink = dense_lesson.nearest
            patch.setattr(
                dense_lesson,
                "nearest",
                lambda *given, shrink=shrink: (small := shrink(*given), read.append(small.shape))[0],
            )
            measure(SegmentationProbe(**QUICK | {"steps": 1} | side), perfect, World(scenes(1)), World(scenes(1)))
    assert read == [(16, 16), (20, 20)]


def test_more_classes_than_a_png_can_tell_apart(tmp_path: Path) -> None:
    """They are learnt and judged, and refused only where predictions are to be written."""

    class Many(World):
        classes = (*CLASSES, *(f"none{n}" for n in range(300)))

    probe, source = SegmentationProbe(**QUICK | {"rates": (0.3,)}), Many(scenes(6))
    assert measure(probe, perfect, source, source)["linear_miou"] > 0.5
    with pytest.raises(InputError, match=r"^--save-predictions: 304 classes .* tell apart; measure without it"):
        measure(probe, perfect, source, source, tmp_path)


def test_labels_shrink_as_pillow_shrinks_them() -> None:
    """The label under the centre of each pixel of the square, which is Pillow's nearest."""
    labels = np.random.default_rng(0).integers(0, 9, (37, 52)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(labels).resize((24, 24), Image.Resampling.NEAREST))
    assert np.array_equal(dense_lesson.nearest(labels, 24), expected)


def test_the_rate_is_chosen_on_held_out_pictures() -> None:
    """Of a rate that learns nothing and one that does the second is taken, wherever it stands."""
    train, source = World(scenes(24)), World(scenes(6, seed=1))
    alone = measure(SegmentationProbe(**QUICK), perfect, train, source)
    for rates in ((1e-9, 0.1), (0.1, 1e-9)):
        assert measure(SegmentationProbe(**QUICK | {"rates": rates}), perfect, train, source) == alone


def test_steps_see_every_picture_in_turn() -> None:
    """Each shuffle has every number once, shuffles differ, and a batch may be larger than all."""
    numbers = np.array([3, 5, 8, 9, 12])
    order = [number for step in range(5) for number in dense_lesson.draw(numbers, step=step, batch=4)]
    turns = [order[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(turn) == numbers.tolist() for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert sorted(dense_lesson.draw(numbers, step=0, batch=10)) == sorted(2 * numbers.tolist())


def test_enlarging_some_logits_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is of the whole batch, however many of its pictures fit into memory at once."""
    train, source = World(scenes(16)), World(scenes(4, seed=1))
    found = []
    for together in (dense_lesson._BYTES, 1):
        monkeypatch.setattr(dense_lesson, "_BYTES", together)
        found.append(measure(SegmentationProbe(**QUICK), dim, train, source)["linear_miou"])
    assert found[0] == pytest.approx(found[1], abs=1e-3)


# Heads


def shaken(network: nn.Module) -> nn.Module:
    """Statistics of batch norms that are not the identity's."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return network


def test_deeplabv3_is_torchvisions() -> None:
    """The same tensors in the same order, and the same answer from them."""
    theirs = shaken(DeepLabHead(24, 5, atrous_rates=(6, 12, 18)))
    ours = probe_heads.build("deeplabv3", channels=24, classes=5)
    given = theirs.state_dict()
    assert [tensor.shape for tensor in ours.state_dict().values()] == [tensor.shape for tensor in given.values()]
    ours.load_state_dict(dict(zip(ours.state_dict(), given.values(), strict=True)))
    maps = torch.randn(2, 24, 14, 10)
    torch.testing.assert_close(ours.eval()(maps), theirs.eval()(maps), rtol=1e-5, atol=1e-5)
    for network in (ours, theirs):
        network.train()
        torch.manual_seed(1)
    torch.manual_seed(1)
    learning = ours(maps)
    torch.manual_seed(1)
    torch.testing.assert_close(learning, theirs(maps), rtol=1e-4, atol=1e-4)


def test_pspnet_is_its_papers() -> None:
    """Means of blocks at four scales, each narrowed to a quarter, enlarged, beside the map itself: spelt out."""
    network = shaken(probe_heads.build("pspnet", channels=8, classes=5)).eval()
    maps = torch.randn(2, 8, 12, 12)
    pyramid, last, _, classify = network
    found = [maps]
    for cells, pool in zip((1, 2, 3, 6), pyramid.branches[1:], strict=True):
        blocks = maps.unflatten(3, (cells, 12 // cells)).unflatten(2, (cells, 12 // cells)).mean((3, 5))
        convolution, norm, _ = pool.mix
        mixed = torch.einsum("oc,bchw->bohw", convolution.weight[:, :, 0, 0], blocks)
        scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).view(-1, 1, 1)
        mixed = (mixed - norm.running_mean.view(-1, 1, 1)) * scale + norm.bias.view(-1, 1, 1)
        assert mixed.shape == (2, 2, cells, cells)
        found.append(F.interpolate(mixed.relu(), size=(12, 12), mode="bilinear"))
    torch.testing.assert_close(network(maps), classify(last(torch.cat(found, dim=1))), rtol=1e-4, atol=1e-4)
    assert last[0].kernel_size == (3, 3)


# What all probes have in common

ALL = [
    pytest.param(LinearProbe(size=32), id="linear_probe"),
    pytest.param(KNN(size=32), id="knn"),
    pytest.param(SegmentationProbe(heads=("linear", "deeplabv3"), **QUICK | {"steps": 3}), id="segmentation_probe"),
]


@pytest.mark.parametrize("benchmark", ALL)
def test_a_probe_is_the_same_twice(benchmark: Benchmark) -> None:
    """Whatever torch was seeded with, which stays as it was."""
    train, source = World(scenes(12)), World(scenes(4, seed=1))
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(measure(benchmark, dim, train, source))
        after = torch.rand(1)
        torch.manual_seed(seed)
        assert torch.equal(after, torch.rand(1))
    assert found[0] == found[1]


@pytest.mark.parametrize("benchmark", ALL)
def test_nothing_is_learnt_from_what_is_judged(benchmark: Benchmark, tmp_path: Path) -> None:
    """Answers stay the same when the truth of the judged pictures becomes another; the score does not."""
    train, maps = World(scenes(12)), scenes(4, seed=1)

    class Lies(World):
        def read(self, index: int) -> Sample:
            sample = super().read(index)
            return Sample(image=sample.image, name=sample.name, masks=sample.masks, labels=(sample.labels + 1) % 4)

    scores = [measure(benchmark, dim, train, kind(maps), tmp_path / kind.__name__) for kind in (World, Lies)]
    answers = [_answers(tmp_path / kind.__name__) for kind in (World, Lies)]
    assert answers[0] == answers[1]
    assert len(answers[0]) >= 4
    assert scores[0] != scores[1]


def _answers(folder: Path) -> dict[str, Any]:
    if (folder / "predictions.jsonl").exists():
        lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
        return {line["name"]: line["ranked"] for line in lines}
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*_miou/*.png")}


@pytest.mark.parametrize("benchmark", ALL)
def test_a_trunk_that_tasks_share_is_probed_once(benchmark: Benchmark) -> None:
    """A merged model's tasks have the same scores, and every picture is encoded once; other trunks are others."""
    train, source = World(scenes(12)), World(scenes(4, seed=1))
    shared, own = Trunk(dim), Trunk(constant)
    model: Mapping[str, Capability] = {"sam": Eye(shared), "dino": Eye(own), "clip": Eye(shared)}
    found = values(benchmark.measure(model, source, Setup(train=train)))
    metrics = {metric for _, metric in found}
    assert found.keys() == {(task, metric) for task in model for metric in metrics}
    assert all(found["sam", metric] == found["clip", metric] for metric in metrics)
    assert any(found["sam", metric] != found["dino", metric] for metric in metrics)
    assert (shared.seen, own.seen) == (16, 16)


@pytest.mark.parametrize("kind", [LinearProbe, KNN, SegmentationProbe])
def test_parents_may_be_chosen(kind: type[Benchmark]) -> None:
    """Those named are probed, alone or in a merged model; one that nobody has is refused."""
    train, source = World(scenes(12)), World(scenes(4, seed=1))
    quick = QUICK | {"steps": 1} if kind is SegmentationProbe else {"size": 32}
    eye = Eye(Trunk(perfect))
    benchmark = kind(parents=("clip",), **quick)
    assert benchmark.measure({"sam": eye}, source, Setup(train=train)) == []
    assert {each.task for each in benchmark.measure({"sam": eye, "clip": eye}, source, Setup(train=train))} == {"clip"}
    with pytest.raises(InputError, match=r"parents: no parent is called 'clap'; did you mean 'clip'"):
        kind(parents=("clap",)).measure({"sam": eye, "clip": eye}, source, Setup(train=train))


@pytest.mark.parametrize("benchmark", ALL)
def test_progress_goes_from_the_first_picture_to_the_last(benchmark: Benchmark) -> None:
    """Never back, to the total that was announced, at least once for each picture."""
    told: list[tuple[int, int]] = []
    setup = Setup(train=World(scenes(12)), progress=lambda done, total: told.append((done, total)))
    benchmark.measure({"eye": Eye(Trunk(dim))}, World(scenes(4, seed=1)), setup)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {told[-1][0]}
    assert len(told) >= 16


@pytest.mark.parametrize("benchmark", ALL)
def test_what_to_learn_from_must_fit(benchmark: Benchmark) -> None:
    """Missing, without classes or masks, of other classes, without any label: one line each."""
    source = World(scenes(2))

    class Other(World):
        classes = (*CLASSES, "fifth")

    class Plain(World):
        classes = ()

    class Bare(World):
        def read(self, index: int) -> Sample:
            sample = super().read(index)
            return Sample(image=sample.image, name=sample.name)

    def learn(train: Source | None, judged: Source = source) -> None:
        benchmark.measure({"eye": Eye(Trunk(perfect))}, judged, Setup(train=train))

    with pytest.raises(InputError, match=r"^train: missing; a probe learns from a second data set"):
        learn(None)
    with pytest.raises(InputError, match=r"^train: this data set has no .*class names; give one that has"):
        learn(Plain(scenes(2)))
    with pytest.raises(InputError, match=r"^train: has 5 classes, apple, brick, cloud ..., and data has 4"):
        learn(Other(scenes(2)))
    with pytest.raises(InputError, match=r"^train: no picture with"):
        learn(Bare(scenes(2)))
    with pytest.raises(InputError, match=r"^no picture with"):
        learn(World(scenes(2)), Bare(scenes(2)))


@pytest.mark.parametrize(
    ("name", "kind"), [("linear_probe", LinearProbe), ("knn", KNN), ("segmentation_probe", SegmentationProbe)]
)
def test_recipes_find_probes(name: str, kind: type[Benchmark]) -> None:
    """By name, with their options as YAML gives them; none that is wrong passes."""
    assert plugins.find("benchmarks", name) is kind
    assert kind.learns
    assert kind().tasks() is None
    kind(**options.check_options(kind, {"parents": ["clip"], "size": 64}))
    with pytest.raises(InputError, match="size"):
        options.check_options(kind, {"size": 4})


@pytest.mark.parametrize("wrong", [{"heads": []}, {"heads": ["conv"]}, {"rates": []}, {"rates": [0]}, {"batch": 1}])
def test_a_segmentation_probe_needs_heads_and_rates(wrong: dict[str, Any]) -> None:
    """None, unknown ones, and a batch that no statistics can be of, are refused by name."""
    with pytest.raises(InputError, match=next(iter(wrong))):
        options.check_options(SegmentationProbe, wrong)


# Real parents


def test_the_tiny_clip_and_sam_are_probed() -> None:
    """CLIP's trunk knows shapes that it has words for, SAM's knows them less; both are far from chance."""
    train = Shapes(layout="single", split="probe-train", count=64, size=64, masks=False)
    source = Shapes(layout="single", split="probe-test", count=32, size=64, masks=False)
    found = {}
    for name, adapter in (("clip", OpenCLIP(model="tiny")), ("sam", SAM(variant="tiny"))):
        model = {name: adapter.capability(adapter.teacher())}
        for kind, more in ((LinearProbe, {"iterations": 50}), (KNN, {})):
            found[name, kind] = kind(size=64, **more).measure(model, source, Setup(train=train))[0].value
    assert min(found["clip", LinearProbe], found["clip", KNN]) > 0.95
    assert 0.2 < found["sam", KNN] < found["clip", KNN]
    assert 0.2 < found["sam", LinearProbe] < found["clip", LinearProbe]


def test_the_tiny_sam_is_probed_for_segmentation() -> None:
    """Heads on its map tell shapes from the ground; a size that its cells do not fill is refused."""
    adapter = SAM(variant="tiny")
    model = {"sam": adapter.capability(adapter.teacher())}
    train = Shapes(layout="several", split="probe-train", count=24)
    source = Shapes(layout="several", split="probe-test", count=8)
    probe = SegmentationProbe(size=96, steps=60, batch=4, rates=(0.1,))
    assert probe.measure(model, source, Setup(train=train))[0].value > 0.15
    with pytest.raises(InputError, match="size: 100 x 100 is no multiple of the trunk's 8 pixels a cell"):
        SegmentationProbe(size=100).measure(model, source, Setup(train=train))


TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}
MEAN = VIT | {"pool_type": "avg", "final_ln_after_pool": True}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
TIMM = {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "linear"}
ATTENTIVE = TIMM | {"timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map", "timm_proj": "none"}


def parent(vision: dict[str, Any]) -> Network:
    """A CLIP of that image tower, with random weights."""
    return OpenCLIP(
        config={"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}}, random=True
    ).teacher()


@pytest.mark.parametrize(
    ("vision", "project"),
    [
        pytest.param(VIT, lambda own, summary: summary @ own.proj, id="vit"),
        pytest.param(MEAN, lambda own, summary: summary @ own.proj, id="vit of means"),
        pytest.param(RESNET, lambda own, summary: summary, id="resnet"),
        pytest.param(TIMM, lambda own, summary: own.head(summary), id="timm"),
    ],
)
def test_a_clips_summary_is_what_it_projects(
    vision: dict[str, Any], project: Callable[[nn.Module, Tensor], Tensor]
) -> None:
    """At its own size, projected, it is the embedding; a ResNet's pool has projected it already."""
    network = parent(vision)
    images = torch.rand(2, 3, vision["image_size"], vision["image_size"])
    seen = network.head.features(network.trunk, images)
    expected = network.head.embed(network.encode(images))
    torch.testing.assert_close(project(network.head.projection, seen.summary), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("vision", "channels", "cells"), [(VIT, 48, (8, 12)), (RESNET, 256, (2, 3)), (TIMM, 192, (4, 6))]
)
def test_a_clips_map_follows_the_size(vision: dict[str, Any], channels: int, cells: tuple[int, int]) -> None:
    """A cell for every patch, before the projection, where the tower takes other sizes than its own."""
    network = parent(vision)
    seen = network.head.features(network.trunk, torch.rand(1, 3, 64, 96))
    assert [tuple(each.shape) for each in seen.maps] == [(1, channels, *cells)]


def test_a_vits_map_is_its_normalised_tokens() -> None:
    """Averaged, they are what a tower that pools them by the mean projects."""
    network = parent(VIT | {"pool_type": "avg"})
    images = torch.rand(2, 3, 32, 32)
    (cells,) = network.head.features(network.trunk, images).maps
    embeddings = network.head.embed(network.encode(images))
    torch.testing.assert_close(cells.mean((2, 3)) @ network.head.projection.proj, embeddings)
