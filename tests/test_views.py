"""What is shown of a run that measures promptable recognition: its picture, its gallery, and the report's section.

Axis letters: N prompts, H x W pixels.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.rectangles import COLOURS, DRAWN, Namer, Outliner, Reader, World
from PIL import Image

from vfmerge import evaluation, gallery, picture, recipe, retention
from vfmerge.benchmarks.recognition import Recognition as Benchmark
from vfmerge.data.source import Sample, Source
from vfmerge.errors import InputError
from vfmerge.recipe import Evaluation
from vfmerge.report import findings, report
from vfmerge.subject import Subject
from vfmerge.views import names
from vfmerge.views.cutouts import Boxes, Cutouts
from vfmerge.views.names import Name
from vfmerge.views.recognition import RecognitionViews
from vfmerge.views.view import View

THINGS = (3, 0, 2, 0, 1, 0, 1, 0)  # of each picture; one in two shows nothing that is annotated
PARENTS = {"sam": Outliner(), "clip": Reader(always="green")}


def make(*parents: str, source: Source | None = None) -> RecognitionViews:
    """The views of a merged model that recognises, beside those parents."""
    source = World(THINGS) if source is None else source
    alone = Subject(name="parents", capabilities={name: PARENTS[name] for name in parents})
    merged = Subject(name="merged", capabilities={"recognition": Namer(mistaken={"red": "blue"})})
    return RecognitionViews(Benchmark(templates="plain"), source, parents=alone, merged=merged)


def look(views: RecognitionViews, index: int = 0) -> dict[str, View]:
    """What each column has of one picture."""
    return {column.key: column.look(World(THINGS).read(index)) for column in views.columns}


def test_each_column_shows_what_its_model_answers() -> None:
    """Boxes, true things, the segmenter's outlines, those named by each way of cropping, and the merged model's."""
    found = look(make("sam", "clip"))
    assert list(found) == ["picture", "truth", "sam", "image_crop", "feature_crop", "merged"]
    said = {key: (view.panel.describe(), view.said) for key, view in found.items()}
    assert said == {
        "picture": ("3 boxes", ""),
        "truth": ("red, green, blue (novel)", ""),
        "sam": ("outlines without names", "IoU 0.50"),
        "image_crop": ("green (wrong), green, green (wrong)", "1 of 3 right, IoU 0.50"),
        "feature_crop": ("green (wrong), green, green (wrong)", "1 of 3 right, IoU 0.50"),
        "merged": ("blue (novel, wrong), green, blue (novel)", "2 of 3 right, IoU 1.00"),
    }
    assert found["merged"].score == pytest.approx(2 / 3)  # a misnamed thing's IoU is 0
    assert found["sam"].score == pytest.approx(0.5, abs=0.01)


def test_what_is_not_there_has_no_column() -> None:
    """Crops need both parents; without any, picture, truth and merged model are left."""
    assert [column.key for column in make("sam").columns] == ["picture", "truth", "sam", "merged"]
    assert [column.key for column in make().columns] == ["picture", "truth", "merged"]


def test_signs_are_explained_where_they_occur() -> None:
    """Stars only where there are novel classes."""
    assert "a star stands before" in make().key
    assert "star" not in make(source=World(THINGS, unseen=frozenset())).key


def test_a_crowd_is_thinned_out() -> None:
    """The eight largest things of a picture, in the order of the data."""
    masks = np.zeros((11, 40, 60), dtype=bool)
    for number, mask in enumerate(masks):
        mask[3 * number : 3 * number + 2, : 5 + 5 * (number % 10)] = True
    sample = Sample(image=np.zeros((40, 60, 3), np.uint8), name="x", masks=masks, labels=np.arange(11) % 3)
    views = make()
    assert views.crowd(sample) == 8
    truth = views.columns[1].look(sample).panel
    assert isinstance(truth, Cutouts)
    assert np.array_equal(truth.masks, masks[2:10])
    assert views.crowd(Sample(image=sample.image, name="x")) == 0


def test_things_keep_their_colours_and_the_rest_is_faint() -> None:
    """Nothing is painted over inside an outline, since names may be of colours."""
    sample = World().read(0)
    panel = look(make())["merged"].panel
    assert isinstance(panel, Cutouts)
    bare = Cutouts(picture=panel.picture, boxes=panel.boxes, masks=panel.masks)
    shown = np.array(bare.render())
    scale, top = 208 / 60, (208 - round(40 * 208 / 60)) // 2
    assert shown.shape == (208, 208, 3)
    for mask, colour in zip(sample.masks[DRAWN], COLOURS, strict=True):
        y, x = (round(scale * place.mean()) for place in mask.nonzero())
        assert shown[top + y, x].tolist() == colour.tolist()
    assert np.ptp(shown[top + 2, 2].astype(int)) == 0
    assert shown[top + 2, 2, 0] > 180


def test_a_name_is_written_by_what_it_is() -> None:
    """Right, wrong and novel names differ in shape and not in colour alone, and no tag leaves the picture."""
    frames = [(0.0, 0.0, 60.0, 60.0), (120.0, 150.0, 200.0, 200.0)]

    def written(*given: Name) -> np.ndarray:
        image = Image.new("RGB", (208, 208), "#808080")
        names.write(image, given, frames=frames[: len(given)], colours=["#77aadd", "#ee8866"])
        return np.array(image.convert("L"), dtype=int)

    plain, wrong, novel = (written(Name(text="heart", **signs)) for signs in ({}, {"wrong": True}, {"novel": True}))
    tag = np.argwhere(plain != 128)
    wider = np.argwhere(novel != 128)
    assert np.ptp(wider[:, 1]) - np.ptp(tag[:, 1]) == 13
    middle = (tag[:, 0].min() + tag[:, 0].max() + 1) // 2
    inside = slice(tag[:, 1].min() + 3, tag[:, 1].max() - 3)
    assert (wrong[middle, inside] < 90).all()  # a stroke from edge to edge
    assert not (plain[middle, inside] > 200).all()
    long = written(Name(text="a name that does not end " * 4), Name(text="cross", novel=True))
    assert (long[:, 207] == 128).all()


def test_tags_keep_out_of_each_others_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four things side by side and a fifth that is no larger than a point, all names can be read."""
    places = []
    monkeypatch.setattr(names, "_draw", lambda pen, place, name, *, colour: places.append(place))
    frames = [(40.0 * n, 80.0, 40.0 * n + 38, 120.0) for n in range(5)]
    frames[4] = (205.0, 205.0, 205.3, 205.3)
    given = [Name(text="orange crescent", novel=True)] * 5
    names.write(Image.new("RGB", (208, 208)), given, frames=frames, colours=["#77aadd"] * 5)
    assert len(places) == 5
    for one, other in itertools.combinations(places, 2):
        assert max(one[0], other[0]) >= min(one[2], other[2]) or max(one[1], other[1]) >= min(one[3], other[3])
    assert all(left >= 0 and right <= 208 and top >= 0 and bottom <= 208 for left, top, right, bottom in places)


