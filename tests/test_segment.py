"""Text to masks in one pass, and the forms in which pictures are given."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import images, reduction
from vfmerge.benchmarks.cells import Cells
from vfmerge.benchmarks.two_heads import Claims, TwoHeads
from vfmerge.candidates import NOTHING, Candidates
from vfmerge.capability import ImageText
from vfmerge.errors import InputError
from vfmerge.model import MergedModel
from vfmerge.segmentation import Segmentation, Segmenter
from vfmerge.square import Square, SquarePrompts

SIDE = 96  # of the tiny SAM's input
COLOURS = {"red": (214, 48, 49), "blue": (45, 98, 214)}
GROUND = (120, 130, 125)


@pytest.fixture(scope="module")
def merged() -> MergedModel:
    """The shipped tiny parents, merged and not trained: SAM's masks are good, CLIP's head knows nothing yet."""
    adapters = {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny")}
    torch.manual_seed(0)
    model = MergedModel(adapters, base="sam")
    model.start({name: adapter.teacher() for name, adapter in adapters.items()})
    return model.eval().requires_grad_(False)


class Oracle(ImageText):
    """Knows the colours: a cell's embedding is that of the nearest of red, blue and the ground."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        known = [*COLOURS, "background"]
        numbers = [next(number for number, name in enumerate(known) if name in text) for text in texts]
        return F.one_hot(torch.tensor(numbers), 3).float()

    def text_key(self) -> str:
        return "oracle"

    def encode_image(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        raise AssertionError

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> Tensor:
        small = [np.asarray(Image.fromarray(each).resize((12, 12), Image.Resampling.BOX)) for each in pictures]
        colours = np.array([*COLOURS.values(), GROUND], dtype=float)
        near = np.abs(np.stack(small)[..., None, :] - colours).sum(-1).argmin(-1)  # [B, h, w]
        return F.one_hot(torch.from_numpy(near), 3).float().permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def oracle(merged: MergedModel) -> dict[str, ImageText]:
    """Capabilities of a model that knows colours and has the tiny SAM's masks."""
    return {"clip": Oracle(merged.network("clip")), "sam": merged.capability("sam")}


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture with a red disc to the upper left and a blue one to the lower right, and its labels."""
    y, x = np.mgrid[:height, :width]
    radius = min(height, width) / 4
    labels = np.full((height, width), NOTHING)
    labels[(y - 1.3 * radius) ** 2 + (x - 1.3 * radius) ** 2 < radius**2] = 0
    labels[(y - height + 1.3 * radius) ** 2 + (x - width + 1.3 * radius) ** 2 < radius**2] = 1
    picture = np.array([*COLOURS.values(), GROUND], dtype=np.uint8)[labels]
    return picture, labels


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("frame", [(96, 96), (80, 160), (200, 110)])
def test_things_are_found_where_they_are(oracle: dict[str, ImageText], frame: tuple[int, int]) -> None:
    """Whatever the picture's shape, each disc has one mask, its name, and its labels; the rest is nothing."""
    picture, truth = scene(*frame)
    found = Segmenter(oracle, ["red", "blue"]).segment(picture)
    assert (found.labels.dtype, found.labels.shape, found.masks.dtype) == (np.int64, frame, bool)
    assert sorted(found.mask_classes.tolist()) == [0, 1]
    for mask, label in zip(found.masks, found.mask_classes, strict=True):
        assert iou(mask, truth == label) > 0.85
        assert iou(found.labels == label, truth == label) > 0.85
    assert (np.diff(found.scores) <= 0).all()
    assert 0.5 < found.scores.min() <= found.scores.max() <= 1


def test_each_labelled_pixel_lies_in_a_mask_of_its_class(oracle: dict[str, ImageText]) -> None:
    """The map is made of the masks that are given, and of nothing else."""
    found = Segmenter(oracle, ["red", "blue"]).segment(scene(96, 150)[0])
    for label in (0, 1):
        covered = found.masks[found.mask_classes == label].any(axis=0)
        assert not ((found.labels == label) & ~covered).any()
        assert (found.labels == label).any()


def test_labels_are_those_that_the_benchmark_measures(oracle: dict[str, ImageText]) -> None:
    """On a picture of the model's own shape, where both look alike."""
    picture, _ = scene(SIDE, SIDE)
    words = oracle["clip"].encode_text(["red", "blue", "background"])
    cells = Cells(oracle["clip"], words=words, size=SIDE, scale=100.0, background="prompt", threshold=0.5)
    heads = TwoHeads(cells, oracle["sam"], points=3, prompts="component", least=1, mask_scale=10.0)
    measured = heads.label(picture, name="")
    found = Segmenter(oracle, ["red", "blue"]).segment(picture)
    assert (found.labels >= 0).mean() > 0.2
    assert (np.where(measured == 2, NOTHING, measured) == found.labels).mean() > 0.999


@pytest.mark.parametrize("frame", [(380, 300), (300, 300), (180, 420)])
def test_large_pictures_are_found_as_others(
    oracle: dict[str, ImageText], monkeypatch: pytest.MonkeyPatch, frame: tuple[int, int]
) -> None:
    """Masks compete at a smaller size, no larger than need be; those that are left differ at their edges alone."""
    picture, truth = scene(*frame)
    segmenter = Segmenter(oracle, ["red", "blue"])
    whole = segmenter.segment(picture)
    sizes: list[torch.Size] = []
    weigh = TwoHeads._weigh

    def spying(self: TwoHeads, masks: Tensor, labels: Tensor, chance: Tensor) -> Tensor:
        sizes.append(masks.shape[1:])
        return weigh(self, masks, labels, chance)

    monkeypatch.setattr(TwoHeads, "_weigh", spying)
    monkeypatch.setattr(reduction, "SIDE", 200)
    found = segmenter.segment(picture)
    assert max(map(max, sizes)) == 200
    assert (found.labels.dtype, found.labels.shape, found.masks.shape) == (np.int64, frame, whole.masks.shape)
    assert (found.labels == whole.labels).mean() > 0.99
    assert sorted(found.mask_classes) == sorted(whole.mask_classes) == [0, 1]
    for mask, label, score in zip(found.masks, found.mask_classes, found.scores, strict=True):
        (same,) = np.flatnonzero(whole.mask_classes == label)
        assert iou(mask, whole.masks[same]) > 0.98
        assert score == pytest.approx(whole.scores[same], abs=0.02)
        assert iou(found.labels == label, truth == label) > 0.85
        assert (mask[found.labels == label]).all()


def test_labels_of_a_large_picture_part_where_they_did() -> None:
    """Where masks of two classes overlap, the nearer label decides; where a third won that was not kept, nothing is."""
    reduced = reduction.Reduction(frame=(40, 80), inner=(10, 20))
    logits, labels = -torch.ones(3, 10, 20), np.full((10, 20), NOTHING)
    logits[0, 1:9, 1:14] = logits[1, 1:9, 8:19] = 1
    logits[2, 1:4, 1:5] = 1
    labels[1:9, 1:11], labels[1:9, 11:19], labels[1:4, 1:5] = 0, 1, 2
    found = Candidates(reduced)
    found.add(Claims(labels=torch.tensor([0, 1]), logits=logits[:2], strength=(logits[:2] > 0) * 0.9))
    kept = found.choose(labels)
    large = found.labels(kept, labels, masks=found.masks(kept))
    assert [each.label for each in kept] == [0, 1]
    assert (large[20, 8:43] == 0).all()
    assert (large[20, 45:72] == 1).all()
    assert (large[6:14, 6:18] == NOTHING).all()
    assert (large[:2] == NOTHING).all()


def test_nothing_is_an_answer(oracle: dict[str, ImageText]) -> None:
    """A picture with none of the things has no mask, and a map of nothing."""
    found = Segmenter(oracle, ["red", "blue"]).segment(np.full((70, 90, 3), GROUND, dtype=np.uint8))
    assert found.masks.shape == (0, 70, 90)
    assert found.masks.dtype == bool
    assert (found.mask_classes.dtype, found.scores.dtype) == (np.int64, np.float32)
    assert (found.labels == NOTHING).all()


def test_without_a_text_for_the_background_only_sure_cells_ask(oracle: dict[str, ImageText]) -> None:
    """With background none the ground, equally far from both names, is of neither."""
    picture, truth = scene(96, 96)
    found = Segmenter(oracle, ["red", "blue"], background=None).segment(picture)
    assert iou(found.labels == 0, truth == 0) > 0.85
    assert (found.labels[truth == NOTHING] == NOTHING).mean() > 0.9


@pytest.mark.parametrize("frame", [(96, 96), (40, 130), (300, 200)])
def test_text_and_masks_take_one_pass(merged: MergedModel, frame: tuple[int, int]) -> None:
    """Pictures of any shape go through the trunk once, at its own size, though both heads answer."""
    passes: list[torch.Size] = []
    asked: list[object] = []
    hooks = [
        merged.trunk.register_forward_hook(lambda module, given, answer: passes.append(given[0].shape)),
        merged.heads["sam"].mask_decoder.transformer.register_forward_hook(lambda *call: asked.append(call)),
    ]
    noise = np.random.default_rng(0).integers(0, 256, (*frame, 3), dtype=np.uint8)
    merged.segment(noise, ["star", "ring"], background=None, threshold=0.0)  # every cell asks for masks
    for hook in hooks:
        hook.remove()
    assert passes == [(1, 3, SIDE, SIDE)]
    assert asked


def test_a_model_segments_one_picture_or_several(merged: MergedModel) -> None:
    """One gives one answer; a list, or a batch as a tensor, gives a list of the same answers."""
    pictures = [scene(64, 64)[0], scene(64, 64)[0][::-1].copy()]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    alone = [merged.segment(each, ["star", "ring"]) for each in pictures]
    assert all(isinstance(each, Segmentation) for each in alone)
    for several in (merged.segment(pictures, ["star", "ring"]), merged.segment(batch, ["star", "ring"])):
        assert isinstance(several, list)
        for one, other in zip(alone, several, strict=True):
            assert np.array_equal(one.labels, other.labels)
            assert np.array_equal(one.masks, other.masks)
            assert other.classes == ("star", "ring")


def test_half_precision_finds_the_same(oracle: dict[str, ImageText], merged: MergedModel) -> None:
    """A model in bfloat16 needs no other call, and differs by few pixels."""
    picture, _ = scene(80, 120)
    half = copy.deepcopy(merged).bfloat16()
    heads = {"clip": Oracle(half.network("clip")), "sam": half.capability("sam")}
    whole, found = (Segmenter(each, ["red", "blue"]).segment(picture) for each in (oracle, heads))
    assert (whole.labels >= 0).any()
    assert (whole.labels == found.labels).mean() > 0.98


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ("cat", {}, "classes: 'cat' is one text; give a list of names"),
        ([], {}, "classes: no name; give one or more"),
        (["cat", " "], {}, "classes: ' ' is no name"),
        (["cat", 3], {}, "classes: 3 is no name"),
        (["cat", "cat "], {}, "classes: 'cat' is given twice"),
        (["cat"], {"background": "cat"}, "background: 'cat' is one of the classes"),
        (["cat"], {"background": None}, "background: none, so a single class is everywhere"),
        (["cat"], {"background": " cat "}, "background: ' cat ' is one of the classes"),
        (["cat"], {"background": ""}, "background: '' is no name; give each a text"),
        (["cat"], {"threshold": 1.0}, "threshold: 1.0 is no probability below 1"),
        (["cat"], {"threshold": "x"}, "threshold: 'x' is no probability below 1; give 0.5, for example"),
        (["cat"], {"threshold": None}, "threshold: null is no probability below 1"),
        (["cat"], {"templates": "foo"}, "templates: 'foo' cannot be used; give openai, vild, plain, or a list"),
        (["cat"], {"templates": ["a photo"]}, 'templates: ["a photo"] cannot be used; give openai'),
        (["cat"], {"templates": ["a {}", "{} {}"]}, 'templates: ["a {}", "{} {}"] cannot be used'),
        (["cat"], {"promptable": ["sam"]}, 'promptable: ["sam"] is no such head of this model; give sam'),
        (["cat"], {"image_text": "sam"}, "image_text: 'sam' is no such head of this model; give clip"),
    ],
)
def test_a_wrong_question_is_one_line(merged: MergedModel, classes: object, options: dict, message: str) -> None:
    """Names and options that cannot be used say what to do."""
    with pytest.raises(InputError) as error:
        merged.segment(scene(96, 96)[0], classes, **options)
    assert str(error.value).startswith(message)


