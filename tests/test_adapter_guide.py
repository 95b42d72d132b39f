"""The guide to adapters: its example is extracted, run through the command line, and does what the guide says."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

import vfmerge
from vfmerge import plugins
from vfmerge.adapter import BaseAdapter
from vfmerge.cli import main
from vfmerge.errors import InputError
from vfmerge.features.settings import Distill, Loss
from vfmerge.testing import check_adapter

GUIDE = (Path(__file__).parent.parent / "adapters" / "README.md").read_text(encoding="utf-8")

EXAMPLE = '"""A ResNet-18 of torchvision as a parent'  # how it begins


def block(language: str, beginning: str = "") -> str:
    """The first code block of the guide that is in this language and begins so."""
    return next(
        text for text in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) if text.startswith(beginning)
    )


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's adapter and recipe, and the weights of a ResNet as torchvision's users save them."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "resnet.py").write_text(block("python", EXAMPLE), encoding="utf-8")
    (folder / "resnet.yaml").write_text(block("yaml"), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        torch.save(resnet18(weights=None).state_dict(), folder / "resnet18.pth")
    return folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    """The run of the guide's last command, on the weights of the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(plugins, "_files", {})
        options = "parents.resnet.options={checkpoint: resnet18.pth}"
        assert main(["run", "resnet.yaml", "--plugin", "resnet.py", options]) == 0
    return home / "runs" / "resnet"


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test where the files are, without local plug-ins of other tests."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(plugins, "_files", {})
    yield
    sys.modules.pop("vfmerge_file_resnet", None)


def test_the_example_is_short() -> None:
    """An adapter fits into sixty lines, empty ones counted."""
    assert len(block("python", EXAMPLE).splitlines()) <= 60


def test_check(capsys: pytest.CaptureFixture[str]) -> None:
    """`vfmerge check` passes the guide's recipe and knows the head's parameters without weights."""
    assert main(["check", "resnet.yaml", "--plugin", "resnet.py"]) == 0
    mlp = (128 * 512 + 512) + 2 * 512 + (512 * 512 + 512)
    assert f"{2 * 128 + 2 * mlp:,}" in capsys.readouterr().out


def test_check_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    """The guide's command line runs the contract on the example, and every line holds."""
    command = next(line for line in block("sh", "vfmerge check --adapter").splitlines())
    assert main(command.split()[1:]) == 0
    assert "does not hold" not in capsys.readouterr().out


def test_the_adapter_imports_no_torch() -> None:
    """Adding the file and making the adapter needs no torch, as the guide asks of every adapter."""
    script = "import sys; from pathlib import Path; from vfmerge import plugins; plugins.add_file(Path('resnet.py'));"
    script += "plugins.find('adapters', 'resnet')(random=True).portable(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{}", "parents.resnet: checkpoint: give a state dict"),
        ("{random: true, checkpoint: resnet18.pth}", "parents.resnet: checkpoint: give a state dict"),
        ("{checkpoint: absent.pth}", "parents.resnet: no file 'absent.pth'"),
        ("{randon: true}", "did you mean 'random'?"),
    ],
)
def test_wrong_options(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with the example's options is one line that says where."""
    assert main(["check", "resnet.yaml", "--plugin", "resnet.py", f"parents.resnet.options={options}"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_without_the_plug_in(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the recipe nor the merged model can be used without the file, and both say whose adapter is missing."""
    assert main(["check", "resnet.yaml"]) == 2
    assert "no adapter 'resnet'" in capsys.readouterr().err
    with pytest.raises(InputError, match="no adapter 'resnet'"):
        vfmerge.load(run / "merged")


def test_the_run_learns(run: Path) -> None:
    """The probe brings both losses down, SAM is rehearsed, and each parent has its rows in the table."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for part in ("summary", "cells"):
        probe = [line[f"loss.0.resnet.{part}"] for line in lines if line["stage"] == "probe"]
        assert len(probe) == 6
        assert probe[-1] < 0.8 * probe[0]
    assert lines[-1]["loss.1.sam.focal"] > 0
    assert {row["parent"] for row in json.loads((run / "retention.json").read_text())} == {"sam", "resnet"}


def test_the_merged_model_loads_as_the_guide_says(run: Path, home: Path) -> None:
    """The guide's lines load it without the parent's weights, and its cells have the shape that they say."""
    weights = home / "resnet18.pth"
    weights.rename(home / "away.pth")
    try:
        names: dict[str, object] = {"picture": picture()}
        exec(block("python", "from pathlib import Path\n\nimport vfmerge"), names)
        cells = names["model"].resnet.encode_cells([picture()])  # type: ignore[attr-defined]
    finally:
        (home / "away.pth").rename(weights)
    assert cells.shape == (1, 512, 28, 28)
    assert cells.std() > 0


def test_eval_takes_the_plug_in(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`vfmerge eval --plugin` measures the run again."""
    assert main(["eval", "runs/resnet", "--plugin", "resnet.py"]) == 0
    assert "box_miou" in capsys.readouterr().out


def test_the_parent_is_torchvisions_own() -> None:
    """The whole contract holds on a file of torchvision's, whose network gives the same features by its own forward."""
    plugins.add_file(Path("resnet.py"))
    adapter = plugins.find("adapters", "resnet")(checkpoint="resnet18.pth")
    net = resnet18(weights=None).eval()
    net.load_state_dict(torch.load("resnet18.pth", weights_only=True))
    net.fc = torch.nn.Identity()
    cells: list[Tensor] = []
    net.layer4.register_forward_hook(lambda module, given, answer: cells.append(answer))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

    def reference(images: Tensor) -> tuple[Tensor, Tensor]:
        return net((images - mean) / std), cells[-1]

    findings = {each.check: each for each in check_adapter(adapter, reference=reference)}
    assert [str(each) for each in findings.values() if each.broken] == []
    assert findings["target_is_the_librarys_own"].outcome == "holds"


def test_as_a_package(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Installed as a distribution of its own, without network, it is found by name, keeps the contract and merges."""
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    (package / "resnet.py").write_text(block("python", EXAMPLE), encoding="utf-8")
    (package / "pyproject.toml").write_text(block("toml", "[build-system]"), encoding="utf-8")
    (package / "resnet.yaml").write_text(block("yaml"), encoding="utf-8")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(package)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    environment = os.environ | {"PYTHONPATH": str(site)}
    steps = ["ls adapters", "check --adapter resnet random=true", "run resnet.yaml --out ../run"]
    said = []
    for step in steps:
        command = [sys.executable, "-m", "vfmerge", *step.split()]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site.parent / "package")
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert re.search(r"resnet +vfmerge-resnet +What a ResNet-18 of torchvision sees in a picture", said[0])
    assert "does not hold" not in said[1]
    assert re.search(r"resnet .* knn .* top1", said[2])
    parents = json.loads((tmp_path / "run" / "merged" / "config.json").read_text())["parents"]
    assert parents["resnet"]["adapter"] == "resnet"


def test_the_options_are_those_of_the_code() -> None:
    """The guide's table of options has every one of a feature parent, with its default."""
    rows = re.findall(r"^\| `(size|distill\.\w+)` \| `?([\w.]+)`? \|", GUIDE, re.MULTILINE)
    fields = {f"distill.{name}": field.default for name, field in Distill.model_fields.items()}
    assert dict(rows) == {name: str(default).lower() for name, default in {"size": None, **fields}.items()}
    losses = re.search(r"loss on summaries: (.*?), or", GUIDE)
    assert losses is not None
    assert re.findall(r"`(\w+)`", losses[1]) == list(get_args(Loss))


def test_the_names_that_the_guide_names() -> None:
    """Whatever it calls by a dotted name of vfmerge is there."""
    names = re.findall(r"`(vfmerge(?:\.\w+)+)`", GUIDE)
    assert names
    for name in names:
        pkgutil.resolve_name(name)


def test_every_member_of_the_interface_is_explained() -> None:
    """The table of the contract names each method that an adapter must have."""
    table = "\n".join(line.split("|")[1] for line in GUIDE.splitlines() if line.startswith("| `"))
    members = {
        *BaseAdapter.__abstractmethods__,
        "interface",
        "licence",
        "needs_masks",
        "sources",
        "teaches_at",
        "calibrate",
        "observe",
        "target",
    }
    assert [name for name in sorted(members) if f"`{name}" not in table] == []
