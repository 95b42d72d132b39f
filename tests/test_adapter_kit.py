"""`vfmerge new adapter`: what it writes runs untouched. `vfmerge check --adapter`: what it says, of what."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vfmerge import plugins
from vfmerge.cli import main

FILES = ["pond.py", "pond.yaml", "pyproject.toml", "test_pond.py"]
CHECK = ["check", "--adapter", "pond", "--plugin", "pond.py"]


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `vfmerge new adapter pond` makes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("kit"))
        assert main(["new", "adapter", "pond"]) == 0
        return Path("pond").resolve()


@pytest.fixture(autouse=True)
def _at_home(pond: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test where the files are, without local plug-ins of other tests."""
    monkeypatch.chdir(pond)
    monkeypatch.setattr(plugins, "_files", {})
    yield
    sys.modules.pop("vfmerge_file_pond", None)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, and nothing on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_it_writes_four_files(pond: Path) -> None:
    """An adapter, its test, a recipe and a package, in which no word of the template is left."""
    assert sorted(path.name for path in pond.iterdir() if path.suffix) == FILES
    assert not any(re.search("my.?model", (pond / name).read_text(), re.IGNORECASE) for name in FILES)


def test_the_files_are_in_order(pond: Path) -> None:
    """ruff has nothing to say of them: neither of their form nor of names that are not used."""
    calm = ["--config", str(Path(__file__).parent.parent / "pyproject.toml"), "--config", "lint.ignore=['B008','I001']"]
    for command in (["check", *calm], ["format", "--check", *calm[:2]]):
        files = [name for name in FILES if name.endswith(".py")]
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_contract_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """`vfmerge check` passes the untouched template, and says what it could not check."""
    assert main(CHECK) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("holds" in line for line in lines) > 15
    assert not any("does not hold" in line for line in lines)
    assert any("library" in line and "no reference given" in line for line in lines)
    assert any("licence" in line and "not stated" in line for line in lines)


