"""The report and the comparison as a browser shows them: headless Chromium, if there is one and playwright."""

from __future__ import annotations

import dataclasses
import json
import shutil
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfmerge import retention
from vfmerge.report import compare, fractions, report
from vfmerge.retention import Row

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--no-default-browser-check", "--disable-dev-shm-usage"),
)
READABLE = 4.5
"""Contrast that text needs (WCAG 2.2, 1.4.3)."""

CONTRASTS = """() => {
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
  const found = {};
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length || ['title', 'desc'].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const pair = [light(rgba(element.closest('svg') ? style.fill : style.color)), light(behind(element))];
    const kind = `${element.tagName}.${element.getAttribute('class') || ''}`;
    found[kind] = Math.min(found[kind] || 21, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05));
  }
  return found;
}"""


def row(metric: str, parent_value: float, merged_value: float, **changes: object) -> Row:
    kept = merged_value / parent_value
    facts = {"parent": "clip", "capability": "image_text", "benchmark": "zero_shot_classification", "data": "objects"}
    more = {"metric": metric, "parent_value": parent_value, "merged_value": merged_value, "retention": kept, "n": 1024}
    return Row(**(facts | more | {"ci_low": kept * 0.99, "ci_high": kept * 1.01} | changes))


def rows() -> Iterator[Row]:
    """Enough of everything that a page shows, with names that are long and unbroken."""
    sam = {"parent": "sam", "capability": "promptable", "benchmark": "promptable", "data": "held_out"}
    pixels = {"benchmark": "zero_shot_segmentation", "data": "held_out_pictures_with_a_name_that_does_not_end"}
    for name, top, box in (
        (None, 0.99, 0.94),
        ("naive", 0.4, 0.7),
        ("wise_ft_0", 0.1, 0.95),
        ("wise_ft_0.5", 0.2, 0.9),
    ):
        yield row("top1", 1.0, top, control=name)
        yield row("box_miou", 0.95, box, **sam, control=name)
    yield row("miou_head", 0.25, 0.2, **pixels)
    yield row("miou_two_heads", 0.25, 0.6, **pixels)
    yield row("miou_cascade", 0.25, 0.3, **pixels, control="cascade")
    for size in (32, 64, 128, 256):
        yield row(f"top1@{size}", 0.9, 0.9 - size / 1000, benchmark="resolution")
    for name in ("gaussian_noise", "fog", "corrupted"):
        yield row(f"top1 {name}", 0.8, 0.7, benchmark="robustness")
    for name in (None, "image_crop", "feature_crop", "a_further_task_with_a_name_that_does_not_end", "no_fusion"):
        for group in ("", "_base", "_novel"):
            yield row(f"box_iou{group}", 0.95, 0.94, **sam | {"benchmark": "recognition"}, control=name)
            named = row(f"box_accuracy{group}", 1.0, 0.8, benchmark="recognition", parent="recognition", control=name)
            yield dataclasses.replace(named, parent_value=None, retention=None, ci_low=None, ci_high=None)
    yield row("parameters", 8.4e6, 4.2e6, parent="all", benchmark="efficiency", retention=2.0)


@pytest.fixture(scope="module")
def run(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with every part, and three pages in it: of the run, of it beside itself, and of fractions."""
    path = tmp_path_factory.mktemp("shown") / "a_run_with_a_long_name_that_has_no_place_to_break_it_in_two"
    (path / "gallery").mkdir(parents=True)
    shutil.copy(small, path / "recipe.yaml")
    retention.write(path / "retention.json", list(rows()))
    digest = {"held_out": {"samples": 9, "sha256": "0123456789abcdef" * 4}}
    manifest = {"data": digest, "weights": {"sam": {"sam.safetensors": "0123456789abcdef" * 4}}, "seed": 0}
    (path / "manifest.json").write_text(json.dumps(manifest | {"versions": {"torch": "2.10"}}))
    steps = [{"step": step, "stage": "probe", "loss.0.clip.cosine": 1 / step} for step in range(1, 300)]
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
    keys = ("picture", "truth", "sam", "clip", "pipeline", "cascade", "naive", "merged")
    for key in keys:
        Image.fromarray(np.full((208, 208, 3), 90, dtype=np.uint8)).save(path / "gallery" / f"{key}.png")
    cells = [{"file": f"{key}.png", "alt": "a star", "score": 0.5} for key in keys]
    cases = [{"name": "held_out/" + "0" * 80, "rank": rank, "score": 0.5, "cells": cells} for rank in ("best", "worst")]
    columns = [{"key": key, "title": f"model {key}", "subtitle": "one encoder"} for key in keys]
    index = {"classes": [{"name": "star", "colour": "#cc6677"}], "columns": columns, "rows": cases}
    (path / "gallery" / "gallery.json").write_text(json.dumps(index))
    report.write(path)
    (path / "compare.html").write_text(compare.render(compare.read([path, path])))
    points = [fractions.read(path, fraction=f, samples={"held_out": 9}, steps=9) for f in (0.001, 0.1, 0.12, 1.0)]
    (path / "fractions.html").write_text(fractions.render(points, name=path.name))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[typing.Any]:
    """Headless Chromium; skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)}")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def show(browser: typing.Any) -> Iterator[Callable[..., typing.Any]]:
    """Opens a file; when the test ends, no error was told on the console, and nothing but the file was asked for."""
    contexts: list[typing.Any] = []
    errors: list[str] = []
    asked: set[str] = set()
    files: set[str] = set()

    def opened(path: Path, *, width: int = 1280, scheme: str = "light") -> typing.Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.add(request.url))
        files.add(path.as_uri())
        page.goto(path.as_uri(), wait_until="load")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
    assert {url for url in asked if not url.startswith("data:")} == files


