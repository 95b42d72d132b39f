"""The retention table, its file and the gallery."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from vfmerge import left_out, parts, picture, recipe, retention
from vfmerge.adapter import Features
from vfmerge.benchmarks.promptable import Promptable as Promptables
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.capability import Dense, ImageText, Promptable, PromptableImage
from vfmerge.cli import main
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError
from vfmerge.left_out import LeftOut
from vfmerge.model import Network
from vfmerge.recipe import Evaluation
from vfmerge.retention import Row
from vfmerge.store import Store
from vfmerge.subject import Subject
from vfmerge.views.segmentation import SegmentationViews

FIELDS = [
    "parent",
    "capability",
    "benchmark",
    "data",
    "metric",
    "parent_value",
    "merged_value",
    "retention",
    "n",
    "ci_low",
    "ci_high",
    "control",
]
GREYS = (80, 200)


class World(Source):
    """A dark square on the left and a light one on the right, in pictures of 16 x 24 pixels."""

    has_masks = True
    classes = ("dark", "light")

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> Sample:
        masks = np.zeros((2, 16, 24), dtype=bool)
        masks[0, 4:12, 2 : 8 + index], masks[1, 4:12, 14:22] = True, True
        image = np.zeros((16, 24, 3), dtype=np.uint8)
        for mask, grey in zip(masks, GREYS, strict=True):
            image[mask] = grey
        return Sample(image=image, name=f"world/{index}", masks=masks, labels=np.array([0, 1]))

    def digest(self) -> str:
        return ""


class Reader(ImageText):
    """Knows dark from light from nothing; a blind one takes everything for light."""

    def text_key(self) -> str:
        return "names"

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self._blind = blind

    def _see(self, picture: np.ndarray) -> torch.Tensor:
        grey = torch.from_numpy(picture[..., 0].astype(np.int64))
        seen = torch.stack([grey == GREYS[0], grey == GREYS[1], grey == 0]).float()
        return torch.stack([torch.zeros_like(seen[0]), seen.sum(0), torch.zeros_like(seen[0])]) if self._blind else seen

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        raise AssertionError("not asked for here")

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.stack([torch.tensor([float(w in t) for w in ("dark", "light", "background")]) for t in texts])

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        pooled = torch.stack([torch.nn.functional.adaptive_avg_pool2d(self._see(p), 8) for p in pictures])
        return torch.nn.functional.normalize(pooled, dim=1)


class Segmenter(Promptable):
    """Box to the box's inside, point to the region of its colour; an absent-minded one finds nothing."""

    def __init__(self, *, absent: bool = False) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self._absent = absent

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        return _Image(picture[..., 0], absent=self._absent)


class _Image(PromptableImage):
    mask_side = 16

    def __init__(self, grey: np.ndarray, *, absent: bool) -> None:
        self._grey, self._absent = torch.from_numpy(grey.astype(np.int64)), absent

    def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
        found = [self._grey == self._grey[y, x] for x, y in self._places(boxes, points)]
        masks = torch.stack(found)[:, None].float() * 16 - 8
        masks = -8 * torch.ones_like(masks) if self._absent else masks
        count = 3 if multimask else 1
        return masks.expand(-1, count, -1, -1), torch.ones(len(masks), count)

    def _places(self, boxes, points) -> list[list[int]]:
        places = points[:, 0] if boxes is None else boxes.unflatten(1, (2, 2)).mean(1)
        return places.round().long().tolist()


class Trunk(torch.nn.Module):
    """Sees the colours themselves."""

    def forward(self, images: torch.Tensor) -> Features:
        return Features(maps=(images,), summary=images.mean((2, 3)))


class Eye(Dense):
    """What only a trunk is."""

    def __init__(self) -> None:
        super().__init__(Network(Trunk(), torch.nn.Identity()))

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        raise AssertionError("not asked for here")


EVALUATE = {
    "masks": Evaluation(benchmark="promptable", data="held_out"),
    "pixels": Evaluation(benchmark="zero_shot_segmentation", data="held_out", templates="plain"),
}
SOURCES = {"held_out": World()}
PARENTS = {"clip": Reader(), "sam": Segmenter()}


def measure(evaluate, parents, merged, sources=SOURCES, **more) -> list[Row]:
    """The rows of parents and a merged model, both as capabilities by task."""
    alone, child = Subject(name="parents", capabilities=parents), Subject(name="merged", capabilities=merged)
    return retention.measure_all(evaluate, alone, [child], sources, **more)


def row(**changes: object) -> Row:
    values = {
        "parent": "sam",
        "capability": "promptable",
        "benchmark": "promptable",
        "data": "held_out",
        "metric": "box_miou",
        "parent_value": 0.8,
        "merged_value": 0.6,
        "retention": 0.75,
        "n": 9,
    }
    return Row(**(values | changes))


