"""The cascade: masks of everything are SAM's own, and what is cut out and named becomes labels of pixels.

Axis letters: H x W pixels, N masks.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from segment_anything import SamAutomaticMaskGenerator
from segment_anything.utils.amg import build_point_grid
from torchvision.ops import nms
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM, geometry

from vfmerge import weights
from vfmerge.benchmarks import cascade, everything
from vfmerge.benchmarks.cascade import Cascade, cut
from vfmerge.benchmarks.everything import Everything, Masks, grid_points, suppress
from vfmerge.benchmarks.segmentation import ZeroShotSegmentation
from vfmerge.capability import Capability, ImageText, Promptable, PromptableImage
from vfmerge.data.source import Sample, Source
from vfmerge.data.world import Shapes
from vfmerge.model import Network

COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], dtype=np.uint8)  # of each class; black is background
FINDS = {"grid": 12, "stability": 0.8}  # the tiny SAM's masks are small, and so less stable


class Reader(ImageText):
    """Sees which colour there is most of; `doubt` is how much it believes in the next class as well."""

    def __init__(self, doubt: float = 0.0) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))
        self.doubt, self.asked = doubt, list[int]()

    def text_key(self) -> str:
        return "colours"

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        self.asked.append(len(pictures))
        known = np.concatenate([COLOURS, np.zeros((1, 3), dtype=np.uint8)])
        amounts = [[(picture == colour).all(2).sum() for colour in known] for picture in pictures]
        seen = F.one_hot(torch.tensor(np.array(amounts)).argmax(1), 4).float()
        return F.normalize(seen + self.doubt * seen.roll(1, 1), dim=1)

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.stack([torch.tensor([float(name in text) for name in (*World.classes, "back")]) for text in texts])

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        return self.encode_image(pictures)[:, :, None, None].expand(-1, -1, 2, 2)


class Segmenter(Promptable):
    """Answers a point with the region of one colour around it, as the second of three masks."""

    def __init__(self) -> None:
        super().__init__(Network(torch.nn.Identity(), torch.nn.Identity()))

    def set_image(self, picture: np.ndarray) -> PromptableImage:
        class Image(PromptableImage):
            mask_side = 32

            def predict(self, *, boxes=None, points=None, labels=None, masks=None, multimask=False):
                assert multimask
                places = points[:, 0].long()
                under = torch.from_numpy(picture)[places[:, 1], places[:, 0]]  # [N, 3]
                region = (torch.from_numpy(picture) == under[:, None, None]).all(3).float() * 16 - 8
                return torch.stack([-region, region, region], 1), torch.tensor([[0.5, 0.95, 0.9]]).expand(
                    len(region), 3
                )

        return Image()


class World(Source):
    """One picture of three coloured rectangles on black."""

    has_masks = True
    classes = ("red", "green", "blue")

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Sample:
        masks = np.zeros((3, 40, 60), dtype=bool)
        masks[0, 4:20, 6:30], masks[1, 24:36, 10:26], masks[2, 10:34, 36:56] = True, True, True
        image = np.zeros((40, 60, 3), dtype=np.uint8)
        for mask, colour in zip(masks, COLOURS, strict=True):
            image[mask] = colour
        return Sample(image=image, name="world", masks=masks, labels=np.arange(3))

    def digest(self) -> str:
        return ""


class Given(Everything):
    """Finds what it is given: bool masks [N, H, W] with scores."""

    def __init__(self, masks: np.ndarray, scores: Sequence[float]) -> None:
        super().__init__()
        bits = (
            np.packbits(masks.reshape(len(masks), masks[0].size), axis=1) if len(masks) else np.zeros((0, 1), np.uint8)
        )
        found = Masks(frame=(8, 8), boxes=np.zeros((len(masks), 4)), scores=np.array(scores), bits=bits)
        object.__setattr__(self, "found", found)

    def find(self, promptable: Promptable, picture: np.ndarray) -> Masks:
        return self.found  # type: ignore[attr-defined,no-any-return]


def label(picture: np.ndarray, masks: Sequence[np.ndarray], scores: Sequence[float], **options: object) -> np.ndarray:
    """What a cascade on given masks makes of a picture of 8 x 8 pixels."""
    settings = {"background": "prompt", "threshold": 0.5, "crop": "mask", "reader": Reader()} | options
    words = torch.eye(4) if settings["background"] == "prompt" else torch.eye(4)[:3]
    found = Cascade(
        settings.pop("reader"),
        Segmenter(),
        words=words,
        scale=100.0,
        everything=Given(np.array(masks), scores),
        **settings,
    )
    return found.label(picture, name="x")


def square(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((8, 8), dtype=bool)
    mask[rows, columns] = True
    return mask


@pytest.fixture(scope="module")
def sam() -> SAM:
    return SAM(variant="tiny")


@pytest.fixture(scope="module")
def tiny(sam: SAM) -> dict[str, Capability]:
    clip = OpenCLIP(model="tiny", window=5)
    return {"sam": sam.capability(sam.teacher()), "clip": clip.capability(clip.teacher())}


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 96), (150, 90)])
def test_everything_is_what_sams_own_generator_finds(
    sam: SAM, tiny: dict[str, Capability], height: int, width: int
) -> None:
    """The same masks in the same order, with the same boxes and scores, as `SamAutomaticMaskGenerator`'s."""
    theirs = geometry.build(sam.geometry).eval()
    weights.fit(theirs, weights.read(sam.sources[0]), source="sam")
    generator = SamAutomaticMaskGenerator(theirs, points_per_side=12, stability_score_thresh=0.8)
    scene = Shapes(layout="several", split="held-out", count=8, size=192).read(2).image[::2, ::2]
    picture = np.ascontiguousarray(np.resize(scene, (150, 96, 3))[:height, :width])
    expected = generator.generate(picture)
    found = Everything(**FINDS).find(tiny["sam"], picture)
    assert len(expected) > 2
    assert len(found) == len(expected)
    for number, annotation in enumerate(expected):
        assert (found[number] == annotation["segmentation"]).all()
        assert found.areas[number] == annotation["area"]
        assert found.scores[number] == pytest.approx(annotation["predicted_iou"])
        x, y, w, h = annotation["bbox"]
        assert found.boxes[number].tolist() == [x, y, x + w, y + h]


