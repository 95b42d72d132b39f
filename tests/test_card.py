"""The model card: what the hub reads of it, what it says of licences, and how the model came about."""

from __future__ import annotations

from typing import Any

import huggingface_hub
import pytest
import yaml
from huggingface_hub.repocard_data import eval_results_to_model_index

from vfmerge import card, licence, recipe, retention
from vfmerge.recipe import Recipe
from vfmerge.retention import Row


def row(**changes: Any) -> Row:
    values: dict[str, Any] = {
        "parent": "sam",
        "capability": "promptable",
        "benchmark": "promptable",
        "data": "held_out",
        "metric": "box_miou",
        "parent_value": 0.8,
        "merged_value": 0.6,
        "retention": 0.75,
        "n": 9,
    }
    return Row(**(values | changes))


def stage(*tasks: str, train: tuple[str, ...]) -> dict[str, Any]:
    """A stage that teaches these tasks on one stream, by moving what has these prefixes."""
    stream = {"data": "images", "size": 32, "batch": 4, "tasks": dict.fromkeys(tasks, 1.0)}
    return {"steps": 1, "train": dict.fromkeys(train, 1e-3), "streams": (stream,)}


def a_plan(**changes: Any) -> Recipe:
    """A recipe, as it is once it was read."""
    values: dict[str, Any] = {
        "base": "sam",
        "parents": {"sam": {"adapter": "sam"}, "clip": {"adapter": "open_clip"}},
        "data": {"images": {"kind": "shapes"}, "held_out": {"kind": "coco", "images": "/here/val", "keep": "seen"}},
        "stages": {"probe": stage("clip", train=("heads.clip",))},
    }
    return Recipe.model_validate(values | changes)


def origin(**changes: Any) -> card.Origin:
    return card.Origin(**({"adapter": "sam", "capability": "promptable", "licence": "Apache-2.0"} | changes))


CLIP = origin(adapter="open_clip", capability="image_text", licence="MIT", hub="laion/some-clip")


def a_card(**changes: Any) -> str:
    values: dict[str, Any] = {
        "name": "quickstart",
        "version": "0.1.0",
        "plan": a_plan(),
        "origins": {"sam": origin(), "clip": CLIP},
        "pictures": {"images": 24, "held_out": 4},
        "rows": [row()],
    }
    return card.card(**(values | changes))


