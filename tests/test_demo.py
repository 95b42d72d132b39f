"""The demonstration by plain HTTP: what it answers, and how it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import warnings
import webbrowser
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from pycocotools import mask as coco_mask

import vfmerge
from vfmerge import cli
from vfmerge.capability import Capability, Dense, PromptableRecognition, RecognisedImage, Recognition, Vocabulary
from vfmerge.data.shapes import Scene, scene
from vfmerge.demo import album, opening
from vfmerge.demo import server as serving
from vfmerge.demo.album import Album
from vfmerge.demo.exhibit import Exhibit
from vfmerge.demo.gate import Gate
from vfmerge.demo.patches import Patches
from vfmerge.demo.projection import Projection
from vfmerge.demo.questions import Place, Point, Thing
from vfmerge.demo.refusal import Refusal
from vfmerge.demo.server import Server
from vfmerge.demo.service import Service
from vfmerge.demo.turns import Turns
from vfmerge.errors import InputError

NAMES = ["star", "ring", "heart"]
BYTES = "application/octet-stream"


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    """One request. Names of headers have underscores."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body or None, {name.replace("_", "-"): each for name, each in headers.items()})
        reply = connection.getresponse()
        return Answer(reply.status, {name.lower(): each for name, each in reply.getheaders()}, reply.read())


def raw(server: Server, data: bytes) -> bytes:
    """Whatever is answered to these bytes, until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def post(server: Server, path: str, content: object, **headers: str) -> Answer:
    return ask(server, "POST", path, json.dumps(content).encode(), **({"Content_Type": "application/json"} | headers))


def upload(server: Server, data: bytes, **headers: str) -> Answer:
    return ask(server, "POST", "/pictures", data, **({"Content_Type": BYTES} | headers))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG that says to have so many pixels a side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def drawn() -> Scene:
    return scene(seed=0, split="held-out", index=2, layout="several", size=96)


@pytest.fixture(scope="module")
def picture(demo: Server, drawn: Scene) -> str:
    """The id of an uploaded scene."""
    return str(upload(demo, png(drawn.image)).content["id"])


@pytest.fixture(scope="module")
def model(untrained: Path) -> Any:
    return vfmerge.load(untrained / "merged")


def inside(mask: np.ndarray) -> dict[str, float]:
    """A pixel well inside of a mask: the one that is still there when its edges are peeled off longest."""
    left = np.pad(mask, 1)
    while True:
        less = left & np.roll(left, 1, 0) & np.roll(left, -1, 0) & np.roll(left, 1, 1) & np.roll(left, -1, 1)
        if not less.any():
            y, x = np.argwhere(left)[0] - 1
            return {"x": float(x), "y": float(y)}
        left = less


def decoded(runs: dict[str, Any]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools is older than NumPy 2
        return np.asarray(coco_mask.decode(runs)).astype(bool)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_it_says_what_there_is(demo: Server) -> None:
    """The merged model first, then each parent, with what they can do; examples that can be looked at."""
    about = ask(demo, "GET", "/about").content
    assert about["name"] == "tiny"
    assert [(each["key"], each["does"]["outline"], each["does"]["find"]) for each in about["models"]] == [
        ("merged", True, True),
        ("parent sam", True, False),
        ("parent clip", False, True),
    ]
    assert len(about["examples"]) == 6
    shown = ask(demo, "GET", f"/pictures/{about['examples'][0]['id']}")
    assert shown.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(shown.body)).size == (288, 288)
    assert all(word in about["examples"][0]["alt"] for word in about["examples"][0]["names"])


def test_the_page_needs_nothing_else(demo: Server) -> None:
    """Every file that the page and its scripts name is served, from here, under a policy that forbids all else."""
    page = ask(demo, "GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (page.headers["x-content-type-options"], page.headers["cache-control"]) == ("nosniff", "no-store")
    waiting = re.findall(r'(?:src|href)="(/[^"]+)"', page.body.decode())
    served: set[str] = set()
    while waiting:
        path = waiting.pop()
        file = ask(demo, "GET", path)
        assert file.status == 200, path
        assert b"http" not in file.body  # no address of elsewhere
        served.add(path)
        below = re.findall(r"from '\./([^']+)'", file.body.decode())
        waiting += [f"/page/{name}" for name in below if f"/page/{name}" not in served]
    assert served == set(serving.page.FILES) - {"/"}


def test_an_upload_is_shown_as_it_is(demo: Server, picture: str, drawn: Scene) -> None:
    """What comes back are the picture's own pixels."""
    shown = ask(demo, "GET", f"/pictures/{picture}")
    assert np.array_equal(np.array(Image.open(io.BytesIO(shown.body))), drawn.image)


