"""Instance segmentation from detections against pycocotools, torchmetrics, faster-coco-eval and LVIS's written rules.

Axis letters: N boxes, H x W pixels.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import io
import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vfmerge import random
from vfmerge.benchmarks import bootstrap, instance_ap
from vfmerge.benchmarks.benchmark import Score, Setup
from vfmerge.benchmarks.instance_ap import InstanceAP
from vfmerge.benchmarks.predictions import Predictions, run_lengths
from vfmerge.capability import Promptable, PromptableImage
from vfmerge.data.coco import Coco
from vfmerge.data.folder import Folder
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.model import Network

THRESHOLDS, RECALLS = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


class Filler(Promptable):
    """Fills a box, but for its upper left corner, and the more so the further left it is: masks of any IoU."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        class Page(PromptableImage):
            mask_side = 32

            def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
                height, width = picture.shape[:2]
                drawn = torch.full((len(boxes), 1, height, width), -8.0)
                for page, (x0, y0, x1, y1) in zip(drawn[:, 0], boxes.round().int().tolist(), strict=True):
                    page[max(y0, 0) : y1, max(x0, 0) : x1] = 8.0
                    cut = 0.3 * (1 - max(x0, 0) / width)
                    page[max(y0, 0) : y0 + int(cut * (y1 - y0)), max(x0, 0) : x0 + (x1 - x0) // 2] = -8.0
                return drawn, torch.ones(len(boxes), 1)

        return Page()


def write(folder: Path, **files: object) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def export(folder: Path, *, count: int = 12) -> Path:
    """Scenes of two sizes as COCO writes them, ids in no order, one with a crowd; and what a detector might find."""
    folder.mkdir(parents=True)
    images, things = [], []
    for index in range(count):
        sample = Shapes(layout="several", split="detected", count=count, size=(96, 320)[index % 2]).read(index)
        key = 1000 - 77 * index
        Image.fromarray(sample.image).save(folder / f"{index}.png")
        images.append({"id": key, "file_name": f"{index}.png", "height": len(sample.image), "width": len(sample.image)})
        for mask, label, drawn in zip(sample.masks, sample.labels, run_lengths(sample.masks), strict=True):
            thing = {"image_id": key, "category_id": 3 * int(label) + 1, "segmentation": drawn, "iscrowd": 0}
            thing |= {"area": float(mask.sum()), "bbox": coco_mask.toBbox(drawn).tolist(), "id": len(things) + 1}
            things.append(thing)
    things[4] |= {"iscrowd": 1}
    categories = [{"id": 3 * number + 1, "name": name} for number, name in enumerate(Shapes.classes)]
    write(folder, instances={"images": images, "annotations": things, "categories": categories})
    write(folder, detections=detect(things, [each["id"] for each in categories]))
    return folder


def detect(things: Sequence[dict[str, Any]], categories: Sequence[int]) -> list[dict[str, Any]]:
    """Boxes somewhat off, twice over, some of another class; scores so coarse that many are equal."""
    draw = np.random.default_rng(0)
    found = []
    for thing in [*things, *things[::2]]:
        x, y, width, height = thing["bbox"]
        shift, scale = draw.normal(0, 0.09, 2), draw.normal(1, 0.12, 2)
        wrong = draw.random() < 0.15
        found.append(
            {
                "image_id": thing["image_id"],
                "category_id": int(draw.choice(categories)) if wrong else thing["category_id"],
                "bbox": [x + shift[0] * width, y + shift[1] * height, width * abs(scale[0]), height * abs(scale[1])],
                "score": round(float(draw.random()), 1),
            }
        )
    return found


def measure(
    folder: Path, model: Promptable, *, images: Path | None = None, setup: Setup | None = None, **options: Any
) -> dict[str, Score]:
    """The scores of a folder's detections in its pictures."""
    source = Coco(images=str(images or folder), annotations=str(folder / "instances.json"))
    benchmark = InstanceAP(detections=str(folder / "detections.json"), **options)
    return {score.metric: score for score in benchmark.measure({"sam": model}, source, setup or Setup())}


def referee(truth: dict[str, Any], results: list[dict[str, Any]], *, most: int = 100) -> dict[str, float]:
    """What pycocotools says of results, of the pictures that are listed; -1 where there is nothing."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "segm")
        evaluator.params.maxDets = [min(1, most), min(10, most), most]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    return dict(zip(METRICS, evaluator.stats, strict=False)) | {"ap": precision[precision > -1].mean()}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def decode(segmentation: dict[str, Any]) -> np.ndarray:
    """Run lengths as a bool mask [H, W]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools, of NumPy
        return coco_mask.decode(segmentation).astype(bool)


@pytest.fixture(scope="module", autouse=True)
def _few_samples() -> Iterator[None]:
    """Twenty bootstrap samples instead of two hundred."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_ap, "_TIMES", 20)
        yield


@pytest.fixture(scope="module")
def tiny() -> Promptable:
    from vfmerge_adapters.sam import SAM

    adapter = SAM(variant="tiny")
    return adapter.capability(adapter.teacher())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("instance_ap") / "scenes")


@pytest.fixture(scope="module")
def answered(scenes: Path, tiny: Promptable) -> tuple[dict[str, Score], list[dict[str, Any]]]:
    """The tiny SAM's scores, and its masks as they were written."""
    out = scenes.parent / "predictions"
    scores = measure(scenes, tiny, setup=Setup(predictions=Predictions(out)))
    return scores, read(out / "results.json")


def test_every_figure_is_pycocotools(scenes: Path, answered: tuple[dict[str, Score], list[dict[str, Any]]]) -> None:
    """On pictures with equal scores, wrong classes, doubles and a crowd, for things of all sizes."""
    scores, results = answered
    expected = referee(read(scenes / "instances.json"), results)
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected, abs=1e-12)
    assert all(0.05 < value < 0.95 for value in expected.values())
    assert len(set(expected.values())) >= 5
    things = [thing for thing in read(scenes / "instances.json")["annotations"] if not thing["iscrowd"]]
    assert scores["ap"].n == len(things)
    assert scores["ap_small"].n == sum(thing["area"] <= 32**2 for thing in things)