def front_of(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def test_its_front_matter_is_read_by_the_hub() -> None:
    """Library, task, licence, tags and parents as the hub knows them, by the hub's own library."""
    front = huggingface_hub.ModelCard(a_card()).data
    assert (front.library_name, front.pipeline_tag) == ("vfmerge", "image-segmentation")
    assert (front.license, front.license_name) == ("other", "apache-2.0-and-mit")
    assert front.license_link == "LICENSE.md"
    assert front.base_model == ["laion/some-clip"]
    assert {"mask-generation", "zero-shot-image-classification"} <= set(front.tags)


def test_a_licence_that_the_hub_lists_is_told_by_its_name() -> None:
    """Whoever looks for it finds it, then; an unknown one is of the list, too."""
    for given, told in (("Apache-2.0", "apache-2.0"), ("apple-amlr", "apple-amlr"), ("unknown", "unknown")):
        front = front_of(a_card(origins=dict.fromkeys(("sam", "clip"), origin(licence=given))))
        assert front["license"] == told
        assert not {"license_name", "license_link"} & front.keys()


def test_its_figures_are_a_model_index() -> None:
    """Values and retention by task and data set, which the hub's own library reads, and writes again as they were."""
    rows = [
        row(),
        row(metric="point_miou", merged_value=1.5e-5, retention=None, parent_value=None),
        row(parent="clip", capability="image_text", benchmark="zero_shot_classification", data="images", metric="top1"),
        row(parent="clip", capability="image_text", benchmark="zero_shot_segmentation", metric="miou_head"),
        row(data="images"),
        row(control="naive", merged_value=0.1),
        row(parent="sam + clip", capability="all", benchmark="efficiency", metric="gflops"),
    ]
    text = a_card(rows=rows)
    read = huggingface_hub.ModelCard(text).data
    assert eval_results_to_model_index("quickstart", read.eval_results) == front_of(text)["model-index"]
    assert read.model_name == "quickstart"
    told = [(each.task_type, each.dataset_type, each.dataset_name, each.metric_type) for each in read.eval_results]
    assert told == [
        ("mask-generation", "coco", "held_out", "mean_iou"),
        ("mask-generation", "coco", "held_out", "retention"),
        ("mask-generation", "coco", "held_out", "mean_iou"),
        ("zero-shot-image-classification", "shapes", "images", "accuracy"),
        ("zero-shot-image-classification", "shapes", "images", "retention"),
        ("image-segmentation", "coco", "held_out", "mean_iou"),
        ("image-segmentation", "coco", "held_out", "retention"),
        ("mask-generation", "shapes", "images", "mean_iou"),
        ("mask-generation", "shapes", "images", "retention"),
    ]
    assert [each.metric_value for each in read.eval_results[:3]] == [0.6, 0.75, 0.000015]
    assert read.eval_results[0].metric_name == "box_miou of sam"


@pytest.mark.parametrize("rows", [None, []])
def test_without_figures_there_is_no_model_index(rows: list[Row] | None) -> None:
    """Not even an empty one, which the hub would refuse."""
    assert "model-index" not in front_of(a_card(rows=rows))


def test_figures_of_later_take_the_place_of_those_of_before() -> None:
    """Once, wherever somebody put them; what he wrote beside them stays, a card without front matter too."""
    text = (
        a_card(name="my_run & co")
        .replace("tags:\n", 'language: "de"\ntags:\n')
        .replace("## Use\n", "## Use\n\nHello\n")
    )
    again = card.retell(text, rows=[row(merged_value=0.7)], recipe="data: {held_out: {kind: voc}}\n")
    front = front_of(again)
    assert (front["language"], front["model-index"][0]["name"]) == ("de", "my_run & co")
    (result,) = front["model-index"][0]["results"]
    assert (result["dataset"]["type"], result["metrics"][0]["value"]) == ("voc", 0.7)
    assert "## Use\n\nHello\n" in again
    assert card.retell(again, rows=[row()], recipe=recipe.published(a_plan())) == text
    assert front_of(card.retell(text, rows=[], recipe="data: {}\n")).keys() == front_of(text).keys() - {"model-index"}
    bare = text.split("---\n", 2)[2]
    assert card.retell(bare, rows=[row()], recipe=recipe.published(a_plan())) == bare


@pytest.mark.parametrize(
    "given",
    [
        "CC-BY-NC-4.0",
        "cc_by_nc_sa",
        "NTU S-Lab 1.0 (non-commercial)",
        "for non commercial use",
        "for research purposes only",
        "Only for academic research",
        "academic use only",
        "no commercial use",
        "Apple-AMLR",
        "seer-license",
        "fair-noncommercial-research-license",
        "Apache-2.0 AND CC-BY-NC-4.0",
        "(CC-BY-NC-4.0 OR apple-amlr) AND MIT",
    ],
)
def test_a_non_commercial_parent_makes_a_non_commercial_child(given: str) -> None:
    """One such parent is enough, and the card says so in words."""
    text = a_card(origins={"sam": origin(licence=given), "clip": CLIP})
    assert "**Not for commercial use**, because its parent sam is not" in text
    assert front_of(text)["license_name"] == "non-commercial"


@pytest.mark.parametrize("given", ["unknown", "", "gemma", "apple-ascl", "ask my boss", "MIT-ish", "other", "X OR Y"])
def test_a_licence_that_nobody_here_knows_is_not_passed_over(given: str) -> None:
    """Nobody is told that he may use what nobody has looked up."""
    found = licence.inherit({"sam": "Apache-2.0", "clip": given})
    assert found.name == "unknown"
    assert "The licence of clip is not known here" in found.verdict
    assert "hold together" not in found.verdict


def test_all_that_is_wrong_with_licences_is_said() -> None:
    """Of several parents, and of both kinds."""
    given = {"a": "apple-amlr", "b": "CC-BY-NC-4.0", "c": "gemma", "d": "MIT"}
    found = licence.inherit(given)
    assert found.name == "non-commercial"
    assert "because its parents a and b are not (a: apple-amlr, b: CC-BY-NC-4.0, c: gemma, d: MIT)" in found.verdict
    assert "The licence of c is not known here" in found.verdict


def test_open_licences_hold_together() -> None:
    """However they are spelt, each once; of a choice it is enough that one is open."""
    assert licence.inherit({"a": "mit", "b": "MIT"}).name == "MIT"
    found = licence.inherit({"a": "(gemma OR Apache-2.0) AND MIT", "b": "bsd-3-clause"})
    assert found.name == "(gemma OR Apache-2.0) AND BSD-3-Clause AND MIT"
    assert found.verdict.startswith("The conditions of all parents' licences hold together")


def test_the_notice_says_whose_licence_is_which() -> None:
    """It is the file that the card links."""
    text = licence.notice("a_run", {"sam": "Apache-2.0", "cl|ip": "CC-BY-NC-4.0"})
    assert text.startswith("# Licence of a\\_run\n\n**Not for commercial use**")
    assert "| sam | Apache-2.0 |\n| cl\\|ip | CC-BY-NC-4.0 |\n" in text


BOTH = ("trunk", "heads.sam", "heads.clip")


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ({}, "sam lent its encoder, which stayed frozen; clip was not taught; naming was not taught."),
        (
            {"probe": stage("clip", train=("heads.clip",))},
            "sam lent its encoder, which stayed frozen; clip was distilled into a head on it; naming was not taught.",
        ),
        (
            {"probe": stage("clip", train=("heads.clip",)), "both": stage("clip", "sam", train=BOTH)},
            "sam lent its encoder, which was trained further and rehearsed against sam itself; clip was distilled into "
            "it; naming was not taught.",
        ),
        (
            {"naive": stage("clip", train=("trunk", "heads.clip")), "names": stage("naming", train=("heads.naming",))},
            "sam lent its encoder, which was trained further without rehearsal; clip was distilled into it; naming was "
            "learnt from labels.",
        ),
        (
            {"neck": stage("clip", "sam", train=("trunk.neck", "heads.clip"))},
            "sam lent its encoder, of which trunk.neck was trained further and rehearsed against sam itself; clip was "
            "distilled into it; naming was not taught.",
        ),
        (
            {"own": stage("sam", train=("heads.sam",))},
            "sam lent its encoder, which stayed frozen while its own head was rehearsed; clip was not taught; naming "
            "was not taught.",
        ),
    ],
)
def test_the_summary_is_what_the_stages_did(stages: dict[str, Any], told: str) -> None:
    """Frozen where no stage moves the encoder, rehearsed where the base is in a stream, learnt where labels teach."""
    naming = {"naming": {"adapter": "fake", "options": {}}}
    origins = {"sam": origin(), "clip": CLIP, "naming": origin(capability="naming")}
    text = a_card(plan=a_plan(stages=stages, tasks=naming), origins=origins)
    assert f"merged from sam and clip by vfmerge 0.1.0: {told}\n" in text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "quickstart",
            "sam lent its encoder, which was trained further and rehearsed against sam itself; clip was dis",
        ),
        (
            "ovsam_tiny",
            "clip lent its encoder, which stayed frozen; sam was distilled into a head on it; recognition and "
            "label\\_token were learnt from labels.",
        ),
        ("shapes_sam_clip_dino", "rehearsed against sam itself; clip and dino were distilled into it."),
    ],
)
def test_the_built_in_recipes_are_told_right(name: str, told: str) -> None:
    """SAM-CLIP moves the encoder and rehearses, Open-Vocabulary SAM does neither."""
    plan = recipe.load(name)
    text = a_card(plan=plan, origins=dict.fromkeys(plan.adapted, origin()), pictures={})
    assert told in text


