"""The demonstration as a browser shows it: headless Chromium, if there is one and playwright."""

from __future__ import annotations

import json
import re
import shutil
import threading
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from vfmerge import parts, recipe
from vfmerge.benchmarks.predictions import run_lengths
from vfmerge.data.shapes import Scene, scene
from vfmerge.demo import opening
from vfmerge.demo.album import Album
from vfmerge.demo.server import Server, listen
from vfmerge.demo.service import Service
from vfmerge.demo.turns import Turns
from vfmerge.model import MergedModel
from vfmerge.predict.overlay import colour

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--no-default-browser-check", "--disable-dev-shm-usage"),
)
PATIENCE = 60_000
"""Milliseconds that a busy machine is waited for."""
READABLE = 4.5
"""Contrast that text needs (WCAG 2.2, 1.4.3)."""

FAINT = """least => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  let seen = 0;
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || element.matches(':disabled, .hidden, noscript')) continue;
    const pair = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < least) faint.push([element.tagName, element.textContent.trim(), contrast]);
    seen++;
  }
  return [seen, faint];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[typing.Any]:
    """Headless Chromium; skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)}")
    sync_api.expect.set_options(timeout=PATIENCE)
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield opened
        opened.close()


_SEEING = """\
base: sam
parents:
  sam: {adapter: sam, options: {variant: tiny}}
  dino: {adapter: timm, options: {model: tiny_dino, size: 64}}
data: {}
stages: {}
"""


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A demonstration of the tiny SAM and DINO, merged and not trained, at a free port: it knows no names."""
    run = tmp_path_factory.mktemp("seeing") / "seeing"
    run.mkdir()
    (run / "recipe.yaml").write_text(_SEEING)
    adapters = parts.build_adapters(recipe.load(str(run / "recipe.yaml")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MergedModel(adapters, base="sam")
        model.start({name: adapter.teacher() for name, adapter in adapters.items()})  # type: ignore[union-attr]
    model.save(run / "merged", names={"sam": "sam", "dino": "timm"}, texts={})
    turns = Turns(waiting=8, patience=20)
    service = Service(opening.open_all(run, tasks=(), device="cpu"), pictures=Album(), turns=turns)
    server = listen(service, turns, host="127.0.0.1", port=0)
    ended = threading.Event()
    thread = threading.Thread(target=server.serve, kwargs={"until": ended.is_set})
    thread.start()
    yield server
    ended.set()
    thread.join()


@pytest.fixture
def visit(browser: typing.Any, demo: Server) -> Iterator[Callable[..., typing.Any]]:
    """Opens the page; when the test ends, no error was told on the console, and nobody but the server was asked."""
    contexts: list[typing.Any] = []
    errors: list[str] = []
    asked: set[str] = set()
    homes: list[str] = []

    def opened(*, width: int = 1280, scheme: str = "light", of: Server = demo) -> typing.Any:
        homes.append(f"http://127.0.0.1:{of.port}/")
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme, has_touch=width < 500)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda told: errors.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.add(request.url))
        page.goto(homes[-1])
        sync_api.expect(page.locator("#examples img[src]")).to_have_count(6)
        return page

    opened.errors = errors  # type: ignore[attr-defined]
    yield opened
    for context in contexts:
        context.close()
    assert errors == []
    own = tuple(f"{kind}{home}" for home in homes for kind in ("", "blob:"))
    assert [url for url in asked if not url.startswith((*own, "data:"))] == []


@pytest.fixture(scope="module")
def drawn() -> Scene:
    return scene(seed=0, split="held-out", index=2, layout="several", size=96)


@pytest.fixture(scope="module")
def file(drawn: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture on disk."""
    path = tmp_path_factory.mktemp("pictures") / "three shapes.png"
    Image.fromarray(drawn.image).save(path)
    return path


def middle(mask: np.ndarray) -> tuple[float, float]:
    """A pixel of a convex mask."""
    y, x = np.argwhere(mask).mean(0)
    return float(x), float(y)


