"""The model card of a merged model: a README that the Hugging Face hub reads too."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vfmerge import front_matter, licence
from vfmerge import recipe as recipes
from vfmerge.recipe import Recipe
from vfmerge.retention import Row, escape, markdown

_USES = {
    "image_text": (
        '{name}.encode_image([picture]) @ {name}.encode_text(["a photo of a star."]).T  # cosine similarities',
        "{name}.encode_cells([picture])                       # the same space, for each cell of the picture",
    ),
    "promptable": (
        "{name}.set_image(picture).predict(boxes=torch.tensor([[8.0, 8.0, 80.0, 80.0]]))  # mask logits, IoU scores",
    ),
    "promptable_recognition": (
        'words, boxes = {name}.vocabulary(["star", "ring"]), torch.tensor([[8.0, 8.0, 80.0, 80.0]])',
        "{name}.set_image(picture).recognise(words, boxes=boxes)  # mask logits, and a score for each class",
    ),
    "dense": ("{name}.encode_cells([picture])  # features of the picture's cells",),
}

_KEPT, _RECIPE = "What it kept", "Recipe"
"""Titles of the sections that are written again when the model is measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """A parent, for the card.

    adapter: its adapter's name. capability: what it does (`Capability.name`). licence: of its weights, SPDX or words.
    hub: the hub's name of the model, where it is known there.
    """

    adapter: str
    capability: str
    licence: str
    hub: str | None = None


def card(
    *,
    name: str,
    version: str,
    plan: Recipe,
    origins: Mapping[str, Origin],
    pictures: Mapping[str, int],
    rows: Sequence[Row] | None,
) -> str:
    """The card's Markdown, with front matter.

    name: of the run. version: of vfmerge. plan: the recipe that it was made by. origins: of all parents, and of tasks
    without one. pictures: how many each data set has. rows: the retention table, empty where the recipe asks for none;
    none of a model that was not measured yet, see `retell`.
    """
    text = recipes.published(plan)
    parents = {parent: origins[parent] for parent in plan.parents}
    tasks = {task: origins[task] for task in plan.tasks}
    heads = {**parents, **tasks}
    inherited = licence.inherit({parent: origin.licence for parent, origin in parents.items()})
    front = front_matter.write(
        inherited,
        tasks=front_matter.tasks([heads[plan.base].capability, *(origin.capability for origin in heads.values())]),
        models=[origin.hub for origin in heads.values() if origin.hub],
    )
    sections = [
        front,
        f"# {escape(name)}",
        _summary(plan, version),
        "## Licence\n\n" + inherited.verdict,
        f"## {_KEPT}\n\n" + _kept(rows),
        "## Use\n\n" + _use(heads),
        "## Parents\n\n" + _table(parents, plan.base),
        *(["## Learnt from labels\n\n" + _learnt(tasks)] if tasks else []),
        "## Data\n\n" + _data(plan, pictures),
        f"## {_RECIPE}\n\n" + fence(text, language="yaml"),
        "## Limits\n\n" + _LIMITS,
    ]
    return _with_figures("\n\n".join(sections) + "\n", rows or (), recipe=text)


