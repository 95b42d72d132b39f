"""The recipes that come with vfmerge beside quickstart: tiny ones run in short form, large ones pass every check.

A short form has the recipe's parents, stages, streams and benchmarks, and few steps and pictures.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from vfmerge import engine, recipe
from vfmerge.cli import main

TINY = ("shapes_sam_dino", "shapes_clip_mae", "shapes_sam_clip_dino", "shapes_radio", "shapes_unic", "ovsam_tiny")
LARGE = ("sam_clip", "sam_dino", "clip_mae", "sam_clip_dino", "radio", "unic", "ovsam")


def shorten(name: str) -> list[str]:
    """What is changed of a recipe so that it ends in seconds."""
    plan = recipe.load(name)
    held_out = {each.data for each in plan.evaluate.values()}
    changes = [f"data.{data}.count={16 if data in held_out else 48}" for data in plan.data]
    for stage, settings in plan.stages.items():
        changes += [f"stages.{stage}.steps=3", f"stages.{stage}.warmup=0"]
        changes += [f"stages.{stage}.streams.{n}.batch=4" for n in range(len(settings.streams))]
    for evaluation, settings in plan.evaluate.items():
        if settings.benchmark == "segmentation_probe":
            changes += [f"evaluate.{evaluation}.{change}" for change in ("steps=4", "rates=[1e-2]", "batch=4")]
    return changes


def options(name: str) -> list[str]:
    """A large recipe's parents without their weights, and pictures of the shapes world in place of its data."""
    known = {
        "sam": ["parents.sam.options.checkpoint=null", "parents.sam.options.random=true"],
        "clip": ["parents.clip.options.pretrained=null", "parents.clip.options.random=true"],
        "dino": ["parents.dino.options.pretrained=null", "parents.dino.options.random=true"],
        "mae": ["parents.mae.options.pretrained=null", "parents.mae.options.random=true"],
        "deit": ["parents.deit.options.pretrained=null", "parents.deit.options.random=true"],
        "images": ["data.images={kind: shapes, layout: mixed, count: 40600000, masks: false}"],
        "sa1b": ["data.sa1b={kind: shapes, layout: several, count: 600000}"],
        "coco": ["data.coco={kind: shapes, count: 100000, names: colour, unseen: true, keep: seen}"],
        "held_out": ["data.held_out={kind: shapes, count: 5000, names: colour, unseen: true}"],
    }
    text = recipe.builtin()[name].read_text(encoding="utf-8")
    named = [key for key in known if f"\n  {key}:" in text]
    return [change for key in named for change in known[key]]


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_recipe_measures_every_parent(name: str, tmp_path: Path) -> None:
    """From end to end: each parent has a retention that is a number, and a model is saved."""
    plan = recipe.load(name, shorten(name))
    engine.run(plan, tmp_path / "run", name=name)
    rows = json.loads((tmp_path / "run" / "retention.json").read_text())
    measured = {row["parent"] for row in rows if row["retention"] is not None and math.isfinite(row["retention"])}
    assert set(plan.parents) <= measured
    assert (tmp_path / "run" / "merged" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", LARGE)
def test_a_large_recipe_passes_every_check(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Real geometry, without weights: sizes, streams, prefixes and options fit each other."""
    assert main(["check", name, *options(name), "--device", "cpu"]) == 0, capsys.readouterr().err
    assert "heads" in capsys.readouterr().out


def test_large_and_tiny_recipes_are_alike() -> None:
    """A tiny variant has its large one's base, parents, and adapters."""
    pairs = {large: f"shapes_{large}" for large in ("sam_dino", "clip_mae", "sam_clip_dino", "radio")}
    for large, tiny in (pairs | {"ovsam": "ovsam_tiny"}).items():
        first, second = recipe.load(large, options(large)), recipe.load(tiny)
        assert first.base == second.base
        assert [(name, parent.adapter) for name, parent in first.parents.items()] == [
            (name, parent.adapter) for name, parent in second.parents.items()
        ]
