"""A task without a teacher: learnt from labels, upon another task's head, by the same engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vfmerge import engine, model, parts, plugins, recipe
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.cli import main
from vfmerge.errors import InputError, Stopped
from vfmerge.session import Session

FAKE = Path(__file__).parent / "fakes" / "labelled.py"
RECIPE = """\
base: sam
parents:
  sam: {adapter: sam, options: {variant: tiny, random: true, geometry: {depth: 2, global_blocks: [1], image_size: 32}}}
  clip: {adapter: open_clip, options: {model: tiny, layers: 1}}
tasks:
  naming: {adapter: naming}
data:
  scenes: {kind: shapes, layout: several, count: 64, size: 32}
stages:
  names:
    steps: 8
    train: {heads.naming: 1e-2}
    streams:
      - {data: scenes, size: 32, batch: 4, fit: pad, tasks: {naming: 2}}
  both:
    steps: 2
    train: {trunk: 1e-4, heads.naming: 1e-3, heads.sam: 1e-4}
    streams:
      - {data: scenes, size: 32, batch: 4, fit: pad, tasks: {naming: 1, sam: 1}}
"""


@pytest.fixture(autouse=True)
def naming() -> Iterator[None]:
    """The fake adapter, found as `naming`."""
    with plugins.lend({}):
        assert plugins.add_file(FAKE) == ["naming"]
        yield


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "labelled.yaml"
    path.write_text(RECIPE)
    return path


def test_it_is_learnt_saved_and_read_back(written: Path, tmp_path: Path) -> None:
    """Its loss falls with nobody teaching it, and the model's folder rebuilds it upon the head that it needs."""
    out = tmp_path / "run"
    engine.run(recipe.load(str(written)), out, name="labelled")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss.0.naming.name"] for line in lines if line["stage"] == "names"]
    assert losses[-1] < losses[0]
    assert {"loss.0.naming.name", "loss.0.sam.focal"} <= lines[-1].keys()
    loaded = model.load(out / "merged")
    assert list(loaded.heads) == ["sam", "clip", "naming"]
    words = loaded.heads["naming"].words
    assert words.network.head is loaded.heads["clip"]
    assert torch.equal(words.encode_text(["a star"]), loaded.clip.encode_text(["a star"]))
    card = (out / "merged" / "README.md").read_text()
    assert "## Learnt from labels" in card


def test_nothing_of_others_is_its_own(written: Path) -> None:
    """Weights of the heads that it is built upon are saved once, under their own names."""
    plan = recipe.load(str(written))
    merged = model.MergedModel(parts.build_adapters(plan), base="sam")
    own = {name for name in merged.state_dict() if name.startswith("heads.naming")}
    kinds = [f"heads.naming.{part}.{kind}" for part in ("project", "bring") for kind in ("weight", "bias")]
    assert own == set(kinds)


def test_its_first_weights_are_of_the_seed(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every head's: whatever torch drew before, those that it is made with and those that it starts with."""
    adapters = parts.build_adapters(recipe.load(str(written)))
    teachers = {name: each.teacher() for name, each in adapters.items() if isinstance(each, AuxiliaryAdapter)}
    naming, clip = type(adapters["naming"]), type(adapters["clip"])

    def begin(self: Any, head: torch.nn.Module, *others: Any) -> None:
        torch.nn.init.uniform_(next(head.parameters()))

    monkeypatch.setattr(naming, "start", begin)
    monkeypatch.setattr(clip, "start", begin)
    states = []
    for seed, before in ((5, 1), (5, 2), (6, 2)):
        torch.manual_seed(before)
        merged = model.MergedModel(adapters, base="sam", seed=seed)
        merged.start(teachers)
        states.append(merged.state_dict())
    first, second, other = states
    assert [name for name, tensor in first.items() if not torch.equal(tensor, second[name])] == []
    changed = {name for name, tensor in first.items() if not torch.equal(tensor, other[name])}
    started = {f"heads.{name}.{next(iter(merged.heads[name].named_parameters()))[0]}" for name in ("naming", "clip")}
    assert {"heads.naming.bring.weight", *started} <= changed


@pytest.mark.parametrize("step", [5, 9])
def test_it_goes_on_exactly(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A run of it that is stopped in either stage ends as one that was not."""
    plan = recipe.load(str(written))
    engine.run(plan, tmp_path / "whole", name="labelled")
    record = engine.record

    def stop(session: Session, **line: Any) -> None:
        record(session, **line)
        if line["step"] == step:
            session.request.name = "SIGTERM"

    with monkeypatch.context() as patch:
        patch.setattr(engine, "record", stop)
        with pytest.raises(Stopped):
            engine.run(plan, tmp_path / "part", name="labelled")
    engine.run(plan, tmp_path / "part", name="labelled")
    files = ["merged/model.safetensors", "metrics.jsonl"]
    assert all((tmp_path / "whole" / file).read_bytes() == (tmp_path / "part" / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            ["tasks.naming.options.image_text=clp"],
            r"tasks.naming.options.image_text: no parent .*clp.*did you mean .?clip",
        ),
        (
            ["tasks.naming.adapter=sam", "tasks.naming.options={variant: tiny}"],
            r"tasks.naming: sam is a parent, which teaches; write it under `parents`",
        ),
        (["parents.clip.adapter=naming", "parents.clip.options={}"], r"parents.clip: naming learns from labels"),
        (["tasks={naming: {adapter: naming}, sam: {adapter: naming}}"], r"tasks.sam: a parent is called so too"),
        (
            ["tasks={heads: {adapter: naming}}"],
            r"tasks.heads: every model has a heads already; call the task otherwise",
        ),
        (["tasks.naming.options.width=wide"], r"tasks.naming.options.width: "),
        (["stages.names.streams.0.tasks={nameing: 1}"], r"no task .*nameing.*did you mean .?naming"),
        (["data.scenes.masks=false"], r"naming is learnt from masks, and data.scenes has none"),
    ],
)
def test_mistakes_are_told(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], says: str
) -> None:
    """One line each, with the key and the remedy, before anything is read."""
    with pytest.raises(InputError, match=says):
        engine.run(recipe.load(str(written), changes), tmp_path / "run", name="run")
    assert not (tmp_path / "run").exists()


def test_a_parent_of_the_wrong_kind(written: Path, tmp_path: Path) -> None:
    """What the task cannot be built upon it says itself."""
    plan = recipe.load(str(written), ["tasks.naming.options.image_text=sam"])
    with pytest.raises(
        InputError, match=r"tasks.naming.options.image_text: parent sam offers promptable, not image_text"
    ):
        engine.run(plan, tmp_path / "run", name="run")


def test_check_shows_it(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its parameters, and not among the teachers."""
    assert main(["check", str(written)]) == 0
    told = capsys.readouterr().out
    assert "heads.naming" in told
    assert "naming" not in told[told.index("teachers") :]