def test_defaults_are_sams() -> None:
    """Every number is the default of SAM's generator."""
    theirs = {name: each.default for name, each in inspect.signature(SamAutomaticMaskGenerator).parameters.items()}
    ours = Everything()
    assert (ours.grid, ours.iou, ours.stability, ours.overlap, everything._OFFSET, everything._POINTS) == tuple(
        theirs[f"{name}"]
        for name in (
            "points_per_side",
            "pred_iou_thresh",
            "stability_score_thresh",
            "box_nms_thresh",
            "stability_score_offset",
            "points_per_batch",
        )
    )


def test_points_are_sams() -> None:
    """The middles of equal parts, row by row, x before y."""
    assert np.allclose(grid_points(5, (30, 70)), build_point_grid(5) * [70, 30])


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7])
def test_suppression_is_torchvisions(overlap: float) -> None:
    """On random boxes, with equal scores, equal boxes, and boxes of a single pixel."""
    draw = np.random.default_rng(0)
    corner = draw.integers(0, 40, (60, 2))
    boxes = np.concatenate([corner, corner + draw.integers(0, 20, (60, 2))], axis=1).astype(np.float32)
    boxes[10], boxes[20:22, 2:] = boxes[11], boxes[20:22, :2]
    boxes[21] = boxes[20]
    scores = draw.integers(0, 10, 60).astype(np.float32)
    theirs = nms(torch.from_numpy(boxes), torch.from_numpy(scores), overlap)
    assert suppress(boxes, scores, overlap=overlap).tolist() == theirs.tolist()
    assert suppress(np.zeros((0, 4)), np.zeros(0), overlap=overlap).tolist() == []


