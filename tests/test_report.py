"""The report of a run: what it says, that it is whole HTML, and that nothing from data gets out of its place."""

from __future__ import annotations

import dataclasses
import html.parser
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfmerge import folder, papers, retention
from vfmerge.errors import InputError
from vfmerge.report import findings, report
from vfmerge.retention import Row

EVIL = "\"><script>alert('1')</script>&amp;{{ 7 * 7 }}\ud800\x00"
VOID = {"meta", "link", "img", "br"}


class Page(html.parser.HTMLParser):
    """A page taken apart. elements: every start tag with its attributes; text: of each kind of element, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.text[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def row(metric: str, parent_value: float | None, merged_value: float, **changes: object) -> Row:
    kept = merged_value / parent_value if parent_value else None
    values = {
        "parent": "clip",
        "capability": "image_text",
        "benchmark": "zero_shot_classification",
        "data": "objects",
        "metric": metric,
        "parent_value": parent_value,
        "merged_value": merged_value,
        "retention": kept,
        "n": 1024,
        "ci_low": kept and kept - 0.01,
        "ci_high": kept and kept + 0.01,
    }
    return Row(**(values | changes))


SAM = {"parent": "sam", "capability": "promptable", "benchmark": "promptable", "data": "held_out"}
PIXELS = {"benchmark": "zero_shot_segmentation", "data": "held_out"}
ROWS = [
    row("top1", 1.0, 0.98),
    row("box_miou", 0.95, 0.94, **SAM),
    row("miou_head", 0.25, 0.2, **PIXELS),
    row("miou_two_heads", 0.25, 0.6, **PIXELS),
    row("top1 group=night", 0.9, 0.6),
    row("top1 group=day", 1.0, 1.0),
    *(
        row("top1", 1.0, value, control=name)
        for name, value in (("naive", 0.4), ("wise_ft_0", 0.1), ("wise_ft_0.5", 0.2))
    ),
    *(
        row("box_miou", 0.95, value, **SAM, control=name)
        for name, value in (("naive", 0.7), ("wise_ft_0", 0.95), ("wise_ft_0.5", 0.9))
    ),
    row("miou_cascade", 0.25, 0.3, **PIXELS, control="cascade"),
    *(row(f"top1@{size}", 0.9, 0.9 - size / 1000, benchmark="resolution") for size in (32, 64, 128)),
    row("top1 fog", 0.8, 0.7, benchmark="robustness"),
    row("top1 corrupted", 0.7, 0.65, benchmark="robustness"),
    row("parameters_m", 8.4, 4.2, parent="all", benchmark="efficiency", retention=2.0, ci_low=None, ci_high=None),
]
SECTIONS = [
    *("kept", "claims", "sides", "corner", "gallery", "bygroup", "resolution", "robustness", "efficiency"),
    *("training", "again", "words"),
]


def write_gallery(run: Path, *, name: str = "star") -> None:
    """Two cases of two columns each."""
    (run / "gallery").mkdir()
    ranks = {}
    for number, rank in enumerate(("best", "worst")):
        cells = []
        for column in ("picture", "merged"):
            file = f"{number}-{column}.png"
            Image.fromarray(np.full((8, 8, 3), 40 * number, dtype=np.uint8)).save(run / "gallery" / file)
            cells.append({"file": file, "alt": f"a {name}", "score": 0.5 if column == "merged" else None})
        ranks[rank] = {"name": f"{name}/{number}", "rank": rank, "score": 0.5, "cells": cells}
    titles = [
        {"key": "picture", "title": "picture", "subtitle": ""},
        {"key": "merged", "title": name, "subtitle": name},
    ]
    index = {"classes": [{"name": name, "colour": "#cc6677"}], "columns": titles, "rows": list(ranks.values())}
    (run / "gallery" / "gallery.json").write_text(json.dumps(index))


@pytest.fixture
def run(tmp_path: Path, small: Path) -> Path:
    """A run with every part there is: a real recipe, and the rest invented."""
    path = tmp_path / "a run"
    path.mkdir()
    shutil.copy(small, path / papers.RECIPE)
    manifest = {
        "recipe": "ab12",
        "seed": 0,
        "weights": {"sam": {"sam.pth": "cd34"}, "clip": {}},
        "data": {"held_out": {"samples": 2, "sha256": "ef56"}},
        "licences": {"sam": "Apache-2.0", "clip": "MIT"},
        "versions": {"python": "3.11.7"},
    }
    (path / folder.MANIFEST).write_text(json.dumps(manifest))
    steps = [
        {"step": step, "stage": "probe" if step < 9 else "distill", "loss.0.clip.cosine": 1 / step}
        for step in range(1, 20)
    ]
    (path / folder.METRICS).write_text("".join(json.dumps(step) + "\n" for step in steps))
    retention.write(path / "retention.json", ROWS)
    write_gallery(path)
    return path


def page_of(run: Path) -> tuple[str, Page]:
    text = report.write(run).read_text()
    return text, Page(text)


def has(page: Page) -> list[str | None]:
    """The sections that are there."""
    return [section["id"] for section in page.all("section")]


def test_every_part_is_there(run: Path) -> None:
    """The verdict, the table with its intervals, and a section for whatever the folder tells."""
    text, page = page_of(run)
    assert has(page) == SECTIONS
    assert page.text["h1"] == ["a run: what the merge kept"]
    assert "Kept 98.9\xa0% (97.9 to 99.9) of sam and 98.0\xa0% (97.0 to 99.0) of clip." in text
    assert "Without rehearsal 73.7\xa0% of sam remains." in text
    cells = [" ".join(cell.split()) for cell in page.text["td"]]
    assert "98.0 %97.0 to 99.0" in cells
    assert "2.00 times less" in cells
    assert cells[cells.index("2.00 times less") - 2 :][:2] == ["8.400", "4.200"]
    assert "vfmerge run recipe.yaml --out 'runs/a run'" in html.unescape(text)


def test_the_page_is_whole(run: Path) -> None:
    """One h1, no heading skipped, every link leads somewhere, every table and picture says what it is."""
    _, page = page_of(run)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [each.get("aria-labelledby") for _, each in page.elements if "aria-labelledby" in each]
    inside = [each["href"][1:] for each in page.all("a") if each["href"].startswith("#")]
    assert set(named + inside) <= set(ids)
    assert len(page.all("table")) == len(page.all("caption")) >= 6
    assert all(each.get("scope") for each in page.all("th"))
    assert all(each["alt"] for each in page.all("img"))
    assert len(page.all("svg")) == len(page.all("desc")) >= 12
    assert all(each["role"] == "img" and each["aria-label"] for each in page.all("svg"))


def test_the_page_asks_nobody(run: Path) -> None:
    """No script, no frame, nothing fetched: pictures are in the page, and its own policy forbids the rest."""
    text, page = page_of(run)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "iframe", "object", "base", "form", "video"})
    assert [each["href"] for each in page.all("link")] == ["data:,"]
    assert len(page.all("img")) == 4
    assert all(each["src"].startswith("data:image/png;base64,") for each in page.all("img"))
    assert not re.search(r"url\(|@import", text)
    policy = next(each["content"] for each in page.all("meta") if "http-equiv" in each)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def test_text_from_data_stays_text(run: Path) -> None:
    """Names of parents, data, metrics, groups, controls, stages, classes, samples and files are shown as they are."""
    evil = [dataclasses.replace(each, **dict.fromkeys(("parent", "data", "benchmark"), EVIL)) for each in ROWS[:4]]
    evil += [row(EVIL, 0.5, 0.6, control=EVIL), row(EVIL, 0.5, 0.4), row(f"top1 group={EVIL}", 0.5, 0.4)]
    evil += [row(f"{EVIL}@32", 0.5, 0.4, benchmark="resolution"), row(f"top1 {EVIL}", 0.5, 0.4, benchmark="robustness")]
    evil += [row(EVIL, 0.5, 0.4, benchmark="efficiency")]
    (run / "retention.json").write_text(json.dumps([dataclasses.asdict(each) for each in evil]))
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "stage": EVIL, f"loss.0.{EVIL}.x": 1.0}))
    manifest = {"weights": {EVIL: {EVIL: EVIL}}, "licences": {EVIL: EVIL}, "data": {EVIL: {"sha256": EVIL}}}
    (run / "manifest.json").write_text(json.dumps(manifest | {"versions": {EVIL: EVIL}}))
    shutil.rmtree(run / "gallery")
    write_gallery(run, name=EVIL)
    text, page = page_of(run.rename(run.with_name("<b>&lt;run")))
    assert {"script", "b"}.isdisjoint(tag for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "<script" not in text
    assert "49" not in " ".join(page.text["h2"] + page.text["th"])
    assert page.text["h1"] == ["<b>&lt;run: what the merge kept"]
    assert sum("<script>alert('1')</script>&amp;{{ 7 * 7 }}" in each for each in page.text["th"]) > 3


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("recipe.yaml", []),
        ("manifest.json", []),
        ("metrics.jsonl", ["training"]),
        ("gallery/gallery.json", ["gallery"]),
        ("gallery/0-merged.png", []),
    ],
)
@pytest.mark.parametrize("content", [None, b"{[\xff\x00", b'{"rows": 3}', b"[" * 100_000])
def test_a_part_that_is_missing_or_damaged_is_left_out(
    run: Path, name: str, lost: list[str], content: bytes | None
) -> None:
    """Whatever becomes of one file, the rest of the page is there."""
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    _, page = page_of(run)
    assert has(page) == [section for section in SECTIONS if section not in lost]


def test_only_the_table_is_needed(run: Path) -> None:
    """A page of nothing but rows, and one of no rows at all."""
    alone = run.with_name("alone")
    alone.mkdir()
    retention.write(alone / "retention.json", ROWS[:1])
    assert has(page_of(alone)[1]) == ["kept", "claims", "sides", "again", "words"]
    retention.write(alone / "retention.json", [])
    text, page = page_of(alone)
    assert has(page) == ["again", "words"]
    assert "Nothing was measured." in text


def test_rows_without_a_parent_or_an_interval(run: Path) -> None:
    """A value alone is shown as such: no retention is made up."""
    bare = [
        row("top1", None, 0.5),
        row("box_miou", 0.0, 0.5, **SAM),
        row("parameters", None, 9, benchmark="efficiency"),
    ]
    bare += [row("top1@64", None, 0.5, benchmark="resolution"), row("top1 fog", None, 0.5, benchmark="robustness")]
    retention.write(run / "retention.json", [*bare, row("top1", None, 0.3, control="naive")])
    text, page = page_of(run)
    assert "What was kept of sam and clip is not known" in text
    assert "corner" not in has(page)
    assert "nan" not in text.lower().replace("base64", "").split("<main>")[1].split("data:")[0]


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[{}]", '[{"parent": 3}]', "[" * 100_000, json.dumps([dataclasses.asdict(ROWS[0]) | {"n": "x"}])],
)
def test_a_damaged_table_is_refused_in_one_line(run: Path, content: str) -> None:
    """Without its rows there is no report."""
    (run / "retention.json").write_text(content)
    with pytest.raises(InputError, match=r"retention\.json: cannot be used .*vfmerge eval") as caught:
        report.write(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_a_number_that_is_none_is_refused(run: Path) -> None:
    """JSON's infinity is no measurement."""
    (run / "retention.json").write_text(json.dumps([dataclasses.asdict(ROWS[0]) | {"merged_value": float("inf")}]))
    with pytest.raises(InputError, match="not finite"):
        report.write(run)


