"""The command line: what it prints, its exit codes, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

import vfmerge
from vfmerge import check, plugins, recipe
from vfmerge.cli import main
from vfmerge.errors import InputError, RunError, Stopped

_LOCAL = """
from fake_plugins import Outline

class Doodle(Outline):
    '''Draws without looking.'''
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, without local files of other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_files", {})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """In the place of `vfmerge.engine`: notes how it was called, then raises `error`, if there is one."""
    fake = types.SimpleNamespace(error=None, calls=[])

    def run(plan: recipe.Recipe, out: Path, *, name: str, fresh: bool, device: str) -> None:
        fake.calls.append((plan.seed, out, name, fresh, device))
        if fake.error:
            raise fake.error

    fake.run = run
    monkeypatch.setitem(sys.modules, "vfmerge.engine", fake)  # type: ignore[misc]
    monkeypatch.setattr(vfmerge, "engine", fake, raising=False)
    return fake


def _said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr, and nothing on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vfmerge: ")
    assert captured.err.count("\n") == 1
    return captured.err.strip()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["ls"], 0),
        (["ls", "adapters"], 0),
        (["run", "--help"], 0),
        (["run", "{sample}", "sed=3"], 2),
        (["check", "{sample}", "stages.probe.train.heads.capton=1"], 2),
        (["check", "{sample}", "data.images.path=absent"], 2),
        (["check", "{sample}", "stages.probe.streams.0.size=30"], 2),
        (["eval", "nowhere"], 2),
        (["nonsense"], 2),
    ],
)
def test_no_torch(sample: Path, arguments: list[str], code: int) -> None:
    """Help, lists and whatever is wrong with a recipe are answered without importing torch."""
    script = "import sys; from vfmerge.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    filled = [argument.format(sample=sample) for argument in arguments]
    done = subprocess.run([sys.executable, "-c", script, *filled], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{code} False"


def test_help_imports_no_command() -> None:
    """--help knows the commands without importing one."""
    script = "import sys; from vfmerge.cli import main; main(['--help']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = done.stdout.splitlines()[-1].split()
    known = ["vfmerge", "vfmerge.bridge", "vfmerge.cli", "vfmerge.errors"]
    assert [name for name in modules if name.startswith("vfmerge")] == known
    assert {"pydantic", "omegaconf", "rich", "numpy"}.isdisjoint(modules)
    commands = ("run", "check", "eval", "predict", "export", "demo", "ls", "cp")
    assert all(f"\n  {name} " in done.stdout for name in commands)


def test_the_process_exits_with_the_code(sample: Path) -> None:
    """`python -m vfmerge` ends with what `main` gives, and a traceback is nowhere."""
    done = subprocess.run([sys.executable, "-m", "vfmerge", "run", sample, "sed=3"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "vfmerge: command line: sed: unknown key; did you mean 'seed'?\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "no command 'rnu'; did you mean 'run'?"),
        (["run"], "Missing argument 'RECIPE'"),
        (["run", "x", "--ot", "y"], "No such option '--ot'. Did you mean '--out'?"),
        (["run", "x", "--device", "gpu"], "'gpu' is no device; give auto, cpu, cuda or cuda:N"),
        (["run", "x", "--device", "cuda:"], "'cuda:' is no device"),
        (["run", "quikstart"], "quikstart: no such recipe"),
        (["run", "x", "--plugin", "absent.py"], "--plugin absent.py: no Python file"),
        (["ls", "nonsense"], "'nonsense' is not one of"),
        (["cp", "nonsense", "x"], "no built-in recipe 'nonsense'"),
        (["eval", "nowhere"], "nowhere: no such folder"),
    ],
)
def test_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped command line is answered in one line, exit code 2."""
    assert main(arguments) == 2
    assert message in _said(capsys)