def test_however_many_points_at_once_the_masks_are_the_same(
    tiny: dict[str, Capability], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large picture's points are decoded fewer at a time, so that memory is bounded, with the same result."""
    picture = Shapes(layout="several", split="held-out", count=8).read(2).image
    at_once = Everything(**FINDS).find(tiny["sam"], picture)
    calls: list[int] = []
    monkeypatch.setattr(everything, "_PIXELS", 3 * 96 * 96 * 10)
    image = tiny["sam"].set_image(picture)
    monkeypatch.setattr(type(image), "predict", _counted(type(image).predict, calls))
    few = Everything(**FINDS).find(tiny["sam"], picture)
    assert calls == [10] * 14 + [4]
    assert len(few) == len(at_once)
    assert all((few[number] == at_once[number]).all() for number in range(len(few)))


def _counted(predict, calls: list[int]):
    def counting(self, **prompts):
        calls.append(len(prompts["points"]))
        return predict(self, **prompts)

    return counting


def test_masks_are_kept_whole() -> None:
    """What is packed is unpacked, also where a picture's pixels do not fill bytes."""
    drawn = np.random.default_rng(0).random((3, 5, 7)) < 0.5
    bits = np.packbits(drawn.reshape(3, -1), axis=1)
    masks = Masks(frame=(5, 7), boxes=np.zeros((3, 4)), scores=np.zeros(3), bits=bits)
    assert (np.stack([masks[number] for number in range(len(masks))]) == drawn).all()
    assert masks.areas.tolist() == drawn.sum((1, 2)).tolist()


def test_a_crop_is_a_square_around_the_mask() -> None:
    """A tenth wider on each side; the mean colour off the mask, or only off the picture."""
    picture = np.arange(60 * 80 * 3).reshape(60, 80, 3).astype(np.uint8)
    mean = picture.reshape(-1, 3).mean(0).round()
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 30:40] = True
    seen = cut(picture, mask, "box")
    assert seen.shape == (24, 24, 3)
    assert (seen == picture[18:42, 23:47]).all()
    alone = cut(picture, mask, "mask")
    assert (alone[2:22, 7:17] == picture[20:40, 30:40]).all()
    alone[2:22, 7:17] = mean
    assert (alone == mean).all()


@pytest.mark.parametrize("corner", [(0, 0), (0, 79), (59, 0), (59, 79)])
def test_a_crop_at_the_edge_is_filled_up(corner: tuple[int, int]) -> None:
    """Where the square is outside the picture it has the mean colour, and the mask's pixels are there."""
    picture = np.full((60, 80, 3), 7, dtype=np.uint8)
    picture[corner] = 90
    mask = np.zeros((60, 80), dtype=bool)
    mask[max(corner[0] - 9, 0) : corner[0] + 10, max(corner[1] - 9, 0) : corner[1] + 10] = True
    seen = cut(picture, mask, "mask")
    assert seen.shape[0] == seen.shape[1] == 12
    assert (seen == 90).all(2).sum() == 1
    tall = np.zeros((60, 80), dtype=bool)
    tall[:, 3] = True
    assert cut(picture, tall, "box").shape == (72, 72, 3)


@pytest.mark.parametrize("crop", ["mask", "box"])
@pytest.mark.parametrize("background", ["prompt", "threshold"])
def test_true_masks_and_names_are_perfect(crop: str, background: str) -> None:
    """Each region is found once by many points, cut out, named and put back; the rest is background."""
    benchmark = ZeroShotSegmentation(grid=8, crop=crop, background=background, background_prompt="back").cascade()
    (found,) = benchmark.measure({"clip": Reader(), "sam": Segmenter()}, World())
    assert (found.metric, found.against, found.task) == ("miou_cascade", "miou_head", "clip")
    assert found.value == 1.0