def choose(page: typing.Any, file: Path) -> None:
    page.locator("#file").set_input_files(file)
    sync_api.expect(page.locator(".look:visible").first).to_have_attribute(
        "aria-label", re.compile(re.escape(file.name))
    )
    settled(page)


def settled(page: typing.Any) -> None:
    """Wait until everything that was asked is answered."""
    sync_api.expect(page.locator("[aria-busy=true]")).to_have_count(0)


def click(page: typing.Any, x: float, y: float, *, size: int = 96, **how: object) -> None:
    """On a pixel of the picture."""
    canvas = page.locator(".panel:visible canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    place = {"x": (x + 0.5) * box["width"] / size, "y": (y + 0.5) * box["height"] / size}
    canvas.click(position=place, **how)
    settled(page)


def drag(page: typing.Any, x0: float, y0: float, x1: float, y1: float, *, size: int = 96) -> None:
    canvas = page.locator(".panel:visible canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    scale = box["width"] / size
    page.mouse.move(box["x"] + x0 * scale, box["y"] + y0 * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + x1 * scale, box["y"] + y1 * scale, steps=3)
    page.mouse.up()
    settled(page)


def downloaded(page: typing.Any, button: str) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button).click()
    return Path(waiting.value.path())


def choice(page: typing.Any, group: str, value: str) -> None:
    page.locator(f"[name={group}][value='{value}']").check(force=True)
    settled(page)


def decoded(runs: dict[str, typing.Any]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools is older than NumPy 2
        return np.asarray(coco_mask.decode(runs)).astype(bool)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_from_upload_to_download(visit: Callable[..., typing.Any], file: Path, drawn: Scene) -> None:
    """A picture is uploaded, a thing clicked, another one boxed, names typed; both files hold what was found."""
    page = visit()
    choose(page, file)
    click(page, *middle(drawn.masks[1]))
    rows, columns = drawn.masks[2].nonzero()
    choice(page, "tool", "box")
    drag(page, columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert page.locator("#rows li").count() == 2
    page.get_by_role("textbox", name="Name things").fill("circle, heart , circle")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator("[name=view][value=names]").is_checked()
    assert page.locator("#rows b").all_inner_texts() == ["circle", "heart"]
    choice(page, "view", "objects")
    assert all(word[0].isdigit() for word in page.locator("#rows b").all_inner_texts())  # 1 heart 52 %
    kept = json.loads(downloaded(page, "Answers (JSON)").read_text())
    things = kept["answers"]["merged"]["outline"]["things"]
    assert kept["picture"] == {"name": "three shapes.png", "width": 96, "height": 96}
    assert min(iou(decoded(each["mask"]), mask) for each, mask in zip(things, drawn.masks[1:], strict=True)) > 0.8
    assert {each["name"] for each in things} <= {"circle", "heart"}
    assert kept["answers"]["merged"]["find"]["asked"]["names"] == ["circle", "heart"]
    saved = Image.open(downloaded(page, "Picture (PNG)")).convert("RGB")
    assert saved.width == 640 + 2 * 16
    assert saved.getpixel((3, 3)) == (255, 255, 255)
    y, x = drawn.masks[2].nonzero()
    scale = 640 / 96
    painted = np.array(saved)[30 + ((y + 0.5) * scale).astype(int), 16 + ((x + 0.5) * scale).astype(int)]
    grey = np.array(Image.fromarray(drawn.image).convert("L"))[y, x]
    second = 0.65 * np.array(colour(1)) + 0.35 * grey[:, None]  # the second colour on the picture's grey
    assert np.median(np.abs(painted - second)) < 6


def test_masks_are_read_as_they_were_written(visit: Callable[..., typing.Any]) -> None:
    """The page decodes run lengths of any mask: empty, full, random, and with long runs."""
    random = np.random.default_rng(0)
    masks = [np.zeros((5, 7), dtype=bool), np.ones((5, 7), dtype=bool), np.eye(9, 4, dtype=bool)]
    masks += [random.random((31, 17)) < share for share in (0.02, 0.5, 0.97)]
    large = np.zeros((700, 900), dtype=bool)
    large[100:650, 3:890] = True
    masks.append(large)
    page = visit()
    script = """async runs => {
      const { decode } = await import('/page/runs.js');
      return runs.map(each => {
        const { bits, area, middle, width } = decode(each);
        const sum = bits.reduce((total, bit, place) => total + bit * (place % 1009), 0);
        return [area, sum, middle ? bits[Math.floor(middle[1]) * width + Math.floor(middle[0])] : -1];
      });
    }"""
    answers = page.evaluate(script, [run_lengths(mask[None])[0] for mask in masks])
    places = [np.flatnonzero(mask) % 1009 for mask in masks]
    assert answers == [[len(each), int(each.sum()), 1 if len(each) else -1] for each in places]


def test_clicks_outside_correct(visit: Callable[..., typing.Any], file: Path, drawn: Scene) -> None:
    """A right click and one with Shift are points outside, and the first point of all cannot be one."""
    page = visit()
    choose(page, file)
    x, y = middle(drawn.masks[1])
    click(page, x, y, button="right")
    assert "Begin with a point inside or a box" in page.get_by_role("alert").inner_text()
    click(page, x, y)
    click(page, 3, 3, modifiers=["Shift"])
    click(page, 90, 3, button="right")
    script = "async () => (await import('/page/state.js')).state.things.map(each => each.points.map(one => one.inside))"
    assert page.evaluate(script) == [[True, False, False]]
    page.get_by_role("button", name="Undo").click()
    settled(page)
    assert page.evaluate(script) == [[True, False]]
    page.get_by_role("button", name="Remove object 1").click()
    assert page.locator("#rows li").count() == 0


def test_the_keyboard_is_enough(visit: Callable[..., typing.Any]) -> None:
    """From an example to an outline and a box by keys alone; the cursor and every place are told."""
    page = visit()
    page.locator("#file").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    settled(page)
    choice(page, "view", "objects")
    look = page.locator(".look:visible")
    for _ in range(10):
        page.keyboard.press("Tab")
        if look.evaluate("each => each === document.activeElement"):
            break
    else:
        pytest.fail("the picture cannot be reached")
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    assert page.get_by_role("status").inner_text() == "Cursor at 138, 137"
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator("#rows li").count() == 1
    page.keyboard.press("n")
    choice(page, "tool", "box")
    look.focus()
    for key in ("Enter", *["ArrowRight"] * 4, *["ArrowDown"] * 4, "Enter"):
        page.keyboard.press(key)
    settled(page)
    assert page.locator("#rows li").count() == 2
    look.focus()
    page.keyboard.press("Backspace")
    settled(page)
    assert page.locator("#rows li").count() == 1


def test_parents_stand_beside(visit: Callable[..., typing.Any], file: Path, drawn: Scene) -> None:
    """One at a time or all; each says what it cannot do."""
    page = visit()
    choose(page, file)
    click(page, *middle(drawn.masks[1]))
    assert page.locator(".panel:visible").count() == 1
    choice(page, "model", "all")
    assert page.locator(".panel:visible b").all_inner_texts() == ["Merged model", "Parent sam", "Parent clip"]
    assert page.locator(".panel span").nth(2).inner_text() == "no outlines"
    page.get_by_role("textbox", name="Name things").fill("heart, star")
    page.get_by_role("button", name="Find").click()
    settled(page)
    assert page.locator(".panel span").all_inner_texts()[1:] == ["no names", "cells alone"]
    choice(page, "view", "similar")
    assert page.locator(".panel span").first.inner_text().startswith("cosine ")
    assert page.locator("#scale").is_visible()
    choice(page, "model", "parent clip")
    assert page.locator(".panel:visible b").all_inner_texts() == ["Parent clip"]


def test_typed_names_name_what_is_outlined(visit: Callable[..., typing.Any], file: Path, drawn: Scene) -> None:
    """Without a press on Find: they hold as soon as one goes on to click."""
    page = visit()
    choose(page, file)
    page.get_by_role("textbox", name="Name things").fill("circle, heart")
    click(page, *middle(drawn.masks[1]))
    assert re.fullmatch(r"1\s+(circle|heart) \d+.%", page.locator("#rows b").inner_text())


def test_troubles_are_told_in_words(visit: Callable[..., typing.Any], tmp_path: Path) -> None:
    """A file that is no picture, one that is too large, names that are none; and the page goes on."""
    page = visit()
    alert = page.get_by_role("alert")
    (tmp_path / "notes.txt").write_text("hello")
    page.locator("#file").set_input_files(tmp_path / "notes.txt")
    sync_api.expect(alert).to_contain_text("The file: is no JPEG, PNG, WebP, BMP or GIF file")
    with (tmp_path / "large.png").open("wb") as large:
        large.truncate(50_000_000)
    page.locator("#file").set_input_files(tmp_path / "large.png")
    sync_api.expect(alert).to_contain_text("large.png has 50.0 MB; at most 20 MB are taken.")
    page.get_by_role("button", name="Close this message").click()
    assert not alert.is_visible()
    page.locator("#examples button").first.click()
    settled(page)
    page.get_by_role("textbox", name="Name things").fill("background")
    page.get_by_role("button", name="Find").click()
    sync_api.expect(alert).to_contain_text("is one of the classes; call it otherwise")
    page.get_by_role("textbox", name="Name things").fill(" , ")
    page.get_by_role("button", name="Find").click()
    sync_api.expect(alert).to_contain_text("Type a name first")
    page.get_by_role("textbox", name="Name things").fill("star")
    page.get_by_role("button", name="Find").click()
    settled(page)
    assert not alert.is_visible()
    visit.errors[:] = [text for text in visit.errors if "status of 4" not in text]  # type: ignore[attr-defined]


def test_a_server_that_went_away_is_told(visit: Callable[..., typing.Any]) -> None:
    """Not by silence, nor as if it were still at work; when it is there again one may try again."""
    page = visit()
    page.route("**/find", lambda route: route.abort())
    page.locator("#examples button").first.click()
    alert = page.get_by_role("alert")
    sync_api.expect(alert).to_contain_text("The server does not answer")
    settled(page)
    assert page.locator(".panel:visible span").inner_text() == "no answer"
    page.unroute("**/find")
    page.get_by_role("button", name="Try again").click()
    settled(page)
    assert not alert.is_visible()
    assert page.locator(".panel:visible span").inner_text().endswith("s")
    visit.errors.clear()  # type: ignore[attr-defined]


def test_a_busy_server_is_asked_again(visit: Callable[..., typing.Any]) -> None:
    """Whoever waited in vain for a turn asks once more by itself; how long it lasts is shown meanwhile."""
    page = visit()
    times: list[str] = []

    def refuse_once(route: typing.Any) -> None:
        times.append(route.request.method)
        if len(times) > 1:
            return route.continue_()
        return route.fulfill(status=503, headers={"Retry-After": "2"}, json={"error": "the model is busy"})

    page.route("**/find", refuse_once)
    page.locator("#examples button").first.click()
    sync_api.expect(page.locator(".panel:visible span")).to_have_text(re.compile(r"^\d s …$"))
    assert page.locator("[aria-busy=true]").count() == 1
    settled(page)
    assert times == ["POST", "POST"]
    assert not page.get_by_role("alert").is_visible()
    visit.errors.clear()  # type: ignore[attr-defined]


def test_one_answer_does_not_hide_that_another_failed(visit: Callable[..., typing.Any]) -> None:
    """Of two models that are asked at once."""
    page = visit()
    page.locator("#examples button").first.click()
    settled(page)
    choice(page, "view", "objects")
    choice(page, "model", "all")

    def fail(route: typing.Any) -> None:
        if '"merged"' in route.request.post_data:
            return route.fulfill(status=500, json={"error": "the model failed on this"})
        return route.continue_()

    page.route("**/outline", fail)
    click(page, 100, 100, size=288)
    sync_api.expect(page.locator(".panel span").nth(1)).to_have_text(re.compile("s$"))
    assert page.locator(".panel span").first.inner_text() == "no answer"
    assert "The model failed on this." in page.get_by_role("alert").inner_text()
    visit.errors.clear()  # type: ignore[attr-defined]


ANSWERS = "async key => (await import('/page/state.js')).results()[key]"
PAINTED = """([model, count]) => {
  const { width, height } = document.querySelectorAll('.panel canvas')[model];
  const copy = Object.assign(document.createElement('canvas'), { width, height });
  const pen = copy.getContext('2d', { willReadFrequently: true });
  pen.drawImage(document.querySelectorAll('.panel canvas')[model], 0, 0);
  const middle = number => Math.floor((number + 0.5) * width / count);
  return [...Array(count * count).keys()].flatMap(
    at => [...pen.getImageData(middle(at % count), middle(Math.floor(at / count)), 1, 1).data.slice(0, 3)]);
}"""


def test_features_are_compared(visit: Callable[..., typing.Any], seeing: Server) -> None:
    """Colours of cells as the server sends them, of both; then what is like a place that was clicked, and files."""
    page = visit(of=seeing)
    page.locator("#examples button").nth(1).click()
    settled(page)
    choice(page, "model", "all")
    choice(page, "view", "features")
    notes = page.locator(".panel span")
    assert [re.findall(r"\d+|^no", text) for text in notes.all_inner_texts()] == [["32", "32"], ["no"], ["32", "32"]]
    for place, key in ((0, "merged"), (2, "parent dino")):
        sent = page.evaluate(ANSWERS, key)["features"]["colours"]
        assert np.abs(np.array(page.evaluate(PAINTED, [place, 32])) - sent).max() <= 1
    assert "in both models" in page.locator("#nothing").inner_text()
    click(page, 100, 100, size=288)
    answer = page.evaluate(ANSWERS, "parent dino")["alike"]
    assert (answer["row"], answer["column"]) == (11, 11)
    assert answer["values"][11 * 32 + 11] == pytest.approx(1, abs=1e-3)
    assert page.locator("#rows b").all_inner_texts() == ["Features as colours", "Like the place at 101, 101"]
    assert notes.first.inner_text().startswith("cosine ")
    assert page.locator("#scale").is_visible()
    choice(page, "grid", "native")
    assert page.evaluate(ANSWERS, "merged")["alike"]["width"] == 8
    kept = json.loads(downloaded(page, "Answers (JSON)").read_text())["answers"]
    assert kept["merged"]["alike"]["asked"] == {"task": "dino", "fine": False, "place": answer["asked"]["place"]}
    assert len(kept["merged"]["features"]["colours"]) == 3 * 32 * 32
    with Image.open(downloaded(page, "Picture (PNG)")) as saved:
        assert saved.width == 3 * (640 + 16) + 16
    page.get_by_role("button", name="Features as colours").click()
    settled(page)
    assert re.fullmatch(r"8 . 8 cells", notes.first.inner_text())


def test_features_are_compared_by_keys_and_fingers(visit: Callable[..., typing.Any], seeing: Server) -> None:
    """Enter or a tap chooses the place, whatever the tool was; Escape shows all features again."""
    for width in (1280, 380):
        page = visit(width=width, of=seeing)
        page.locator("#examples button").nth(1).click()
        choice(page, "tool", "box")
        choice(page, "view", "features")
        look = page.locator(".look:visible")
        if width == 1280:
            look.focus()
            for key in ("ArrowLeft", "Enter"):
                page.keyboard.press(key)
        else:
            look.tap()
        settled(page)
        assert page.locator("#rows li").count() == 2
        assert "Similarity to the cell at 1" in str(look.get_attribute("aria-label"))
        look.focus()
        page.keyboard.press("Escape")
        settled(page)
        assert page.locator("#rows li").count() == 1
        assert "Features of its cells, in colours" in str(look.get_attribute("aria-label"))
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_only_what_can_be_asked_is_offered(visit: Callable[..., typing.Any], seeing: Server) -> None:
    """Who knows no names is not asked for any, and who has no features of cells shows none."""
    views = "[name=view]"
    page = visit(of=seeing)
    assert [each.get_attribute("value") for each in page.locator(views).all() if each.is_visible()] == [
        "objects",
        "features",
    ]
    assert not page.locator("#naming").is_visible()
    page.locator("#examples button").first.click()
    click(page, 100, 100, size=288)
    assert page.locator("#rows b").all_inner_texts() == ["Object 1"]
    other = visit()
    assert [each.get_attribute("value") for each in other.locator(views).all() if each.is_visible()] == [
        "objects",
        "names",
        "similar",
    ]


def test_the_picture_never_jumps(visit: Callable[..., typing.Any], file: Path, drawn: Scene) -> None:
    """Where it stands stays the same from the empty page to the last answer, in each view, with a message too."""
    for width in (1280, 380):
        page = visit(width=width)
        stage = page.locator("#stage")
        before = stage.bounding_box()
        page.evaluate("scrollTo(0, 0)")
        choose(page, file)
        assert stage.bounding_box() == before
        click(page, *middle(drawn.masks[1]))
        click(page, *middle(drawn.masks[1]), button="right")
        page.get_by_role("textbox", name="Name things").fill(
            "star, heart, a name that goes on and on without an end to it"
        )
        page.keyboard.press("Enter")
        for view in ("names", "similar", "objects"):
            for model in ("all", "parent sam", "merged"):
                choice(page, "view", view)
                choice(page, "model", model)
                page.evaluate("scrollTo(0, 0)")
                assert stage.bounding_box() == before
                assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(visit: Callable[..., typing.Any], scheme: str) -> None:
    """In either scheme all text that says something now stands out from what is behind it, on a phone too."""
    page = visit(width=360, scheme=scheme)
    page.locator("#examples button").nth(1).click()
    settled(page)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    seen, faint = page.evaluate(FAINT, READABLE)
    assert seen > 25
    assert faint == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_everything_has_a_name(visit: Callable[..., typing.Any]) -> None:
    """Whatever can be focused says what it is, and no two elements share an id."""
    page = visit()
    page.locator("#examples button").first.click()
    settled(page)
    script = """() => [...document.querySelectorAll('button, input, [tabindex], summary')].filter(each => {
      const labels = [...(each.labels ?? [])].map(label => label.textContent.trim()).join('');
      const inside = each.textContent.trim() || each.querySelector('img')?.alt;
      return !(each.getAttribute('aria-label') || labels || inside);
    }).map(each => each.outerHTML)"""
    assert page.evaluate(script) == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert sorted(ids) == sorted(set(ids))


def test_a_finger_is_enough(visit: Callable[..., typing.Any], file: Path, drawn: Scene) -> None:
    """A tap is a point, inside or outside as the tool says."""
    page = visit(width=380)
    choose(page, file)
    x, y = middle(drawn.masks[1])
    canvas = page.locator(".panel:visible canvas")
    scale = canvas.bounding_box()["width"] / 96
    canvas.tap(position={"x": x * scale, "y": y * scale})
    settled(page)
    choice(page, "tool", "outside")
    canvas.tap(position={"x": 4 * scale, "y": 4 * scale})
    settled(page)
    script = "async () => (await import('/page/state.js')).state.things.map(each => each.points.map(one => one.inside))"
    assert page.evaluate(script) == [[True, False]]