def test_run(sample: Path, engine: types.SimpleNamespace, tmp_path: Path) -> None:
    """The engine gets the recipe with its overrides, and by default a folder named after the recipe."""
    assert main(["run", str(sample)]) == 0
    assert main(["run", str(sample), "seed=9", "--out", "x/y", "--fresh", "--device", "cuda:1", "clip=2"]) == 0
    assert engine.calls == [
        (3, Path("runs/sample"), "sample", False, "auto"),
        (9, Path("x/y"), "sample", True, "cuda:1"),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("sam.pth: truncated; download it again"), 2),
        (RunError("no finite gradient; run again to go on"), 1),
        (Stopped("stopped after step 7; run again to go on"), 75),
        (KeyboardInterrupt(), 75),
    ],
)
def test_exit_codes(
    sample: Path, engine: types.SimpleNamespace, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    """Each kind of end has its code and its line."""
    engine.error = error
    assert main(["run", str(sample)]) == code
    assert str(error) in capsys.readouterr().err.splitlines()[-1]


def test_several_problems_are_several_lines(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line bears the program's name."""
    assert main(["run", str(sample), "sed=3", "clip=x"]) == 2
    assert [line.split(": ")[:3] for line in capsys.readouterr().err.splitlines()] == [
        ["vfmerge", "command line", "sed"],
        ["vfmerge", "command line", "clip"],
    ]


def test_a_bug(sample: Path, engine: types.SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An unforeseen error is one line and a log with the traceback, beside the run where that folder is there."""
    engine.error = ZeroDivisionError("of nothing")
    (tmp_path / "runs").mkdir()
    assert main(["run", str(sample)]) == 70
    log = tmp_path / "runs" / "vfmerge-error.log"
    assert _said(capsys) == f"vfmerge: a bug in vfmerge: ZeroDivisionError: of nothing; please report it with {log}"
    assert "Traceback" in log.read_text()
    assert main(["run", str(sample), "--out", "a/b/c"]) == 70
    assert (tmp_path / "vfmerge-error.log").is_file()
    with pytest.raises(ZeroDivisionError):
        main(["run", str(sample), "--debug"])


def test_ls(fakes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that recipes can name, with a line about each; the broken ones are marked and harm nobody."""
    assert main(["ls", "adapters"]) == 0
    out = capsys.readouterr().out
    assert "Outlines things; eight channels" in out
    assert "BROKEN: adapter 'fake_import' of package fakes" in out
    assert "fake_pictures" not in out
    assert main(["ls"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("fake_outline", "fake_pictures", "fake_guessing", "recipes"))


def test_ls_recipes(sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A recipe's line is its first comment; markup in it is only text."""
    from vfmerge.commands import ls

    sample.write_text(sample.read_text().replace("Outlines learn", "[red]Outlines[/red] learn"))
    monkeypatch.setattr(ls, "builtin", lambda: {"sample": sample})
    assert main(["ls", "recipes"]) == 0
    assert "sample  [red]Outlines[/red] learn to speak" in capsys.readouterr().out


def test_cp(sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A built-in recipe is copied to a file or into a folder, and overwrites nothing."""
    from vfmerge.commands import cp

    monkeypatch.setattr(cp, "builtin", lambda: {"mine": sample})
    assert main(["cp", "mine", "copy.yaml"]) == 0
    assert (tmp_path / "copy.yaml").read_text() == sample.read_text()
    assert "vfmerge run copy.yaml" in capsys.readouterr().out
    (tmp_path / "folder").mkdir()
    assert main(["cp", "mine", "folder"]) == 0
    assert (tmp_path / "folder" / "mine.yaml").is_file()
    capsys.readouterr()
    (tmp_path / "copy.yaml").write_text("edited")
    assert main(["cp", "mine", "copy.yaml"]) == 2
    assert "is there already" in _said(capsys)
    assert (tmp_path / "copy.yaml").read_text() == "edited"
    assert main(["cp", "mine", "no/such/folder.yaml"]) == 2
    assert "cannot be written" in _said(capsys)


def test_plugin(sample: Path, engine: types.SimpleNamespace, tmp_path: Path) -> None:
    """--plugin makes a local file's adapter usable by the recipe; without it, the name is unknown."""
    (tmp_path / "local.py").write_text(_LOCAL)
    arguments = ["run", str(sample), "parents.outline.adapter=doodle"]
    assert main(arguments) == 2
    assert main([*arguments, "--plugin", "local.py"]) == 0
    assert len(engine.calls) == 1


def test_a_reader_that_goes_away(fakes: Path) -> None:
    """`vfmerge ls | head -0` ends without a traceback."""
    script = f"{sys.executable} -m vfmerge ls | true"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""


def test_check(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is known before training: steps, streams, parameters by prefix, data, teachers."""
    assert main(["check", str(sample), "--device", "cpu"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "probe 100 images 100 16, 32 8 caption x 1" in lines
    assert "distill 32 images 100 32 8 caption x 1, outline x 1" in lines
    assert "outlines 5 32 4 outline x 10" in lines  # half of them
    assert "probe heads.caption 0.0008 36" in lines  # 8 x 4 weights and 4 biases
    assert "distill trunk 4e-06 1,544" in lines  # 8 x 3 x 8 x 8 weights and 8 biases
    assert "distill heads.outline 4e-06 18" in lines  # the prompt part is fixed
    assert "images fake_pictures 100 0" in lines
    assert "outlines fake_pictures 10 yes 0" in lines
    assert "outline (base) fake_outline MIT none given" in lines
    assert "guess fake_guessing outlines" in lines


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "stages.distill.train.heads.outline.msk=1e-5",
            "stages.distill.train.heads.outline.msk: no trainable parameter begins so; "
            "did you mean 'heads.outline.mask'?",
        ),
        ("stages.distill.train.heads.outline.prompt=1e-5", "stages.distill.train.heads.outline.prompt: no trainable"),
        ("parents.outline.options.weights=absent.pth", "parents.outline: no file 'absent.pth'"),
        (
            "stages.probe.streams.0.size=30",
            "stages.probe.streams.0.size: no multiple of the trunk's stride 8: 30; write 32",
        ),
        ("stages.distill.warmup=33", "stages.distill.warmup: longer than the stage: 33; write at most 32"),
        ("evaluate.guess.data=images", "evaluate.guess.data: 'images' has not what fake_guessing needs: masks"),
        ("data.images.count=0", "data.images: has no samples"),
    ],
)
def test_check_refuses(sample: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be trained as it stands is refused with its key, before anything is printed."""
    assert main(["check", str(sample), override]) == 2
    assert message in _said(capsys)


def test_check_refuses_a_device_that_is_not_there(sample: Path) -> None:
    """A GPU that the machine has not is the user's mistake."""
    with pytest.raises(InputError, match="--device cuda:99"):
        check.check(recipe.load(str(sample)), device="cuda:99")


def test_help_time() -> None:
    """The benchmark of --help measures both commands; a factor of six is far beyond any noise."""
    path = Path(__file__).parent / "performance" / "help_time.py"
    script = f"import runpy; print(*runpy.run_path({str(path)!r})['measure'](5).values())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    click, vfmerge_help = map(float, done.stdout.split())
    assert vfmerge_help < 6 * click
