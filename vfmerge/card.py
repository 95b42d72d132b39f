"""The model card of a merged model: a README that the Hugging Face hub reads too."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence

from vfmerge import spdx
from vfmerge.retention import Row, escape, markdown

_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research[- ]only", re.IGNORECASE)
_HUB = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "unlicense"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
)
"""Names of licences that the hub knows; all others are `other` there."""

_TAGS = {"image_text": "zero-shot-image-classification", "promptable": "mask-generation"}
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Licence:
    """What the parents' licences make of the child's. name: of the child. verdict: one sentence for people."""

    name: str
    verdict: str


def card(
    *,
    name: str,
    version: str,
    base: str,
    parents: Mapping[str, Origin],
    data: Mapping[str, int],
    recipe: str,
    rows: Sequence[Row],
    tasks: Mapping[str, Origin] | None = None,
    trained: bool = True,
) -> str:
    """The card's Markdown, with front matter.

    name: of the run. version: of vfmerge. base: the parent that lent its trunk. data: number of pictures of each data
    set. recipe: the resolved recipe's YAML. rows: the retention table, or nothing if nothing was measured.
    tasks: heads without a parent, which learnt from labels. trained: whether the recipe has stages.
    """
    licence = inherit({parent: origin.licence for parent, origin in parents.items()})
    heads = {**parents, **(tasks or {})}
    sections = [
        _front(heads, licence),
        f"# {escape(name)}",
        _summary(base, parents, version, trained=trained),
        "## Licence\n\n" + licence.verdict,
        "## What it kept\n\n" + _kept(rows),
        "## Use\n\n" + _use(heads),
        "## Parents\n\n" + _table(parents, base),
        *(["## Learnt from labels\n\n" + _learnt(tasks)] if tasks else []),
        "## Data\n\n" + _data(data),
        "## Recipe\n\n" + fence(recipe, language="yaml"),
        "## Limits\n\n" + _LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


def inherit(licences: Mapping[str, str]) -> Licence:
    """The child's licence from its parents', by parent. Distilled weights are taken to be derived from all of them."""
    known = sorted({term for text in licences.values() for term in spdx.terms(text)})
    listed = ", ".join(f"{escape(parent)}: {escape(text)}" for parent, text in licences.items())
    barred = [escape(parent) for parent, text in licences.items() if _NON_COMMERCIAL.search(text)]
    unclear = [
        escape(parent) for parent, text in licences.items() if any(_is_unclear(term) for term in spdx.terms(text))
    ]
    if barred:
        verdict = f"**Not for commercial use**, because its parent {' and '.join(barred)} is not ({listed})."
        return Licence(name=known[0] if len(known) == 1 else "non-commercial", verdict=verdict)
    if unclear:
        verdict = (
            f"The licence of {' and '.join(unclear)} is not known ({listed}): find it out before you use this model."
        )
        return Licence(name="unknown", verdict=verdict)
    if len(known) == 1:
        return Licence(name=known[0], verdict=f"{escape(known[0])}, as its parents ({listed}).")
    return Licence(name=spdx.join(known), verdict=f"The conditions of all parents' licences hold together ({listed}).")


def _is_unclear(licence: str) -> bool:
    return licence.lower() in (spdx.UNKNOWN, "other")


def fence(text: str, *, language: str) -> str:
    """Text as a code block that nothing in it can end."""
    ticks = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def _front(parents: Mapping[str, Origin], licence: Licence) -> str:
    """Front matter: every text in it is a JSON string, which YAML reads as it is."""
    hub = licence.name.lower()
    lines = ["library_name: vfmerge"]
    if hub in _HUB:
        lines.append(f"license: {json.dumps(hub)}")
    else:
        lines += ['license: "other"', f"license_name: {json.dumps(licence.name)}"]
    tags = [_TAGS[origin.capability] for origin in parents.values() if origin.capability in _TAGS]
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in ["vfmerge", "distillation", *dict.fromkeys(tags)])]
    models = [origin.hub for origin in parents.values() if origin.hub]
    if models:
        lines += ["base_model:", *(f"- {json.dumps(model)}" for model in models), 'base_model_relation: "merge"']
    return "\n".join(["---", *lines, "---"])


def _summary(base: str, parents: Mapping[str, Origin], version: str, *, trained: bool) -> str:
    others = " and ".join(escape(parent) for parent in parents if parent != base)
    done = f"and was rehearsed against itself while {others or 'it'} was distilled into it" if trained else "as it was"
    return (
        f"One vision model with one image encoder, merged from {' and '.join(map(escape, parents))} by vfmerge "
        f"{escape(version)}: {escape(base)} lent its encoder {done}."
    )


def _kept(rows: Sequence[Row]) -> str:
    if not rows:
        return "Nothing was measured: the recipe has no `evaluate`."
    note = (
        "Retention is the merged model's value over the parent's, by the same code on the same held-out pictures. "
        "`miou_two_heads` is set against the parent's own dense prediction, `miou_head`."
    )
    return f"{markdown(rows)}\n\n{note}"


def _use(parents: Mapping[str, Origin]) -> str:
    lines = ["import numpy as np", "import torch", "from PIL import Image", "", "import vfmerge", ""]
    lines += ['model = vfmerge.load("path/to/this/folder")  # needs neither its parents\' files nor a network']
    lines += ['# or, after `import vfmerge`: transformers.AutoModel.from_pretrained("path/to/this/folder")']
    lines += ['picture = np.array(Image.open("picture.jpg").convert("RGB"))']
    for parent, origin in parents.items():
        called = f"model.{parent}" if parent.isidentifier() else f"model.capability({json.dumps(parent)})"
        lines += [use.replace("{name}", called) for use in _USES.get(origin.capability, ())]
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


def _data(data: Mapping[str, int]) -> str:
    return "\n".join(f"- {escape(name)}: {count} pictures" for name, count in data.items()) or "None."


_LIMITS = """\
- The figures above hold for the data they name. Nothing is known of other data: measure there with `vfmerge eval`.
- A retention near 100 % says that an average is kept, not that every answer is.
- Biases of the parents come along. Fairness and robustness to corrupted pictures were not assessed.
- Distillation teaches what the teacher says on the training pictures; where they were few or alike, expect less."""
