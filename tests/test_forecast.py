"""What `check` says beforehand: how large caches will be, and what the merged model is made of."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from vfmerge import cache, check, engine, forecast, parts, plugins, recipe, signals
from vfmerge.adapter import AuxiliaryAdapter, Batch
from vfmerge.cli import main
from vfmerge.data.source import Source
from vfmerge.errors import RunError
from vfmerge.flow import open_flow
from vfmerge.model import count
from vfmerge.recipe import Recipe
from vfmerge.session import begin

# S side of the square input

_RECIPE = """\
base: sam
parents:
  sam:
    adapter: sam
    options:
      variant: tiny
      random: true
      geometry: {depth: 1, width: 32, heads: 2, global_blocks: [0], decoder_width: 16, decoder_heads: 2, image_size: 64}
  again:
    adapter: sam
    options: {variant: tiny, random: true, learn: features, geometry: "${parents.sam.options.geometry}"}
  clip: {adapter: open_clip, options: {model: tiny, layers: 1}}
  dino: {adapter: timm, options: {model: tiny_dino, size: 40}}
  vit:
    adapter: transformers_vision
    options:
      random: true
      config: {model_type: vit, hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 2, image_size: 32,
        patch_size: 8}
  siglip:
    adapter: transformers_clip
    options:
      random: true
      config:
        model_type: siglip
        vision_config: {hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 2, image_size: 32, patch_size: 8}
        text_config: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, max_position_embeddings: 9,
          vocab_size: 40, projection_size: 24}
data:
  images: {kind: shapes, layout: mixed, count: 60, size: 32, masks: false}
stages:
  all:
    steps: 1
    train: {heads.clip: 1e-3, heads.dino: 1e-3, heads.again: 1e-3, heads.siglip: 1e-3}
    cache: true
    streams:
      - {data: images, size: [32, 48], batch: 20, tasks: {clip: 1, again: 1}}
      - {data: images, size: 48, batch: 20, fraction: 0.5, tasks: {dino: 1, siglip: 1}}
  targets:
    steps: 1
    train: {trunk: 1e-5, heads.again: 1e-3, heads.vit: 1e-3}
    cache: targets
    streams:
      - {data: images, size: [32, 48], batch: 20, tasks: {again: 1, vit: 1}}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """A recipe of every kind of parent, and its parts."""

    path: Path
    plan: Recipe
    adapters: dict[str, Any]
    sources: dict[str, Source]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(_RECIPE)
    plan = recipe.load(str(path))
    return Made(path=path, plan=plan, adapters=parts.build_adapters(plan), sources=parts.build_sources(plan))


def tables(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of `vfmerge check`, one space between two columns."""
    assert main(["check", *arguments, "--device", "cpu"]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_every_parent_is_weighed_as_it_teaches(made: Made) -> None:
    """What the parent with its weights says of a picture takes the bytes that were foretold, whatever its own size."""
    shares = [each for each in forecast.foresee(made.plan, made.adapters, made.sources) if "targets" in each.what]
    found = {}
    for task in {each.what.removeprefix("targets of ") for each in shares}:
        adapter = made.adapters[task]
        assert isinstance(adapter, AuxiliaryAdapter)
        teacher = adapter.teacher()
        assert teacher.size == adapter.teaches_at
        for size in (32, 48):
            shown = Batch(images=torch.rand(1, 3, size, size), keys=(0,), names=("",))
            with torch.no_grad():
                found[task, size] = cache.bytes_of(None, {task: teacher(shown)})
    foretold = {(each.what.removeprefix("targets of "), each.size): each.each for each in shares}
    assert len(foretold) == 8
    assert foretold == {key: found[key] for key in foretold}
    assert foretold["again", 32] == 2 * 16 * 8 * 8  # SAM's own size, not the stream's
    assert foretold["vit", 32] < foretold["vit", 48]  # the stream's


def test_caches_take_what_was_foretold(made: Made, tmp_path: Path) -> None:
    """Every folder on disk, marks and headers included, is within a twentieth of the forecast."""
    request = signals.Request()
    session = begin(
        made.plan,
        tmp_path,
        device=torch.device("cpu"),
        adapters=made.adapters,
        sources=made.sources,
        request=request,
    )
    with contextlib.closing(session):
        for name, stage in made.plan.stages.items():
            for number in range(len(stage.streams)):
                open_flow(session, name, stage, number=number, start=0)
    foretold: collections.Counter[Path] = collections.Counter()
    for each in forecast.foresee(made.plan, made.adapters, made.sources):
        assert each.total is not None
        foretold[cache.place(tmp_path, stage=each.stage, number=each.number, size=each.size)] += each.total
    found = {folder: sum(file.stat().st_size for file in folder.iterdir()) for folder in (tmp_path / "cache").iterdir()}
    assert len(found) == 5
    assert found == pytest.approx(dict(foretold), rel=0.05)


def test_the_table(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each network in each cache: what it keeps, of how many samples, at which size, in decimal units."""
    lines = tables(capsys, str(made.path))
    assert "all images trunk's features 60 32 1.02 kB 61.44 kB" in lines  # 32 channels of 4 x 4 cells
    assert "all images trunk's features 30 48 2.30 kB 69.12 kB" in lines  # half of the samples
    assert "all images targets of again 60 32 2.05 kB 122.88 kB" in lines
    assert "targets images targets of again 60 48 2.05 kB 122.88 kB" in lines
    assert not [line for line in lines if line.startswith("targets images trunk")]
    total = sum(each.total or 0 for each in forecast.foresee(made.plan, made.adapters, made.sources))
    assert f"caches, {forecast.readable(total)} together" in lines


def test_no_table_without_a_cache(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said of what there is not."""
    assert not [line for line in tables(capsys, str(small), "stages.probe.cache=false") if line.startswith("caches")]


def test_what_cannot_be_known(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A parent that lends no trunk, or a trunk that does not run without weights, is unknown rather than guessed."""
    lines = tables(capsys, str(sample))
    assert "probe images targets of caption 100 16 unknown unknown" in lines
    assert "caches, more than 0 B together" in lines


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (94_371_840, "94.37 MB"), (3.1e12, "3.10 TB")]
)
def test_sizes_are_readable(size: int, shown: str) -> None:
    """In thousands, as disks are sold."""
    assert forecast.readable(size) == shown