def test_a_model_with_several_heads_is_told_which(oracle: dict[str, ImageText]) -> None:
    """Two that know texts are ambiguous until one is named; none at all is said."""
    two = oracle | {"other": oracle["clip"]}
    with pytest.raises(InputError, match="image_text: this model has several such heads; name one: clip or other"):
        Segmenter(two, ["red", "blue"])
    assert Segmenter(two, ["red", "blue"], image_text="other").classes == ("red", "blue")
    with pytest.raises(InputError, match="promptable: this model has no such head"):
        Segmenter({"clip": oracle["clip"]}, ["red", "blue"])


@pytest.mark.parametrize("frame", [(60, 130), (130, 60)])
def test_prompts_in_a_square_are_prompts_in_the_picture(merged: MergedModel, frame: tuple[int, int]) -> None:
    """Boxes and points of a picture that is shown in its square call up what they do where it is not."""
    picture, truth = scene(*frame)
    image, native = SquarePrompts(merged.sam).set_image(picture), merged.sam.set_image(picture)
    rows, columns = (truth == 1).nonzero()
    box = torch.tensor([[columns.min(), rows.min(), columns.max(), rows.max()]]).float()
    middle = box.view(1, 2, 2).mean(1, keepdim=True)
    for prompt in ({"boxes": box}, {"points": middle, "labels": torch.ones(1, 1, dtype=torch.long)}):
        (ours, _), (theirs, _) = image.predict(**prompt), native.predict(**prompt)
        assert ours.shape == (1, 1, *frame)
        assert iou((ours > 0).numpy(), (theirs > 0).numpy()) > 0.97