def test_the_report_is_shown(run: Path, show: Callable[..., typing.Any]) -> None:
    """Its table and every picture are there, decoded; all charts have a size."""
    page = show(run / "report.html")
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("table", name="Retention of the merged model").is_visible()
    assert page.get_by_role("rowheader", name="Prompted masks: mean IoU from boxes").first.is_visible()
    assert page.get_by_role("table", name="From boxes, 1,024 things").get_by_role("row").count() == 8
    assert page.get_by_role("table", name="Claims of SAM-CLIP").get_by_role("row").count() == 8
    assert page.get_by_role("table", name="Claims of Open-Vocabulary SAM").get_by_role("row").count() == 4
    pictures = page.evaluate("[...document.images].map(each => [each.complete, each.naturalWidth, each.alt !== ''])")
    assert pictures == [[True, 208, True]] * 16
    charts = page.evaluate("[...document.querySelectorAll('svg')].map(each => each.getBoundingClientRect().width)")
    assert len(charts) == 13  # five bars in the table, four metrics, the corner, resolution, corruptions, one loss
    assert min(charts) > 90


@pytest.mark.parametrize("name", ["report.html", "fractions.html"])
def test_text_in_charts_stays_in_the_charts(run: Path, show: Callable[..., typing.Any], name: str) -> None:
    """No name or number sticks out of its drawing by more than a hair."""
    page = show(run / name)
    script = """() => [...document.querySelectorAll('svg text')].map(text => {
      const [inner, outer] = [text.getBoundingClientRect(), text.closest('svg').getBoundingClientRect()];
      return [text.textContent, Math.max(outer.left - inner.left, inner.right - outer.right, outer.top - inner.top)];
    }).filter(([, out]) => out > 3)"""
    assert page.evaluate(script) == []


@pytest.mark.parametrize("name", ["report.html", "compare.html", "fractions.html"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways(run: Path, show: Callable[..., typing.Any], name: str, width: int) -> None:
    """On a phone too, with every fold open: only tables may, each by itself."""
    page = show(run / name, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.scroll')].every(each => each.getBoundingClientRect().right <= innerWidth)"
    assert page.evaluate(wide)


@pytest.mark.parametrize("name", ["report.html", "compare.html", "fractions.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(run: Path, show: Callable[..., typing.Any], name: str, scheme: str) -> None:
    """In either scheme all text stands out from what is behind it."""
    page = show(run / name, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 12
    assert {kind: round(value, 2) for kind, value in contrasts.items() if value < READABLE} == {}
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_a_keyboard_reaches_wide_tables(run: Path, show: Callable[..., typing.Any]) -> None:
    """Whoever cannot drag can focus a table and scroll it, and is told which it is."""
    page = show(run / "report.html", width=360)
    region = page.get_by_role("region", name="Retention of the merged model")
    region.focus()
    assert region.evaluate("each => each === document.activeElement")
    page.keyboard.press("ArrowRight")
    for _ in range(100):  # scrolling is smooth; waiting in the page itself is what its policy forbids
        if region.evaluate("each => each.scrollLeft") > 0:
            return
        page.wait_for_timeout(30)
    pytest.fail("the table did not move")


def test_it_prints(run: Path, show: Callable[..., typing.Any]) -> None:
    """On paper it is dark on white whatever the screen is."""
    page = show(run / "report.html", scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not page.locator("nav").is_visible()
