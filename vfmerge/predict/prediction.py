"""`vfmerge predict`: a merged model's answers about many pictures, as files that other tools read.

For each picture NAME, which keeps its folders below the one that was given, there is:
results/NAME.json    what was found, as a list in COCO's form of results (compressed run lengths), with names
labels/NAME.png      the number of each pixel's name, from 1, 0 for none; without names, the number of its mask
masks/NAME-N.png     of points and boxes: the mask of the N-th, 255 where it is
overlays/NAME.jpg    the picture with all that on it, and a legend

Axis letters: H x W pixels, N masks.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vfmerge import commit, hub, images, model
from vfmerge.benchmarks.predictions import run_lengths
from vfmerge.data import paths
from vfmerge.errors import BadSample, InputError, RunError, one_line
from vfmerge.predict import folder, overlay
from vfmerge.predict.answer import Answer, Answerer, answerer
from vfmerge.predict.pictures import Found
from vfmerge.predict.question import Box, Point, Question
from vfmerge.problem import shown, suggestion
from vfmerge.progress import Bar


def predict(
    path: str | Path,
    pictures: Sequence[Found],
    question: Question,
    out: Path,
    *,
    tasks: Sequence[str],
    device: str,
) -> None:
    """Ask a merged model a question about every picture, and write the answers below `out`.

    path: its folder, or its id on the hub. tasks: heads to take where several could answer. A picture that cannot be
    used is named on stderr and left out.
    Raises InputError, before anything is written, for a model that cannot answer or an `out` of other answers;
    RunError at the end if a picture was left out.
    """
    place, home = str(model.on(device)), hub.find(path)
    merged = model.load(home, device=place)
    for task in tasks:
        if task not in merged.heads:
            raise InputError(f"--task {shown(task)}: no such head; {suggestion(task, list(merged.heads))}")
    answers = answerer(merged.capabilities(), question, tasks=tasks)
    folder.begin(out, asked=_asked(home, question, tasks))
    failed = 0
    with Bar("predict", total=len(pictures)) as bar:
        for found in pictures:
            try:
                _one(found, question, answers, out)
            except BadSample as error:
                failed += 1
                print(f"vfmerge: {one_line(str(error))}", file=sys.stderr, flush=True)
            bar.advance(note=f"{failed} failed" if failed else "")
    if failed:
        raise RunError(f"{failed} of {len(pictures)} pictures failed, as said above; the others are in {out}")


def _asked(home: Path, question: Question, tasks: Sequence[str]) -> dict[str, Any]:
    """What answers depend on, but for the pictures."""
    weights = commit.digest(home / commit.MANIFEST)
    return {"model": weights, "tasks": list(tasks)} | dataclasses.asdict(question)


def _one(found: Found, question: Question, answers: Answerer, out: Path) -> None:
    """Answer for one picture, and write that. Raises BadSample for a picture that cannot be used."""
    picture = images.read(found.path)
    question.fit(picture.shape[:2], name=paths.shown(found.path))
    answer = answers.answer(picture)
    folder.picture(out / "labels" / f"{found.name}.png", _labels(answer, question))
    if question.prompted:
        for number in range(len(answer.masks)):
            mask = Image.fromarray(answer.masks[number].astype(np.uint8) * 255)
            folder.picture(out / "masks" / f"{found.name}-{number + 1}.png", mask)
    drawn = overlay.draw(picture, answer.regions, legend=overlay.legend(answer, question), prompts=question.prompts)
    folder.picture(out / "overlays" / f"{found.name}.jpg", drawn)
    folder.content(out / "results" / f"{found.name}.json", results(answer, question, file=found.path))


def results(answer: Answer, question: Question, *, file: Path) -> list[dict[str, Any]]:
    """An answer in COCO's form of results: one entry a mask. Categories are names, numbered from 1; 0 is no name.

    image_id is the number that the file is called, as in COCO, else its name. Points and boxes are in the entry too.
    """
    plain = file.stem.isascii() and file.stem.isdecimal() and len(file.stem) <= 15  # JSON's numbers are doubles
    entries = []
    for number in range(len(answer.masks)):
        mask = answer.masks[number]
        category = -1 if answer.classes is None else int(answer.classes[number])
        entry: dict[str, Any] = {
            "image_id": int(file.stem) if plain else file.name,
            "file_name": file.name,
            "category_id": category + 1,
            "segmentation": run_lengths(mask[None])[0],
            "bbox": _bounds(mask),
            "area": int(mask.sum()),
            "score": round(float(answer.scores[number]), 6),
        }
        if answer.classes is not None:
            entry["category_name"] = question.classes[category]
        if answer.ious is not None:
            entry["predicted_iou"] = round(float(answer.ious[number]), 6)
        if question.prompted:
            entry |= _prompt(question.prompts[number])
        entries.append(entry)
    return entries


def _prompt(prompt: Point | Box) -> dict[str, Any]:
    return {"point" if len(prompt) == 2 else "box": list(prompt)}


def _bounds(mask: np.ndarray) -> list[int]:
    """The tight box of a mask, bool [H, W], as COCO has it: x, y, width, height; zeros of one without a pixel."""
    if not mask.any():
        return [0, 0, 0, 0]
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return [int(each) for each in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def _labels(answer: Answer, question: Question) -> Image.Image:
    """The map of numbers, 0 for nothing: of names 8 bits in the overlay's colours, of masks 16 bits of grey."""
    numbers = answer.regions + 1
    if not question.classes:
        return Image.fromarray(numbers.astype(np.uint16))
    image = Image.fromarray(numbers.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, *(part for number in range(255) for part in overlay.colour(number))])
    return image