def test_its_own_test_passes(pond: Path) -> None:
    """Under pytest, where the files are."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_pond.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_its_own_test_sees_another_normalisation(pond: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference of the library tells a deviation that was mistyped."""
    (tmp_path / "pond.py").write_text((pond / "pond.py").read_text().replace("0.229, 0.224", "0.229, 0.242"))
    shutil.copy(pond / "test_pond.py", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with torch.random.fork_rng(devices=[]), pytest.raises(AssertionError, match=r"The target is what .* does not hold"):
        importlib.import_module("test_pond").test_the_contract(tmp_path)
    del sys.modules["pond"], sys.modules["test_pond"]


def test_its_recipe_runs(pond: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A merge of a few steps, which learns and is measured; `ls` has the adapter too."""
    assert main(["run", "pond.yaml", "--plugin", "pond.py"]) == 0
    lines = [json.loads(line) for line in (pond / "runs" / "pond" / "metrics.jsonl").read_text().splitlines()]
    probe = [line["loss"] for line in lines if line["stage"] == "probe"]
    assert probe[-1] < probe[0]
    assert {row["parent"] for row in json.loads((pond / "runs/pond/retention.json").read_text())} == {"pond"}
    capsys.readouterr()
    plugins._files.clear()
    assert main(["ls", "adapters", "--plugin", "pond.py"]) == 0
    assert re.search(r"pond +a local file +2\. What it is", capsys.readouterr().out)


def test_a_changed_file_is_noticed(pond: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run's manifest has the file's hash, and a run does not go on with another one."""
    out = ["--out", "changing", "stages.probe.steps=1", "stages.distill.steps=1", "evaluate={}"]
    assert main(["run", "pond.yaml", "--plugin", "pond.py", *out]) == 0
    (noted,) = json.loads((pond / "changing" / "manifest.json").read_text())["plugins"]["pond"].items()
    assert noted[0] == "pond.py"
    assert len(noted[1]) == 64
    text = (pond / "pond.py").read_text()
    (pond / "pond.py").write_text(text + "\n")
    plugins._files.clear()
    capsys.readouterr()
    try:
        assert main(["run", "pond.yaml", "--plugin", "pond.py", *out]) == 2
    finally:
        (pond / "pond.py").write_text(text)
    assert "plugins changed since this run began; use --fresh" in capsys.readouterr().err


def test_nothing_is_overwritten(pond: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file that is there is enough to write none."""
    before = {path.name: path.read_bytes() for path in pond.iterdir() if path.is_file()}
    assert main(["new", "adapter", "pond", "--out", str(pond)]) == 2
    assert "pond.py: is there already; choose another name, or --out another folder" in said(capsys)
    assert main(["new", "adapter", "brook", "--out", str(pond)]) == 2
    assert "pyproject.toml: is there already" in said(capsys)
    assert {path.name: path.read_bytes() for path in pond.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pond", "cannot name an adapter and its file; give at most 40 small letters, digits and underscores"),
        ("my-pond", "cannot name an adapter"),
        ("../pond", "cannot name an adapter"),
        ("3d", "cannot name an adapter"),
        ("", "cannot name an adapter"),
        ("p" * 41, "cannot name an adapter"),
        ("lambda", "is a word of Python"),
        ("sam", "an adapter 'sam' is installed already; choose another name, such as my_sam"),
        ("json", "a Python module 'json' is there already"),
        ("torchvision", "a Python module 'torchvision' is there already"),
    ],
)
def test_names(name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot name a module, or would hide another, is refused in a line; nothing is written."""
    assert main(["new", "adapter", "--out", str(tmp_path / "new"), "--", name]) == 2
    assert message in said(capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "cls"), [("tall_grass", "TallGrass"), ("path", "PathParent"), ("distill", "DistillParent")]
)
def test_the_class(name: str, cls: str, tmp_path: Path) -> None:
    """Is named after the adapter, but never like something that the file imports; the file is found by the name."""
    assert main(["new", "adapter", name, "--out", str(tmp_path)]) == 0
    assert plugins.add_file(tmp_path / f"{name}.py") == [name]
    assert plugins.find("adapters", name).__name__ == cls
    assert f'{name} = "{name}:{cls}"' in (tmp_path / "pyproject.toml").read_text()
    sys.modules.pop(f"vfmerge_file_{name}")


@pytest.mark.parametrize("folder", ["pond.py", "pond.py/deeper"])
def test_a_folder_that_cannot_be(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in its place is a line that says so."""
    assert main(["new", "adapter", "brook", "--out", folder]) == 2
    assert "choose another --out" in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--adapter", "pont", "--plugin", "pond.py"], "no adapter 'pont'; did you mean 'pond'?"),
        ([*CHECK[1:], "sise=64"], "sise: unknown key; did you mean 'size'?"),
        ([*CHECK[1:], "size=big"], "size: not a whole number: 'big'"),
        ([*CHECK[1:], "distill.layers=-1"], "distill.layers: "),
        ([*CHECK[1:], "pond.yaml"], "not key=value: 'pond.yaml'"),
        ([*CHECK[1:], "checkpoint=absent.pth"], "no file 'absent.pth'; give the path of the weights"),
        (["--adapter", "sam"], "checkpoint: missing for variant vit_b"),
        ([], "Missing argument 'RECIPE'; or give --adapter NAME."),
    ],
)
def test_a_mistake(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with the name or the options is one line and exit code 2, before anything is built."""
    assert main(["check", *arguments]) == 2
    assert message in said(capsys)


def test_what_does_not_hold(pond: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table says which line, exit code 1 and the last line by name; an adapter that cannot be made says why."""
    text = (pond / "pond.py").read_text()
    (tmp_path / "pond.py").write_text(text.replace("strides=(16,)", "strides=(8,)"))
    assert main([*CHECK[:-1], str(tmp_path / "pond.py")]) == 1
    captured = capsys.readouterr()
    assert re.search(r"The trunk gives what `features` promises +does not hold +at 64 x 64", captured.out)
    assert "adapter pond: 1 of 26 do not hold: trunk_keeps_its_promise" in captured.err
    plugins._files.clear()
    (tmp_path / "pond.py").write_text(text.replace("super().__init__(size=size", "super().__init__(width=size"))
    assert main([*CHECK[:-1], str(tmp_path / "pond.py")]) == 2
    assert "Pond: cannot be made (TypeError" in said(capsys)


@pytest.mark.parametrize(
    "arguments",
    [["new", "--help"], ["check", "--help"], ["ls", "--help"], ["ls", "adapters", "--plugin", "pond.py"],
     ["new", "adapter", "sam"], [*CHECK, "sise=64"], [*CHECK, "checkpoint=absent.pth"]],
)  # fmt: skip
def test_no_torch(arguments: list[str]) -> None:
    """Help, lists and mistakes are answered without importing torch."""
    script = "import sys; from vfmerge.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
