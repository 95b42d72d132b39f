"""`vfmerge predict`: what it writes, what it refuses, and that one bad picture does not stop the others."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import commit
from vfmerge.capability import PromptableRecognition, RecognisedImage, Recognition, Vocabulary
from vfmerge.cli import main
from vfmerge.data.shapes import SHAPES, Scene, scene
from vfmerge.errors import InputError
from vfmerge.model import MergedModel
from vfmerge.predict import overlay, pictures
from vfmerge.predict.answer import Answer, answerer
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
    found = answerer(heads, question, tasks=()).answer(world.image)
    assert found.masks[0].sum() == 16 * 22
    assert (found.classes.tolist(), found.ious.tolist()) == ([1], [0.5])
    assert found.scores == pytest.approx([0.7])
    assert (found.regions[8:30, 4:20] == 1).all()


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
    assert "pixels" in errors[2]
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
    assert f"vfmerge: {picture}: has 96 x 96 pixels; --box 100,10,300,60 is not inside" in said
    assert said[-1].startswith("vfmerge: 1 of 2 pictures failed")
    assert len(results(tmp_path / "out", "wide")) == 1
    assert not (tmp_path / "out" / "results" / "scene.json").exists()


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
    """The same question again writes its answers anew; another one is refused, and leaves all as it was."""
    out = tmp_path / "out"
    assert predict(folder, picture, "--point", "40,40", out=out) == 0
    (out / "results" / "scene.json").write_text("")
    assert predict(folder, picture, "--point", "40,40", out=out) == 0
    before = {name: commit.digest(out / name) for name in files(out)}
    assert len(results(out)) == 1
    capsys.readouterr()
    assert predict(folder, picture, "--point", "41,40", out=out) == 2
    assert "holds answers to another question; give another folder" in capsys.readouterr().err
    assert {name: commit.digest(out / name) for name in files(out)} == before


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
    names = [each.name for each in pictures.find(given, out=tmp_path / "out")]
    assert names == ["cat", "cat-2", "CAT-3", "cat-2-2", ".hidden"]
    names = [each.name for each in pictures.find([tmp_path / "x" / ".." / "one"], out=tmp_path / "out")]
    assert names == ["cat"]


def test_a_folder_is_walked_and_keeps_its_folders(tmp_path: Path) -> None:
    """Each picture once, though it is given twice; what is no picture, or an answer of before, is none."""
    for name in ("a/b/one.jpg", "a/one.PNG", "a/notes.txt", "a/out/overlays/one.jpg"):
        _touch(tmp_path / name)
    some = pictures.find([tmp_path / "a", tmp_path / "a" / "one.PNG"], out=tmp_path / "a" / "out")
    assert [(each.path, each.name) for each in some] == [
        (tmp_path / "a/b/one.jpg", "b/one"),
        (tmp_path / "a/one.PNG", "one"),
    ]


def test_long_names_fit_on_every_disk(tmp_path: Path) -> None:
    """A name of 250 bytes is cut, and stays one of its own."""
    some = pictures.find([_touch(tmp_path / f"{'é' * 120}{end}.jpg") for end in "ab"], out=tmp_path / "out")
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
