"""Independent tools on the dumped predictions give the report's own figures.

Once on the shapes world with the trained tiny parents, once on real photographs with models of real geometry.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vfmerge import engine, parts, recipe, retention
from vfmerge.cli import main
from vfmerge.data.shapes import SHAPES
from vfmerge.retention import Row

CLOSE = 1e-6
DATA = os.environ.get("VFMERGE_DATA")
REAL = pytest.mark.skipif(not DATA, reason="needs real data: set VFMERGE_DATA to its folder")

_SHAPES = """\
base: sam
parents:
  sam: {adapter: sam, options: {variant: tiny}}
  clip: {adapter: open_clip, options: {model: tiny, window: 5}}
data:
  images: {kind: shapes, layout: single, count: 16, masks: false}
  objects: {kind: shapes, layout: single, split: held-out, count: 24, masks: false}
  scenes: {kind: coco, images: SCENES, annotations: SCENES/instances.json}
stages:
  probe: {steps: 1, train: {heads.clip: 1e-4}, streams: [{data: images, size: 64, batch: 8, tasks: {clip: 1}}]}
evaluate:
  classify: {benchmark: zero_shot_classification, data: objects, size: 64, templates: plain}
  prompts: {benchmark: promptable, data: scenes}
  segment: {benchmark: zero_shot_segmentation, data: scenes, size: 96, two_head_size: 96, templates: plain}
  detect: {benchmark: instance_ap, data: scenes, detections: SCENES/detections.json}
"""

_REAL = """\
base: sam
parents:
  sam: {adapter: sam, options: {variant: vit_b, random: true}}
  clip: {adapter: open_clip, options: {model: ViT-B-32, random: true, size: 64}}
data:
  photos: {kind: folder, path: DATA/coco128/images, limit: 8}
  objects:
    kind: webdataset
    path: DATA/cifar10/cifar10-test-000000.tar
    classnames: DATA/cifar10/classnames.txt
    limit: 12
  things: {kind: coco, images: DATA/coco128/images, annotations: DATA/coco128/instances.json, limit: 1}
  panoptic:
    kind: coco_panoptic
    images: DATA/coco128/images
    masks: DATA/coco128/panoptic
    annotations: DATA/coco128/panoptic.json
    limit: 1
stages:
  probe: {steps: 1, train: {heads.clip: 1e-4}, streams: [{data: photos, size: 64, batch: 2, tasks: {clip: 1}}]}
evaluate:
  classify: {benchmark: zero_shot_classification, data: objects, size: 64, templates: plain}
  segment: {benchmark: zero_shot_segmentation, data: panoptic, size: 128, two_head_size: 128, templates: plain}
  detect: {benchmark: instance_ap, data: things, detections: SCENES/detections.json}
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the shapes world, measured with its predictions written."""
    home = tmp_path_factory.mktemp("agreement")
    scenes = _export(home / "scenes", count=10)
    return _run(home, _SHAPES.replace("SCENES", str(scenes)))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on photographs, with SAM ViT-B's geometry at 1024 pixels and a CLIP ViT-B/32, weights random."""
    home = tmp_path_factory.mktemp("real")
    (home / "scenes").mkdir()
    truth = json.loads((Path(str(DATA)) / "coco128" / "instances.json").read_text())
    first = truth["images"][0]["id"]
    boxes = [note for note in truth["annotations"] if note["image_id"] == first and not note["iscrowd"]]
    (home / "scenes" / "detections.json").write_text(json.dumps(_jitter(boxes)))
    return _run(home, _REAL.replace("SCENES", str(home / "scenes")).replace("DATA", str(DATA)))