def test_a_gallery_takes_no_file_from_elsewhere(run: Path) -> None:
    """Only pictures that lie beside the index, and are PNG."""
    Image.new("RGB", (4, 4)).save(run / "secret.png")
    path = run / "gallery" / "gallery.json"
    path.write_text(path.read_text().replace("0-merged.png", "../secret.png"))
    assert "gallery" not in has(page_of(run)[1])
    path.write_text(path.read_text().replace("../secret.png", "0-merged.png"))
    (run / "gallery" / "0-merged.png").write_text("root:x:0:0")
    _, page = page_of(run)
    assert [each["alt"] for each in page.all("img")] == ["picture: a star", "star: a star"]


def test_the_runs_picture_stands_in_for_a_gallery(run: Path) -> None:
    """A run of before has one picture of all."""
    shutil.rmtree(run / "gallery")
    Image.new("RGB", (4, 4)).save(run / "picture.png")
    _, page = page_of(run)
    assert "gallery" in has(page)
    assert len(page.all("img")) == 1


def test_the_recipe_names_no_path_of_its_maker(run: Path) -> None:
    """A report goes to other people: absolute paths are left open in it."""
    pictures = run.with_name("secret")
    text = (run / "recipe.yaml").read_text()
    there = re.sub(r"  images: .*", f"  images: {{kind: folder, path: {pictures}}}", text)
    (run / "recipe.yaml").write_text(there)
    assert "secret" in (run / "recipe.yaml").read_text()
    text, _ = page_of(run)
    assert "path: ???" in text
    assert "secret" not in text


def test_the_same_findings_make_the_same_page(run: Path) -> None:
    """Nothing of the time or the place is in it."""
    before = report.write(run).read_bytes()
    assert report.write(run).read_bytes() == before
    assert str(run.parent).encode() not in before


def test_names_of_files_are_those_of_the_run_folder() -> None:
    """`findings` reads what `folder` writes, without importing it."""
    assert (findings.MANIFEST, findings.METRICS) == (folder.MANIFEST, folder.METRICS)


def test_a_finished_run_has_its_report(finished: Path) -> None:
    """`vfmerge run` itself writes the page, with what its recipe measures."""
    page = Page((finished / "report.html").read_text())
    assert {"kept", "sides", "training", "again", "words"} <= set(has(page))