def test_a_large_upload_is_shrunk(demo: Server) -> None:
    """To a side that masks of it can have."""
    large = upload(demo, png(np.zeros((30, 5000, 3), dtype=np.uint8))).content
    assert (large["width"], large["height"]) == (album.MAX_SIDE, 12)


@pytest.mark.parametrize("who", ["merged", "parent sam"])
def test_points_and_boxes_outline(demo: Server, picture: str, drawn: Scene, who: str) -> None:
    """Each thing's mask is the shape that was pointed at, the box's too; nobody names them unasked."""
    first, second = drawn.masks[:2]
    rows, columns = second.nonzero()
    box = {"x0": columns.min(), "y0": rows.min(), "x1": columns.max() + 1, "y1": rows.max() + 1}
    things = [{"points": [inside(first)]}, {"box": {edge: int(value) for edge, value in box.items()}}]
    found = post(demo, "/outline", {"picture": picture, "model": who, "things": things}).content["things"]
    assert iou(decoded(found[0]["mask"]), first) > 0.8
    assert iou(decoded(found[1]["mask"]), second) > 0.8
    assert all(each["area"] == decoded(each["mask"]).sum() and 0 <= each["iou"] <= 1 for each in found)
    assert "name" not in found[0]


def test_a_point_outside_counts(demo: Server, picture: str, drawn: Scene, model: Any) -> None:
    """Masks of several points are those of the model's own head, which is told which ones are outside."""
    places = [inside(drawn.masks[0]), inside(drawn.masks[1])]
    things = [{"points": [places[0], places[1] | {"inside": within}]} for within in (True, False)]
    question = {"picture": picture, "model": "merged", "things": things}
    found = np.stack([decoded(each["mask"]) for each in post(demo, "/outline", question).content["things"]])
    points = torch.tensor([[[place["x"], place["y"]] for place in places]] * 2)
    logits, _ = model.sam.set_image(drawn.image).predict(points=points, labels=torch.tensor([[1, 1], [1, 0]]))
    assert np.array_equal(found, (logits[:, 0] > 0).numpy())
    assert (found[0] != found[1]).any()


def test_names_of_what_is_outlined(demo: Server, picture: str, drawn: Scene) -> None:
    """With names each thing gets the likeliest, from whoever knows words; the mask stays the same."""
    things = [{"points": [inside(mask)]} for mask in drawn.masks[:2]]
    question = {"picture": picture, "model": "merged", "things": things}
    named = post(demo, "/outline", question | {"names": NAMES}).content["things"]
    plain = post(demo, "/outline", question).content["things"]
    assert all(each["name"] in NAMES and 1 / 3 <= each["score"] <= 1 for each in named)
    assert [each["mask"] for each in named] == [each["mask"] for each in plain]
    parent = post(demo, "/outline", question | {"model": "parent sam", "names": NAMES}).content["things"]
    assert all("name" not in each for each in parent)


def test_names_are_found(demo: Server, picture: str, drawn: Scene, model: Any) -> None:
    """The label map and the things are those of `MergedModel.segment`."""
    answer = post(demo, "/find", {"picture": picture, "model": "merged", "names": NAMES}).content
    expected = model.segment(drawn.image, NAMES)
    labels = np.full(expected.labels.shape, -1)
    for region in answer["regions"]:
        labels[decoded(region["mask"])] = NAMES.index(region["name"])
    assert np.array_equal(labels, expected.labels)
    assert [NAMES.index(each["name"]) for each in answer["things"]] == expected.mask_classes.tolist()
    assert np.array_equal([each["score"] for each in answer["things"]], expected.scores.round(4).astype(float).round(4))