def test_every_figure_is_torchmetrics(scenes: Path, answered: tuple[dict[str, Score], list[dict[str, Any]]]) -> None:
    """Given COCO's thresholds and recalls in double precision, its own being single, torchmetrics says the same."""
    detection = pytest.importorskip("torchmetrics.detection")
    scores, results = answered
    truth = read(scenes / "instances.json")
    precise = {"iou_thresholds": THRESHOLDS.tolist(), "rec_thresholds": RECALLS.tolist()}
    metric = detection.MeanAveragePrecision(iou_type="segm", **precise)
    for key in sorted(image["id"] for image in truth["images"]):
        mine = [result for result in results if result["image_id"] == key]
        things = [thing for thing in truth["annotations"] if thing["image_id"] == key]
        metric.update(
            [_stack(mine) | {"scores": torch.tensor([each["score"] for each in mine])}],
            [_stack(things) | {name: torch.tensor([each[name] for each in things]) for name in ("iscrowd", "area")}],
        )
    found = metric.compute()
    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
    assert [scores[name].value for name in METRICS] == pytest.approx([float(found[name]) for name in names], abs=1e-6)


def _stack(annotations: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    masks = np.stack([decode(each["segmentation"]) for each in annotations])
    labels = torch.tensor([each["category_id"] for each in annotations])
    return {"masks": torch.from_numpy(masks), "labels": labels}


def test_a_resampled_figure_is_pycocotools_on_repeated_pictures(tmp_path: Path) -> None:
    """Each bootstrap sample equals scoring a data set in which its pictures really are there that often."""
    folder = export(tmp_path / "scenes", count=6)
    found = read(folder / "detections.json")
    for number, detection in enumerate(found):
        detection["score"] = (number * 37 % len(found) + 1) / len(found)
    write(folder, detections=found)
    scores = measure(folder, Filler(), setup=Setup(predictions=Predictions(tmp_path)))
    truth, results = read(folder / "instances.json"), read(tmp_path / "results.json")
    keys = sorted(image["id"] for image in truth["images"])
    draw = random.generator("bootstrap", len(keys))
    for turn in range(3):
        drawn = [keys[place] for place in draw.integers(len(keys), size=len(keys))]
        expected = referee(*_repeat(truth, results, drawn))
        for name in METRICS:
            got = scores[name].resampled[turn]
            assert expected[name] == pytest.approx(-1 if math.isnan(got) else got, abs=1e-12)
    assert scores["ap"].resampled.std() > 0.01


def _repeat(
    truth: dict[str, Any], results: list[dict[str, Any]], drawn: Sequence[int]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    images = {image["id"]: image for image in truth["images"]}
    new_truth: dict[str, Any] = truth | {"images": [], "annotations": []}
    new_results = []
    for number, key in enumerate(drawn):
        new_truth["images"].append(images[key] | {"id": number})
        own = [thing for thing in truth["annotations"] if thing["image_id"] == key]
        for thing in own:
            identity = len(new_truth["annotations"]) + 1
            new_truth["annotations"].append(thing | {"id": identity, "image_id": number})
        new_results += [result | {"image_id": number} for result in results if result["image_id"] == key]
    return new_truth, new_results


def test_only_measured_pictures_count(scenes: Path, tmp_path: Path) -> None:
    """With a limit, truth and detections of other pictures are as if they were not there."""
    scores = measure(scenes, Filler(), limit=5, setup=Setup(predictions=Predictions(tmp_path)))
    truth, results = read(scenes / "instances.json"), read(tmp_path / "results.json")
    seen = {result["image_id"] for result in results}
    assert len(seen) == 5
    truth["images"] = [image for image in truth["images"] if image["id"] in seen]
    truth["annotations"] = [thing for thing in truth["annotations"] if thing["image_id"] in seen]
    assert scores["ap"].value == pytest.approx(referee(truth, results)["ap"], abs=1e-12)
    assert scores["ap"].n == sum(not thing["iscrowd"] for thing in truth["annotations"])
    assert scores["ap"].value != measure(scenes, Filler())["ap"].value


def test_how_many_are_decoded_at_once_changes_nothing(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One box at a time, or all of a picture."""
    written = []
    for pixels in (1, 1 << 26):
        monkeypatch.setattr(instance_ap, "_PIXELS", pixels)
        measure(scenes, Filler(), setup=Setup(predictions=Predictions(tmp_path / str(pixels))))
        written.append((tmp_path / str(pixels) / "results.json").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("most", [1, 2])
def test_at_most_so_many_of_a_category_in_a_picture(scenes: Path, tmp_path: Path, most: int) -> None:
    """As COCO's maxDets: the best, the earlier of equals; the rest are not even asked for."""
    full = Setup(predictions=Predictions(tmp_path / "full"))
    measure(scenes, Filler(), setup=full)
    scores = measure(scenes, Filler(), max_detections=most, setup=Setup(predictions=Predictions(tmp_path / "cut")))
    truth, results = read(scenes / "instances.json"), read(tmp_path / "full" / "results.json")
    assert scores["ap"].value == pytest.approx(referee(truth, results, most=most)["ap"], abs=1e-12)
    counts = collections.Counter((r["image_id"], r["category_id"]) for r in read(tmp_path / "cut" / "results.json"))
    assert max(counts.values()) == most


def test_a_thing_whose_id_is_zero_can_be_found(tmp_path: Path) -> None:
    """pycocotools itself takes a match with it for none."""
    board(tmp_path, things=[(1, 1, (4, 4, 20, 20))], found=[(1, 1, (4, 4, 20, 20), 0.9)], first=0)
    assert measure(tmp_path, Exact())["ap"].value == pytest.approx(1)


def test_figures_of_nothing_are_left_out(tmp_path: Path) -> None:
    """No small thing, no ap_small: not 0, and not COCO's -1."""
    board(tmp_path, things=[(1, 1, (0, 0, 60, 60))], found=[(1, 1, (0, 0, 60, 60), 0.9)])
    assert list(measure(tmp_path, Exact())) == ["ap", "ap50", "ap75", "ap_medium"]


def test_a_picture_of_nothing_counts(tmp_path: Path) -> None:
    """What is found where nothing is, is wrong; where nothing is found, nothing is right."""
    one = (4, 4, 20, 20)
    board(tmp_path / "a", things=[(1, 1, one)], found=[(2, 1, one, 0.9), (1, 1, one, 0.8)])
    assert measure(tmp_path / "a", Exact())["ap"].value == pytest.approx(0.5)
    board(tmp_path / "b", things=[(1, 1, one), (2, 1, one)], found=[(2, 1, one, 0.9)])
    assert measure(tmp_path / "b", Exact())["ap"].value == pytest.approx(51 / 101)


def test_nothing_is_printed(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pycocotools would tell what it does."""
    measure(scenes, Filler(), limit=2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif("VFMERGE_DATA" not in os.environ, reason="needs real data: set VFMERGE_DATA to its folder")
def test_photographs_with_polygons_and_crowds(tmp_path: Path) -> None:
    """COCO128's own file, polygons, crowds and areas that are not those of masks: again pycocotools."""
    data = Path(os.environ["VFMERGE_DATA"]) / "coco128"
    truth = read(data / "instances.json")
    crowded = [thing["image_id"] for thing in truth["annotations"] if thing["iscrowd"]]
    assert crowded
    keys = {*crowded, *(image["id"] for image in truth["images"][:12])}
    truth["images"] = [image for image in truth["images"] if image["id"] in keys]
    truth["annotations"] = [thing for thing in truth["annotations"] if thing["image_id"] in keys]
    categories = [category["id"] for category in truth["categories"]]
    write(tmp_path, instances=truth, detections=detect(truth["annotations"], categories))
    scores = measure(tmp_path, Filler(), images=data / "images", setup=Setup(predictions=Predictions(tmp_path)))
    expected = referee(truth, read(tmp_path / "results.json"))
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected, abs=1e-12)
    assert min(expected.values()) > 0.01


# LVIS


class Exact(Filler):
    """Fills a box and nothing else."""

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        class Page(PromptableImage):
            mask_side = 32

            def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
                drawn = torch.full((len(boxes), 1, *picture.shape[:2]), -8.0)
                for page, (x0, y0, x1, y1) in zip(drawn[:, 0], boxes.round().int().tolist(), strict=True):
                    page[y0:y1, x0:x1] = 8.0
                return drawn, torch.ones(len(boxes), 1)

        return Page()


def board(
    folder: Path,
    *,
    things: Sequence[tuple[int, int, Sequence[int]]],
    found: Sequence[tuple[int, int, Sequence[int], float]],
    categories: dict[int, str] | None = None,
    negative: dict[int, list[int]] | None = None,
    partial: dict[int, list[int]] | None = None,
    first: int = 1,
) -> None:
    """Blank pictures of 64 x 64 in LVIS's format: things (picture, category, box), and found the same with a score."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = sorted({each[0] for each in (*things, *found)} | {1, 2})
    for key in keys:
        Image.new("RGB", (64, 64)).save(folder / f"{key}.png")
    images = [
        {
            "id": key,
            "file_name": f"{key}.png",
            "height": 64,
            "width": 64,
            "neg_category_ids": (negative or {}).get(key, []),
            "not_exhaustive_category_ids": (partial or {}).get(key, []),
        }
        for key in keys
    ]
    annotations = [
        {
            "id": first + number,
            "image_id": key,
            "category_id": category,
            "bbox": list(box),
            "area": box[2] * box[3],
            "segmentation": run_lengths(_rectangle(box)[None])[0],
        }
        for number, (key, category, box) in enumerate(things)
    ]
    kinds = categories or {1: "r", 2: "c", 3: "f"}
    described = [{"id": key, "name": f"thing {key}", "frequency": kind} for key, kind in kinds.items()]
    write(folder, instances={"images": images, "annotations": annotations, "categories": described})
    boxes = [{"image_id": key, "category_id": c, "bbox": list(box), "score": score} for key, c, box, score in found]
    write(folder, detections=boxes)


def _rectangle(box: Sequence[int]) -> np.ndarray:
    x, y, width, height = box
    mask = np.zeros((64, 64), dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


ONE, TWO = (4, 4, 20, 20), (34, 34, 20, 20)


def test_lvis_does_not_judge_what_was_not_looked_for(tmp_path: Path) -> None:
    """A category that is neither marked in a picture nor surely absent from it cannot be wrong there."""
    things, found = [(1, 1, ONE)], [(2, 1, ONE, 0.9), (1, 1, ONE, 0.8)]
    board(tmp_path / "a", things=things, found=found)
    board(tmp_path / "b", things=things, found=found, negative={2: [1]})
    assert measure(tmp_path / "a", Exact(), style="lvis")["ap"].value == pytest.approx(1)
    assert measure(tmp_path / "b", Exact(), style="lvis")["ap"].value == pytest.approx(0.5)


def test_lvis_counts_no_error_where_not_all_is_marked(tmp_path: Path) -> None:
    """A mask that matches nothing is wrong, unless its category is not marked completely; one that matches is right."""
    things, found = [(1, 1, ONE)], [(1, 1, TWO, 0.9), (1, 1, ONE, 0.8)]
    board(tmp_path / "a", things=things, found=found)
    board(tmp_path / "b", things=things, found=found, partial={1: [1]})
    assert measure(tmp_path / "a", Exact(), style="lvis")["ap"].value == pytest.approx(0.5)
    assert measure(tmp_path / "b", Exact(), style="lvis")["ap"].value == pytest.approx(1)


def test_lvis_limits_masks_of_a_picture_before_it_leaves_any_out(tmp_path: Path) -> None:
    """Unlike COCO's limit it is over all categories, and what is not judged uses it up."""
    found = [(1, 3, TWO, 0.9), (1, 2, TWO, 0.8), (1, 1, ONE, 0.7)]
    board(tmp_path, things=[(1, 1, ONE), (1, 2, TWO)], found=found)
    for most, expected in ((1, 0.0), (2, 0.5), (3, 1.0)):
        assert measure(tmp_path, Exact(), style="lvis", max_detections=most)["ap"].value == pytest.approx(expected)
    assert measure(tmp_path, Exact(), style="coco", max_detections=1)["ap"].value == pytest.approx(1)


def crowded(folder: Path) -> None:
    """Twelve categories in twenty pictures, each judged in some of them, with boxes more or less near."""
    draw = np.random.default_rng(3)
    things, found = [], []
    for key in range(1, 21):
        for category in draw.choice(12, size=4, replace=False) + 1:
            for _ in range(draw.integers(1, 4)):
                x, y = draw.integers(0, 36, 2)
                width, height = draw.integers(8, 26, 2)
                things.append((key, int(category), (int(x), int(y), int(width), int(height))))
    for key, category, (x, y, width, height) in [*things, *things[::3]]:
        off = draw.integers(-2, 3, 4)
        box = (max(x + int(off[0]), 0), max(y + int(off[1]), 0), width + int(off[2]), height + int(off[3]))
        other = int(draw.integers(1, 13)) if draw.random() < 0.3 else category
        found.append((key, other, box, round(float(draw.random()), 2)))
    lists = [{k: [int(c) for c in draw.choice(12, size=3, replace=False) + 1] for k in range(1, 21)} for _ in range(2)]
    marked = {(key, category) for key, category, _ in things}
    negative = {key: [c for c in some if (key, c) not in marked] for key, some in lists[0].items()}
    kinds = {category: "rcf"[category % 3] for category in range(1, 13)}
    board(folder, things=things, found=found, categories=kinds, negative=negative, partial=lists[1])


def slow_lvis(truth: dict[str, Any], results: list[dict[str, Any]], *, most: int) -> dict[str, float]:
    """LVIS's rules one by one, on masks, without any library of theirs. Masks are at least a pixel large."""
    images = {image["id"]: image for image in truth["images"]}
    marked = {(thing["image_id"], thing["category_id"]) for thing in truth["annotations"]}
    kept = []
    for key, image in sorted(images.items()):
        own = sorted((r for r in results if r["image_id"] == key), key=lambda r: -r["score"])[:most]
        kept += [r for r in own if (key, r["category_id"]) in marked or r["category_id"] in image["neg_category_ids"]]
    by_group = collections.defaultdict(list)
    for category in truth["categories"]:
        things = [t for t in truth["annotations"] if t["category_id"] == category["id"]]
        if things:
            mine = sorted((r for r in kept if r["category_id"] == category["id"]), key=lambda r: -r["score"])
            by_group[category["frequency"]].append(
                np.mean([_slow_ap(images, things, mine, threshold) for threshold in THRESHOLDS])
            )
    everything = [ap for some in by_group.values() for ap in some]
    names = {"r": "ap_rare", "c": "ap_common", "f": "ap_frequent"}
    return {"ap": float(np.mean(everything))} | {names[kind]: float(np.mean(some)) for kind, some in by_group.items()}


def _slow_ap(
    images: dict[int, Any], things: list[dict[str, Any]], results: list[dict[str, Any]], threshold: float
) -> float:
    taken: set[int] = set()
    right, wrong, curve = 0, 0, []
    for result in results:
        own = [t for t in things if t["image_id"] == result["image_id"] and t["id"] not in taken]
        ious = [(_slow_iou(result, thing), -thing["id"]) for thing in own]
        if ious and max(ious)[0] >= threshold:
            last = [thing for thing, iou in zip(own, ious, strict=True) if iou[0] == max(ious)[0]][-1]
            taken.add(last["id"])
            right += 1
        elif result["category_id"] not in images[result["image_id"]]["not_exhaustive_category_ids"]:
            wrong += 1
        else:
            continue
        curve.append((right / len(things), right / (right + wrong)))
    return float(np.mean([max((p for r, p in curve if r >= recall), default=0.0) for recall in RECALLS]))


def _slow_iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    a, b = (decode(each["segmentation"]) for each in (one, other))
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("most", [300, 6])
def test_lvis_figures_follow_its_rules(tmp_path: Path, most: int) -> None:
    """Over all categories and each group of them, with a limit that cuts and one that does not."""
    crowded(tmp_path)
    everything = Setup(predictions=Predictions(tmp_path))
    scores = measure(tmp_path, Filler(), style="lvis", max_detections=most, setup=everything)
    results = all_masks(tmp_path)
    expected = slow_lvis(read(tmp_path / "instances.json"), results, most=most)
    assert {name: score.value for name, score in scores.items()} == pytest.approx(expected, abs=1e-9)
    assert len({round(value, 6) for value in expected.values()}) == 4
    assert len(read(tmp_path / "results.json")) < len(results)


def all_masks(folder: Path) -> list[dict[str, Any]]:
    """The Filler's mask of each detection, judged or not."""
    page = Filler().set_image(np.zeros((64, 64, 3), dtype=np.uint8))
    results = []
    for detection in read(folder / "detections.json"):
        x, y, width, height = detection.pop("bbox")
        logits, _ = page.predict(boxes=torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32))
        results.append(detection | {"segmentation": run_lengths((logits[0] > 0).numpy())[0]})
    return results


def test_lvis_figures_are_those_of_faster_coco_eval(tmp_path: Path) -> None:
    """Where no picture has more masks than the limit, which it applies to each category."""
    faster = pytest.importorskip("faster_coco_eval")
    crowded(tmp_path)
    scores = measure(tmp_path, Filler(), style="lvis")
    truth = faster.COCO(read(tmp_path / "instances.json"))
    evaluator = faster.COCOeval_faster(
        truth, truth.loadRes(all_masks(tmp_path)), "segm", lvis_style=True, print_function=lambda *_: None
    )
    evaluator.params.maxDets = [300]
    evaluator.run()
    found = evaluator.stats_as_dict
    expected = {"ap": "AP_all", "ap_rare": "APr", "ap_common": "APc", "ap_frequent": "APf"}
    assert {name: score.value for name, score in scores.items()} == pytest.approx(
        {name: found[label] for name, label in expected.items()}, abs=1e-9
    )


def test_lvis_needs_a_file_of_lvis(scenes: Path, tmp_path: Path) -> None:
    """COCO's has no lists of what was looked for, and no frequencies."""
    with pytest.raises(InputError, match=r"style: lvis needs neg_category_ids .* give a file of LVIS v1"):
        measure(scenes, Filler(), style="lvis")
    board(tmp_path, things=[(1, 1, ONE)], found=[(1, 1, ONE, 0.9)], categories={1: "often"})
    with pytest.raises(InputError, match=r"style: lvis: a category in .* has no frequency of r, c or f"):
        measure(tmp_path, Exact(), style="lvis")


# What is refused

GOOD = {"image_id": 1, "category_id": 1, "bbox": [4, 4, 20, 20], "score": 0.9}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "is not JSON"),
        ('{"annotations": []}', "is no list; give a list of"),
        ("[]", "is an empty list"),
        *((json.dumps([GOOD, without(name)]), r"mend the first: \[1\] needs image_id, .*") for name in GOOD),
        *(
            (json.dumps([GOOD, GOOD | change]), rf"1 of 2 detections cannot be used, .*\[1\] {reason}")
            for change, reason in (
                ({"image_id": 99}, "image_id '99' is of no picture"),
                ({"image_id": [1]}, "needs image_id"),
                ({"category_id": 99}, "category_id 99 is of no category"),
                ({"category_id": None}, "needs image_id"),
                ({"bbox": [1, 2, 3]}, "needs image_id"),
                ({"bbox": [math.nan, 4, 20, 20]}, "bbox or score is not a finite"),
                ({"bbox": [4, 4, math.inf, 20]}, "bbox or score is not a finite"),
                ({"bbox": [4, 4, 10**400, 20]}, "bbox or score is not a finite"),
                ({"score": math.nan}, "bbox or score is not a finite"),
                ({"score": "high"}, "needs image_id"),
                ({"bbox": [4, 4, 0, 20]}, r"bbox \[4, 4, 0, 20\] covers nothing of its 64 x 64"),
                ({"bbox": [4, 4, 20, -1]}, r"bbox .* covers nothing"),
                ({"bbox": [64, 4, 20, 20]}, r"bbox .* covers nothing"),
                ({"bbox": [-30, 4, 20, 20]}, r"bbox .* covers nothing"),
            )
        ),
    ],
)
def test_detections_that_cannot_be_used_are_refused(tmp_path: Path, content: str, match: str) -> None:
    """One line that says which and why."""
    board(tmp_path, things=[(1, 1, ONE)], found=[])
    (tmp_path / "detections.json").write_text(content)
    with pytest.raises(InputError, match=f"^detections: .*{match}") as raised:
        measure(tmp_path, Exact())
    assert "\n" not in str(raised.value)


