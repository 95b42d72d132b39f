"""The report's gallery: the same held-out pictures as every parent, control and the merged model see them.

Pictures are ranked by how well the merged model does on them; the best, the middle and the worst are shown.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from vfmerge import commit
from vfmerge.errors import InputError
from vfmerge.views.view import Column, View, Views

FOLDER, INDEX = "gallery", "gallery.json"
RANKS = ("best", "median", "worst")

_LOOKED_AT = 32  # pictures that are ranked; each is encoded once more for it
_OF_EACH = 2  # pictures of each rank


def write(run: Path, views: Views) -> None:
    """Write `gallery/` into a run's folder. Raises InputError if no picture is of use."""
    commit.commit(run / FOLDER, functools.partial(_fill, views=views))


def _fill(folder: Path, *, views: Views) -> None:
    ranks = _rank(views)
    shown = {sample.name: sample for sample in views.samples(_LOOKED_AT) if sample.name in ranks}
    rows = []
    for number, (name, rank) in enumerate(ranks.items()):
        cells = [_save(folder, f"{number}-{column.key}", column.look(shown[name])) for column in views.columns]
        rows.append({"name": name, "rank": rank, "score": cells[-1]["score"], "cells": cells})
    index = {
        "notes": [note for note in (views.key, views.scored) if note],
        "classes": [{"name": name, "colour": colour} for colour, name in views.legend(list(shown.values()))],
        "columns": [_head(column) for column in views.columns],
        "rows": rows,
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n")


def _rank(views: Views) -> dict[str, str]:
    """Names of the pictures to show, best first, and which of RANKS each is."""
    merged = views.columns[-1]
    scores = [(merged.look(sample).score, sample.name) for sample in views.samples(_LOOKED_AT)]
    if not scores:
        raise InputError("no gallery of pictures without a class; give data.NAME of the evaluation some that have")
    names = [name for _, name in sorted(scores, reverse=True)]
    middle = max(len(names) // 2 - _OF_EACH // 2, 0)
    chosen = {
        "best": names[:_OF_EACH],
        "median": names[middle : middle + _OF_EACH],
        "worst": names[-_OF_EACH:],
    }
    return {name: rank for rank in RANKS for name in chosen[rank]}  # of few pictures, one may be the best and the worst


def _head(column: Column) -> dict[str, str]:
    return {"key": column.key, "title": column.title, "subtitle": column.subtitle}


def _save(folder: Path, name: str, view: View) -> dict[str, Any]:
    file = f"{name}.png"
    view.panel.render().save(folder / file, format="PNG", optimize=True)
    return {"file": file, "alt": view.panel.describe(), "score": view.score, "said": view.said}