def test_a_parent_that_knows_words_labels_its_cells(demo: Server, picture: str, drawn: Scene) -> None:
    """It gives a label map and no things; one that knows masks alone gives neither."""
    answer = post(demo, "/find", {"picture": picture, "model": "parent clip", "names": NAMES}).content
    masks = np.stack([decoded(each["mask"]) for each in answer["regions"]])
    assert masks.shape[1:] == drawn.image.shape[:2]
    assert masks.sum(0).max() == 1
    assert answer["things"] == []
    blind = post(demo, "/find", {"picture": picture, "model": "parent sam", "names": NAMES}).content
    assert (blind["regions"], blind["things"]) == ([], [])


def test_similarity_is_the_cosine_of_cells(demo: Server, picture: str, drawn: Scene, model: Any) -> None:
    """Of a square picture, what the head itself says of its cells."""
    answer = post(demo, "/similar", {"picture": picture, "model": "merged", "names": ["star"]}).content
    found = torch.tensor(answer["maps"]["star"]).view(answer["height"], answer["width"])
    cells = model.clip.encode_cells([drawn.image], size=model.sam.fixed_size)[0]
    expected = torch.einsum("dhw,d->hw", cells, model.clip.encode_text(["a photo of a star."])[0])
    assert torch.allclose(found, expected, atol=1e-3)
    assert found.std() > 0


def test_a_picture_that_is_not_square(demo: Server) -> None:
    """Masks have its own height and width, and cells its shape."""
    wide = scene(seed=0, split="held-out", index=4, layout="several", size=96).image[:48]
    key = upload(demo, png(wide)).content["id"]
    things = [{"points": [{"x": 90, "y": 40}]}]
    outlined = post(demo, "/outline", {"picture": key, "model": "merged", "things": things}).content
    assert outlined["things"][0]["mask"]["size"] == [48, 96]
    similar = post(demo, "/similar", {"picture": key, "model": "merged", "names": ["star"]}).content
    assert similar["width"] == 2 * similar["height"]


LARGE = b"\x89PNG\r\n\x1a\n" + bytes(50_000_000)


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        pytest.param(LARGE, 413, "50.0 MB are too many; at most 20.0 MB", id="50 MB"),
        pytest.param(bomb(60_000), 413, "too many pixels; give one of at most 50 million", id="bomb"),
        pytest.param(bomb(7_500), 413, "too many pixels; give one of at most 50 million", id="large"),
        pytest.param(bomb(7_000), 415, "cannot be decoded", id="short"),
        pytest.param(b"hello", 415, "is no JPEG, PNG, WebP, BMP or GIF file", id="text"),
        pytest.param(b"<svg onload='alert(1)'/>", 415, "is no JPEG", id="svg"),
        pytest.param(png(np.zeros((4, 4, 3), dtype=np.uint8)), 415, "4 x 4 pixels", id="tiny"),
    ],
)
def test_uploads_that_are_refused(demo: Server, data: bytes, status: int, words: str) -> None:
    """By the right status and one line, and the server goes on."""
    refused = upload(demo, data)
    assert refused.status == status
    assert words in refused.content["error"]
    assert "\n" not in refused.content["error"]
    assert ask(demo, "GET", "/about").status == 200


def test_a_client_may_ask_before_it_sends(demo: Server, drawn: Scene) -> None:
    """With `Expect: 100-continue` a body that is too large need not be sent at all, and a good one is asked for."""
    head = f"POST /pictures HTTP/1.1\r\nHost: localhost\r\nContent-Type: {BYTES}\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: 50000000\r\n\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    data = png(drawn.image)
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
        connection.sendall(data)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"picture": "gone"}, 404, "no longer here"),
        ({"model": "parent dino"}, 404, "'parent dino' is not shown here; give one of merged, parent sam"),
        ({"things": [{"points": [{"x": 96.5, "y": 1}]}]}, 422, "object 1: is not inside the picture of 96 x 96"),
        ({"things": [{"points": [{"x": -1, "y": 1}]}]}, 422, "things.0.points.0.x"),
        ({"things": [{"points": [{"x": float("nan"), "y": 1}]}]}, 422, "finite"),
        ({"things": [{"points": [{"x": 1, "y": 1, "inside": False}]}]}, 422, "object 1: needs a point inside or a box"),
        ({"things": [{}]}, 422, "object 1: needs a point inside or a box"),
        ({"things": [{"box": {"x0": 9, "y0": 9, "x1": 3, "y1": 20}}]}, 422, "inside out"),
        ({"things": [{"points": [{"x": 1, "y": 1}]}] * 25}, 422, "things: List should have at most 24"),
        ({"names": ["a", "a"]}, 422, "names: 'a' is given twice"),
        ({"names": ["a" * 81]}, 422, "names.0: String should have at most 80"),
        ({"shape": "star"}, 422, "shape: Extra inputs"),
    ],
)
def test_questions_that_are_refused(
    demo: Server, picture: str, change: dict[str, object], status: int, words: str
) -> None:
    """Each with what is wrong about it."""
    refused = post(demo, "/outline", {"picture": picture, "model": "merged"} | change)
    assert refused.status == status
    assert words in refused.content["error"]


