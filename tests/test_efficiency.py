"""Efficiency: costs that are counted equal those worked out by hand, and parents are set against one model."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import options, plugins
from vfmerge.benchmarks import cost
from vfmerge.benchmarks.benchmark import Score, Setup
from vfmerge.benchmarks.efficiency import Efficiency, noise
from vfmerge.capability import Capability, Dense
from vfmerge.data.world import Shapes
from vfmerge.model import MergedModel, Network, count
from vfmerge.recipe import Evaluation
from vfmerge.retention import measure_all
from vfmerge.subject import Subject

WORLD = Shapes(layout="several", split="held-out", count=2)
PLAIN = {"parameters_m", "gflops", "peak_mb", "latency_ms"}
ONE_PASS = {"gflops_one_pass", "peak_mb_one_pass", "latency_ms_one_pass"}


class Projection(nn.Module):
    """A trunk of one matrix product: [n, 3 x 8 x 8] by [192, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 10, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(F.unfold(images, 8, stride=8).transpose(1, 2))


class Cells(Dense):
    """What a trunk sees, without a head; its own size is 16 pixels."""

    def __init__(self, trunk: nn.Module, *, head: nn.Module | None = None) -> None:
        super().__init__(Network(trunk, head or nn.Identity()))

    @torch.no_grad()
    def encode_cells(self, pictures, *, size=None):
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
        return self.network.head(self.network.trunk(F.interpolate(images, size=(size or 16, size or 16))))


class Fixed(Cells):
    """As Cells, for squares of 32 pixels and no other."""

    fixed_size = 32

    def encode_cells(self, pictures, *, size=None):
        return super().encode_cells(pictures, size=32)


def measured(model: dict[str, Capability], **options: int) -> dict[str, Score]:
    return {score.metric: score for score in Efficiency(repeats=2, **options).measure(model, WORLD)}


@pytest.fixture(scope="module")
def parents() -> dict[str, Network]:
    return {"sam": SAM(variant="tiny").teacher(), "clip": OpenCLIP(model="tiny").teacher()}


@pytest.fixture(scope="module")
def models(parents: dict[str, Network]) -> tuple[dict[str, Capability], dict[str, Capability]]:
    """The tiny parents, and a merged model that was not trained."""
    adapters = {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny", layers=1)}
    merged = MergedModel(adapters, base="sam")
    return {name: adapters[name].capability(parents[name]) for name in adapters}, merged.eval().capabilities()


def test_operations_are_counted_by_hand() -> None:
    """Two for each multiplication of a matrix product, a convolution and attention, fused by torch or not."""
    linear, conv = nn.Linear(7, 5), nn.Conv2d(3, 4, 2, stride=2)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x, image = torch.rand(1, 6, 8), torch.rand(1, 3, 4, 4)
    attended = 2 * 6 * 8 * 4 * 8 + 2 * 2 * 6 * 6 * 8  # four projections, and two products of all with all
    with torch.no_grad():
        assert cost.flops(lambda: linear(torch.rand(3, 7))) == 2 * 3 * 7 * 5
        assert cost.flops(lambda: conv(image)) == 2 * 2 * 2 * (3 * 2 * 2) * 4
        assert cost.flops(lambda: attention(x, x, x, need_weights=False)) == attended
        assert cost.flops(lambda: layer(x)) == attended + 2 * 2 * 6 * 8 * 16
    assert torch.backends.mha.get_fastpath_enabled()


@torch.no_grad()
def test_memory_is_what_lives_at_once() -> None:
    """Views hold nothing of their own, and neither weights nor what is freed counts; results that are kept do."""
    weight = torch.rand(1000)

    def step() -> None:
        x = weight * 2
        x = x.view(10, 100) + 1
        x.add_(1)
        x = x[:, 3:]

    def keep() -> None:
        kept = [weight + n for n in range(5)]
        assert len(kept) == 5

    assert cost.peak_bytes(lambda: weight.view(10, 100)[2:]) == 0
    assert cost.peak_bytes(step) == 2 * 4000  # the next is made while the last is there
    assert cost.peak_bytes(keep) == 5 * 4000
    assert cost.peak_bytes(step) == 2 * 4000


def test_seconds_are_of_the_work() -> None:
    """At least as long as the work sleeps, and not much longer."""
    taken = cost.seconds(lambda: time.sleep(0.02), torch.device("cpu"))
    assert 0.02 <= taken < 1


def test_a_shared_trunk_counts_once() -> None:
    """Parameters by identity; two capabilities at their own sizes pass the trunk twice."""
    trunk = Projection()
    model = {"one": Cells(trunk), "two": Cells(trunk, head=nn.Linear(10, 3))}
    found = measured(model)
    assert found["parameters_m"].value == pytest.approx((1920 + 33) / 1e6)
    passed = 2 * 4 * 192 * 10
    assert found["gflops"].value == pytest.approx((2 * passed + 2 * 4 * 10 * 3) / 1e9)
    assert found.keys() == PLAIN
    assert {score.task for score in found.values()} == {"one + two"}
    assert {score.better for score in found.values()} == {"lower"}


def test_size_is_of_all_that_take_several() -> None:
    """`size` is given to each capability, and to none that takes one size alone."""
    passed = 2 * 192 * 10  # a cell
    assert measured({"a": Cells(Projection())})["gflops"].value == pytest.approx(4 * passed / 1e9)
    assert measured({"a": Cells(Projection())}, size=24)["gflops"].value == pytest.approx(9 * passed / 1e9)
    assert measured({"a": Fixed(Projection())}, size=24)["gflops"].value == pytest.approx(16 * passed / 1e9)


def test_one_pass_is_of_one_trunk_at_one_size() -> None:
    """At the size of the capability that takes no other, else at the option's; not of two trunks, nor of one task."""
    trunk = Projection()
    passed = 2 * 192 * 10
    found = measured({"one": Cells(trunk), "two": Fixed(trunk)})
    assert found.keys() == PLAIN | ONE_PASS
    assert found["gflops"].value == pytest.approx((4 + 16) * passed / 1e9)
    assert found["gflops_one_pass"].value == pytest.approx((16 + 16) * passed / 1e9)  # this trunk remembers nothing
    assert measured({"one": Cells(trunk), "two": Cells(trunk)}, size=16).keys() == PLAIN | ONE_PASS
    assert measured({"one": Cells(trunk), "two": Fixed(Projection())}).keys() == PLAIN
    assert measured({"two": Fixed(trunk)}).keys() == PLAIN


def test_the_merged_model_passes_its_trunk_once(models: tuple[dict[str, Capability], dict[str, Capability]]) -> None:
    """At one size the trunk's operations are there once: two passes at that size less one."""
    parents, merged = models
    found = measured(merged)
    trunk = merged["sam"].network.trunk
    with torch.no_grad():
        once = cost.flops(lambda: trunk(torch.rand(1, 3, 96, 96)))
        apart = sum(
            cost.flops(lambda c=c, n=n: c.exercise(noise((96, 96), n), size=96)) for n, c in enumerate(merged.values())
        )
    assert found["gflops_one_pass"].value == pytest.approx((apart - once) / 1e9)
    assert found["parameters_m"].value < measured(parents)["parameters_m"].value
    assert found["parameters_m"].value == pytest.approx(
        (count(trunk) + sum(count(capability.network.head) for capability in merged.values())) / 1e6
    )


def test_no_run_uses_what_another_computed(models: tuple[dict[str, Capability], dict[str, Capability]]) -> None:
    """Every repeat passes the trunk, although its last features are remembered."""
    _, merged = models
    passes: list[int] = []
    hook = merged["sam"].network.trunk.trunk.register_forward_hook(lambda *given: passes.append(1))
    Efficiency(repeats=3).measure(merged, WORLD)
    hook.remove()
    assert len(passes) == (2 + 1) * (3 + 3)  # two passes a run, then one; three repeats and three runs beside


def test_pictures_are_as_large_as_the_data() -> None:
    """Without a size, the picture is as large as the first of the data."""
    seen: list[tuple[int, ...]] = []

    class Watching(Cells):
        def exercise(self, picture, *, size=None):
            seen.append((*picture.shape, size or 0))

    Efficiency(repeats=1).measure({"a": Watching(Projection())}, WORLD)
    Efficiency(repeats=1, size=24).measure({"a": Watching(Projection())}, WORLD)
    assert seen == [(96, 96, 3, 0)] * 4 + [(24, 24, 3, 24)] * 4


def test_progress_ends() -> None:
    """Each run is told of, the last too."""
    told: list[tuple[int, int]] = []
    Efficiency(repeats=2).measure({"a": Cells(Projection())}, WORLD, Setup(progress=lambda *done: told.append(done)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_only_time_has_an_interval(models: tuple[dict[str, Capability], dict[str, Capability]]) -> None:
    """The median of the repeats is resampled; what is counted is exact."""
    found = measured(models[1])
    assert {name for name, score in found.items() if len(score.resampled)} == {"latency_ms", "latency_ms_one_pass"}
    assert (found["latency_ms"].resampled > 0).all()
    assert found["latency_ms"].n == 2


def test_rows_compare_all_parents_with_one_model(models: tuple[dict[str, Capability], dict[str, Capability]]) -> None:
    """The retention table's rows: less is better, and one pass is set against the parents' own figures."""
    parents, merged = (Subject(name=name, capabilities=model) for name, model in zip("pm", models, strict=True))
    evaluate = {"cost": Evaluation(benchmark="efficiency", data="world", repeats=1)}
    rows = {row.metric: row for row in measure_all(evaluate, parents, [merged], {"world": WORLD})}
    assert rows.keys() == PLAIN | ONE_PASS
    assert {(row.parent, row.capability) for row in rows.values()} == {("sam + clip", "all")}
    assert rows["gflops_one_pass"].parent_value == rows["gflops"].parent_value
    for row in rows.values():
        assert row.retention == pytest.approx(row.parent_value / row.merged_value)
    assert rows["parameters_m"].retention > 1


def test_it_is_installed() -> None:
    """The entry point leads here, and its options are checked."""
    kind = plugins.find("benchmarks", "efficiency")
    assert kind is Efficiency
    assert options.check_options(kind, {"repeats": 3}, where="x") == {"repeats": 3}
