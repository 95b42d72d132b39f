"""Benchmarks on models whose right answers are known: pictures in which colour is class.

Axis letters: H x W pixels, h x w cells, K classes, N prompts.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vfmerge import templates
from vfmerge.benchmarks import benchmark, segmentation, two_heads
from vfmerge.benchmarks.classification import ZeroShotClassification
from vfmerge.benchmarks.promptable import Promptable
from vfmerge.benchmarks.prompts import tight_boxes
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.capability import ImageText, PromptableImage
from vfmerge.capability import Promptable as PromptableCapability
from vfmerge.data.source import Sample, Source
from vfmerge.errors import BadSample, InputError
from vfmerge.model import Network
from vfmerge.store import Store

CLASSES = ("apple", "brick", "cloud", "door")
GREYS = np.array([60, 110, 160, 210], dtype=np.uint8)  # the colour of each class; black is background


class World(Source):
    """Pictures given as label maps [H, W], one mask for each connected region."""

    has_masks = True
    classes = CLASSES

    def __init__(self, maps: Sequence[np.ndarray], *, bad: Sequence[int] = ()) -> None:
        self._maps, self._bad = maps, bad

    def __len__(self) -> int:
        return len(self._maps)

    def read(self, index: int) -> Sample:
        if index in self._bad:
            raise BadSample(f"picture {index}: torn")
        labels = self._maps[index]
        parts = [(c, part) for c in range(len(self.classes)) for part in two_heads.components(labels == c)]
        image = np.where(labels < len(GREYS), GREYS[np.minimum(labels, len(GREYS) - 1)], 0).astype(np.uint8)
        return Sample(
            image=np.repeat(image[..., None], 3, axis=2),
            name=f"world/{index}",
            masks=np.array([part for _, part in parts], dtype=bool).reshape(-1, *labels.shape),
            labels=np.array([c for c, _ in parts], dtype=np.int64),
        )

    def digest(self) -> str:
        return ""


class Reader(ImageText):
    """Sees classes by colour; `takes` says for which class it takes each, the last entry for background."""

    def text_key(self) -> str:
        return "names"

    def __init__(self, takes: Sequence[int] = (0, 1, 2, 3, 4), *, cells: int = 8) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self._takes, self._side = torch.tensor(takes), cells

    def _see(self, picture: np.ndarray) -> torch.Tensor:
        """One-hot [K + 1, H, W]."""
        greys = torch.tensor([*GREYS.tolist(), 0])
        seen = (torch.from_numpy(picture[..., 0].astype(np.int64))[..., None] == greys).int().argmax(-1)
        return F.one_hot(self._takes[seen], len(greys)).permute(2, 0, 1).float()

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        amounts = torch.stack([self._see(picture)[:4].sum((1, 2)) for picture in pictures])
        return F.normalize(torch.cat([amounts, torch.zeros(len(amounts), 1)], dim=1) + 1e-6, dim=1)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        names = (*CLASSES, "background")
        return torch.stack([torch.tensor([float(name in text) for name in names]) for text in texts])

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        side = size or self._side
        stretched = torch.stack([F.adaptive_avg_pool2d(self._see(picture), side) for picture in pictures])
        return F.normalize(stretched, dim=1)


class Segmenter(PromptableCapability):
    """Answers a point with the region of one colour around it, a box with the region that fills it."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def set_image(self, picture: np.ndarray) -> Regions:
        return Regions(picture)


class Regions(PromptableImage):
    mask_side = 32

    def __init__(self, picture: np.ndarray) -> None:
        grey = picture[..., 0]
        self.frame = grey.shape
        self.parts = [part for value in np.unique(grey) for part in two_heads.components(grey == value)]

    def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
        if boxes is not None:
            there = tight_boxes(np.stack(self.parts))
            found = [self.parts[int(np.abs(there - box.numpy()).sum(1).argmin())] for box in boxes]
        else:
            found = [self._under(*place[0].round().long().tolist()) for place in points]
        logits = torch.from_numpy(np.stack(found)).float()[:, None] * 16 - 8
        if not multimask:
            return logits, torch.ones(len(found), 1)
        return torch.cat([-logits, logits, -logits], dim=1), torch.tensor([[0.1, 0.9, 0.2]]).expand(len(found), 3)

    def _under(self, x: int, y: int) -> np.ndarray:
        return next((part for part in self.parts if part[y, x]), np.zeros(self.frame, dtype=bool))