def test_names_that_cannot_be_found_are_refused(demo: Server, picture: str) -> None:
    """None at all, and the one that stands for all the rest."""
    for names, words in (([], "names: none"), (["background"], "is one of the classes")):
        refused = post(demo, "/find", {"picture": picture, "model": "merged", "names": names})
        assert refused.status == 422
        assert words in refused.content["error"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /page/../server.py HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /pictures/..%2f..%2fetc HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST /about HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 404),
        (b"POST /find HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415),
        (b"POST /find HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n{}", 411),
        (b"POST /find HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (b"POST /find HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n", 413),
        (b"DELETE /pictures/example-1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET /about HTTP/1.1\r\nHost: evil.example:7788\r\n\r\n", 421),
        (b"GET /about HTTP/1.1\r\nHost: 192.168.1.7\r\n\r\n", 421),
        (b"GET /about HTTP/1.1\r\nHost: localhost:9000\r\n\r\n", 200),  # a forwarded port
        (b"GET /about HTTP/1.1\r\nHost: [::1]:7788\r\n\r\n", 200),
    ],
)
def test_requests_that_are_refused(demo: Server, request_: bytes, status: int) -> None:
    """Malformed, for elsewhere, or for what is not here: one line of JSON, and no name or version of a library."""
    head, _, body = raw(demo, request_).partition(b"\r\n\r\n")
    if status != 400 or request_ != b"nonsense\r\n\r\n":
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Python" not in head
        assert (b"nosniff" in head, b"Content-Security-Policy" in head) == (True, True)
    if status != 200:
        assert set(json.loads(body or head)) == {"error"}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_another_sites_page_is_refused(demo: Server, picture: str, origin: str) -> None:
    """Whatever a browser sends for it; this server's own page is not."""
    question = {"picture": picture, "model": "merged"}
    refused = post(demo, "/outline", question, Origin=origin.format(port=demo.port))
    assert refused.status == 403
    assert "is another site" in refused.content["error"]
    assert post(demo, "/outline", question, Origin=f"http://127.0.0.1:{demo.port}").status == 200


def test_sixteen_at_once(demo: Server, drawn: Scene) -> None:
    """While the model is busy nine find a place, and seven are told to come again; all nine are answered then."""
    data, answers, lock = png(drawn.image), [], threading.Lock()

    def send() -> None:
        answer = upload(demo, data)
        with lock:
            answers.append(answer)

    threads = [threading.Thread(target=send) for _ in range(16)]
    with demo.turns.turn():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.3)  # those who are refused end
        refused = list(answers)
    for thread in threads:
        thread.join()
    assert [answer.status for answer in refused] == [429] * 7
    assert all(answer.headers["retry-after"] == "2" and "ask again" in answer.content["error"] for answer in refused)
    assert sorted(answer.status for answer in answers) == [200] * 9 + [429] * 7
    assert upload(demo, data).status == 200