def _run(home: Path, text: str) -> Path:
    """Merge a little, then measure the model wherever it lies, and write what it answers."""
    plan, model = home / "plan.yaml", home / "model"
    plan.write_text(text)
    engine.merge(recipe.load(str(plan), ["evaluate={}"]), home / "run", name="agreement")
    (home / "run" / "merged").rename(model)
    values = recipe.load(str(plan)).model_dump(mode="json")
    asked = [
        f"{part}.{name}={json.dumps(each)}" for part in ("data", "evaluate") for name, each in values[part].items()
    ]
    assert main(["eval", str(model), *asked, "--save-predictions"]) == 0
    return model


def _export(folder: Path, *, count: int) -> Path:
    """Scenes of the shapes world as COCO writes them, with detections that are a little wrong."""
    folder.mkdir()
    plan = recipe.load("shapes", [f"data.held_out.count={count}"])
    source = parts.build_sources(plan)["held_out"]
    images, notes = [], []
    for index in range(count):
        sample = source.read(index)
        file, (height, width) = f"{index}.png", sample.image.shape[:2]
        Image.fromarray(sample.image).save(folder / file)
        images.append({"id": index, "file_name": file, "height": height, "width": width})
        for mask, label in zip(sample.masks, sample.labels, strict=True):
            code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            code["counts"] = code["counts"].decode()
            box, area = rle.toBbox(code).tolist(), int(mask.sum())
            notes.append({"id": len(notes) + 1, "image_id": index, "category_id": int(label) + 1, "iscrowd": 0})
            notes[-1] |= {"segmentation": code, "bbox": box, "area": area}
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(SHAPES)]
    (folder / "instances.json").write_text(
        json.dumps({"images": images, "annotations": notes, "categories": categories})
    )
    (folder / "detections.json").write_text(json.dumps(_jitter(notes)))
    return folder


def _jitter(notes: list[dict]) -> list[dict]:
    """Boxes a little off, with scores; every seventh of another class."""
    draw = np.random.default_rng(0)
    return [
        {
            "image_id": note["image_id"],
            "category_id": note["category_id"] % 8 + 1 if number % 7 == 6 else note["category_id"],
            "bbox": (np.array(note["bbox"]) + draw.normal(0, 2, 4) + [0, 0, 4, 4]).clip(1).tolist(),
            "score": float(draw.random()),
        }
        for number, note in enumerate(notes)
    ]