def test_a_few_detections_that_cannot_be_used_are_left_out(tmp_path: Path) -> None:
    """One in a hundred may be of no area; two may not."""
    good = [GOOD | {"score": 0.5 + number / 1000} for number in range(99)]
    board(tmp_path, things=[(1, 1, ONE)], found=[])
    write(tmp_path, detections=[*good, GOOD | {"bbox": [4, 4, 0, 0]}])
    assert measure(tmp_path, Exact())["ap"].value == pytest.approx(1)
    write(tmp_path, detections=[*good, *[GOOD | {"bbox": [4, 4, 0, 0]}] * 2])
    with pytest.raises(InputError, match=r"2 of 101 detections cannot be used, more than 1%; mend the first: \[99\]"):
        measure(tmp_path, Exact())


def test_detections_must_exist() -> None:
    """That is told when the recipe is checked, not after training."""
    with pytest.raises(InputError, match=r"detections: 'nowhere.json' does not exist"):
        InstanceAP(detections="nowhere.json")


def test_data_without_annotations_lack_them(scenes: Path) -> None:
    """Masks alone are not enough: crowds and areas stand in the file."""
    benchmark = InstanceAP(detections=str(scenes / "detections.json"))
    assert benchmark.lacks(Shapes()) == benchmark.lacks(Folder(path=str(scenes)))
    assert benchmark.lacks(Shapes()) == "an annotations file of COCO's or LVIS's format"
    assert benchmark.lacks(Coco(images=str(scenes), annotations=str(scenes / "instances.json"))) == ""


