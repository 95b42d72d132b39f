"""Plug-ins: found by name, one at a time, and a broken one harms nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfmerge import options, plugins
from vfmerge.cli import main
from vfmerge.errors import InputError

_FILE = """
from fake_plugins import Caption

class Shout(Caption):
    '''Says it loudly.'''

class Whisper(Caption):
    name = "murmur"
"""


@pytest.fixture(autouse=True)
def _forget_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_files", {})


def test_find(fakes: Path) -> None:
    """A name gives the class that an installed package offers."""
    assert plugins.find("adapters", "fake_outline").__name__ == "Outline"
    assert plugins.find("data", "fake_pictures").__name__ == "Pictures"


@pytest.mark.parametrize("name", ["", "os.system", "fake_plugins:Outline", "../fake", "a" * 5000, "fake_pictures"])
def test_find_knows_only_names(fakes: Path, name: str) -> None:
    """Neither a dotted path nor a data source's name finds an adapter."""
    with pytest.raises(InputError, match="no adapter") as caught:
        plugins.find("adapters", name)
    assert len(str(caught.value)) <= 300


def test_find_proposes(fakes: Path) -> None:
    """A mistyped name is answered with the nearest one and with the list."""
    with pytest.raises(
        InputError, match=r"no adapter 'fake_outlin'; did you mean 'fake_outline'\? \(there are: .*fake_c"
    ):
        plugins.find("adapters", "fake_outlin")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fake_import", "package fakes: cannot be imported.*a_module_that_nobody_has"),
        ("fake_syntax", "package fakes: cannot be imported.*SyntaxError"),
        ("fake_exit", "package fakes: cannot be imported.*SystemExit: 3"),
        ("fake_nothing", "package fakes: cannot be imported.*Nothing"),
        ("fake_stranger", "is no Adapter"),
        ("fake_unfinished", "lacks capability, head, loss, portable, start, teacher"),
        ("fake_twice", "offered by fakes and rival"),
        ("fake_warning", "package fakes: cannot be imported .RuntimeError: one line and another.; mend or reinstall"),
        ("fake_older", "package fakes: was made for interface 1 of vfmerge, and this one has 2; upgrade it$"),
        ("fake_newer", "package fakes: was made for interface 3 of vfmerge, and this one has 2; upgrade vfmerge$"),
        ("fake_unmarked", "package fakes: says not for which interface it was made; write `interface = 2`$"),
    ],
)
def test_a_broken_one(fakes: Path, name: str, reason: str) -> None:
    """It says what is wrong and whose it is when it is asked for; the listing shows it, beside the good ones."""
    with pytest.raises(InputError, match=reason) as caught:
        plugins.find("adapters", name)
    listed = {plugin.name: plugin for plugin in plugins.listing("adapters")}
    assert listed[name].broken == str(caught.value)
    assert listed["fake_outline"].broken is None
    assert listed["fake_outline"].summary == "Outlines things; eight channels, cells of eight pixels."
    assert listed["fake_outline"].package == "fakes"


