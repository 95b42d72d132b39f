"""Streams: the order of samples, and how they become a batch."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from typing import Any

import numpy as np
import pytest
import torch

from vfmerge import stream as streams
from vfmerge.adapter import Batch
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, RunError
from vfmerge.fitting import Fitting, fitting
from vfmerge.recipe import Stream
from vfmerge.square import Square
from vfmerge.stream import Plan, Steps, batches, collate, in_order

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Numbers(Source):
    """Pictures that show their own number; those in `bad` cannot be read."""

    def __init__(self, length: int, *, bad: tuple[int, ...] = (), masks: bool = False) -> None:
        self.length, self.bad, self.has_masks = length, bad, masks

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Sample:
        if index in self.bad:
            raise BadSample(f"picture {index}: torn")
        image = np.full((32, 32, 3), index, dtype=np.uint8)
        masks = np.zeros((5, 32, 32), dtype=bool)
        masks[np.arange(5), np.arange(5), :] = True
        return Sample(image=image, name=str(index), masks=masks if self.has_masks else None, labels=np.arange(5))

    def digest(self) -> str:
        return "numbers"


def stream(batch: int = 6, **more: object) -> Stream:
    return Stream.model_validate({"data": "d", "size": 32, "batch": batch, "tasks": {"t": 1.0}} | more)


def plan(stream: Stream, *, length: int, step: int, seed: int = 0, place: str = "s/0") -> Plan:
    return Steps(Numbers(length), stream, seed=seed, place=place).plan(step)


def test_every_sample_is_seen_once_an_epoch() -> None:
    """Consecutive steps walk through keyed shuffles, each whole; two epochs differ."""
    planned = [plan(stream(), length=24, step=step).indices for step in range(8)]
    first, second = list(itertools.chain(*planned[:4])), list(itertools.chain(*planned[4:]))
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second
    assert first != sorted(first)


def test_a_batch_may_cross_epochs() -> None:
    """A batch that is no divisor of the data, or larger than it, still sees every sample equally often."""
    seen = [i for step in range(7) for i in plan(stream(10), length=7, step=step).indices]
    assert sorted(seen) == sorted(list(range(7)) * 10)


@pytest.mark.parametrize("other", [{"seed": 1}, {"place": "s/1"}])
def test_order_depends_on_seed_and_place(other: dict[str, object]) -> None:
    """Another seed or stream is another order."""
    arguments = {"length": 100, "step": 0}
    assert plan(stream(), **arguments) != plan(stream(), **arguments | other)  # type: ignore[arg-type]


def test_sizes_of_a_list_are_drawn_per_step() -> None:
    """Both sizes occur about equally often, and a step's is always the same."""
    two = stream(size=(32, 64))
    sizes = [plan(two, length=10, step=step).size for step in range(200)]
    assert sizes == [plan(two, length=10, step=step).size for step in range(200)]
    assert 70 < sizes.count(32) < 130


def test_a_bad_sample_is_replaced_by_a_determined_other() -> None:
    """The batch stays full, the bad one is reported, and twice is the same."""
    steps = Steps(Numbers(12, bad=(5,)), stream(12), seed=0, place="s/0")
    batch, bad = steps[0]
    again, _ = steps[0]
    assert len(batch.names) == 12
    assert "5" not in batch.names
    assert [(each.index, each.reason) for each in bad] == [(5, "picture 5: torn")]
    assert batch.names == again.names


def test_nothing_but_bad_samples_stops() -> None:
    """A stream without one good sample is a fault that names its data."""
    steps = Steps(Numbers(4, bad=(0, 1, 2, 3)), stream(), seed=0, place="s/0")
    with pytest.raises(RunError, match=r"data\.d"):
        steps[0]


def test_workers_give_the_same_batches() -> None:
    """Loading in two processes changes nothing, wherever it starts."""
    steps = Steps(Numbers(40, masks=True), stream(), seed=3, place="s/0")
    alone = list(batches(steps, start=2, stop=6, workers=0))
    spread = list(batches(steps, start=2, stop=6, workers=2))
    for (one, _), (other, _) in zip(alone, spread, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.images.stride() == other.images.stride()
        assert torch.equal(_masks(one), _masks(other))
        assert (one.keys, one.names) == (other.keys, other.names)


class Whose(Numbers):
    """A source whose samples' names say which process read them."""

    def read(self, index: int) -> Sample:
        return dataclasses.replace(super().read(index), name=f"{index} {os.getpid()}")


def test_all_samples_in_order_by_another_process() -> None:
    """What a cache is filled from is read by the loading processes, each sample once and in the source's order.

    The global generator of random numbers is not drawn from.
    """
    steps, before = Steps(Whose(20), stream(), seed=3, place="s/0"), torch.get_rng_state()
    names = [name.split() for batch, _ in in_order(steps, size=32, start=6, workers=1) for name in batch.names]
    assert [int(index) for index, _ in names] == list(range(6, 20))
    assert len({reader for _, reader in names} | {str(os.getpid())}) == 2
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("batch", "size", "masks", "workers", "ahead"),
    [
        (2048, 224, False, 4, 2),  # 2.3 GiB wait
        (2048, (224, 448), False, 2, 1),  # 4.6 GiB where the larger size is drawn
        (2048, 224, False, 8, 1),
        (1400, 224, False, 4, 2),
        (1400, 224, True, 4, 1),  # with 32 masks a picture 25 GiB
    ],
)
def test_batches_that_wait_take_no_more_than_their_room(
    monkeypatch: pytest.MonkeyPatch, batch: int, size: Any, masks: bool, workers: int, ahead: int
) -> None:
    """Each loading process has a second batch at hand as long as all together stay below 4 GiB."""
    asked: list[int] = []
    monkeypatch.setattr(streams, "DataLoader", lambda *_, prefetch_factor, **__: asked.append(prefetch_factor) or [])
    steps = Steps(Numbers(9, masks=masks), stream(batch, size=size), seed=0, place="s/0")
    assert not list(batches(steps, start=0, stop=1, workers=workers))
    assert not list(in_order(steps, size=224, workers=workers))
    assert asked[0] == ahead
    assert asked[1] == (ahead if size == 224 else 2)