def test_pictures_without_things_are_refused(tmp_path: Path) -> None:
    """There is nothing to find in any."""
    board(tmp_path, things=[(1, 1, ONE)], found=[(1, 1, ONE, 0.9)])
    truth = read(tmp_path / "instances.json")
    truth["annotations"] = [thing | {"iscrowd": 1} for thing in truth["annotations"]]
    write(tmp_path, instances=truth)
    with pytest.raises(InputError, match="no picture with a mask among 2"):
        measure(tmp_path, Exact())


def test_the_digest_is_of_the_detections(scenes: Path, tmp_path: Path) -> None:
    """Scores are remembered by it: another file under the same name is another measurement."""
    (tmp_path / "d.json").write_bytes((scenes / "detections.json").read_bytes())
    benchmark = InstanceAP(detections=str(tmp_path / "d.json"))
    before = benchmark.digest()
    assert before == InstanceAP(detections=str(scenes / "detections.json")).digest()
    (tmp_path / "d.json").write_text("[]")
    assert benchmark.digest() != before


def test_the_interval_holds_the_figure(answered: tuple[dict[str, Score], list[dict[str, Any]]]) -> None:
    """Each metric has its bootstrap samples, around its value."""
    for score in answered[0].values():
        low, high = bootstrap.interval(score.resampled)
        assert low < score.value < high