def test_broken_ones_break_nothing_else(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With all of them installed, `ls` lists every one by name, and a recipe that names none of them passes `check`."""
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if "BROKEN:" in line]
    assert shown == sorted(shown)
    assert set(shown) == {
        "fake_exit", "fake_import", "fake_newer", "fake_nothing", "fake_older", "fake_stranger", "fake_syntax",
        "fake_twice", "fake_unfinished", "fake_unmarked", "fake_warning",
    }  # fmt: skip
    assert main(["check", str(sample)]) == 0
    assert "BROKEN" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fake_import", "ModuleNotFoundError"),
        ("fake_syntax", "SyntaxError"),
        ("fake_unfinished", "lacks capability"),
        ("fake_twice", "offered by fakes and rival"),
        ("fake_older", "interface 1"),
        ("fake_clumsy", "cannot be made (KeyError: 'a table of its own')"),
    ],
)
def test_a_recipe_that_names_a_broken_one(
    sample: Path, tmp_path: Path, command: str, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused in one line that names parent and adapter, before anything is written."""
    options = [] if name == "fake_clumsy" else ["parents.caption.options.model=tiny"]
    given = [str(sample), f"parents.caption={{adapter: {name}}}", *options]
    assert main([command, *given, *(["--out", str(tmp_path / "out")] if command == "run" else [])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "parents.caption" in captured.err
    assert message in captured.err
    assert not (tmp_path / "out").exists()


def test_add_file(fakes: Path, tmp_path: Path) -> None:
    """A local file's adapters are there by their class's name, or by the name they give themselves."""
    path = tmp_path / "local.py"
    path.write_text(_FILE)
    assert plugins.add_file(path) == ["murmur", "shout"]
    assert plugins.find("adapters", "shout").__name__ == "Shout"
    assert {plugin.package for plugin in plugins.listing("adapters") if plugin.name == "murmur"} == {"a local file"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit", "SystemExit"),
        ("import fake_plugins", "defines no adapter"),
        ("from fake_plugins import Caption\nclass A(Caption):\n    name = 'fake_outline'", "is there already"),
        ("from fake_plugins import Unfinished\nclass A(Unfinished): pass", "lacks"),
        ("def :", "SyntaxError"),
        ("from fake_plugins import Older\nclass A(Older): pass", "interface 1 of vfmerge"),
    ],
)
def test_add_file_refuses(fakes: Path, tmp_path: Path, text: str, reason: str) -> None:
    """A file that cannot be used, or takes an installed adapter's name, adds nothing."""
    path = tmp_path / "local.py"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        plugins.add_file(path)
    assert not any(plugin.package == "a local file" for plugin in plugins.listing("adapters"))


@pytest.mark.parametrize("name", ["nothing.py", "folder", "\0.py"])
def test_add_file_wants_a_file(tmp_path: Path, name: str) -> None:
    """A path that is no Python file is refused."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="no Python file"):
        plugins.add_file(tmp_path / name)


def test_options(fakes: Path) -> None:
    """Text becomes a path, a list a tuple, an integer a float; what was not given is left to the signature."""
    cls = plugins.find("adapters", "fake_outline")
    checked = options.check_options(cls, {"weights": "a/b.pth", "sharpness": 2, "levels": [1, 2]})
    assert checked == {"weights": Path("a/b.pth"), "sharpness": 2.0, "levels": (1, 2)}
    assert isinstance(checked["sharpness"], float)
    assert cls(**checked).taken["variant"] == "small"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"varient": "small"}, r"^here\.varient: unknown key; did you mean 'variant'\?$"),
        ({"variant": "tiny"}, r"^here\.variant: not a choice: 'tiny'; write 'small' or 'large'$"),
        ({"sharpness": "1"}, r"^here\.sharpness: not a number: '1'"),
        ({"sharpness": float("nan")}, r"^here\.sharpness: not a finite number"),
        ({"sharpness": True}, r"^here\.sharpness: not a number: true"),
        ({"weights": 3}, r"^here\.weights: "),
        ({"levels": [1, "two"]}, r"^here\.levels\.1: not a whole number: 'two'"),
        ({"levels": 1}, r"^here\.levels: not a list: 1"),
    ],
)
def test_options_are_strict(fakes: Path, given: dict[str, object], message: str) -> None:
    """What the signature does not take is refused with the option's full name, its value and the remedy."""
    with pytest.raises(InputError, match=message):
        options.check_options(plugins.find("adapters", "fake_outline"), given, where="here")


def test_options_are_told_at_once(fakes: Path) -> None:
    """Unknown options stand first; a missing one that was only mistyped is not told twice."""
    with pytest.raises(InputError) as caught:
        options.check_options(plugins.find("adapters", "fake_caption"), {"json": 1, "modl": "x"}, where="here")
    assert str(caught.value).splitlines() == [
        "here.modl: unknown key; did you mean 'model'?",
        "here.json: not true or false: 1; write true or false, without quotes",
    ]


def test_a_missing_option(fakes: Path) -> None:
    """An option without a default must be given."""
    with pytest.raises(InputError, match=r"^here\.model: missing; give here\.model=\.\.\.$"):
        options.check_options(plugins.find("adapters", "fake_caption"), {}, where="here")


def test_a_signature_that_cannot_be_read(fakes: Path) -> None:
    """An annotation that is nowhere defined is the plug-in's fault, and said so."""
    with pytest.raises(InputError, match=r"plug-in fake_plugins\.Unreadable: its signature cannot be read"):
        options.check_options(plugins.find("adapters", "fake_unreadable"), {})