def retell(text: str, *, rows: Sequence[Row], recipe: str) -> str:
    """A card with what was measured since, and by which recipe. All else stays, whoever wrote it."""
    for title, content in {_KEPT: _kept(rows), _RECIPE: fence(recipe, language="yaml")}.items():
        section = re.compile(rf"^## {title}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
        found = section.search(text)
        if found is not None:
            text = f"{text[: found.start()]}## {title}\n\n{content}\n\n{text[found.end() :]}"
    return _with_figures(text.rstrip("\n") + "\n", rows, recipe=recipe)


def _with_figures(text: str, rows: Sequence[Row], *, recipe: str) -> str:
    """A card whose front matter has these figures and no others; the model is called what its heading says."""
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    name = html.unescape(re.sub(r"\\(.)", r"\1", heading[1])) if heading else "merged"
    data = yaml.safe_load(recipe).get("data", {})
    kinds = {each: str(described["kind"]) for each, described in data.items()}
    return front_matter.measured(text, name=name, rows=rows, kinds=kinds)


def fence(text: str, *, language: str) -> str:
    """Text as a code block that nothing in it can end."""
    ticks = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def _summary(plan: Recipe, version: str) -> str:
    """What was merged, and what each part learnt, as the recipe's stages and streams have it."""
    merged = f"merged from {_all(list(plan.parents))} by vfmerge {escape(version)}"
    learnt = "; ".join([_lent(plan), *_distilled(plan), *_labelled(plan)])
    return f"One vision model with one image encoder, {merged}: {learnt}."


def _lessons(plan: Recipe) -> dict[str, bool]:
    """The tasks that a stage teaches, and whether the trunk learns with any of them."""
    lessons: dict[str, bool] = {}
    for stage in plan.stages.values():
        moves = any(_is_of_trunk(prefix) for prefix in stage.train)
        for task in (task for stream in stage.streams for task in stream.tasks):
            lessons[task] = lessons.get(task, False) or moves
    return lessons


def _is_of_trunk(prefix: str) -> bool:
    return prefix == "trunk" or prefix.startswith("trunk.")


def _lent(plan: Recipe) -> str:
    """What became of the base."""
    lent = f"{escape(plan.base)} lent its encoder"
    trained = sorted({prefix for stage in plan.stages.values() for prefix in stage.train if _is_of_trunk(prefix)})
    rehearsed = _lessons(plan).get(plan.base)
    if not trained:
        head = " while its own head was rehearsed" if rehearsed is not None else ""
        return f"{lent}, which stayed frozen{head}"
    part = "which" if "trunk" in trained else f"of which {_all(trained)}"
    if rehearsed:
        return f"{lent}, {part} was trained further and rehearsed against {escape(plan.base)} itself"
    return f"{lent}, {part} was trained further without rehearsal"


def _distilled(plan: Recipe) -> list[str]:
    """What became of the other parents."""
    lessons, others = _lessons(plan), [parent for parent in plan.parents if parent != plan.base]
    groups = {
        "distilled into it": [each for each in others if lessons.get(each) is True],
        "distilled into a head on it": [each for each in others if lessons.get(each) is False],
        "not taught": [each for each in others if each not in lessons],
    }
    return [f"{_are(names)} {done}" for done, names in groups.items() if names]


def _labelled(plan: Recipe) -> list[str]:
    """What became of the tasks that have no parent."""
    lessons = _lessons(plan)
    groups = {
        "learnt from labels": [task for task in plan.tasks if task in lessons],
        "not taught": [task for task in plan.tasks if task not in lessons],
    }
    return [f"{_are(names)} {done}" for done, names in groups.items() if names]


def _are(names: Sequence[str]) -> str:
    return f"{_all(names)} {'was' if len(names) == 1 else 'were'}"


def _all(names: Sequence[str]) -> str:
    return " and ".join(map(escape, names))


def _kept(rows: Sequence[Row] | None) -> str:
    if rows is None:
        return "Not measured yet: `vfmerge eval` of its run does so, and writes the figures here."
    if not rows:
        return "Nothing was measured: the recipe has no `evaluate`."
    note = (
        "Retention is the merged model's value over the parent's, by the same code on the same held-out pictures. "
        "`miou_two_heads` is set against the parent's own dense prediction, `miou_head`."
    )
    return f"{markdown(rows)}\n\n{note}"


def _use(heads: Mapping[str, Origin]) -> str:
    lines = ["import numpy as np", "import torch", "from PIL import Image", "", "import vfmerge", ""]
    lines += ['model = vfmerge.load("path/to/this/folder")  # needs neither its parents\' files nor a network']
    lines += ['# or, after `import vfmerge`: transformers.AutoModel.from_pretrained("path/to/this/folder")']
    lines += ['picture = np.array(Image.open("picture.jpg").convert("RGB"))']
    for name, origin in heads.items():
        called = f"model.{name}" if name.isidentifier() else f"model.capability({json.dumps(name)})"
        lines += [use.replace("{name}", called) for use in _USES.get(origin.capability, ())]
    each = [origin.capability for origin in heads.values()]
    if each.count("image_text") == each.count("promptable") == 1:
        lines += ['found = model.segment(picture, ["star", "ring"])  # text to masks: found.labels, .masks, .scores']
    return fence("\n".join(lines), language="python")


def _table(parents: Mapping[str, Origin], base: str) -> str:
    lines = ["| parent | adapter | does | licence |", "| --- | --- | --- | --- |"]
    for parent, origin in parents.items():
        role = " (base)" if parent == base else ""
        told = (origin.adapter, origin.capability, origin.licence)
        lines.append(f"| {escape(parent)}{role} | " + " | ".join(map(escape, told)) + " |")
    return "\n".join(lines)


def _learnt(tasks: Mapping[str, Origin]) -> str:
    lines = ["| task | adapter | does |", "| --- | --- | --- |"]
    for task, origin in tasks.items():
        lines.append(f"| {escape(task)} | {escape(origin.adapter)} | {escape(origin.capability)} |")
    return "\n".join(lines)


def _data(plan: Recipe, pictures: Mapping[str, int]) -> str:
    if not pictures:
        return "None."
    described: dict[str, dict[str, Any]] = yaml.safe_load(recipes.published(plan))["data"]
    lines = ["| data set | what it is | pictures | used |", "| --- | --- | ---: | --- |"]
    for name, count in pictures.items():
        kind = plan.data[name].kind
        given = [f"{key} {_plain(value)}" for key, value in described[name].items() if key != "kind" and value != "???"]
        stages = [each for each, stage in plan.stages.items() if any(stream.data == name for stream in stage.streams)]
        used = f"to train: {', '.join(stages)}" if stages else "to measure"
        lines.append(f"| {escape(name)} | {escape(', '.join([kind, *given]))} | {count} | {escape(used)} |")
    return "\n".join([*lines, "", _RIGHTS])


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_RIGHTS = (
    "`shapes` are drawn by vfmerge itself, and free of rights of others. Whose pictures other data sets hold, and "
    "under which licence, a recipe does not say: ask those who publish them."
)
_LIMITS = """\
- The figures above hold for the data they name. Nothing is known of other data: measure there with `vfmerge eval`.
- A retention near 100 % says that an average is kept, not that every answer is.
- Biases of the parents come along. Fairness and robustness to corrupted pictures were not assessed.
- Distillation teaches what the teacher says on the training pictures; where they were few or alike, expect less."""