def test_cells_of_a_square_become_cells_of_the_picture() -> None:
    """A map that rises to the right does so over the picture alone, and ends where the picture does."""
    square = Square.of(np.zeros((50, 100, 3), dtype=np.uint8), side=64)
    grid = torch.arange(16.0).expand(1, 16, 16)
    assert square.inner == (32, 64)
    assert torch.allclose(square.cells(grid), torch.arange(16.0).expand(1, 8, 16), atol=1e-4)
    assert torch.allclose(square.cells(grid.mT)[0, :, 0], torch.arange(8.0), atol=1e-4)


def test_masks_of_a_picture_become_masks_of_its_square() -> None:
    """What lies in the lower right corner of the picture lies there in its part of the square, a thin line too."""
    square = Square.of(np.zeros((200, 400, 3), dtype=np.uint8), side=64)
    masks = torch.zeros(2, 200, 400, dtype=torch.bool)
    masks[0, 100:, 200:] = True
    masks[1, 199] = True
    corner, line = square.masks(masks)
    assert corner.shape == (64, 64)
    assert torch.equal(corner.nonzero()[[0, -1]], torch.tensor([[16, 32], [31, 63]]))
    assert line.any()
    assert torch.equal(line.nonzero()[:, 0].unique(), torch.tensor([31]))