def test_rows_name_parent_capability_and_metric() -> None:
    """One row a metric; two heads are set against the CLIP parent's own cells."""
    rows = measure(EVALUATE, PARENTS, PARENTS)
    found = [(r.parent, r.capability, r.benchmark, r.data, r.metric, r.n) for r in rows]
    assert found == [
        ("sam", "promptable", "promptable", "held_out", "box_miou", 8),
        ("sam", "promptable", "promptable", "held_out", "point_miou", 8),
        ("clip", "image_text", "zero_shot_segmentation", "held_out", "miou_head", 4),
        ("clip", "image_text", "zero_shot_segmentation", "held_out", "miou_two_heads", 4),
    ]
    values = {r.metric: r for r in rows}
    assert values["box_miou"].retention == 1.0
    assert values["miou_two_heads"].parent_value == values["miou_head"].parent_value < 1
    assert values["miou_two_heads"].merged_value == 1.0
    assert values["miou_two_heads"].retention == 1 / values["miou_head"].parent_value


def test_a_merged_model_that_forgot_retains_nothing() -> None:
    """Retention is merged over parent, 0 where the merged model lost it all."""
    merged = {"clip": Reader(), "sam": Segmenter(absent=True)}
    rows = {
        r.metric: r
        for r in measure(
            EVALUATE,
            PARENTS,
            merged,
        )
    }
    assert rows["box_miou"].parent_value == 1.0
    assert rows["box_miou"].retention == rows["box_miou"].merged_value == 0.0


def test_retention_of_nothing_is_none() -> None:
    """Where the parent scores 0, or is not there, retention has no meaning."""
    absent = {"sam": Segmenter(absent=True)}
    only = {"masks": EVALUATE["masks"]}
    (zero, *_), (lone, *_) = (measure(only, p, PARENTS) for p in (absent, {}))
    assert (zero.parent_value, zero.merged_value, zero.retention) == (0.0, 1.0, None)
    assert (lone.parent_value, lone.merged_value, lone.retention) == (None, 1.0, None)


def test_progress_names_who_is_measured() -> None:
    """Each model of each evaluation is told by name, picture by picture."""
    told: list[tuple[str, int, int]] = []
    only = {"masks": EVALUATE["masks"]}
    measure(
        only,
        PARENTS,
        PARENTS,
        progress=lambda *each: told.append(each),
    )
    assert told[3:5] == [("masks: sam alone", 4, 4), ("masks: merged", 1, 4)]


def test_the_file_is_a_list_of_rows(tmp_path: Path) -> None:
    """retention.json holds exactly the fields of a row, null where there is no number."""
    retention.write(tmp_path / "retention.json", [row(), row(parent_value=0.0, retention=None)])
    found = json.loads((tmp_path / "retention.json").read_text())
    assert [list(each) for each in found] == [FIELDS, FIELDS]
    assert found[0]["retention"] == 0.75
    assert found[1]["retention"] is None


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"benchmark": "promptabel", "data": "held_out"}, "promptable"),
        ({"benchmark": "promptable", "data": "held_out", "point": 1}, r"evaluate\.x\.point: .*points"),
        ({"benchmark": "promptable", "data": "held_out", "points": 0}, r"evaluate\.x\.points: .*1"),
        ({"benchmark": "promptable", "data": "held_out", "promptable": "sa"}, r"evaluate\.x\.promptable: .*'sa'.*sam"),
        ({"benchmark": "promptable", "data": "heldout"}, r"evaluate\.x\.data: .*held_out"),
        (
            {"benchmark": "promptable", "data": "bare"},
            r"evaluate\.x\.data: 'bare' has not what promptable needs: masks",
        ),
        ({"benchmark": "promptable", "data": "held_out", "promptable": "clip"}, r"evaluate\.x: promptable: clip"),
    ],
)
def test_mistakes_name_their_key(evaluation: dict[str, object], message: str) -> None:
    """A wrong name, option, role or data set is one line that names the key and the remedy."""

    class Bare(World):
        has_masks = False

    with pytest.raises(InputError, match=message) as caught:
        measure({"x": Evaluation(**evaluation)}, PARENTS, PARENTS, SOURCES | {"bare": Bare()})
    assert "\n" not in str(caught.value)