class Echo(PromptableCapability):
    """Answers with the mask prompt itself, brought to the picture as SAM brings its low-resolution masks."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        class Image(PromptableImage):
            mask_side = 32

            def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
                height, width = picture.shape[:2]
                side = max(height, width)
                square = F.interpolate(masks, size=(side, side), mode="bilinear", align_corners=False)
                return square[..., :height, :width], torch.ones(len(masks), 1)

        return Image()


def single(count: int, *, start: int = 0) -> list[np.ndarray]:
    """Pictures of one thing each, classes in turn."""
    maps = []
    for index in range(start, start + count):
        labels = np.full((24, 24), 4)
        labels[6:18, 6:18] = index % 4
        maps.append(labels)
    return maps


def several(height: int = 48, width: int = 48) -> list[np.ndarray]:
    """Four things, two of one class, on background; edges lie on an 8 x 8 grid of cells."""
    labels = np.full((8, 8), 4)
    labels[1:3, 1:4], labels[4:7, 5:8], labels[5:7, 0:2], labels[0:2, 6:8] = 0, 1, 2, 0
    return [labels.repeat(height // 8, 0).repeat(width // 8, 1)]


def scores(measured: Sequence[benchmark.Score]) -> dict[str, float]:
    return {score.metric: score.value for score in measured}


def test_templates_are_those_of_open_clip() -> None:
    """Our 80 sentences are open_clip's, in its order."""
    import open_clip

    assert tuple(each("{}") for each in open_clip.OPENAI_IMAGENET_TEMPLATES) == templates.OPENAI


def test_class_embedding_is_the_unit_mean_of_unit_embeddings() -> None:
    """Each class is the normalised mean over its templates, whatever number of texts is encoded at once."""

    class Letters(Reader):
        def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
            return F.normalize(torch.tensor([[text.count(c) + 1.0 for c in "aeiou"] for text in texts]), dim=1)

    names = [f"thing{'ae'[n % 2] * n}" for n in range(30)]  # more than one call's worth of texts
    found = templates.embed_classes(Letters(), names, templates="openai", store=Store())
    expected = [Letters().encode_text([t.format(name) for t in templates.OPENAI]).mean(0) for name in names]
    assert torch.allclose(found, F.normalize(torch.stack(expected), dim=1), atol=1e-6)


@pytest.mark.parametrize(
    ("takes", "expected"), [((0, 1, 2, 3, 4), 1.0), ((1, 2, 3, 0, 4), 0.0), ((0, 1, 3, 2, 4), 0.5)]
)
def test_top1_is_the_share_of_right_answers(takes: tuple[int, ...], expected: float) -> None:
    """A perfect, a shuffled and a half-shuffled reader, over more pictures than a batch."""
    measured = ZeroShotClassification(batch=3).measure({"clip": Reader(takes)}, World(single(8)))
    assert scores(measured) == {"top1": expected}
    assert measured[0].n == 8


def test_top5_needs_ten_classes() -> None:
    """With ten classes or more, a right answer among the first five counts for top5."""

    class Ten(World):
        classes = (*CLASSES, *(f"none{n}" for n in range(6)))

    measured = scores(ZeroShotClassification().measure({"clip": Reader((1, 2, 3, 0, 4))}, Ten(single(4))))
    assert measured == {"top1": 0.0, "top5": 1.0}


def test_pictures_without_a_label_are_not_judged() -> None:
    """An empty picture has no class; a data set of nothing else is refused."""
    empty = np.full((24, 24), 4)
    measured = ZeroShotClassification().measure({"clip": Reader()}, World([empty, *single(2)]))
    assert (measured[0].value, measured[0].n) == (1.0, 2)
    with pytest.raises(InputError, match="no picture with a label among 1"):
        ZeroShotClassification().measure({"clip": Reader()}, World([empty]))