def test_no_room(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops before its first step, with what is needed, what is free, and what to do; with room it goes on."""
    free = shutil.disk_usage(tmp_path)._replace(free=20_000)
    plan = recipe.load(str(small), ["evaluate={}"])
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: free)
        text = r"stages.probe.cache: 30.72 kB are needed and 20.00 kB free in .*; make room and run again, or write"
        with pytest.raises(RunError, match=text):
            engine.merge(plan, tmp_path / "run", name="small")
    assert not (tmp_path / "run" / "cache").exists()
    engine.merge(plan, tmp_path / "run", name="small")


def test_room_that_is_taken_already(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is there needs no more room, nor does one whose stage has ended."""
    plan = recipe.load(str(small))
    adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
    opened = begin(
        plan,
        tmp_path,
        device=torch.device("cpu"),
        adapters=adapters,
        sources=sources,
        request=signals.Request(),
    )
    with contextlib.closing(opened), monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: collections.namedtuple("Usage", "free")(0))
        with pytest.raises(RunError, match="write targets or false there"):
            forecast.require_room(opened, after=4)
        forecast.require_room(opened, after=5)
        open_flow(opened, "probe", plan.stages["probe"], number=0, start=0)
        forecast.require_room(opened, after=0)


def test_parts(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trunk, heads and what heads are made of, with their parameters and the stages that train them, all or in part."""
    plan = recipe.load(str(small))
    merged = check._build(plan, parts.build_adapters(plan), device="cpu")
    lines = tables(capsys, str(small))
    names = ("trunk", "heads.clip", "heads.clip.text", "heads.clip.mlp", "heads.sam.mask_decoder")
    sizes = {name: count(merged.get_submodule(name)) for name in names}
    learning = f"{sizes['heads.clip'] - sizes['heads.clip.text']:,}"
    assert f"trunk {sizes['trunk']:,} distill" in lines
    assert f"heads.clip.text {sizes['heads.clip.text']:,} frozen" in lines
    assert f"heads.clip.mlp {sizes['heads.clip.mlp']:,} probe, distill, adapt" in lines
    partly = f"probe ({learning}), distill ({learning}), adapt ({learning})"
    assert f"heads.clip {sizes['heads.clip']:,} {partly}" in lines
    assert f"heads.sam.mask_decoder {sizes['heads.sam.mask_decoder']:,} distill" in lines
    assert f"the whole model {count(merged):,}" in lines


def test_all_that_answers_a_task_without_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The trunk and the modules on its path, each counted once."""
    path = tmp_path / "labelled.yaml"
    text = _RECIPE[: _RECIPE.index("data:")]
    text += "tasks: {naming: {adapter: naming}}\ndata: {scenes: {kind: shapes, layout: several, count: 4}}\n"
    path.write_text(text + "stages: {}\n")
    with plugins.lend({}):
        plugins.add_file(Path(__file__).parent / "fakes" / "labelled.py")
        plan = recipe.load(str(path))
        merged = check._build(plan, parts.build_adapters(plan), device="cpu")
        lines = tables(capsys, str(path))
    assert f"all that answers naming {count(merged.trunk) + count(merged.heads['naming']):,}" in lines