def test_check_says_what_measuring_would(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Benchmarks are made and checked in one way: the same lines, all at once, whoever raises what, before training."""

    def broken(self: Promptables, *, points: int = 1) -> None:
        raise ZeroDivisionError("nobody thought of that")

    mistakes = [
        "evaluate.classify.image_text=clap",
        "evaluate.near={benchmark: knn, data: held_out_single}",
        "evaluate.dense={benchmark: segmentation_probe, data: held_out, train: held_out_single}",
    ]
    plan = recipe.load(str(small), mistakes)
    sources = parts.build_sources(plan)
    with pytest.raises(InputError) as caught:
        retention.prepare(plan.evaluate, tasks=plan.adapted, sources=sources)
    said = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in said] == [
        "evaluate.classify.image_text",
        "evaluate.near.train",
        "evaluate.dense.train",
    ]
    monkeypatch.setattr(Promptables, "__init__", broken)
    for command in (["check"], ["run", "--out", str(tmp_path / "run")]):
        assert main([*command, str(small), *mistakes]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "evaluate.prompts: plug-in" in line
        assert "ZeroDivisionError: nobody thought of that" in line
    monkeypatch.undo()
    for command in (["check"], ["run", "--out", str(tmp_path / "run")]):
        assert main([*command, str(small), *mistakes]) == 2
        assert capsys.readouterr().err.splitlines() == [f"vfmerge: {line}" for line in said]
    assert not (tmp_path / "run").exists()


def test_another_revision_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of a protocol that has changed since are not used; without a change they are."""
    measured: list[int] = []
    measure_it = Promptables.measure
    monkeypatch.setattr(
        Promptables, "measure", lambda self, *given: measured.append(self.revision) or measure_it(self, *given)
    )
    subject = Subject(name="merged", capabilities=PARENTS, keys=dict.fromkeys(PARENTS, "weights"))
    for revision in (1, 1, 2, 2):
        monkeypatch.setattr(Promptables, "revision", revision)
        only = {"masks": EVALUATE["masks"]}
        retention.measure_all(only, Subject(name="none", capabilities={}), [subject], SOURCES, store=Store(tmp_path))
    assert measured == [1, 2]


@pytest.mark.parametrize("folder", ["store", None])
def test_pictures_in_no_figure_are_noted(tmp_path: Path, folder: str | None) -> None:
    """Of the data and of what is learnt from, by their names; also where the scores are remembered."""

    class Torn(World):
        def __len__(self) -> int:
            return 8

        def read(self, index: int) -> Sample:
            if index == 5:
                raise BadSample("world/5: torn\nin two")
            return super().read(index % 4)

    evaluate = {
        "masks": EVALUATE["masks"],
        "near": Evaluation(benchmark="knn", data="held_out", train="known", parents=["eye"], neighbours=1, size=8),
    }
    able = PARENTS | {"eye": Eye()}
    subject = Subject(name="merged", capabilities=able, keys=dict.fromkeys(able, "weights"))
    sources, kept = {"held_out": Torn(), "known": Torn()}, Store(folder and tmp_path / folder)
    for _ in range(2):
        noted: list[LeftOut] = []
        none = Subject(name="none", capabilities={})
        retention.measure_all(evaluate, none, [subject], sources, note=noted.append, store=kept)
        once = left_out.once(noted)
        assert [(each.data, each.sample, each.reason) for each in once] == [
            ("held_out", 5, "world/5: torn in two"),
            ("known", 5, "world/5: torn in two"),
        ]
        assert left_out.summary(once) == "1 of 8 pictures of held_out, 1 of 8 pictures of known"


def test_tables_show_names_as_they_are() -> None:
    """Names from recipes are neither terminal markup nor Markdown nor HTML."""
    rows = [row(data="[red]a|b<i>"), row(parent_value=None, retention=None)]
    console = Console(width=200, file=io.StringIO())
    console.print(retention.table(rows))
    shown = console.file.getvalue()
    assert "[red]a|b<i>" in shown
    assert "75.0 %" in shown
    lines = retention.markdown(rows).splitlines()
    assert lines[2] == "| sam | promptable | \\[red\\]a\\|b&lt;i&gt; | box\\_miou | 0.800 | 0.600 | 75.0 % | - | 9 |"
    assert lines[3].endswith("| - | 0.600 | - | - | 9 |")


def test_gallery_shows_what_each_model_sees(tmp_path: Path) -> None:
    """Ground truth, masks and a good merged model colour the same pixels; a blind CLIP colours them all."""
    benchmark = ZeroShotSegmentation(templates="plain")
    parents = {"clip": Reader(blind=True), "sam": Segmenter()}
    path = tmp_path / "gallery.png"
    alone, merged = Subject(name="parents", capabilities=parents), Subject(name="merged", capabilities=PARENTS)
    picture.draw(path, SegmentationViews(benchmark, World(), parents=alone, models=[merged]), count=2)
    page = np.array(Image.open(path))
    side = page.shape[1] // 5
    panels = [page[60:-50, 30 + n * (side - 8) : 30 + n * (side - 8) + 190] for n in range(5)]
    colourful = [int((np.ptp(panel.astype(int), axis=2) > 20).sum()) for panel in panels]
    assert (page[64:90, 30:190] == 240).all()  # a wide picture leaves its panel empty above
    assert colourful[0] == 0
    assert colourful[1] == pytest.approx(colourful[4], rel=0.02)
    assert colourful[2] == pytest.approx(colourful[1], rel=0.1)
    assert colourful[3] > 1.5 * colourful[1]