LEVELS = np.arange(256, dtype=np.uint8)


def shades() -> Batch:
    """A batch with every value of a byte."""
    image = np.stack([LEVELS.reshape(16, 16), LEVELS[::-1].reshape(16, 16), LEVELS.reshape(16, 16).T], axis=2)
    samples = [Sample(image=image, name="x"), Sample(image=image[:, ::-1].copy(), name="y")]
    return collate(samples, stream(2), size=16, keys=(1, 2))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_images_travel_as_bytes(device: str) -> None:
    """On their device they are divided by 255 in full precision: to the bit as on the CPU, and laid out as before."""
    batch = shades()
    moved = batch.to(device).images.cpu()
    assert batch.images.dtype == torch.uint8
    assert moved.dtype == torch.float32
    assert np.array_equal(moved.numpy(), batch.images.numpy().astype(np.float32) / np.float32(255))
    assert moved[0, 0].flatten().tolist() == [(torch.tensor(float(level)) / 255).item() for level in LEVELS]
    assert moved.stride() == (batch.images.float() / 255).stride()
    assert torch.equal(dataclasses.replace(batch, images=moved.clone()).to(device).images.cpu(), moved)


def _masks(batch: Batch) -> torch.Tensor:
    assert batch.masks is not None
    return batch.masks


def test_keys_differ_by_step_and_sample() -> None:
    """What an adapter draws for a sample is new at every step."""
    steps = Steps(Numbers(6), stream(), seed=0, place="s/0")
    keys = {key for step in range(10) for key in steps.keys(step)}
    assert len(keys) == 60


def test_at_most_so_many_masks_an_image() -> None:
    """Masks are drawn without repetition, owners count images, labels go along."""
    steps = Steps(Numbers(6, masks=True), stream(3, masks=2), seed=0, place="s/0")
    batch, _ = steps[0]
    assert batch.owner is not None
    assert batch.labels is not None
    assert batch.owner.tolist() == [0, 0, 1, 1, 2, 2]
    assert [int(mask.any(1).int().argmax()) for mask in _masks(batch)] == batch.labels.tolist()


def test_pictures_without_masks_make_an_empty_list_of_masks() -> None:
    """A picture may have none, and so may all."""
    none = Sample(image=np.zeros((32, 32, 3), np.uint8), name="x", masks=np.zeros((0, 32, 32), bool))
    batch = collate([none, none], stream(2), size=32, keys=(1, 2))
    assert _masks(batch).shape == (0, 32, 32)


def test_pictures_without_things_of_any_class_have_no_labels() -> None:
    """None of the masks that there are none of: the labels are an empty list too."""
    facts = {"image": np.zeros((32, 32, 3), np.uint8), "masks": np.zeros((0, 32, 32), bool)}
    none = Sample(name="x", labels=np.zeros(0, np.int64), **facts)  # type: ignore[arg-type]
    batch = collate([none, none], stream(2), size=32, keys=(1, 2))
    assert batch.labels is not None
    assert batch.labels.shape == (0,)
    assert batch.labels.dtype == torch.int64


def test_batches_know_the_names_of_their_classes() -> None:
    """Those of the data set, with masks or without."""
    for masks in (True, False):
        source = Numbers(6, masks=masks)
        source.classes = ("one", "two", "three", "four", "five")
        batch, _ = Steps(source, stream(), seed=0, place="s/0")[0]
        assert batch.classes == source.classes


