"""`vfmerge compare`: several runs side by side, on the terminal and as a page."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vfmerge import retention
from vfmerge.cli import main
from vfmerge.report import compare
from vfmerge.retention import Row


def row(metric: str = "box_miou", value: float = 0.9, **changes: object) -> Row:
    facts = {"parent": "sam", "capability": "promptable", "benchmark": "promptable", "data": "held_out", "n": 9}
    more = {"metric": metric, "parent_value": 1.0, "merged_value": value, "retention": value}
    return Row(**(facts | more | changes))


def write(path: Path, *rows: Row, digest: str = "") -> Path:
    path.mkdir(parents=True)
    retention.write(path / "retention.json", rows)
    if digest:
        (path / "manifest.json").write_text(json.dumps({"data": {"held_out": {"samples": 9, "sha256": digest}}}))
    return path


def lines_of(out: str) -> list[list[str]]:
    """The cells of a table on the terminal."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")]


def test_a_column_for_each_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Retention with its interval; what a run did not measure is `-`, and controls are no merges."""
    one = write(tmp_path / "one", row(ci_low=0.875, ci_high=0.925), row("point_miou", 0.8))
    two = write(
        tmp_path / "two",
        row(value=0.5),
        row(value=0.1, control="naive"),
        row("top1", parent_value=None, retention=None),
    )
    assert main(["compare", str(one), str(two)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].replace("┃", " ").split()[-2:] == ["one", "two"]
    assert lines_of(out) == [
        ["sam", "promptable", "held_out", "box_miou", "90.0 % (87.5 to 92.5)", "50.0 %"],
        ["sam", "promptable", "held_out", "point_miou", "80.0 %", "-"],
        ["sam", "promptable", "held_out", "top1", "-", "0.900 itself"],
    ]


def test_a_wide_table_is_not_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output is no terminal, each measurement is one line, however many runs there are."""
    runs = [write(tmp_path / f"a_run_with_a_long_name_{number}", row()) for number in range(12)]
    assert main(["compare", *map(str, runs)]) == 0
    assert [len(line) for line in lines_of(capsys.readouterr().out)] == [16]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/one", "b/two"], ["one", "two"]),
        (["a/run", "b/run", "c"], ["a/run", "b/run", "c"]),
        (["x/a/run", "y/a/run", "b/run"], ["x/a/run", "y/a/run", "b/run"]),
        (["a/run", "a/run"], ["run (1)", "run (2)"]),
    ],
)
def test_runs_of_one_name_are_told_apart(tmp_path: Path, paths: list[str], expected: list[str]) -> None:
    """By as much of their paths as it takes, or by number."""
    assert [
        name.removeprefix(f"{tmp_path}/").rpartition("tmp/")[2]
        for name in compare.names([tmp_path / path for path in paths])
    ] == expected


def test_other_pictures_under_the_same_name_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures on them cannot be compared, so the terminal and the page say it."""
    one, two = (write(tmp_path / name, row(), digest=name) for name in ("one", "two"))
    page = tmp_path / "page.html"
    assert main(["compare", str(one), str(two), "--out", str(page)]) == 0
    assert "not the same pictures in every run, so not to be compared: held_out" in capsys.readouterr().err
    assert "Not the same pictures in every run" in page.read_text()
    assert main(["compare", str(one), str(one), "--out", str(page)]) == 0
    assert "Not the same pictures" not in page.read_text()


def test_the_page(tmp_path: Path) -> None:
    """It has every run's verdict, table column and bars, escaped, and asks nobody for anything."""
    one = write(tmp_path / "<b>one", row(), row("point_miou", 0.8, data="<script>"))
    two = write(tmp_path / "two", row(value=0.5))
    page = tmp_path / "new" / "page.html"
    assert main(["compare", str(one), str(two), "--out", str(page)]) == 0
    text = page.read_text()
    assert "Kept only 90.0\xa0% of sam." in text
    assert "Kept only 50.0\xa0% of sam." in text
    assert text.count("<svg") == 1  # of what both have
    assert "<script" not in text
    assert "<b>" not in text
    assert text.count("&lt;b&gt;one") >= 4
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the folders of two runs or more"),
        (["one"], "give the folders of two runs or more"),
        (["one", "absent"], "absent: has no retention.json; give the folder of a finished run"),
        (["one", "empty"], "empty: has no retention.json"),
        (["one", "damaged"], "retention.json: cannot be used"),
        (["one", "one", "--out", "empty"], "--out empty: is a folder; give a file"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """One line, exit code 2, and nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "one", row())
    (tmp_path / "empty").mkdir()
    (write(tmp_path / "damaged") / "retention.json").write_text("{")
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_it_needs_no_torch(tmp_path: Path) -> None:
    """Comparing is answered at once."""
    one = write(tmp_path / "one", row())
    script = "import sys; from vfmerge.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    command = [sys.executable, "-c", script, "compare", one, one, "--out", tmp_path / "page.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
