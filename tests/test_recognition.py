"""Promptable recognition: the benchmark, the baselines that it is set beside, and what a report shows of it.

Axis letters: N prompts, H x W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes.rectangles import CLASSES, DRAWN, Namer, Outliner, Reader, World
from PIL import Image
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import retention
from vfmerge.benchmarks import crops
from vfmerge.benchmarks.benchmark import Setup
from vfmerge.benchmarks.predictions import Predictions, run_lengths
from vfmerge.benchmarks.promptable import Promptable as PromptableBenchmark
from vfmerge.benchmarks.recognition import Recognition as Benchmark
from vfmerge.benchmarks.things import box_ious
from vfmerge.capability import (
    Capability,
)
from vfmerge.data.coco import Coco
from vfmerge.data.source import Source
from vfmerge.data.world import Shapes
from vfmerge.errors import InputError
from vfmerge.recipe import Evaluation
from vfmerge.report import recognition, report
from vfmerge.retention import Row
from vfmerge.store import Store
from vfmerge.subject import Subject

BLIND = {"blue": "green"}


def values(benchmark: Benchmark, model: Mapping[str, Capability], source: Source, **setup: Any) -> dict[str, float]:
    return {score.metric: score.value for score in benchmark.measure(model, source, Setup(**setup))}


def test_masks_and_names_are_judged_thing_by_thing() -> None:
    """Of a model that outlines all and calls blue things green: of base, of novel, and of all classes."""
    namer = Namer(mistaken=BLIND)
    scores = Benchmark().measure({"recognition": namer}, World())
    found = {score.metric: (score.task, score.value, score.n, score.against) for score in scores}
    third = pytest.approx(2 / 3)
    for prompts in ("box", "point"):
        assert found[f"{prompts}_iou"] == ("sam", 1.0, 6, None)
        assert found[f"{prompts}_iou_base"] == ("sam", 1.0, 4, None)
        assert found[f"{prompts}_iou_novel"] == ("sam", 1.0, 2, None)
        assert found[f"{prompts}_accuracy"] == ("recognition", third, 6, None)
        assert found[f"{prompts}_accuracy_base"] == ("recognition", 1.0, 4, None)
        assert found[f"{prompts}_accuracy_novel"] == ("recognition", 0.0, 2, None)
    assert len(found) == 12
    assert namer.asked == [3] * 4  # of a picture at once: boxes, then points


def test_the_vocabulary_is_all_classes_with_every_sentence() -> None:
    """In the order of the data's classes; it says which of them were seen."""
    namer = Namer()
    Benchmark(prompts="boxes", templates=("a {}.", "the {}.")).measure({"recognition": namer}, World())
    assert namer.told[0].words.tolist() == [[[1, 0, 0]] * 2, [[0, 1, 0]] * 2, [[0, 0, 1]] * 2]
    assert namer.told[0].seen.tolist() == [True, True, False]


def test_a_segmenter_alone_has_its_masks_judged_and_no_names() -> None:
    """A box gives its single mask, a point the best of three, as where prompts alone are measured."""
    found = values(Benchmark(), {"sam": Outliner()}, World())
    assert found == {
        f"{prompts}_iou{group}": pytest.approx(value)
        for prompts, value in (("box", 0.5), ("point", 1.0))
        for group in ("", "_base", "_novel")
    }
    plain = {score.metric: score.value for score in PromptableBenchmark().measure({"sam": Outliner()}, World())}
    assert plain == {"box_miou": pytest.approx(found["box_iou"]), "point_miou": pytest.approx(found["point_iou"])}
    assert Benchmark().measure({"clip": Reader()}, World()) == []


def test_without_novel_classes_there_is_no_split() -> None:
    """And what the data has no thing of is left out."""

    model = {"recognition": Namer()}
    plain, novel = World(unseen=frozenset()), World(unseen=frozenset(CLASSES))
    assert values(Benchmark(prompts="points"), model, plain) == {"point_iou": 1.0, "point_accuracy": 1.0}
    expected = {f"box_{skill}{group}": 1.0 for skill in ("iou", "accuracy") for group in ("", "_novel")}
    assert values(Benchmark(prompts="boxes"), model, novel) == expected


