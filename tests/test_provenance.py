"""What was remembered is of the code that is at work: a plug-in that was edited is measured again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from vfmerge_adapters.open_clip import OpenCLIP

from vfmerge import measurement, model, parts, plugins, provenance, recipe, templates
from vfmerge.benchmarks.benchmark import Benchmark
from vfmerge.benchmarks.classification import ZeroShotClassification
from vfmerge.store import Store

MINE = """\
from vfmerge_adapters.open_clip import OpenCLIP


class Mine(OpenCLIP):
    \"\"\"A CLIP of my own.\"\"\"

    # {}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], type]]:
    """Writes a local plug-in with some words in it, and executes it as a process that begins then would."""
    monkeypatch.setattr(plugins, "_files", {})

    def write(words: str) -> type:
        plugins._files.clear()
        (tmp_path / "mine.py").write_text(MINE.format(words))
        plugins.add_file(tmp_path / "mine.py")
        return plugins.find("adapters", "mine")

    yield write
    sys.modules.pop("vfmerge_file_mine", None)


def keys(cls: type) -> dict[str, str]:
    """By what the scores of a parent are remembered."""
    adapter = cls(model="tiny")
    return dict(measurement.parents_of({"clip": adapter}, {"clip": adapter.teacher()}).keys)


def test_a_parents_scores_are_of_its_adapters_code(mine: Callable[[str], type]) -> None:
    """Edited, with the same weights and options, the plug-in is another parent; as it was, it is the same."""
    first, again, edited = (keys(mine(words)) for words in ("one", "one", "two"))
    assert first == again
    assert first != edited


def test_a_merged_models_scores_are_of_its_adapters_code(
    small: Path, finished: Path, mine: Callable[[str], type]
) -> None:
    """The task whose adapter was edited is another one, and the others are what they were."""
    found = []
    for words in ("one", "one", "two"):
        merged = model.load(finished / "merged")
        merged.adapters = {**merged.adapters, "clip": mine(words)(model="tiny", layers=1)}
        found.append(measurement.merged_of(merged).keys)
    assert found[0] == found[1]
    assert found[0]["clip"] != found[2]["clip"]
    assert found[0]["sam"] == found[2]["sam"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], type]]:
    """Writes a package with some words beside its class `Thing`, and imports it as a process that begins then would."""
    folder = tmp_path / "provenance_of_a_package"
    monkeypatch.syspath_prepend(tmp_path)

    def write(words: str) -> type:
        sys.modules.pop(folder.name, None)
        (folder / "deep").mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("from torch import nn\n\n\nclass Thing(nn.Module): ...\n")
        (folder / "deep" / "other.py").write_text(f"# {words}\n")
        __import__(folder.name)
        thing = vars(sys.modules[folder.name])["Thing"]
        assert isinstance(thing, type)
        return thing

    yield write
    sys.modules.pop(folder.name, None)


def test_a_packages_code_is_all_of_it(package: Callable[[str], type]) -> None:
    """An edit of any file of the package of a class's base counts, whatever its version says."""
    first, again, edited = (
        provenance.code_of([type("Derived", (package(words),), {"__module__": "builtins"})])
        for words in ("one", "one", "two")
    )
    assert first == again != ""
    assert first != edited


def test_libraries_are_known_by_their_versions() -> None:
    """The code of torch, Python and vfmerge itself is not read; that of an adapter which comes with vfmerge is."""
    assert provenance.code_of([torch.nn.Linear, dict, ZeroShotClassification, Benchmark]) == ""
    assert provenance.code_of([OpenCLIP]) != ""


def test_the_code_of_a_network_counts_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: Path, package: Callable[[str], type]
) -> None:
    """Of any module in it, whoever's adapter it is in: for scores, and for the embeddings of texts."""
    adapter, kept, asked = parts.build_adapters(recipe.load(str(small)))["clip"], Store(tmp_path / "store"), []
    network = adapter.teacher()  # type: ignore[attr-defined]
    capability = adapter.capability(network)
    monkeypatch.setattr(templates, "_embed", lambda *given: asked.append(1) or iter([torch.ones(1, 1, 2)]))

    def look(words: str) -> str:
        network.head.add_module("more", package(words)())
        templates.embed_classes(capability, ["star"], templates="plain", store=kept)  # type: ignore[arg-type]
        return dict(measurement.parents_of({"clip": adapter}, {"clip": network}).keys)["clip"]

    first, again, edited = look("one"), look("one"), look("two")
    assert first == again != edited
    assert len(asked) == 2