def test_the_higher_score_names_a_pixel_and_of_equals_the_smaller() -> None:
    """Probability times believed IoU; the order in which masks are given has no say."""
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[:, :] = COLOURS[0]
    picture[2:5, 2:5] = COLOURS[1]
    whole, part = square(slice(0, 8), slice(0, 8)), square(slice(2, 5), slice(2, 5))
    for order in (slice(None), slice(None, None, -1)):
        masks = [whole, part][order]
        assert (label(picture, masks, [0.9, 0.9]) == np.where(part, 1, 0)).all()
        assert (label(picture, masks, [0.95, 0.9][order]) == 0).all()
        assert (label(picture, masks, [0.9, 0.95][order]) == np.where(part, 1, 0)).all()


def test_pixels_in_no_mask() -> None:
    """Background where it is judged, else what the whole picture is called; without a mask that is everywhere."""
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[:, 3:], picture[:2, :2] = COLOURS[2], COLOURS[0]
    mask = square(slice(0, 2), slice(0, 2))
    assert (label(picture, [mask], [0.9]) == np.where(mask, 0, 3)).all()
    assert (label(picture, [mask], [0.9], background="ignore") == np.where(mask, 0, 2)).all()
    assert (label(picture, [], []) == 3).all()
    assert (label(picture, [], [], background="ignore") == 2).all()


def test_an_unsure_mask_is_not_used_where_that_means_background() -> None:
    """With background `threshold` the probability must exceed it; otherwise the likeliest class is taken."""
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    picture[:2, :2] = COLOURS[0]
    mask = square(slice(0, 2), slice(0, 2))
    for doubt, threshold, expected in ((0.0, 0.9, 0), (0.999, 0.9, 3), (0.999, 0.0, 0)):
        found = label(picture, [mask], [0.9], background="threshold", threshold=threshold, reader=Reader(doubt))
        assert found[0, 0] == expected
    assert label(picture, [mask], [0.9], threshold=0.9, reader=Reader(0.999))[0, 0] == 0


def test_crops_are_embedded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many go into one call, the labels are the same."""
    picture = np.random.default_rng(0).choice(COLOURS, (8, 8))
    masks = [square(slice(row, row + 2), slice(column, column + 3)) for row in range(6) for column in range(5)]
    scores = np.linspace(0.8, 0.99, len(masks))
    readers = [Reader(), Reader()]
    together = label(picture, masks, scores, reader=readers[0])
    monkeypatch.setattr(cascade, "_AT_ONCE", 4)
    assert (label(picture, masks, scores, reader=readers[1]) == together).all()
    assert readers[0].asked == [16, 14]
    assert readers[1].asked == [4] * 7 + [2]
    assert len(np.unique(together)) == 4


def test_the_cascade_is_the_same_benchmark_otherwise() -> None:
    """`cascade` leaves the benchmark as it is; the option says the same; a model without masks has its cells."""
    benchmark = ZeroShotSegmentation(grid=4, background_prompt="back")
    other = benchmark.cascade()
    both = {"clip": Reader(), "sam": Segmenter()}
    assert [score.metric for score in other.measure(both, World())] == ["miou_cascade"]
    assert [score.metric for score in other.measure({"clip": Reader()}, World())] == ["miou_head"]
    assert isinstance(other.labeller(both, World.classes, store=_nowhere()), Cascade)
    assert not isinstance(benchmark.labeller(both, World.classes, store=_nowhere()), Cascade)
    asked = ZeroShotSegmentation(grid=4, background_prompt="back", pipeline="cascade")
    assert asked.measure(both, World())[0].value == other.measure(both, World())[0].value


def _nowhere():
    from vfmerge.store import Store

    return Store()


def test_the_tiny_parents_in_cascade(tiny: dict[str, Capability]) -> None:
    """On scenes of the shapes world the control does its work: far above what the CLIP parent's cells say."""
    scenes = Shapes(layout="several", split="held-out", count=4)
    options = {"size": 96, "background_prompt": "empty background", "templates": "plain"} | FINDS | {"grid": 8}
    benchmark = ZeroShotSegmentation(**options)
    (head,) = benchmark.measure({"clip": tiny["clip"]}, scenes)
    (both,) = benchmark.cascade().measure(tiny, scenes)
    assert both.value > 2 * head.value
    assert both.value > 0.6