def _rows(run: Path) -> dict[str, Row]:
    return {row.metric: row for row in retention.read(run.with_name("model.retention.json"))}


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(params=["shapes", pytest.param("real", marks=REAL)])
def run(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def _models(run: Path, evaluation: str, row: Row) -> Iterator[tuple[Path, float]]:
    """The folders of predictions of the parent and the merged model, with the reported value."""
    folder = run.with_name("model.predictions") / evaluation
    yield folder / "merged", row.merged_value
    assert row.parent_value is not None
    yield folder / f"{row.parent}_alone", row.parent_value


def test_accuracy_is_torchmetrics(run: Path) -> None:
    """Top-1 of parent and merged model."""
    from torchmetrics.classification import MulticlassAccuracy

    for folder, told in _models(run, "classify", _rows(run)["top1"]):
        answers = _lines(folder / "predictions.jsonl")
        classes = json.loads((folder / "classes.json").read_text())
        referee = MulticlassAccuracy(num_classes=len(classes), average="micro")
        first, truth = (
            torch.tensor([a[key][0] if key == "ranked" else a[key] for a in answers]) for key in ("ranked", "label")
        )
        assert referee(first, truth).item() == pytest.approx(told, abs=CLOSE)


@pytest.mark.parametrize("metric", ["miou_head", "miou_two_heads"])
def test_mean_iou_is_torchmetrics(run: Path, metric: str) -> None:
    """The mean over the classes that truly occur of torchmetrics' IoU of each class."""
    from torchmetrics.classification import MulticlassJaccardIndex

    row = _rows(run)[metric]
    folders = (
        dict(_models(run, "segment", row))
        if metric == "miou_head"
        else {run.with_name("model.predictions") / "segment" / "merged": row.merged_value}
    )
    for folder, told in folders.items():
        classes = len(json.loads((folder / "classes.json").read_text()))
        referee = MulticlassJaccardIndex(num_classes=classes, average="none", ignore_index=255, validate_args=False)
        true = torch.zeros(classes, dtype=torch.bool)
        for path in sorted((folder / "truth").iterdir()):
            truth = torch.from_numpy(np.array(Image.open(path))).long()
            answer = torch.from_numpy(np.array(Image.open(folder / metric / path.name))).long()
            referee.update(answer[None], truth[None])
            true[truth[truth != 255].unique()] = True
        assert true.sum() > 3
        assert referee.compute()[true].double().mean().item() == pytest.approx(told, abs=CLOSE)


@pytest.mark.parametrize(("metric", "file"), [("box_miou", "boxes.jsonl"), ("point_miou", "points.jsonl")])
def test_prompted_iou_is_pycocotools(shapes: Path, metric: str, file: str) -> None:
    """The mean of pycocotools' IoU of the written masks."""
    for folder, told in _models(shapes, "prompts", _rows(shapes)[metric]):
        answers = _lines(folder / file)
        found = [float(rle.iou([a["mask"]], [a["truth"]], [0])[0, 0]) for a in answers]
        assert np.mean(found) == pytest.approx(told, abs=CLOSE)


def test_average_precision_is_pycocotools(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of COCO's figures of the written results, by pycocotools' own summary."""
    rows = _rows(run)
    plan = recipe.load(str(run.parent / "plan.yaml"))
    truth = COCO(plan.data["scenes" if "scenes" in plan.data else "things"].options["annotations"])
    for folder, _ in _models(run, "detect", rows["ap"]):
        evaluator = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "segm")
        seen = {result["image_id"] for result in json.loads((folder / "results.json").read_text())}
        evaluator.params.imgIds = sorted(seen)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        mine = folder.name == "merged"
        for metric, figure in zip(("ap", "ap50", "ap75"), evaluator.stats[:3], strict=True):
            told = rows[metric].merged_value if mine else rows[metric].parent_value
            assert told == pytest.approx(figure, abs=CLOSE)
    if "scenes" in plan.data:
        assert rows["ap"].parent_value is not None
        assert rows["ap"].parent_value > 0.3


def test_average_precision_is_torchmetrics(shapes: Path) -> None:
    """Given COCO's thresholds in double precision, torchmetrics agrees too."""
    from torchmetrics.detection import MeanAveragePrecision

    rows, folder = _rows(shapes), shapes.with_name("model.predictions") / "detect" / "merged"
    truth = json.loads((shapes.parent / "scenes" / "instances.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    referee = MeanAveragePrecision(
        iou_type="segm", iou_thresholds=list(np.linspace(0.5, 0.95, 10)), rec_thresholds=list(np.linspace(0, 1, 101))
    )
    for image in truth["images"]:
        referee.update([_sheet(results, image, scored=True)], [_sheet(truth["annotations"], image, scored=False)])
    found = referee.compute()
    assert found["map"].item() == pytest.approx(rows["ap"].merged_value, abs=CLOSE)


def _sheet(notes: list[dict], image: Mapping[str, int], *, scored: bool) -> dict[str, torch.Tensor]:
    """The masks, labels and scores of one picture as torchmetrics wants them."""
    own = [note for note in notes if note["image_id"] == image["id"]]
    masks = [torch.from_numpy(_decode(note["segmentation"])) for note in own]
    empty = torch.zeros(0, image["height"], image["width"], dtype=torch.bool)
    sheet = {"masks": torch.stack(masks) if masks else empty, "labels": torch.tensor([n["category_id"] for n in own])}
    return sheet | ({"scores": torch.tensor([note["score"] for note in own])} if scored else {})


def _decode(segmentation: dict) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools, of NumPy
        return rle.decode(segmentation).astype(bool)