def test_it_says_what_the_data_are() -> None:
    """Kind and options but for paths of this machine, how many, what for, and whose licence is not known."""
    text = a_card()
    assert "| images | shapes | 24 | to train: probe |\n" in text
    assert "| held\\_out | coco, keep seen | 4 | to measure |\n" in text
    assert "/here" not in text
    assert "ask those who publish them" in text


def test_it_shows_how_to_load_and_what_was_kept() -> None:
    """The calls are those of the parents' capabilities, the table is the retention table."""
    text = a_card()
    assert 'vfmerge.load("' in text
    assert "model.clip.encode_image([picture])" in text
    assert "model.sam.set_image(picture).predict(boxes=" in text
    assert retention.markdown([row()]) in text
    assert "Nothing was measured" in a_card(rows=[])
    compile(text.split("```python\n")[1].split("```")[0], "card", "exec")


def test_names_and_recipes_cannot_break_out_of_the_card() -> None:
    """Backticks do not end the recipe's block, and names are no front matter, HTML or links."""
    evil = "x\n---\nlicense: mit\n<script>alert(1)</script>[a](b)\u2028\x7f```"
    note = "a\n````\n# not a heading\n"
    plan = a_plan(
        parents={"sam": {"adapter": evil}},
        data={evil: {"kind": evil, "note": note}},
        stages={evil: stage("sam", train=("trunk", f"trunk.{evil}"))},
    )
    parent = origin(adapter=evil, licence=evil, hub=evil)
    rows = [row(parent=evil, data=evil, metric=evil)]
    text = a_card(name=evil, plan=plan, origins={"sam": parent}, pictures={evil: 1}, rows=rows)
    assert "<script>" not in text.split("---\n", 2)[2].split("## Recipe")[0]
    front = front_of(text)
    assert (front["license"], front["base_model"]) == ("other", [evil])
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == evil
    fenced = text.split("## Recipe\n\n`````yaml\n")[1]
    assert yaml.safe_load(fenced.split("\n`````\n")[0])["data"] == {evil: {"kind": evil, "note": note}}