def test_limits() -> None:
    """So many pictures, and the first so many things of each."""
    benchmark = Benchmark(limit=3, masks=2, prompts="boxes")
    (score,) = (
        each for each in benchmark.measure({"sam": Outliner()}, World([3] * 5 + [0])) if each.metric == "box_iou"
    )
    assert score.n in (4, 6)  # the picture of nothing may be among the three
    assert Benchmark(masks=1).measure({"sam": Outliner()}, World([3, 0]))[0].n == 1


@pytest.mark.parametrize("changes", [{"labels": None}, {"rough": True}, {"masks": None}])
def test_pictures_that_cannot_be_judged(changes: dict[str, Any]) -> None:
    """Those without names or outlines are left out; where no picture is left, that is said."""
    with pytest.raises(InputError, match="no picture with masks and labels among 3; give data that has both"):
        Benchmark().measure({"sam": Outliner()}, World(**changes))


def test_answers_are_written(tmp_path: Path) -> None:
    """A line for each thing: what was asked, what came, the likeliest classes, and what is true."""
    setup = {"predictions": Predictions(tmp_path)}
    values(Benchmark(), {"recognition": Namer(mistaken=BLIND)}, World(), **setup)
    lines = [json.loads(line) for line in (tmp_path / "boxes.jsonl").read_text().splitlines()]
    assert [(line["name"], line["number"]) for line in lines] == [(f"world/{i}", n) for i in (0, 1) for n in (0, 1, 2)]
    assert [line["class"] for line in lines[:3]] == ["red", "green", "blue"]
    assert [line["named"][0][0] for line in lines[:3]] == ["red", "green", "green"]
    assert [len(line["named"]) for line in lines] == [3] * 6
    assert [line["seen"] for line in lines[:3]] == [True, True, False]
    truth = World().read(0).masks[DRAWN]
    assert [line["mask"] for line in lines[:3]] == [line["truth"] for line in lines[:3]] == run_lengths(truth)
    assert lines[0]["prompt"] == [6, 4, 29, 19]
    assert lines[0]["iou"] == 1.0
    points = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    places = [[int(value) for value in line["prompt"][0]] for line in points[:3]]
    assert all(mask[y, x] for mask, (x, y) in zip(truth, places, strict=True))


class Detected:
    """Three scenes in COCO's format, and a detector that finds some of their things."""

    def __init__(self, folder: Path) -> None:
        sample = World().read(0)
        Image.fromarray(sample.image).save(folder / "7.png")
        drawn = run_lengths(sample.masks[DRAWN])
        things = [{"image_id": 7, "category_id": n + 1, "segmentation": each, "id": n} for n, each in enumerate(drawn)]
        content = {
            "images": [{"id": 7, "file_name": "7.png", "height": 40, "width": 60}],
            "annotations": things,
            "categories": [{"id": n + 1, "name": name} for n, name in enumerate(CLASSES)],
        }
        (folder / "instances.json").write_text(json.dumps(content))
        boxes = [
            (3, [6, 4, 24, 16]),  # red, taken for blue
            (1, [4, 4, 24, 16]),  # red again, a little off
            (3, [36, 10, 20, 13]),  # 13 of blue's 24 rows
            (2, [10, 24, 16, 5]),  # 5 of green's 12 rows: too few
        ]
        found = [{"image_id": 7, "category_id": c, "bbox": box, "score": 0.5} for c, box in boxes]
        (folder / "detections.json").write_text(json.dumps(found))
        self.source = Coco(images=str(folder), annotations=str(folder / "instances.json"))
        self.path = folder / "detections.json"