def test_each_mask_says_whether_it_is_rough() -> None:
    """As its sample does; where no sample is, nothing is said."""
    image, masks = np.zeros((32, 32, 3), np.uint8), np.ones((2, 32, 32), bool)
    fine = Sample(image=image, name="fine", masks=masks, labels=np.arange(2))
    rough = Sample(image=image, name="rough", masks=masks[:1], labels=np.arange(1), rough=True)
    batch = collate([fine, rough, fine], stream(3), size=32, keys=(1, 2, 3))
    assert batch.rough is not None
    assert batch.rough.tolist() == [False, False, True, False, False]
    assert collate([fine, fine], stream(2), size=32, keys=(1, 2)).rough is None


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40), (7, 500), (64, 64)])
def test_a_whole_picture_is_not_its_padding(height: int, width: int) -> None:
    """The mask ends where the picture does, also where masks are smaller than pictures."""
    image, masks = np.zeros((height, width, 3), np.uint8), np.ones((1, height, width), bool)
    one = Sample(image=image, name="x", masks=masks, labels=np.arange(1), rough=True)
    batch = collate([one], stream(1, fit="pad"), size=512, keys=(1,))
    black = batch.images[0].eq(0).all(0)
    rows, columns = (round(int(black.any(axis).sum()) / 2) for axis in (1, 0))
    expected = torch.zeros(256, 256, dtype=torch.bool)
    expected[:rows, :columns] = True
    assert torch.equal(_masks(batch)[0], expected)


@pytest.mark.parametrize(("height", "width"), [(40, 100), (100, 40), (33, 32), (7, 500)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_masks_are_cut_as_their_pictures(height: int, width: int, fit: str) -> None:
    """A white box on black lands where its mask lands, in a square of the wanted size."""
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height // 2, width // 3 : width * 3 // 4] = True
    image = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=2)
    fitting = Fitting(cropped=fit == "crop")
    square, cut, where = fitting.image(image, 64), fitting.mask(mask, 64), fitting.mask(np.ones_like(mask), 64)
    assert square.shape == (64, 64, 3)
    assert max(where.any(1).sum(), where.any(0).sum()) == 64
    bright = (square[..., 0] > 127) & where
    union = (bright | cut).sum()
    assert union == 0 or (bright & cut).sum() / union > 0.6
    if fit == "pad":
        assert not cut[~where].any()
        assert (square[~where] == (124, 116, 104)).all()


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.9])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_mask_goes_with_its_picture(fit: str, scale: float) -> None:
    """At another scale, at the place that was drawn, and mirrored: the mask covers the thing."""
    mask = np.zeros((90, 130), dtype=bool)
    mask[20:70, 30:90] = True
    image = np.where(mask[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    fitting = Fitting(cropped=fit == "crop", scale=scale, place=(0.3, 0.6), mirrored=True)
    square, cut, where = fitting.image(image, 64), fitting.mask(mask, 64), fitting.mask(np.ones_like(mask), 64)
    inner = int(where.any(1).sum()), int(where.any(0).sum())
    bright = (square[..., 0] > 127) & where
    assert (bright & cut).sum() / (bright | cut).sum() > 0.85
    plain = dataclasses.replace(fitting, mirrored=False)
    there = square[: inner[0], : inner[1]]
    assert (plain.image(image, 64)[: inner[0], : inner[1]] == there[:, ::-1]).all()
    wide = 64 * scale if fit == "pad" else 64 * scale * 130 / 90
    assert inner[1] == min(round(wide), 64)


def test_padding_is_the_same_in_use() -> None:
    """What a model saw beside pictures as it learnt it sees beside those that it is asked about."""
    wide = np.zeros((20, 64, 3), np.uint8)
    asked = Square.of(wide, side=64)
    padding = asked.pixels[asked.inner[0] :]
    assert padding.any()
    assert np.array_equal(padding, Fitting(cropped=False).image(wide, 64)[asked.inner[0] :])


def test_what_is_drawn_of_a_sample() -> None:
    """Its scale, its place and whether it is mirrored are functions of its key, spread over what the stream allows."""
    plan = stream(1, flip=0.25, scale=(0.5, 2.0))
    drawn = [fitting(plan, key) for key in range(400)]
    assert drawn == [fitting(plan, key) for key in range(400)]
    scales = np.array([each.scale for each in drawn])
    assert 0.5 <= scales.min() < 0.6
    assert 1.9 < scales.max() <= 2.0
    assert np.mean([each.mirrored for each in drawn]) == pytest.approx(0.25, abs=0.06)
    assert len({each.place for each in drawn}) == 400
    assert fitting(stream(1), 7) == Fitting(cropped=True)
    only_flip = fitting(stream(1, flip=1.0), 7)
    assert only_flip == Fitting(cropped=True, mirrored=True)


def test_a_fault_in_a_worker_is_the_same_one_line() -> None:
    """Data without one good sample stops a run in the same words, whoever loads it."""
    steps = Steps(Numbers(4, bad=(0, 1, 2, 3)), stream(), seed=0, place="s/0")
    with pytest.raises(RunError) as here:
        next(batches(steps, start=0, stop=1, workers=0))
    with pytest.raises(RunError) as there:
        next(batches(steps, start=0, stop=1, workers=1))
    assert str(there.value) == str(here.value)


class Deadly(Numbers):
    """A source that takes its process along."""

    def read(self, index: int) -> Sample:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


def test_a_killed_worker_is_a_fault_of_one_line() -> None:
    """The run is told which data were being loaded, and that it can go on."""
    steps = Steps(Deadly(4), stream(), seed=0, place="s/0")
    with pytest.raises(RunError, match=r"data\.d: a loading process died") as error:
        next(batches(steps, start=0, stop=1, workers=1))
    assert len(str(error.value).splitlines()) == 1