def test_whoever_waits_too_long_is_told(demo: Server, picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that does not come is no hanging request."""
    monkeypatch.setattr(demo.turns, "_patience", 0.05)
    with demo.turns.turn():
        refused = post(demo, "/outline", {"picture": picture, "model": "merged"})
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: loc"])
def test_a_slow_head_is_cut_off(demo: Server, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """Nobody keeps a connection by saying nothing, or little."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as connection:
        connection.sendall(begun)
        while connection.recv(1 << 16):
            pass
    assert ask(demo, "GET", "/about").status == 200


def test_a_slow_body_is_cut_off(demo: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And told so; its place is free again."""
    monkeypatch.setattr(serving, "BODY_SECONDS", 0.1)
    head = f"POST /pictures HTTP/1.1\r\nHost: localhost\r\nContent-Type: {BYTES}\r\nContent-Length: 1000\r\n\r\n"
    for _ in range(10):
        answer = raw(demo, head.encode() + b"some")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"only 4 of 1,000 bytes came in time" in answer


def test_a_bug_is_told_at_home(
    demo: Server, picture: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The client learns that the model failed, the terminal why, and the next request is answered."""

    def fail(*given: object, **named: object) -> None:
        raise RuntimeError("a secret of the model")

    monkeypatch.setattr(Exhibit, "outline", fail)
    refused = post(demo, "/outline", {"picture": picture, "model": "merged"})
    assert refused.status == 500
    assert b"secret" not in refused.body
    assert b"Traceback" not in refused.body
    assert "RuntimeError: a secret of the model" in capfd.readouterr().err
    monkeypatch.undo()
    assert post(demo, "/outline", {"picture": picture, "model": "merged"}).status == 200


def test_nothing_is_written(demo: Server, drawn: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No upload reaches a disk: nothing is opened for writing while one is taken and answered about."""
    written: list[object] = []
    watching = True

    def watch(event: str, given: tuple[object, ...]) -> None:
        if watching and event == "open" and not str(given[1] or "r").startswith("r"):
            written.append(given[0])

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sys.addaudithook(watch)
    key = upload(demo, png(drawn.image)).content["id"]
    post(demo, "/find", {"picture": key, "model": "merged", "names": NAMES})
    watching = False
    assert written == []
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_upload_is_dropped(drawn: Scene) -> None:
    """And examples never are."""
    pictures = Album(kept=2)
    keys = [pictures.add(png(drawn.image))[0] for _ in range(3)]
    with pytest.raises(Refusal, match="no longer here"):
        pictures.find(keys[0])
    assert pictures.find(keys[2]).pixels.shape == (96, 96, 3)
    assert pictures.find("example-1").names
    assert len(set(keys)) == 3


class Namer(PromptableRecognition):
    """Outlines the left half, and thinks that it is the last of the names."""

    def __init__(self) -> None:
        self.heard: list[Sequence[str]] = []

    def encode_text(self, texts: Sequence[str]) -> torch.Tensor:
        self.heard.append(texts)
        return torch.eye(16)[torch.arange(len(texts)) % 16]

    def text_key(self) -> str:
        return "namer"

    def set_image(self, picture: np.ndarray) -> RecognisedImage:
        return Halves(picture.shape[:2])


class Halves(RecognisedImage):
    def __init__(self, frame: tuple[int, int]) -> None:
        self._frame = frame

    def recognise(self, vocabulary: Vocabulary, **prompts: torch.Tensor | None) -> Recognition:  # type: ignore[override]
        logits = torch.full((1, *self._frame), -1.0)
        logits[:, :, : self._frame[1] // 2] = 1.0
        scores = torch.arange(len(vocabulary.words)).float()[None]
        return Recognition(logits=logits, ious=torch.tensor([0.5]), scores=scores / scores.sum().clamp(min=1))


def test_a_recogniser_names_what_it_outlines(model: Any, drawn: Scene) -> None:
    """It is asked where there are names, and alone if it is the only one that outlines; else the other head is."""
    namer = Namer()
    heads: dict[str, Capability] = {**model.capabilities(), "things": namer}
    thing = Thing(points=[Point(x=40.0, y=40.0)])
    left = np.arange(96) < 48
    both = Exhibit(heads, key="merged", title="", tasks=())
    named = both.outline(drawn.image, [thing], ("star", "ring"), key="1")["things"][0]
    assert (named["name"], named["score"], named["iou"]) == ("ring", 1.0, 0.5)
    assert np.array_equal(decoded(named["mask"]).any(0), left)
    assert any("a photo of a ring" in text for text in namer.heard[0])
    assert both.outline(drawn.image, [thing], (), key="1")["things"][0]["mask"] != named["mask"]
    alone = Exhibit({"things": namer}, key="merged", title="", tasks=())
    assert (alone.does["outline"], alone.does["find"]) == (True, False)
    plain = alone.outline(drawn.image, [thing], (), key="1")["things"][0]
    assert plain["mask"] == named["mask"]
    assert "name" not in plain


def test_colours_are_principal_components() -> None:
    """The first three scores of a plain SVD, whose signs make their larger squares positive, in 0..255."""
    cells = np.random.default_rng(0).normal(size=(12, 5, 6)) * np.geomspace(3, 0.1, 12)[:, None, None]
    rows = cells.reshape(12, 30).T
    left, sizes, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    scores = left[:, :3] * sizes[:3]
    scores *= np.where((scores * np.abs(scores)).sum(0) < 0, -1, 1)
    least, most = np.quantile(scores, (0.02, 0.98), axis=0)
    expected = 255 * np.clip((scores - least) / (most - least), 0, 1)
    projection = Projection.of(torch.from_numpy(cells))
    found = projection.colours(torch.from_numpy(cells))
    assert (found.dtype, found.shape) == (torch.uint8, (5, 6, 3))
    assert np.abs(found.reshape(30, 3).numpy() - expected).max() < 1
    assert projection.share(torch.from_numpy(cells)) == pytest.approx((sizes[:3] ** 2).sum() / (sizes**2).sum())


def test_colours_do_not_depend_on_the_basis() -> None:
    """Features that are turned, mirrored or come in another order of cells have the same colours."""
    cells = torch.randn(10, 6, 7, generator=torch.Generator().manual_seed(0)).double()
    turn = torch.linalg.qr(torch.randn(10, 10, generator=torch.Generator().manual_seed(1)).double())[0]
    plain = Projection.of(cells).colours(cells)
    for other in (torch.einsum("cd,dhw->chw", turn, cells), -cells.flip(0)):
        assert (Projection.of(other).colours(other).int() - plain.int()).abs().max() <= 1
    assert torch.equal(Projection.of(cells.flip(2)).colours(cells), plain)


def test_a_colour_that_says_nothing_is_half_there() -> None:
    """Cells that are all alike are grey, and those that differ in one way alone have one colour."""
    same = torch.ones(8, 4, 4)
    assert set(Projection.of(same).colours(same).flatten().tolist()) == {128}
    assert Projection.of(same).share(same) == 0
    line = same + torch.linspace(0, 1, 16).view(1, 4, 4)
    colours = Projection.of(line).colours(line)
    assert colours[..., 0].unique().numel() > 10
    assert set(colours[..., 1:].flatten().tolist()) == {128}
    assert Projection.of(line).share(line) == pytest.approx(1)


class Blocks(Dense):
    """Sees the mean colours of blocks of `stride` pixels, each channel times a factor."""

    def __init__(self, *, stride: int = 8, fixed: int | None = None, factors: Sequence[float] = (1, 1, 1)) -> None:
        self.fixed_size, self._stride = fixed, stride
        self._factors = torch.tensor(factors)[:, None, None]

    def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
        side = self.fixed_size or 8 * self._stride if size is None else size
        if side % self._stride or self.fixed_size not in (None, side):
            raise InputError("size: does not fit the trunk")
        count = (side // self._stride, side // self._stride)
        blocks = [np.array(Image.fromarray(each).resize(count, Image.Resampling.BOX)) for each in pictures]
        return self._factors * (torch.from_numpy(np.stack(blocks)).permute(0, 3, 1, 2).float() - 100)


@pytest.fixture(scope="module")
def seeing() -> Service:
    """A merged model of which one head sees as its parent does but weaker, and another one that has no parent here."""
    parent = Exhibit({"dino": Blocks()}, key="parent dino", title="Parent dino", tasks=())
    heads = {"dino": Blocks(factors=(0.5, 0.5, 0.5)), "mae": Blocks(factors=(1, 0, 0))}
    merged = Exhibit(heads, key="merged", title="Merged model", tasks=(), parents=[parent])
    shown = opening.Exhibition(name="seeing", exhibits=[merged, parent])
    return Service(shown, pictures=Album(), turns=Turns(waiting=1, patience=1))


def look(service: Service, path: str, **question: object) -> Any:
    asked = {"picture": "example-2", "model": "merged", "task": "dino"} | question
    return json.loads(service.post(path, json.dumps(asked).encode()).body)


def test_features_have_the_parents_colours(seeing: Service) -> None:
    """A head that sees what its parent sees, however strongly, looks the same; one without a parent has its own."""
    about = json.loads(seeing.get("/about").body)
    assert [each["features"] for each in about["models"]] == [["dino", "mae"], ["dino"]]
    merged, parent = look(seeing, "/features"), look(seeing, "/features", model="parent dino")
    assert (merged["height"], merged["width"], len(merged["colours"])) == (32, 32, 3 * 32 * 32)
    assert merged["colours"] == parent["colours"]
    assert len(set(merged["colours"])) > 50
    assert (merged["borrowed"], parent["borrowed"]) == (True, False)
    own = look(seeing, "/features", task="mae")
    assert own["borrowed"] is False
    assert own["colours"] != merged["colours"]


def test_other_features_have_other_colours(drawn: Scene) -> None:
    """Beside its parent a head that mirrors what it sees is drawn otherwise; alone it would look the same."""
    parent = Patches({"dino": Blocks()}, parents={})
    expected = np.array(parent.colours(drawn.image, "dino", key="1", fine=True)["colours"])
    for parents, apart in (({"dino": parent}, True), ({}, False)):
        mirrored = Patches({"dino": Blocks(factors=(1, 1, -1))}, parents=parents)
        found = np.array(mirrored.colours(drawn.image, "dino", key="1", fine=True)["colours"])
        assert (np.abs(found - expected).max() > 50) == apart


def test_another_space_is_not_drawn_in_the_parents_colours() -> None:
    """A head whose features have other channels than the parent's has colours of its own."""
    picture = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)

    class Wide(Blocks):
        def encode_cells(self, pictures: Sequence[np.ndarray], *, size: int | None = None) -> torch.Tensor:
            return super().encode_cells(pictures, size=size).repeat(1, 2, 1, 1)

    merged = Patches({"dino": Wide()}, parents={"dino": Patches({"dino": Blocks()}, parents={})})
    assert merged.colours(picture, "dino", key="1", fine=False)["borrowed"] is False


def test_what_is_like_a_place(seeing: Service) -> None:
    """The cosine of each cell with the one under the place, whatever the lengths of their features."""
    pixels = Album().find("example-2").pixels
    answer = look(seeing, "/alike", place={"x": 287.5, "y": 100.0}, fine=False)
    assert (answer["height"], answer["width"], answer["row"], answer["column"]) == (8, 8, 2, 7)
    rows = Blocks().encode_cells([pixels])[0].flatten(1).T.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.allclose(answer["values"], rows @ rows[2 * 8 + 7], atol=1e-4)
    assert answer["values"][2 * 8 + 7] == pytest.approx(1, abs=1e-4)
    corner = look(seeing, "/alike", place={"x": 288, "y": 288})
    assert (corner["row"], corner["column"]) == (31, 31)


@pytest.mark.parametrize(
    ("head", "native", "fine"),
    [(Blocks(), 8, 32), (Blocks(stride=14), 8, 32), (Blocks(fixed=96), 12, 12), (Blocks(stride=12), 8, 8)],
)
def test_cells_are_fine_where_they_can_be(head: Dense, native: int, fine: int) -> None:
    """32 a side, or as the model has them where it takes one size alone or an odd one."""
    patches = Patches({"dino": head}, parents={})
    picture = np.zeros((40, 60, 3), dtype=np.uint8)
    assert patches.colours(picture, "dino", key="1", fine=True)["width"] == fine
    assert patches.alike(picture, "dino", Place(x=1.0, y=1.0), key="1", fine=False)["width"] == native


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        ("/features", {"task": "clip"}, "'clip' has no features here; give dino or mae"),
        ("/features", {"task": "mae", "model": "parent dino"}, "give dino"),
        ("/alike", {}, "place: none; give one"),
        ("/alike", {"place": {"x": 288.5, "y": 1}}, "place: is not inside the picture of 288 x 288 pixels"),
        ("/alike", {"place": {"x": 1, "y": 1, "inside": True}}, "place.inside: Extra inputs"),
    ],
)
def test_comparisons_that_are_refused(seeing: Service, path: str, change: dict[str, object], words: str) -> None:
    """Each with what is wrong about it."""
    with pytest.raises(Refusal, match=re.escape(words)):
        look(seeing, path, **change)


