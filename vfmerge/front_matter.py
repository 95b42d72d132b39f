"""The front matter of a model card: what the Hugging Face hub reads of it, YAML between two lines of dashes.

Keys and values are as the hub documents them (huggingface/hub-docs: modelcard.md, docs/hub/repositories-licenses.md).
Every text is a JSON string, which YAML reads as it is: no name can break out of its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from vfmerge.licence import Licence
from vfmerge.papers import NOTICE
from vfmerge.retention import Row

_LICENCES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0
artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0
epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research
intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa
unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2
llama3.3 llama4 grok2-community gemma unknown
"""
"""What the hub calls the licences that it lists; all others are `other` there."""
_TASKS = {
    "image_text": "zero-shot-image-classification",
    "promptable": "mask-generation",
    "promptable_recognition": "image-segmentation",
    "dense": "image-feature-extraction",
}
"""What the hub calls what a head does."""
_MEASURED = {
    "zero_shot_segmentation": "image-segmentation",
    "segmentation_probe": "image-segmentation",
    "linear_probe": "image-classification",
    "knn": "image-classification",
}
"""What the hub calls what a benchmark asks of a head that does something else by itself."""

_BLOCK = re.compile(r"^model-index:.*\n(?:(?:[ \t]|- ).*\n)*", re.MULTILINE)
_FRONT = re.compile(r"---\n(.*?\n)---\n", re.DOTALL)
_HIDDEN = re.compile(r"[^ -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_NAME = 80  # letters of a licence's name, chosen here


def tasks(capabilities: Sequence[str]) -> list[str]:
    """The hub's tasks for what a model's heads can do, the foremost first: text to masks where two of them make that.

    capabilities: of the heads, the base's own first.
    """
    both = ["promptable_recognition"] if {"image_text", "promptable"} <= set(capabilities) else []
    return list(dict.fromkeys(_TASKS[each] for each in [*both, *capabilities] if each in _TASKS))


def write(licence: Licence, *, tasks: Sequence[str], models: Sequence[str]) -> str:
    """The front matter of a card without figures. tasks: of the hub. models: the hub's names of the parents."""
    # Not transformers: the hub would tell people to load it by lines that do not `import vfmerge`, which fails.
    values: dict[str, Any] = {"library_name": "vfmerge"}
    if tasks:
        values["pipeline_tag"] = tasks[0]
    values |= _licence(licence.name)
    values["tags"] = ["vfmerge", "distillation", *tasks]
    if models:
        values |= {"base_model": list(models), "base_model_relation": "merge"}
    return "\n".join(["---", *_lines(values), "---"])


def _licence(name: str) -> dict[str, str]:
    if name.lower() in _LICENCES.split():
        return {"license": name.lower()}
    # The hub wants a name like an id, and the file beside the card that has the text.
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:_NAME]
    return {"license": "other", "license_name": plain or "other", "license_link": NOTICE}


def measured(card: str, *, name: str, rows: Sequence[Row], kinds: Mapping[str, str]) -> str:
    """A card whose front matter says what was measured, as its `model-index`; all else in it stays as it is.

    name: of the model. rows: of the retention table. kinds: of data sets, by name. A card without front matter stays.
    """
    front = _FRONT.match(card)
    if front is None:
        return card
    kept, results = _BLOCK.sub("", front[1]), _results(rows, kinds)
    index = [f"{line}\n" for line in _lines({"model-index": [{"name": name, "results": results}]})] if results else []
    return f"---\n{kept}{''.join(index)}---\n{card[front.end() :]}"


def _results(rows: Sequence[Row], kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """The merged model's figures and their retention, by task and data set. Costs are of no task, so not among them."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        task = _MEASURED.get(row.benchmark, _TASKS.get(row.capability))
        if task is not None and row.control is None:
            found.setdefault((task, row.data), []).extend(_metrics(row))
    return [
        {
            "task": {"type": task},
            # `config` too, by which the hub's library tells data sets of one type apart
            "dataset": {"type": kinds.get(data, "unknown"), "name": data, "config": data},
            "metrics": metrics,
        }
        for (task, data), metrics in found.items()
    ]


def _metrics(row: Row) -> Iterator[dict[str, Any]]:
    kind = "accuracy" if row.metric == "top1" else "mean_iou" if "miou" in row.metric else row.metric
    yield {"type": kind, "value": row.merged_value, "name": f"{row.metric} of {row.parent}"}
    if row.retention is not None:
        yield {"type": "retention", "value": row.retention, "name": f"retention of {row.metric} of {row.parent}"}


def _lines(value: Any) -> list[str]:
    """Nested values as lines of YAML."""
    lines: list[str] = []
    if isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(each, Mapping):
                lines += [f"{key}:", *(f"  {line}" for line in _lines(each))]
            elif isinstance(each, list):
                lines += [f"{key}:", *_lines(each)]
            else:
                lines.append(f"{key}: {_scalar(each)}")
        return lines
    if isinstance(value, list):
        for each in value:
            first, *more = _lines(each)
            lines += [f"- {first}", *(f"  {line}" for line in more)]
        return lines
    return [_scalar(value)]


def _scalar(value: str | float) -> str:
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        # what YAML takes for the end of a line, or refuses
        return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return format(Decimal(repr(round(value, 6))), "f")  # YAML 1.1 takes 1e-05 for a text
