"""`vfmerge predict`: what it writes, what it refuses, and that one bad picture does not stop the others."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from vfmerge_adapters.clip2sam import CLIP2SAM
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import commit, images, reduction
from vfmerge.capability import Capability, PromptableRecognition, RecognisedImage, Recognition, Vocabulary
from vfmerge.cli import main
from vfmerge.data.shapes import SHAPES, Scene, scene
from vfmerge.errors import InputError
from vfmerge.model import MergedModel
from vfmerge.predict import overlay, pictures
from vfmerge.predict.answer import Answer
from vfmerge.predict.answerer import answerer, cast
from vfmerge.predict.question import Question

DATA = os.environ.get("VFMERGE_DATA")
NAMES = ",".join(SHAPES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged model of the shipped tiny parents that was not trained: SAM's masks are good, names are guesses."""
    adapters = {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny")}
    torch.manual_seed(0)
    model = MergedModel(adapters, base="sam")
    model.start({name: adapter.teacher() for name, adapter in adapters.items()})
    path = tmp_path_factory.mktemp("model") / "merged"
    model.save(path, names={"sam": "sam", "clip": "open_clip"}, texts={})
    return path


@pytest.fixture(scope="module")
def world() -> Scene:
    """A held-out scene of several shapes."""
    return scene(seed=0, split="held-out", index=0, layout="several", size=96)


@pytest.fixture
def picture(world: Scene, tmp_path: Path) -> Path:
    """The scene as a file."""
    path = tmp_path / "pictures" / "scene.png"
    path.parent.mkdir()
    Image.fromarray(world.image).save(path)
    return path


def predict(folder: Path, *arguments: str | Path, out: Path) -> int:
    return main(["predict", str(folder), *map(str, arguments), "--out", str(out), "--device", "cpu"])


def answer(
    heads: Mapping[str, Capability], question: Question, image: np.ndarray, *, tasks: Sequence[str] = ()
) -> Answer:
    return answerer(heads, question, cast=cast(heads, question, tasks=tasks)).answer(image)


def box_of(mask: np.ndarray) -> str:
    """The tight box of a mask, as the command line takes it."""
    rows, columns = mask.nonzero()
    return f"{columns.min()},{rows.min()},{columns.max()},{rows.max()}"


def results(out: Path, name: str = "scene") -> list[dict]:
    return json.loads((out / "results" / f"{name}.json").read_text())


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def decode(entry: dict) -> np.ndarray:
    """An entry's mask, by COCO's own tool, which NumPy has a word about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(entry["segmentation"]).astype(bool)


def files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def test_boxes_call_up_masks(folder: Path, picture: Path, world: Scene, tmp_path: Path) -> None:
    """Each box has a mask PNG and an entry of COCO's form, both of the thing in it, in the order of the boxes."""
    out = tmp_path / "out"
    boxes = [word for mask in world.masks for word in ("--box", box_of(mask))]
    assert predict(folder, picture, *boxes, out=out) == 0
    entries = results(out)
    assert len(entries) == len(world.masks) >= 2
    for number, (entry, truth) in enumerate(zip(entries, world.masks, strict=True), start=1):
        mask = np.asarray(Image.open(out / "masks" / f"scene-{number}.png"))
        assert set(np.unique(mask)) == {0, 255}
        assert iou(mask > 0, truth) > 0.8
        segmentation = entry["segmentation"]
        assert segmentation["size"] == [96, 96]
        assert np.array_equal(decode(entry), mask > 0)
        assert entry["bbox"] == coco_mask.toBbox(segmentation).tolist()
        assert entry["area"] == coco_mask.area(segmentation)
        assert entry["category_id"] == 0
        assert "category_name" not in entry
        assert ",".join(f"{value:g}" for value in entry["box"]) == boxes[2 * number - 1]
        assert entry["score"] == entry["predicted_iou"] > 0.5
    assert files(out)[-1] == "results/scene.json"


def test_a_point_takes_the_mask_that_the_model_believes_in(
    folder: Path, picture: Path, world: Scene, tmp_path: Path
) -> None:
    """Points come before boxes, whatever their order on the command line."""
    rows, columns = world.masks[-1].nonzero()
    middle = len(rows) // 2
    point = f"{columns[middle]},{rows[middle]}"
    assert predict(folder, picture, "--box", box_of(world.masks[0]), "--point", point, out=tmp_path / "out") == 0
    first, second = results(tmp_path / "out")
    assert first["point"] == [columns[middle], rows[middle]]
    assert iou(decode(first), world.masks[-1]) > 0.8
    assert "box" in second


def test_names_make_a_label_map_that_agrees_with_the_masks(folder: Path, picture: Path, tmp_path: Path) -> None:
    """The PNG counts names from 1; COCO's tools load the results; both are what `segment` answers."""
    import vfmerge

    out = tmp_path / "out"
    assert predict(folder, picture, "--text", " star, ring ,heart", "--background", "nothing", out=out) == 0
    expected = vfmerge.load(folder).segment(picture, ["star", "ring", "heart"], background="nothing")
    map_ = Image.open(out / "labels" / "scene.png")
    assert map_.mode == "P"
    assert np.array_equal(np.asarray(map_), expected.labels + 1)
    assert (expected.labels >= 0).any()
    assert tuple(map_.getpalette()[3:6]) == overlay.colour(0)
    entries = results(out)
    assert [each["category_id"] for each in entries] == (expected.mask_classes + 1).tolist()
    assert {each["category_name"] for each in entries} <= {"star", "ring", "heart"}
    for entry, mask in zip(entries, expected.masks, strict=True):
        assert np.array_equal(decode(entry), mask)
    truth = COCO()
    truth.dataset = {"images": [{"id": "scene.png"}], "categories": [], "annotations": []}
    truth.createIndex()
    assert len(truth.loadRes(entries).anns) == len(entries) > 0
    assert not (out / "masks").exists()


def test_names_are_given_to_what_is_pointed_at(folder: Path, picture: Path, world: Scene, tmp_path: Path) -> None:
    """With points or boxes nothing else is looked for: each mask gets one of the names."""
    out = tmp_path / "out"
    assert predict(folder, picture, "--box", box_of(world.masks[0]), "--text", NAMES, out=out) == 0
    (entry,) = results(out)
    assert entry["category_name"] == SHAPES[entry["category_id"] - 1]
    assert 0 < entry["score"] <= 1
    labels = np.asarray(Image.open(out / "labels" / "scene.png"))
    assert set(np.unique(labels)) == {0, entry["category_id"]}
    assert iou(labels > 0, world.masks[0]) > 0.8


def test_everything_is_outlined(folder: Path, picture: Path, world: Scene, tmp_path: Path) -> None:
    """Without names the label map counts masks, in 16 bits, and the things of the scene are among them."""
    out = tmp_path / "out"
    assert predict(folder, picture, "--everything", "--grid", "8", "--stability", "0.8", out=out) == 0
    masks = [decode(each) for each in results(out)]
    for truth in world.masks:
        assert max(iou(mask, truth) for mask in masks) > 0.8
    labels = np.asarray(Image.open(out / "labels" / "scene.png"))
    assert labels.dtype == np.uint16
    assert len(world.masks) <= labels.max() <= len(masks)
    number = int(labels[labels > 0][0])
    assert masks[number - 1][labels == number].all()


def test_names_for_everything(folder: Path, picture: Path, tmp_path: Path) -> None:
    """Each mask has one of the names, and pixels have the names of their masks."""
    out = tmp_path / "out"
    options = ("--everything", "--grid", "4", "--stability", "0.5", "--text", NAMES)
    assert predict(folder, picture, *options, out=out) == 0
    entries = results(out)
    assert entries
    labels = np.asarray(Image.open(out / "labels" / "scene.png"))
    assert set(np.unique(labels)) <= {0, *(entry["category_id"] for entry in entries)}


class Recogniser(PromptableRecognition):
    """Outlines the box it is given, and calls it by the last of the names."""

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.eye(3)[[0] * len(texts)]

    def text_key(self) -> str:
        return "fake"

    def set_image(self, picture: np.ndarray) -> RecognisedImage:
        return Recognised(picture.shape[:2])


class Recognised(RecognisedImage):
    def __init__(self, frame: tuple[int, int]) -> None:
        self.frame = frame

    def recognise(self, vocabulary: Vocabulary, **prompts: torch.Tensor) -> Recognition:
        logits = -torch.ones(len(prompts["boxes"]), *self.frame)
        for logit, (x0, y0, x1, y1) in zip(logits, prompts["boxes"].int().tolist(), strict=True):
            logit[y0:y1, x0:x1] = 1
        scores = torch.linspace(0.1, 0.7, len(vocabulary.words)).expand(len(logits), -1)
        assert not vocabulary.seen.any()
        return Recognition(logits=logits, ious=torch.full((len(logits),), 0.5), scores=scores)


def test_a_head_that_names_what_it_outlines_is_asked(folder: Path, world: Scene) -> None:
    """Points and boxes with names go to it, where the model has one."""
    import vfmerge

    model = vfmerge.load(folder)
    heads = model.capabilities() | {"recognition": Recogniser(model.network("sam"))}
    question = Question(classes=("star", "ring"), boxes=((4, 8, 20, 30),))
    found = answer(heads, question, world.image)
    assert found.masks[0].sum() == 16 * 22
    assert (found.classes.tolist(), found.ious.tolist()) == ([1], [0.5])
    assert found.scores == pytest.approx([0.7])
    assert (found.regions[8:30, 4:20] == 1).all()


@pytest.mark.parametrize("question", [{"boxes": ((4, 8, 20, 30),)}, {"everything": True, "grid": 4, "stability": 0.5}])
def test_another_head_that_knows_texts_may_be_asked(folder: Path, world: Scene, question: dict[str, Any]) -> None:
    """By its task, for the names that the other would have given."""
    import vfmerge

    model = vfmerge.load(folder)
    heads = model.capabilities() | {"recognition": Recogniser(model.network("sam"))}
    asked = Question(classes=("star", "ring"), **question)
    theirs, others = (answer(heads, asked, world.image, tasks=tasks) for tasks in ((), ("clip",)))
    assert len(theirs.masks) == len(others.masks) > 0
    assert (theirs.scores.tolist(), theirs.classes.tolist()) == (
        [pytest.approx(0.7)] * len(theirs.masks),
        [1] * len(theirs.masks),
    )
    assert not np.isclose(others.scores, 0.7, atol=1e-4).any()


@pytest.fixture(scope="module")
def recognising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Open-Vocabulary SAM's recogniser upon the shipped tiny parents, not trained: it begins with the SAM's decoder."""
    adapters = {"sam": SAM(variant="tiny"), "clip": OpenCLIP(model="tiny"), "things": CLIP2SAM(templates="plain")}
    torch.manual_seed(0)
    model = MergedModel(adapters, base="sam")
    model.start({name: adapters[name].teacher() for name in ("sam", "clip")})
    path = tmp_path_factory.mktemp("recognising") / "merged"
    model.save(path, names={"sam": "sam", "clip": "open_clip", "things": "clip2sam"}, texts={})
    return path


def test_a_recogniser_outlines_and_names(recognising: Path, picture: Path, world: Scene, tmp_path: Path) -> None:
    """Points, then boxes: masks, names and certainty are those that the head itself gives."""
    import vfmerge

    out, names = tmp_path / "out", SHAPES[:3]
    boxes = [word for mask in world.masks for word in ("--box", box_of(mask))]
    assert predict(recognising, picture, "--point", "40,30", *boxes, "--text", ",".join(names), out=out) == 0
    head = vfmerge.load(recognising).capability("things")
    assert isinstance(head, PromptableRecognition)
    words, image = head.vocabulary(names, templates="vild", unseen=names), head.set_image(world.image)
    corners = torch.tensor([[float(each) for each in box.split(",")] for box in boxes[1::2]])
    expected = [
        image.recognise(words, points=torch.tensor([[[40.0, 30.0]]]), labels=torch.ones(1, 1, dtype=torch.long)),
        image.recognise(words, boxes=corners),
    ]
    masks, scores, ious = (
        torch.cat([getattr(each, what) for each in expected]) for what in ("logits", "scores", "ious")
    )
    entries = results(out)
    assert np.array_equal(np.stack([decode(each) for each in entries]), masks.numpy() > 0)
    assert [each["category_name"] for each in entries] == [names[number] for number in scores.argmax(1)]
    assert [each["score"] for each in entries] == pytest.approx(scores.amax(1).tolist(), abs=1e-5)
    assert [each["predicted_iou"] for each in entries] == pytest.approx(ious.tolist(), abs=1e-5)
    assert (out / "overlays" / "scene.jpg").is_file()


def test_a_recogniser_names_everything(recognising: Path, world: Scene) -> None:
    """What the segmenter finds is called as the recogniser calls its boxes, in one pass of the trunk for both."""
    import vfmerge

    model = vfmerge.load(recognising)
    passes: list[int] = []
    model.trunk.register_forward_hook(lambda *_: passes.append(1))
    heads, options = model.capabilities(), {"everything": True, "grid": 6, "stability": 0.7}
    question = Question(classes=SHAPES[:3], **options)
    found = answer(heads, question, world.image)
    assert len(passes) == 1
    outlined = answer(heads, Question(**options), world.image)
    assert len(found.masks) == len(outlined.masks) > 1
    assert np.array_equal(found.ious, outlined.ious)
    head = heads["things"]
    assert isinstance(head, PromptableRecognition)
    words = head.vocabulary(SHAPES[:3], templates="vild", unseen=SHAPES)
    scores = head.set_image(world.image).recognise(words, boxes=torch.from_numpy(found.masks.boxes)).scores
    assert found.classes.tolist() == scores.argmax(1).tolist()
    assert found.scores == pytest.approx(scores.amax(1).numpy(), abs=1e-5)


def test_nothing_in_a_picture_is_no_fault(
    recognising: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A grey one has no mask and no name; what finds more is said."""
    Image.new("RGB", (60, 40), "grey").save(tmp_path / "grey.png")
    asked = ("--everything", "--grid", "2", "--stability", "1", "--text", "star, ring")
    assert predict(recognising, tmp_path / "grey.png", *asked, out=tmp_path / "out") == 0
    assert results(tmp_path / "out", "grey") == []
    assert "nothing was outlined; a lower --stability or a larger --grid finds more" in capsys.readouterr().err


def _bomb(path: Path) -> None:
    """A few kilobytes that say they are 2,500 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10**6))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.skipif(not DATA, reason="VFMERGE_DATA is not set")
def test_photographs_with_three_corrupt_ones_among_them(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """COCO128: 125 results, three named errors, exit code 1."""
    photographs = sorted(Path(DATA, "coco128", "images").glob("*.jpg"))
    assert len(photographs) == 128
    folder_, out = tmp_path / "photographs", tmp_path / "out"
    folder_.mkdir()
    for photograph in photographs:
        (folder_ / photograph.name).symlink_to(photograph.resolve())
    truncated, text, bomb = (folder_ / photographs[number].name for number in (3, 64, 127))
    for path in (truncated, text, bomb):
        path.unlink()
    truncated.write_bytes(photographs[3].read_bytes()[:9000])
    text.write_text("no picture\n")
    _bomb(bomb)
    assert predict(folder, folder_, "--text", "person, dog", out=out) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("vfmerge: ")]
    assert len(errors) == 4
    for line, path in zip(errors, (truncated, text, bomb), strict=False):
        assert path.name in line
    assert "cannot be decoded: OSError" in errors[0]
    assert "is no JPEG, PNG" in errors[1]
    assert "has more than the 100,000,000 pixels that are read; make it smaller" in errors[2]
    assert errors[3] == f"vfmerge: 3 of 128 pictures failed, as said above; the others are in {out}"
    good = {photograph.stem for photograph in photographs} - {truncated.stem, text.stem, bomb.stem}
    for kind in ("results", "labels", "overlays"):
        assert {path.stem for path in (out / kind).iterdir()} == good
    assert {entry["image_id"] for path in (out / "results").iterdir() for entry in json.loads(path.read_text())} <= {
        int(stem) for stem in good
    }


def test_a_prompt_outside_of_a_picture_is_told(
    folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picture that it does not fit is named, and the others go on."""
    wide = picture.with_name("wide.png")
    Image.new("RGB", (300, 60)).save(wide)
    assert predict(folder, picture, wide, "--box", "100,10,300,60", out=tmp_path / "out") == 1
    said = capsys.readouterr().err.splitlines()
    remedy = "give one that is, or leave the picture out"
    assert f"vfmerge: {picture}: has 96 x 96 pixels; --box 100,10,300,60 is not inside; {remedy}" in said
    assert said[-1].startswith("vfmerge: 1 of 2 pictures failed")
    assert len(results(tmp_path / "out", "wide")) == 1
    assert not (tmp_path / "out" / "results" / "scene.json").exists()


def test_nothing_is_left_where_nothing_was_answered(
    folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No folder of answers is made for the only picture, which is bad."""
    assert predict(folder, picture, "--point", "9999,3", out=tmp_path / "out") == 1
    assert "1 of 1 pictures failed, as said above; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


WRONG = [
    ([], "nothing is asked; give --text, --point, --box or --everything"),
    (["--point", "3"], "'3' is not x,y; give pixels, such as 120,80"),
    (["--point", "3,b"], "'3,b' is not x,y"),
    (["--point", "3,nan"], "'3,nan' is in no picture"),
    (["--point", "-3,4"], "'-3,4' is in no picture"),
    (["--box", "1,2,3"], "'1,2,3' is not x0,y0,x1,y1"),
    (["--box", "9,2,3,8"], "'9,2,3,8' is inside out; give x0,y0,x1,y1"),
    (["--everything", "--point", "3,4"], "--everything: together with --point or --box"),
    (["--text", "cat,,dog"], "--text: '' is no name"),
    (["--text", "cat,cat"], "--text: 'cat' is given twice"),
    (["--text", ",".join(map(str, range(256)))], "--text: 256 names, more than a label map of 8 bits can tell"),
    (["--text", "cat", "--background", "cat"], "--background: 'cat' is one of the names"),
    (["--text", "cat", "--background", " "], "--background: ' ' is no name"),
    (["--text", "cat", "--grid", "8"], "--grid: has no part without --everything; leave it out"),
    (["--point", "3,4", "--stability", "0.95"], "--stability: has no part without --everything; leave it out"),
    (["--text", "cat", "--point", "3,4", "--background", "sky"], "--background: has no part without --text alone"),
    (["--text", "cat", "absent.png"], "absent.png: no such file or folder of pictures"),
    (["--text", "cat", "empty"], "empty: holds no picture; give a folder that has jpg"),
    (["--text", "cat", "--out", "a file"], "--out a file: is a file; give a folder"),
    (["--text", "cat", "--out", "full"], "--out full: holds other files; give a new or empty folder"),
    (["--text", "cat", "--device", "tpu"], "'tpu' is no device"),
]


def test_a_wrong_question_is_answered_before_a_model_is_loaded(tmp_path: Path) -> None:
    """In one line, exit code 2, and torch is not even imported."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    (tmp_path / "a file").write_text("")
    Image.new("RGB", (20, 20)).save(tmp_path / "p.png")
    script = (
        "import json, sys; from vfmerge.cli import main\n"
        "for given in json.load(sys.stdin): print(main(given), 'torch' in sys.modules)"
    )
    calls = [["predict", "nowhere", "p.png", "--out", "out", *given] for given, _ in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(calls), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["2 False"] * len(WRONG)
    for said, (_, message) in zip(done.stderr.splitlines(), WRONG, strict=True):
        assert message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "clop"], "--task 'clop': no such head; did you mean 'clip'?"),
        (["--task", "clip", "--text", "cat", "--box", "1,2,3,4", "--task", "dino"], "--task 'dino': no such head"),
        (["--device", "cuda:99"], "--device cuda:99: not available here"),
    ],
)
def test_what_only_the_model_can_tell_is_one_line_too(
    folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    """Exit code 2, and nothing is written."""
    arguments = ["predict", str(folder), str(picture), "--text", "cat", "--out", str(tmp_path / "out"), *options]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_answers_to_two_questions_are_never_mixed(
    folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same question again goes on with what lacks its results; another one is refused, and leaves all as it was."""
    out = tmp_path / "out"
    assert predict(folder, picture, "--point", "40,40", out=out) == 0
    (out / "results" / "scene.json").unlink()
    assert predict(folder, picture, "--point", "40,40", out=out) == 0
    before = {name: commit.digest(out / name) for name in files(out)}
    assert len(results(out)) == 1
    capsys.readouterr()
    assert predict(folder, picture, "--point", "41,40", out=out) == 2
    assert "holds answers to another question; give another folder" in capsys.readouterr().err
    assert {name: commit.digest(out / name) for name in files(out)} == before


def test_what_was_asked_is_what_answers(folder: Path, picture: Path, tmp_path: Path) -> None:
    """To name the head that answers anyway is no other question; to name one that does not is a mistake."""
    out = tmp_path / "out"
    assert predict(folder, picture, "--point", "40,40", out=out) == 0
    assert predict(folder, picture, "--point", "40,40", "--task", "sam", out=out) == 0
    assert set(json.loads((out / "predict.json").read_text())) == {"model", "tasks", "classes", "points", "boxes"}
    assert predict(folder, picture, "--point", "40,40", "--task", "clip", out=out) == 2


def test_a_task_without_a_part_is_told(folder: Path) -> None:
    """And where several heads could answer, how to choose one."""
    import vfmerge

    heads = vfmerge.load(folder).capabilities()
    with pytest.raises(InputError, match="--task 'clip': has no part in this answer, which sam give; leave it out"):
        cast(heads, Question(points=((1, 2),)), tasks=("clip",))
    with pytest.raises(InputError, match=r"image_text: .*several such heads; name one by --task: clip or other"):
        cast(heads | {"other": heads["clip"]}, Question(classes=("cat",)), tasks=())


def _several(world: Scene, picture: Path, count: int) -> list[Path]:
    """Pictures, each another."""
    paths = [picture.with_name(f"{number}.png") for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(np.roll(world.image, number, axis=0)).save(path)
    return paths


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_after_a_stop_it_goes_on_where_it_was(
    folder: Path,
    picture: Path,
    world: Scene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: signal.Signals,
) -> None:
    """The picture at hand is finished, exit code 75 says how many are there, and the same command does the others."""
    out, some, looked = tmp_path / "out", _several(world, picture, 4), []
    read = images.read

    def stopping(path: Path) -> np.ndarray:
        looked.append(path.name)
        if len(looked) == 2:
            os.kill(os.getpid(), kind)
        return read(path)

    monkeypatch.setattr(images, "read", stopping)
    assert predict(folder, *some, "--point", "40,40", out=out) == 75
    said = f"vfmerge: stopped by {kind.name}; 2 of 4 pictures are in {out}; run again to go on"
    assert said in capsys.readouterr().err
    assert len(results(out, "1")) == 1
    before = {name: commit.digest(out / name) for name in files(out)}
    some[0].with_name("bad.png").write_text("")
    assert predict(folder, some[0].with_name("bad.png"), *some, "--point", "40,40", out=out) == 1
    assert looked == ["0.png", "1.png", "bad.png", "2.png", "3.png"]
    assert "2 of 5 pictures were answered before" in capsys.readouterr().err
    assert {path.stem for path in (out / "results").iterdir()} == set("0123")
    assert before.items() <= {name: commit.digest(out / name) for name in files(out)}.items()


def test_another_picture_of_the_same_name_is_not_taken_as_answered(
    folder: Path, picture: Path, world: Scene, tmp_path: Path
) -> None:
    """It is the file's content that was answered."""
    out = tmp_path / "out"
    assert predict(folder, picture, "--point", "40,40", out=out) == 0
    before = (out / "labels" / "scene.png").read_bytes()
    Image.fromarray(world.image[::-1]).save(picture)
    assert predict(folder, picture, "--point", "40,40", out=out) == 0
    assert (out / "labels" / "scene.png").read_bytes() != before


def test_results_of_different_pictures_never_have_one_id(tmp_path: Path) -> None:
    """A number that two files are called is no id of them; the path below the folder is, or else the whole path."""
    root = tmp_path / "imgs"
    for name in ("a/1.png", "b/01.png", "b/7.png", "b/cat.png"):
        _touch(root / name)
    other = _touch(tmp_path / "other" / "cat.png")
    out = tmp_path / "out"
    assert {each.file: each.id for each in pictures.find([root], out=out).found} == {
        "a/1.png": "a/1.png",
        "b/01.png": "b/01.png",
        "b/7.png": 7,
        "b/cat.png": "b/cat.png",
    }
    both = pictures.find([root / "b", other], out=out).found
    assert [each.id for each in both] == [1, 7, str(root / "b" / "cat.png"), str(other)]


def test_results_say_which_picture_they_are_of(folder: Path, picture: Path, world: Scene, tmp_path: Path) -> None:
    """By its path below the folder that was given, and by its number only if no other has that."""
    root = tmp_path / "imgs"
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        _touch(root / name)
        Image.fromarray(world.image).save(root / name)
    assert predict(folder, root, "--point", "40,40", out=tmp_path / "out") == 0
    entries = [results(tmp_path / "out", name)[0] for name in ("a/1", "b/1", "b/2")]
    assert [entry["file_name"] for entry in entries] == ["a/1.png", "b/1.png", "b/2.png"]
    assert [entry["image_id"] for entry in entries] == ["a/1.png", "b/1.png", 2]


def test_files_that_are_passed_over_are_counted(
    folder: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for all folders."""
    _touch(picture.with_name("scan.tif"))
    _touch(picture.with_name("notes.txt"))
    assert predict(folder, picture.parent, "--point", "40,40", out=tmp_path / "out") == 0
    assert capsys.readouterr().err.count("2 files passed over: no jpg, jpeg, png") == 1


@pytest.mark.parametrize("frame", [(96, 96), (70, 96)])
@pytest.mark.parametrize("classes", [(), SHAPES[:3]])
@pytest.mark.parametrize("everything", [False, True])
def test_large_pictures_are_answered_as_others(
    folder: Path,
    world: Scene,
    monkeypatch: pytest.MonkeyPatch,
    frame: tuple[int, int],
    classes: tuple[str, ...],
    everything: bool,
) -> None:
    """What is found at a smaller size and enlarged differs at edges alone: the same masks, names and certainties."""
    import vfmerge

    heads = vfmerge.load(folder).capabilities()
    image = np.asarray(Image.fromarray(world.image[: frame[0], : frame[1]]).resize((4 * frame[1], 4 * frame[0])))
    asked: dict[str, Any] = {"everything": True, "grid": 6, "stability": 0.7}
    if not everything:
        corners = (tuple(4.0 * float(each) for each in box_of(mask).split(",")) for mask in world.masks)
        boxes = tuple((x0, y0, min(x1, 4 * frame[1]), min(y1, 4 * frame[0])) for x0, y0, x1, y1 in corners)
        asked = {"boxes": boxes, "points": ((160.0, 160.0),)}
    question = Question(classes=classes, **asked)
    whole = answer(heads, question, image)
    monkeypatch.setattr(reduction, "SIDE", 192)
    found = answer(heads, question, image)
    assert len(found.masks) == len(whole.masks) > 1
    assert found.regions.shape == whole.regions.shape == image.shape[:2]
    assert (found.regions == whole.regions).mean() > 0.99
    assert found.scores == pytest.approx(whole.scores, abs=0.02)
    for number in range(len(found.masks)):
        assert iou(found.masks[number], whole.masks[number]) > 0.95
    if classes:
        assert found.classes.tolist() == whole.classes.tolist()


def test_a_run_is_its_model(folder: Path, picture: Path, tmp_path: Path) -> None:
    """The folder of a run may be given for the `merged` in it."""
    assert predict(folder.parent, picture, "--point", "40,40", out=tmp_path / "out") == 0


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_pictures_have_names_of_their_own(tmp_path: Path) -> None:
    """Of equal names, in whatever letters and folders, each picture has another, and none leads out of the folder."""
    given = [
        _touch(tmp_path / name) for name in ("one/cat.jpg", "two/cat.jpg", "two/CAT.png", "cat-2.jpg", "x/.hidden.png")
    ]
    names = [each.name for each in pictures.find(given, out=tmp_path / "out").found]
    assert names == ["cat", "cat-2", "CAT-3", "cat-2-2", ".hidden"]
    names = [each.name for each in pictures.find([tmp_path / "x" / ".." / "one"], out=tmp_path / "out").found]
    assert names == ["cat"]


def test_a_folder_is_walked_and_keeps_its_folders(tmp_path: Path) -> None:
    """Each picture once, though it is given twice; what is no picture, or an answer of before, is none."""
    for name in ("a/b/one.jpg", "a/one.PNG", "a/notes.txt", "a/out/overlays/one.jpg"):
        _touch(tmp_path / name)
    some = pictures.find([tmp_path / "a", tmp_path / "a" / "one.PNG"], out=tmp_path / "a" / "out")
    assert [(each.path, each.name, each.file) for each in some.found] == [
        (tmp_path / "a/b/one.jpg", "b/one", "b/one.jpg"),
        (tmp_path / "a/one.PNG", "one", "one.PNG"),
    ]
    assert some.others == 1


def test_long_names_fit_on_every_disk(tmp_path: Path) -> None:
    """A name of 250 bytes is cut, and stays one of its own."""
    some = pictures.find([_touch(tmp_path / f"{'é' * 120}{end}.jpg") for end in "ab"], out=tmp_path / "out").found
    assert len({each.name for each in some}) == 2
    assert all(len(each.name.encode()) < 150 for each in some)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """What is neither file nor folder is refused."""
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="no such file or folder"):
        pictures.find([tmp_path / "pipe.jpg"], out=tmp_path / "out")


def _answer(regions: np.ndarray, classes: list[int]) -> Answer:
    masks = np.stack([regions == number for number in classes]) if classes else np.zeros((0, *regions.shape), bool)
    return Answer(
        masks=masks, scores=np.full(len(classes), 0.5), classes=np.array(classes, int), ious=None, regions=regions
    )


@pytest.mark.parametrize("ground", [0, 255])
def test_the_overlay_says_which_colour_is_what(ground: int) -> None:
    """Names that are there are in the legend, in the colours of their regions, on black as on white."""
    regions = np.full((60, 80), -1)
    regions[10:50, 5:35] = 1
    regions[10:50, 45:75] = 2
    question = Question(classes=("cat", "dog", "cow"))
    legend = overlay.legend(_answer(regions, [1, 1, 2]), question)
    assert [text for _, _, text in legend] == ["dog x 2  0.50", "cow  0.50"]
    drawn = np.asarray(overlay.draw(np.full((60, 80, 3), ground, np.uint8), regions, legend=legend)).astype(int)
    assert drawn.shape[1] == 640
    below = drawn[480:].reshape(-1, 3)
    for number in (1, 2):
        assert (below == overlay.colour(number)).all(axis=1).sum() > 50
    assert not (below == overlay.colour(0)).all(axis=1).any()
    assert (below == 255).all(axis=1).mean() > 0.8
    one, other = drawn[110, 80], drawn[110, 400]
    assert np.abs(one - other).sum() > 60


def test_the_overlay_says_that_nothing_was_found() -> None:
    """And is still the picture."""
    regions = np.full((60, 80), -1)
    legend = overlay.legend(_answer(regions, []), Question(classes=("cat", "dog")))
    assert legend == [(-1, "", "nothing found that is one of 2 names")]
    drawn = np.asarray(overlay.draw(np.full((60, 80, 3), 90, np.uint8), regions, legend=legend))
    assert (drawn[:470] == 90).all()


def test_the_overlay_says_where_nothing_is() -> None:
    """A prompt without a mask has no colour, and no name."""
    regions = np.full((60, 80), -1)
    regions[10:50, 5:35] = 0
    masks = np.stack([regions == 0, np.zeros((60, 80), bool)])
    answer = Answer(masks=masks, scores=np.full(2, 0.5), classes=np.zeros(2, int), ious=None, regions=regions)
    legend = overlay.legend(answer, Question(classes=("cat",), points=((9, 20),), boxes=((50, 9, 60, 20),)))
    assert legend == [(0, "cat", "cat at point 9,20  0.50"), (-1, "", "nothing at box 50,9,60,20")]


def test_a_long_legend_has_several_lines() -> None:
    """As many as it takes, each as wide as the picture; a name without end is cut."""
    regions = np.arange(40).reshape(5, 8).repeat(12, axis=0).repeat(12, axis=1)
    question = Question(classes=(*(f"thing number {number}" for number in range(39)), "x" * 200))
    legend = overlay.legend(_answer(regions, list(range(40))), question)
    assert max(len(text) for _, _, text in legend) < 60
    drawn = overlay.draw(np.zeros((60, 96, 3), np.uint8), regions, legend=legend)
    assert drawn.width == 640
    assert drawn.height > 400 + 8 * 20


def test_colours_are_all_different() -> None:
    """However many names there are."""
    colours = np.array([overlay.colour(number) for number in range(40)])
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(40, dtype=int)
    assert apart.min() > 60


@pytest.mark.parametrize("frame", [(8, 3000), (3000, 8), (2400, 1800)])
def test_pictures_of_every_shape_have_an_overlay(frame: tuple[int, int]) -> None:
    """Neither a line nor a large one is too much; its longer side is at most 1600 pixels."""
    legend = [(0, "cat", "cat  0.50")]
    drawn = overlay.draw(np.zeros((*frame, 3), np.uint8), np.zeros(frame, int), legend=legend, prompts=[(1, 2)])
    assert 320 <= drawn.width <= 1600