def test_a_limit_draws_the_same_pictures_from_everywhere() -> None:
    """The drawn pictures are the same each time, in order, without repetition, and not just the first."""
    source = World(single(100))
    drawn = [int(sample.name.split("/")[1]) for sample in benchmark.samples(source, limit=10)]
    again = [int(sample.name.split("/")[1]) for sample in benchmark.samples(source, limit=10)]
    assert drawn == again == sorted(set(drawn))
    assert max(drawn) > 50
    assert len(list(benchmark.samples(source, limit=1000))) == 100


def test_few_bad_pictures_are_left_out_and_many_refused() -> None:
    """One bad picture costs itself, and that is told; of twenty, two are too many, and the message names one."""
    told: list[tuple[object, ...]] = []
    source, noting = World(single(20), bad=[3]), benchmark.Setup(unusable=lambda *each: told.append(each))
    assert len(list(benchmark.samples(source, limit=None, setup=noting))) == 19
    assert told == [(source, 3, "picture 3: torn", 20)]
    with pytest.raises(InputError, match="picture 5: torn"):
        list(benchmark.samples(World(single(20), bad=[3, 5]), limit=None))


def test_progress_counts_every_picture() -> None:
    """Progress is told of each picture, bad ones too."""
    told: list[tuple[int, int]] = []
    source = World(single(4), bad=[1])
    watched = benchmark.Setup(progress=lambda done, total: told.append((done, total)))
    Promptable().measure({"sam": Segmenter()}, source, watched)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_parent_in_the_wrong_role_is_named() -> None:
    """A segmenter cannot embed texts; an absent parent is simply not measured."""
    with pytest.raises(InputError, match="image_text: clip: this parent is promptable"):
        ZeroShotClassification().measure({"clip": Segmenter()}, World(single(1)))
    assert ZeroShotClassification(image_text="other").measure({"clip": Reader()}, World(single(1))) == []


@pytest.mark.parametrize("points", [1, 2])
def test_a_perfect_segmenter_has_full_iou(points: int) -> None:
    """Boxes and points of each mask call it up; of three masks the one the model believes in is taken."""
    measured = Promptable(points=points).measure({"sam": Segmenter()}, World(several(64, 48)))
    assert scores(measured) == {"box_miou": 1.0, "point_miou": 1.0}
    assert {score.n for score in measured} == {4}