def test_detected_boxes(tmp_path: Path) -> None:
    """A thing is asked for by the box nearest to its own, whatever that was taken for; without one, it is missed."""
    detected = Detected(tmp_path)
    benchmark = Benchmark(detections=str(detected.path), prompts="boxes")
    found = values(benchmark, {"recognition": Namer()}, detected.source, predictions=Predictions(tmp_path / "out"))
    assert found == {"detected_iou": pytest.approx(2 / 3), "detected_accuracy": pytest.approx(2 / 3)}
    lines = [json.loads(line) for line in (tmp_path / "out" / "detections.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == [[6, 4, 30, 20], None, [36, 10, 56, 23]]
    assert [line["mask"] is None for line in lines] == [False, True, False]
    assert set(values(Benchmark(detections=str(detected.path)), {"sam": Outliner()}, detected.source)) == {
        "detected_iou",
        "point_iou",
    }


def test_detections_without_any_near_box(tmp_path: Path) -> None:
    """Nothing is asked, and everything is missed."""
    detected = Detected(tmp_path)
    one = [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "score": 0.5}]
    detected.path.write_text(json.dumps(one))
    namer = Namer()
    found = values(Benchmark(detections=str(detected.path), prompts="boxes"), {"recognition": namer}, detected.source)
    assert found == {"detected_iou": 0.0, "detected_accuracy": 0.0}
    assert namer.asked == []


def test_box_ious() -> None:
    """Against counting pixels."""
    draw = np.random.default_rng(0)
    first, second = (np.sort(draw.integers(0, 20, (5, 2, 2)), axis=1) for _ in range(2))
    first[:, 1], second[:, 1] = first[:, 1] + 1, second[:, 1] + 1  # each has an area

    def fill(boxes: np.ndarray) -> np.ndarray:
        drawn = np.zeros((5, 21, 21), dtype=bool)
        for mask, ((x0, y0), (x1, y1)) in zip(drawn, boxes, strict=True):
            mask[y0:y1, x0:x1] = True
        return drawn

    a, b = fill(first)[:, None], fill(second)[None]
    expected = (a & b).sum((2, 3)) / (a | b).sum((2, 3))
    np.testing.assert_allclose(box_ious(first.reshape(5, 4), second.reshape(5, 4)), expected)


def test_mistaken_options(tmp_path: Path) -> None:
    """Each is told in a line with its option; data that lacks something is told before anything is measured."""
    detected = Detected(tmp_path)
    path = str(detected.path)
    for options, told in (
        ({"detections": path, "prompts": "points"}, "detections: no box is asked for"),
        ({"detections": str(tmp_path / "none.json")}, "detections: .* does not exist"),
        ({"beside": ("no_fusion",)}, "beside: 'no_fusion' is measured already"),
        ({"beside": ("a", "a")}, "beside: 'a' is measured already"),
    ):
        with pytest.raises(InputError, match=told):
            Benchmark(**options)
    assert Benchmark().lacks(World()) == ""
    assert Benchmark().lacks(Shapes(masks=False)) == "masks"
    assert Benchmark(detections=path).lacks(World()) == "annotations file of COCO's or LVIS's format"
    assert Benchmark(detections=path).lacks(detected.source) == ""
    before = Benchmark(detections=path).digest()
    detected.path.write_text(detected.path.read_text() + " ")
    assert Benchmark(detections=path).digest() != before
    assert Benchmark().digest() == ""
    with pytest.raises(InputError, match="promptable_recognition: recognition: this parent is image_text"):
        Benchmark().measure({"recognition": Reader()}, World())


def test_the_baselines_are_made_of_what_is_there() -> None:
    """Both parents make two; without one there is none. Of the merged model: its neck, further tasks, no fusion."""
    parents = {"sam": Outliner(), "clip": Reader()}
    merged = parents | {"recognition": Namer(), "smaller": Namer(mistaken=BLIND)}
    names = ["image_crop", "feature_crop", "neck_only", "smaller", "no_fusion"]
    found = Benchmark(beside=("smaller",)).beside(parents, merged)
    assert list(found) == names
    assert [list(each) for each in found.values()] == [["recognition"]] * 5
    assert found["smaller"]["recognition"] is merged["smaller"]
    assert list(Benchmark().beside({"clip": Reader()}, merged)) == ["neck_only", "no_fusion"]
    blind = {"recognition": Namer(mistaken=BLIND)}
    assert list(Benchmark().beside(parents, blind)) == ["image_crop", "feature_crop"]


@pytest.mark.parametrize("crop", ["box", "mask"])
def test_image_crops_and_feature_crops_name_masks(crop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks are the segmenter's, names the other's, whatever number of crops goes into one call."""
    monkeypatch.setattr(crops, "_AT_ONCE", 2)
    reader = Reader()
    parents = {"sam": Outliner(), "clip": reader}
    found = Benchmark(crop=crop).beside(parents, {})
    for model in found.values():
        measured = values(Benchmark(), model, World())
        assert measured["box_iou"] == pytest.approx(0.5)
        assert measured["point_iou"] == measured["box_accuracy"] == measured["point_accuracy_novel"] == 1.0
    assert set(reader.sizes) == {32}  # the segmenter's own
    values(Benchmark(), Benchmark(size=48).beside(parents, {})["feature_crop"], World())
    assert reader.sizes[-1] == 48
    for model in found.values():
        model["recognition"].exercise(World().read(0).image)  # whose cost can be counted


def test_a_mask_of_nothing_is_named_by_the_whole_picture() -> None:
    """Some class it must have; the picture is cut out as a whole."""
    picture = World().read(0).image
    crop = crops.ImageCrops(Outliner(), Reader(), crop="mask")
    found = crop.embed(picture, torch.zeros(1, 40, 60, dtype=torch.bool))
    assert found.tolist() == Reader().encode_image([picture]).tolist()


EVALUATE = {"things": Evaluation(benchmark="recognition", data="world", beside=["smaller"])}


def rows(*, models: Sequence[Subject] = (), store: Store | None = None, **parents: Capability) -> list[Row]:
    """The table of a merged model that recognises, beside these parents."""
    merged = {"sam": Outliner(), "clip": Reader(), "recognition": Namer(), "smaller": Namer(mistaken=BLIND)}
    subjects = [Subject(name="merged", capabilities=merged, keys=dict.fromkeys(merged, "m")), *models]
    alone = Subject(name="parents", capabilities=parents, keys=dict.fromkeys(parents, "p"))
    return retention.measure_all(EVALUATE, alone, subjects, {"world": World()}, store=store)


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return rows(sam=Outliner(), clip=Reader())


def test_baselines_are_rows_of_the_same_table(table: list[Row]) -> None:
    """Masks are set against the parent's; names have no parent, and every model's stand side by side."""
    assert list(dict.fromkeys(row.control for row in table)) == [
        None,
        "image_crop",
        "feature_crop",
        "neck_only",
        "smaller",
        "no_fusion",
    ]
    found = {(row.control, row.metric): row for row in table}
    assert len(found) == len(table) == 6 * 12
    merged, crop = found[None, "box_iou"], found["image_crop", "box_iou"]
    assert (merged.parent, merged.capability, merged.retention) == ("sam", "promptable", pytest.approx(2.0))
    assert (crop.parent_value, crop.retention) == (pytest.approx(0.5), pytest.approx(1.0))
    name = found[None, "box_accuracy_novel"]
    assert (name.parent, name.capability, name.parent_value) == ("recognition", "promptable_recognition", None)
    accuracies = {control: row.merged_value for (control, metric), row in found.items() if metric == name.metric}
    assert accuracies == {
        None: 1.0,
        "image_crop": 1.0,
        "feature_crop": 1.0,
        "neck_only": 1.0,
        "smaller": 0.0,
        "no_fusion": 0.0,
    }


def test_controls_of_the_whole_recipe() -> None:
    """A trained one is measured too; parents side by side have no name to give, which the baselines do for them."""
    trained = Subject(name="naive", capabilities={"recognition": Namer(mistaken=BLIND)}, control="naive")
    beside = {"sam": Outliner(), "clip": Reader()}
    ways = [Subject(name=way, capabilities=beside, control=way, way=way) for way in ("joint", "cascade")]
    controls = {row.control for row in rows(models=[trained, *ways])}
    assert controls == {None, "naive", "neck_only", "smaller", "no_fusion"}


def test_scores_of_baselines_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By all weights that they may depend on, and by their names."""
    first = rows(sam=Outliner(), clip=Reader(), store=Store(tmp_path))
    monkeypatch.setattr(Benchmark, "measure", lambda *args, **kwargs: pytest.fail("measured again"))
    assert rows(sam=Outliner(), clip=Reader(), store=Store(tmp_path)) == first


def test_a_further_task_must_be_there() -> None:
    """A mistyped one is told before anything is measured, with what it may have meant."""
    with pytest.raises(InputError, match=r"evaluate\.things\.beside: no parent or task 'smaller'; did you mean"):
        retention.prepare(EVALUATE, tasks=["sam", "clip", "recognition", "smaler"], sources={"world": World()})


@pytest.fixture(scope="module")
def tiny() -> dict[str, Capability]:
    sam, clip = SAM(variant="tiny"), OpenCLIP(model="tiny")
    return {"sam": sam.capability(sam.teacher()), "clip": clip.capability(clip.teacher())}


def test_the_tiny_parents_name_single_shapes(tiny: dict[str, Capability]) -> None:
    """Of 48 pairs of a colour and a shape; both baselines have the segmenter's own masks."""
    source = Shapes(layout="single", split="held-out", count=8, names="colour")
    found = Benchmark(templates="plain").beside(tiny, {})
    alone = values(Benchmark(), {"sam": tiny["sam"]}, source)
    image, feature = (values(Benchmark(templates="plain"), found[name], source) for name in recognition.BASELINES)
    assert image["box_accuracy"] >= 7 / 8
    assert feature["box_accuracy"] >= 5 / 8
    for measured in (image, feature):
        assert {metric: measured[metric] for metric in alone} == alone
    assert alone["box_iou"] > 0.9


def test_a_report_sets_models_side_by_side(table: list[Row]) -> None:
    """From less to more; what a parent cannot do is a dash; the best as it is shown is marked."""
    boxes, points = recognition.sheets(table)
    assert boxes.title == "From boxes, 6 things of world, 2 of them of novel classes"
    assert points.title.startswith("From points, ")
    assert (boxes.spans, boxes.columns) == ([("IoU", 3), ("named right", 3)], ["base", "novel", "all"] * 2)
    assert [(line.name, line.code, line.kind) for line in boxes.lines] == [
        ("sam alone", "", "parent"),
        ("image crops named by CLIP", "image_crop", "control"),
        ("feature crops named by CLIP", "feature_crop", "control"),
        ("own masks, feature crops", "neck_only", "control"),
        ("smaller", "smaller", "control"),
        ("without fusion", "no_fusion", "control"),
        ("merged", "", "merged"),
    ]
    assert [cell.text for cell in boxes.lines[0].cells] == ["0.500"] * 3 + ["\N{EN DASH}"] * 3
    assert [cell.best for cell in boxes.lines[0].cells] == [False] * 6
    assert [cell.best for cell in boxes.lines[5].cells] == [True, True, True, True, False, False]
    assert [cell.text for cell in boxes.lines[5].cells] == ["1.000"] * 4 + ["0.000", "0.667"]
    assert all(cell.best for cell in boxes.lines[6].cells)


def test_recognition_has_a_section_of_its_own(table: list[Row], tmp_path: Path) -> None:
    """The table of what was kept has the masks of all things alone, and the other sections have none of it."""
    retention.write(tmp_path / "retention.json", table)
    page = report.write(tmp_path).read_text()
    assert 'id="recognition"' in page
    assert page.count("Recognition: mean IoU from boxes<") == 1
    assert "Recognition: mean IoU from boxes, base" not in page
    assert "Recognition: named right" not in page
    assert 'id="sides"' not in page
    assert "of novel things named right" in page
    assert "from boxes on world; image crops named by CLIP: 100.0\N{NO-BREAK SPACE}%" in page
    assert "of recognition is not known" not in page
    terminal = "".join(str(cell) for column in retention.against_controls(table).columns for cell in column.cells)
    assert "0.667" in terminal


def test_a_report_without_recognition_says_nothing_of_it(table: list[Row], tmp_path: Path) -> None:
    """Neither a section nor a figure at the top."""
    known = [row for row in table if row.metric == "box_iou" and row.control is None]
    retention.write(tmp_path / "retention.json", [Row(**(vars(row) | {"benchmark": "promptable"})) for row in known])
    page = report.write(tmp_path).read_text()
    assert 'id="recognition"' not in page
    assert "named right" not in page