def _file(pixels: np.ndarray, folder: Path) -> str:
    Image.fromarray(pixels).save(folder / "picture.png")
    return str(folder / "picture.png")


FORMS: dict[str, Callable[[np.ndarray, Path], object]] = {
    "text": _file,
    "path": lambda pixels, folder: Path(_file(pixels, folder)),
    "pillow": lambda pixels, folder: Image.fromarray(pixels),
    "pillow opened": lambda pixels, folder: Image.open(_file(pixels, folder)),
    "array": lambda pixels, folder: pixels,
    "array of floats": lambda pixels, folder: pixels / 255,
    "array with opacity": lambda pixels, folder: np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
    "array read backwards": lambda pixels, folder: pixels[::-1].copy()[::-1],
    "tensor": lambda pixels, folder: torch.from_numpy(pixels).permute(2, 0, 1),
    "tensor of floats": lambda pixels, folder: torch.from_numpy(pixels).permute(2, 0, 1) / 255,
    "tensor with a graph": lambda pixels, folder: (torch.from_numpy(pixels).permute(2, 0, 1) / 255).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_may_have_any_form(form: str, tmp_path: Path) -> None:
    """All give the same pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    given = FORMS[form](pixels, tmp_path)
    assert not images.several(given)
    (found,) = images.pictures(given)
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels)
    assert len(list(images.pictures([given, given]))) == 2


@pytest.mark.parametrize("shape", [(10, 14), (10, 14, 1), (1, 10, 14)])
def test_grey_is_grey_in_three_channels(shape: tuple[int, ...]) -> None:
    """As an array without and with a channel, and as a tensor."""
    grey = np.random.default_rng(0).integers(0, 256, (10, 14), dtype=np.uint8)
    given = torch.from_numpy(grey).view(shape) if shape[0] == 1 else grey.reshape(shape)
    (found,) = images.pictures(given)
    assert np.array_equal(found, np.dstack([grey] * 3))


def test_transparency_lies_on_white_and_pictures_are_upright() -> None:
    """Arrays and Pillow's images follow the rules that files are read by."""
    clear = np.zeros((10, 14, 4))
    assert (next(images.pictures(clear)) == 255).all()
    lying = Image.fromarray(np.zeros((10, 14, 3), dtype=np.uint8))
    lying.getexif()[0x0112] = 6
    assert next(images.pictures(lying)).shape == (14, 10, 3)


def test_half_precision_is_read() -> None:
    """numpy has no bfloat16, tensors have."""
    (found,) = images.pictures(torch.full((3, 10, 14), 0.5, dtype=torch.bfloat16))
    assert (found == 128).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("absent.jpg", "absent.jpg: absent.jpg cannot be read: No such file"),
        (None, "image: is of type NoneType; give a path"),
        ([], "image: an empty list"),
        ([[np.zeros((9, 9, 3), np.uint8)]], "image 0: is of type list"),
        (np.zeros((3, 90, 80), np.uint8), "image: an array of shape [3, 90, 80]; give [H, W, C]"),
        (np.zeros(9, np.uint8), "image: an array of shape [9]"),
        (np.zeros((0, 9, 3), np.uint8), "image: an array of shape [0, 9, 3] has no pixel"),
        (torch.zeros(90, 80, 3), "image: a tensor of shape [90, 80, 3]; give [C, H, W]"),
        (np.zeros((9, 9, 3), np.int64), "image: of type int64; give uint8 in 0..255, or floats in 0..1"),
        (np.full((9, 9, 3), 200.0), "image: floats from 200 to 200, not in 0..1; divide by 255, or give uint8"),
        (np.full((9, 9, 3), -1.5), "image: floats from -1.5 to -1.5, not in 0..1; undo the normalisation"),
        (np.full((9, 9, 3), np.nan), "image: floats from nan to nan"),
        ([np.zeros((9, 9, 3), np.uint8), np.zeros((4, 9, 3), np.uint8)], "image 1: has 9 x 4 pixels; the smaller side"),
        (np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (10**5, 10**4), (0, 0)), "image: has 10000 x 100000"),
        (Image.new("F", (9, 9)), "image: has pixels of mode F; convert it to 8-bit RGB"),
    ],
)
def test_what_is_no_picture_is_one_line(given: object, message: str) -> None:
    """Each says which picture, what is wrong with it, and what to give."""
    with pytest.raises(InputError) as error:
        list(images.pictures(given))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