def test_half_a_mask_is_half_the_iou() -> None:
    """A segmenter that answers with the left half of the mask scores one half, per mask and not per picture."""

    class Half(Segmenter):
        def set_image(self, picture: np.ndarray) -> Regions:
            image = Regions(picture)
            image.parts = [self._halve(part) for part in image.parts]
            return image

        def _halve(self, part: np.ndarray) -> np.ndarray:
            columns = np.nonzero(part.any(0))[0]
            half = part.copy()
            half[:, columns[len(columns) // 2] :] = False
            return half

    three, one = np.full((24, 24), 4), np.full((24, 24), 4)
    three[2:6, 2:6], three[10:14, 2:6], three[18:22, 2:6], one[2:6, 2:6] = 0, 1, 2, 3
    measured = Promptable().measure({"sam": Half()}, World([three]))
    assert scores(measured[:1]) == {"box_miou": 0.5}

    class Mixed(Half):
        """Perfect where there is one thing."""

        def set_image(self, picture: np.ndarray) -> Regions:
            return super().set_image(picture) if len(np.unique(picture)) > 2 else Regions(picture)

    assert Promptable().measure({"sam": Mixed()}, World([three, one]))[0].value == pytest.approx(2.5 / 4)


def test_boxes_end_at_their_last_pixel() -> None:
    """x0, y0, x1, y1 are indices of pixels inside the mask."""
    mask = np.zeros((2, 9, 12), dtype=bool)
    mask[0, 2:5, 3:8] = mask[1, 8, 11] = True
    assert tight_boxes(mask).tolist() == [[3, 2, 7, 4], [11, 8, 11, 8]]


def test_points_lie_in_their_masks_and_stay() -> None:
    """Point prompts are inside the mask they ask for, the same for every model, others for other masks and pictures.

    One point is ambiguous and gets three masks, several get one.
    """
    asked: list[dict[str, object]] = []

    class Spy(Segmenter):
        def set_image(self, picture: np.ndarray) -> Regions:
            image = Regions(picture)
            answer = image.predict
            image.predict = lambda **prompts: (asked.append(prompts), answer(**prompts))[1]
            return image

    labels = np.full((32, 64), 4)
    labels[4:28, 4:28] = labels[4:28, 36:60] = 0
    source = World([labels, labels])
    for _ in range(2):
        Promptable(points=5).measure({"sam": Spy()}, source)
    Promptable().measure({"sam": Spy()}, source)
    asked = [prompts for prompts in asked if "points" in prompts]
    assert [prompts["multimask"] for prompts in asked] == [False] * 4 + [True] * 2
    first, other, again = (asked[n]["points"] for n in (0, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0] + torch.tensor([32, 0]), first[1])
    for mask, points in zip(source.read(0).masks, first.long(), strict=True):
        assert mask[points[:, 1], points[:, 0]].all()


def test_at_most_so_many_masks_of_a_picture() -> None:
    """The rest of a crowded picture is not asked for."""
    assert Promptable(masks=3).measure({"sam": Segmenter()}, World(several()))[0].n == 3


def slow_miou(answers: Sequence[np.ndarray], truths: Sequence[np.ndarray], judged: Sequence[int]) -> float:
    """mIoU pixel by pixel, from its definition."""
    ious = []
    for label in judged:
        both = either = true = 0
        for answer, truth in zip(answers, truths, strict=True):
            for a, t in zip(answer.ravel(), truth.ravel(), strict=True):
                both += a == label and t == label
                either += a == label or t == label
                true += t == label
        if true:
            ious.append(both / either)
    return sum(ious) / len(ious)


def test_mean_iou_equals_its_definition() -> None:
    """Counts of several pictures give the same as a slow loop, with and without judging the background."""
    draw = np.random.default_rng(0)
    truths = [draw.integers(0, 5, (6, 7)) for _ in range(3)]
    truths = [np.where(truth == 2, 4, truth) for truth in truths]  # class 2 never occurs
    answers = [np.where(draw.random((6, 7)) < 0.6, truth, draw.integers(0, 5, (6, 7))) for truth in truths]
    pairs = list(zip(answers, truths, strict=True))
    whole = np.stack([segmentation.count(a, t, classes=5) for a, t in pairs])
    assert segmentation.mean_iou(whole) == pytest.approx(slow_miou(answers, truths, range(5)), abs=1e-12)
    known = np.stack([segmentation.count(a, t, classes=5, ignored=4) for a, t in pairs])
    kept = [(a[t != 4], t[t != 4]) for a, t in pairs]
    expected = slow_miou([a for a, _ in kept], [t for _, t in kept], range(4))
    assert segmentation.mean_iou(known) == pytest.approx(expected, abs=1e-12)


def test_smaller_masks_lie_over_larger() -> None:
    """Overlapping annotations make one label a pixel; the order of masks does not matter."""
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[0, 1:3, 1:3] = masks[1] = True
    sample = Sample(image=np.zeros((4, 4, 3), np.uint8), name="x", masks=masks, labels=np.array([1, 0]))
    labels = segmentation.label_map(sample, background=9)
    flipped = dataclasses.replace(sample, masks=masks[::-1], labels=np.array([0, 1]))
    assert labels[1, 1] == 1
    assert (labels == 1).sum() == 4
    assert (labels == segmentation.label_map(flipped, background=9)).all()


@pytest.mark.parametrize("frame", [(48, 48), (48, 96), (96, 40)])
@pytest.mark.parametrize("background", ["prompt", "ignore"])
def test_two_heads_find_what_cells_blur(frame: tuple[int, int], background: str) -> None:
    """With coarse cells and true masks under its points, two heads are perfect; cells alone are not sure of edges."""
    model = {"clip": Reader(cells=8), "sam": Segmenter()}
    shifted = [np.roll(labels, (2, 2), axis=(0, 1)) for labels in several(*frame)]  # off the grid of cells
    shifted[0][:2], shifted[0][:, :2] = 4, 4
    found = scores(ZeroShotSegmentation(background=background).measure(model, World(shifted)))
    assert found["miou_two_heads"] > 0.999
    if background == "prompt":
        assert found["miou_head"] < 0.95


def test_shuffled_classes_score_nothing() -> None:
    """Right outlines with wrong names are worth nothing where background is not judged."""
    model = {"clip": Reader((1, 2, 0, 3, 4)), "sam": Segmenter()}
    found = scores(ZeroShotSegmentation(background="ignore").measure(model, World(several())))
    assert found["miou_two_heads"] == 0.0
    assert found["miou_head"] < 0.05


def test_one_prompt_a_class_misses_the_second_thing() -> None:
    """The paper's one prompt a class finds one of two things of a class; one a component finds both."""
    model = {"clip": Reader(), "sam": Segmenter()}
    by_class, by_part = (
        scores(ZeroShotSegmentation(prompts=prompts).measure(model, World(several())))["miou_two_heads"]
        for prompts in ("class", "component")
    )
    assert by_part == 1.0
    assert by_class < 0.95


@pytest.mark.parametrize("at_once", [1, 32])
@pytest.mark.parametrize("stray", [0, 3])
def test_a_stray_cell_does_not_rename_its_object(monkeypatch: pytest.MonkeyPatch, stray: int, at_once: int) -> None:
    """One cell of another class calls up the same mask, and loses to the class that most of the mask's cells are of."""

    class Straying(Reader):
        def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
            cells = super().encode_cells(pictures, size=size)
            cells[:, :, 5, 6] = torch.eye(5)[stray]  # in the middle of the brick
            return cells

    monkeypatch.setattr(two_heads, "_AT_ONCE", at_once)
    model = {"clip": Straying(), "sam": Segmenter()}
    assert scores(ZeroShotSegmentation().measure(model, World(several())))["miou_two_heads"] == 1.0


def test_pictures_of_nothing_are_refused() -> None:
    """Where background is not judged, pictures of background alone give no figure."""
    empty = World([np.full((8, 8), 4)])
    with pytest.raises(InputError, match="no picture with masks and labels among 1"):
        ZeroShotSegmentation(background="ignore").measure({"clip": Reader()}, empty)
    assert scores(ZeroShotSegmentation().measure({"clip": Reader()}, empty)) == {"miou_head": 1.0}


def test_an_unsure_reader_prompts_nothing() -> None:
    """Where no cell exceeds the threshold no mask is asked for, and every pixel is background."""
    model = {"clip": Reader(), "sam": Segmenter()}
    found = ZeroShotSegmentation(scale=1.0, threshold=0.5).measure(model, World(several()))[1]
    background = (several()[0] == 4).mean()
    assert found.value == pytest.approx(background / 4)  # three classes and background occur, the last is all there is


def test_many_things_are_decoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many prompts go into one call, the labels are the same."""
    cells = segmentation.Cells(Reader(), words=torch.eye(5), size=None, scale=100.0, background="prompt", threshold=0.5)
    heads = two_heads.TwoHeads(cells, Echo(), points=1, prompts="component", least=1, mask_scale=10.0)
    sample = World(several()).read(0)
    at_once = heads.label(sample.image, name=sample.name)
    monkeypatch.setattr(two_heads, "_AT_ONCE", 1)
    assert (heads.label(sample.image, name=sample.name) == at_once).all()
    assert len(np.unique(at_once)) == 4


@pytest.mark.parametrize("frame", [(48, 48), (48, 96), (96, 40)])
def test_mask_prompts_lie_where_the_picture_does(frame: tuple[int, int]) -> None:
    """Stretched cells and the padded square agree: the prompt itself, read as SAM's mask, covers the truth."""
    model = {"clip": Reader(), "sam": Echo()}
    found = scores(ZeroShotSegmentation(background="prompt").measure(model, World(several(*frame))))
    assert found["miou_two_heads"] > 0.85


def test_mask_prompts_are_logits_on_the_asked_scale() -> None:
    """A sure cell is +scale, a sure other one -scale, and so is the padding; at 0 there is no prompt."""
    grid = torch.tensor([[[10.0, -10.0], [-10.0, 10.0]]])
    square = two_heads.to_square(grid, (20, 40), side=16, outside=-10.0)
    assert square.shape == (1, 1, 16, 16)
    assert (square[0, 0, 8:] == -10).all()
    assert square[0, 0, 0, 0] == square[0, 0, 7, 15] == 10
    seen: list[torch.Tensor | None] = []

    class Spy(Segmenter):
        def set_image(self, picture: np.ndarray) -> Regions:
            image = Regions(picture)
            answer = image.predict
            image.predict = lambda **prompts: (seen.append(prompts["masks"]), answer(**prompts))[1]
            return image

    for scale in (6.0, 0.0):
        ZeroShotSegmentation(mask_scale=scale).measure({"clip": Reader(), "sam": Spy()}, World(several()))
    assert seen[1] is None
    assert seen[0].min() == pytest.approx(-6, abs=1e-3)
    assert seen[0].max() == pytest.approx(6, abs=1e-3)
    apples = (seen[0][:2] > 0).flatten(1)
    assert apples.any(1).all()
    assert not (apples[0] & apples[1]).any()  # one thing's prompt leaves out the other of its class


def test_background_by_threshold() -> None:
    """With no prompt for background, a pixel that is sure of no class is background."""
    model = {"clip": Reader()}
    source = World(several())
    sure, never = (
        scores(ZeroShotSegmentation(background="threshold", scale=5.0, threshold=chance).measure(model, source))
        for chance in (0.8, 0.0)
    )
    assert sure["miou_head"] > 0.8
    assert never["miou_head"] < 0.5


def test_a_parent_alone_is_measured_by_its_cells() -> None:
    """A CLIP alone has miou_head, the same as inside a merged model; a SAM alone has nothing to say."""
    source, both = World(several()), {"clip": Reader(), "sam": Segmenter()}
    alone = ZeroShotSegmentation().measure({"clip": both["clip"]}, source)
    together = ZeroShotSegmentation().measure(both, source)
    assert [(s.metric, s.against) for s in together] == [("miou_head", "miou_head"), ("miou_two_heads", "miou_head")]
    assert [(s.metric, s.value) for s in alone] == [("miou_head", together[0].value)]
    assert ZeroShotSegmentation().measure({"sam": both["sam"]}, source) == []


def test_scores_can_be_resampled() -> None:
    """Any selection of pictures gives the metric of just these pictures."""
    maps, reader = single(4), Reader((1, 1, 2, 3, 4))
    whole = ZeroShotSegmentation().measure({"clip": reader}, World(maps))[0]
    part = ZeroShotSegmentation().measure({"clip": reader}, World([maps[0], maps[2], maps[2]]))[0]
    assert part.value != whole.value
    assert len(whole.resampled) == 1000
    assert np.isclose(whole.resampled, part.value).any()
    assert whole.resampled.min() <= whole.value <= whole.resampled.max()


def test_components_are_found_along_winding_ways() -> None:
    """A spiral is one component; cells that touch by corners are two."""
    spiral = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=bool)
    assert len(two_heads.components(spiral)) == 1
    assert [part.sum() for part in two_heads.components(np.eye(3, dtype=bool))] == [1, 1, 1]
    assert two_heads.components(np.zeros((2, 2), dtype=bool)) == []


def test_data_that_cannot_be_used_says_what_it_lacks() -> None:
    """What a benchmark needs of a data set is known before a picture is read."""

    class Bare(World):
        has_masks = False
        classes = ()

    bare = Bare(single(1))
    assert ZeroShotClassification().lacks(bare) == "class names"
    assert Promptable().lacks(bare) == "masks"
    assert ZeroShotSegmentation().lacks(bare) == "masks and class names"
    assert ZeroShotSegmentation().lacks(World(single(1))) == ""


def test_benchmarks_are_imported_without_torch() -> None:
    """`vfmerge check` makes benchmarks; it must not wait for torch."""
    modules = "classification, promptable, segmentation"
    code = f"import sys; from vfmerge.benchmarks import {modules}; import vfmerge.retention, vfmerge.card"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=True)