def test_things_of_a_single_pixel_can_be_shown() -> None:
    """In a picture so large that they vanish, asked for and answered with nothing."""
    image = np.zeros((900, 1200, 3), dtype=np.uint8)
    boxes, nothing = np.array([[5, 5, 5, 5], [1199, 899, 1199, 899]], np.float32), np.zeros((2, 900, 1200), bool)
    assert Boxes(picture=image, boxes=boxes).render().size == (208, 208)
    marked = [Name(text="a"), Name(text="b", wrong=True)]
    assert Cutouts(picture=image, boxes=boxes, masks=nothing, names=marked).render().size == (208, 208)


def test_a_runs_picture(tmp_path: Path) -> None:
    """A row for each picture, those with several things first, a column for each model, and below what signs mean."""
    path = tmp_path / "picture.png"
    picture.draw(path, make("sam", "clip"), count=3)
    page = Image.open(path)
    assert page.width == 2 * 24 + 6 * 218 - 10
    assert page.height > 62 + 3 * 218 + 22
    below = np.array(page.crop((0, 62 + 3 * 218, page.width, page.height)).convert("L"))
    assert below.min() < 140
    with pytest.raises(InputError, match=r"give data\.NAME"):
        picture.draw(tmp_path / "none.png", make(source=World(())))


def test_a_gallery_ranks_by_names_and_outlines(tmp_path: Path) -> None:
    """Of pictures with three things, two, one and one the merged model misnames the red one."""
    gallery.write(tmp_path, make("sam", "clip"))
    index = json.loads((tmp_path / "gallery" / "gallery.json").read_text())
    assert [(row["name"], row["rank"], row["score"]) for row in index["rows"]] == [
        ("world/0", "best", pytest.approx(2 / 3)),
        ("world/2", "median", pytest.approx(1 / 2)),
        ("world/6", "worst", 0.0),
        ("world/4", "worst", 0.0),
    ]
    assert index["classes"] == []
    assert all((tmp_path / "gallery" / cell["file"]).is_file() for row in index["rows"] for cell in row["cells"])


def test_the_report_says_how_to_read_the_pictures(tmp_path: Path) -> None:
    """What is said of a panel stands under it, in the place of a bare number."""
    gallery.write(tmp_path, make("sam", "clip"))
    retention.write(tmp_path / "retention.json", [])
    text = report.render(findings.read(tmp_path))
    assert "Under a picture stand how many things are named right" in text
    assert '<span class="said">2 of 3 right, IoU 1.00</span>' in text
    assert 'alt="merged model: blue (novel, wrong), green, blue (novel)"' in text
    assert 'class="score"' not in text


def test_segmentation_is_shown_before_recognition(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever stands first in the recipe; recognition where there is no other; and nothing of prompts alone."""
    plan = recipe.load(str(small), [])
    subjects = {"parents": Subject(name="parents", capabilities={}), "models": [Subject(name="m", capabilities={})]}
    made: list[Any] = []
    monkeypatch.setattr(evaluation, "SegmentationViews", lambda *given, **more: made.append("segmentation") or given)
    monkeypatch.setattr(evaluation, "RecognitionViews", lambda *given, **more: made.append("recognition") or given)
    things = Evaluation(benchmark="recognition", data="held_out")
    pixels = Evaluation(benchmark="zero_shot_segmentation", data="held_out")
    prompts = Evaluation(benchmark="promptable", data="held_out")
    for evaluate in ({"a": things, "b": pixels}, {"a": prompts, "b": things}, {"a": prompts}):
        changed = plan.model_copy(update={"evaluate": evaluate})
        found = evaluation._views(changed, subjects["parents"], subjects["models"], {"held_out": World()})
        assert (found is None) == (len(evaluate) == 1)
    assert made == ["segmentation", "recognition"]