def test_a_head_is_chosen(model: Any) -> None:
    """Where several could answer, one must be named, and no other is."""
    heads = model.capabilities()
    two = {"one": heads["sam"], "other": heads["sam"]}
    with pytest.raises(InputError, match="several such heads; name one by --task: one or other"):
        Exhibit(two, key="merged", title="", tasks=())
    assert Exhibit(two, key="merged", title="", tasks=("other",)).does["outline"]


def test_parents_that_are_not_here(untrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A merged folder with a recipe whose parents' files are elsewhere is shown without them, and one is told."""
    import shutil

    shutil.copytree(untrained, tmp_path / "run")
    text = (tmp_path / "run" / "recipe.yaml").read_text()
    (tmp_path / "run" / "recipe.yaml").write_text(text.replace("variant: tiny", "variant: vit_b, checkpoint: gone.pth"))
    shown = opening.open_all(tmp_path / "run" / "merged", tasks=(), device="cpu")
    assert [each.key for each in shown.exhibits] == ["merged", "parent clip"]
    assert shown.missing == ["sam"]
    assert capsys.readouterr().err == "parent sam is not shown: gone.pth: does not exist; mend the path\n"
    (tmp_path / "run" / "recipe.yaml").write_text("base: 3")
    assert [each.key for each in opening.open_all(tmp_path / "run", tasks=(), device="cpu").exhibits] == ["merged"]
    assert capsys.readouterr().err.startswith("without parents: ")


def test_this_machine_alone_needs_no_token() -> None:
    """Any other address does, and is called by its own names; of all addresses any, because no name leads there."""
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        assert Gate.of(host).token is None
    outside, named = Gate.of("0.0.0.0"), Gate.of("gpu.example")
    assert outside.token != Gate.of("0.0.0.0").token
    outside.check_host(["10.1.2.3:7788"])
    named.check_host(["GPU.example:7788"])
    for gate, host in ((outside, "evil.example"), (named, "10.1.2.3"), (named, "evil.example:80")):
        with pytest.raises(Refusal, match="is not served here"):
            gate.check_host([host])


@pytest.fixture
def guarded(demo: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same server as if it were open to others; its token."""
    gate = Gate.of("0.0.0.0")
    monkeypatch.setattr(demo, "gate", gate)
    assert gate.token is not None
    return gate.token


def test_without_the_token_there_is_nothing(demo: Server, guarded: str, drawn: Scene) -> None:
    """Neither page nor picture nor answer; the page's own files hold no secret."""
    for path in ("/", "/?token=wrong", "/about", "/pictures/example-1", f"/?token={guarded}x"):
        refused = ask(demo, "GET", path)
        assert refused.status == 403, path
        assert "the token is missing or wrong" in refused.content["error"]
    assert upload(demo, png(drawn.image)).status == 403
    assert upload(demo, png(drawn.image), X_Vfmerge_Token="\xff").status == 403
    assert ask(demo, "GET", f"/?token={guarded}").status == 200
    assert ask(demo, "GET", "/about", X_Vfmerge_Token=guarded).status == 200
    assert upload(demo, png(drawn.image), X_Vfmerge_Token=guarded).status == 200
    assert ask(demo, "GET", "/page/main.js").status == 200


def test_a_port_in_use_is_told(demo: Server) -> None:
    """In one line, with what to do; an address that is not this machine's too."""
    for host, port in (("127.0.0.1", demo.port), ("203.0.113.1", 0)):
        with pytest.raises(InputError, match=f"--host {host} --port {port}: .*; give another, or --port 0"):
            serving.listen(demo.service, demo.turns, host=host, port=port)


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    """Before anything is served."""
    wrong = [((tmp_path,), "holds no merged model"), ((tmp_path / "gone",), "no such folder; give runs/NAME")]
    for given, words in [*wrong, ((tmp_path, "--port", "70000"), "70000")]:
        result = CliRunner().invoke(cli.vfmerge, ["demo", *map(str, given)], obj=cli.Invocation())
        assert result.exit_code != 0
        assert words in f"{result.output}{result.exception}"


def test_it_opens_a_browser_and_ends_cleanly(
    untrained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The page is there when the browser is sent to it; Ctrl-C ends it with exit code 0 and no word more."""
    opened: list[str] = []

    def visit(address: str) -> None:
        opened.append(address)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(webbrowser, "open", visit)
    assert cli.main(["demo", str(untrained), "--port", "0", "--open"]) == cli.DONE
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", opened[0])
    assert capfd.readouterr() == (f"tiny is at {opened[0]}\nCtrl-C ends it\n", "")
