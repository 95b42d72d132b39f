"""`vfmerge predict`: a merged model's answers about many pictures, as files that other tools read.

For each picture NAME, which keeps its folders below the one that was given, there is:
results/NAME.json    what was found, as a list in COCO's form of results (compressed run lengths), with names
labels/NAME.png      the number of each pixel's name, from 1, 0 for none; without names, the number of its mask
masks/NAME-N.png     of points and boxes: the mask of the N-th, 255 where it is
overlays/NAME.jpg    the picture with all that on it, and a legend
The results are written last: a picture that has them has been answered.

Axis letters: H x W pixels, N masks.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vfmerge import commit, home, images, model, signals
from vfmerge.benchmarks.predictions import run_lengths
from vfmerge.data import paths
from vfmerge.errors import BadSample, InputError, RunError, Stopped, one_line
from vfmerge.predict import folder, overlay
from vfmerge.predict.answer import Answer
from vfmerge.predict.answerer import Answerer, answerer, cast
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

    path: of a run or of a model, or a model's id on the hub. tasks: heads to take where several could answer. A picture
    that was answered before is passed over; one that cannot be used is named on stderr and left out.
    Raises InputError, before anything is written, for a model that cannot answer or an `out` of other answers;
    RunError at the end if a picture was left out; Stopped, after a signal and the picture at hand.
    """
    place, where = str(model.on(device)), home.find(path).folder
    merged = model.load(where, device=place)
    for task in tasks:
        if task not in merged.heads:
            raise InputError(f"--task {shown(task)}: no such head; {suggestion(task, list(merged.heads))}")
    capabilities = merged.capabilities()
    chosen = cast(capabilities, question, tasks=tasks)
    asked = {"model": commit.digest(where / commit.MANIFEST), "tasks": chosen.tasks} | question.asked
    folder.check_question(out, asked=asked)
    answers = answerer(capabilities, question, cast=chosen)
    _each(pictures, question, answers, out, asked=asked)


@dataclasses.dataclass(kw_only=True)
class _Tally:
    """How many pictures had answers before, were answered, could not be; and how many masks that gave."""

    known: int = 0
    answered: int = 0
    failed: int = 0
    masks: int = 0


def _each(
    pictures: Sequence[Found], question: Question, answers: Answerer, out: Path, *, asked: Mapping[str, Any]
) -> None:
    """Answer for those pictures that have no answers yet. Raises as `predict` does."""
    tally, total = _Tally(), len(pictures)
    with signals.watch() as request, Bar("predict", total=total) as bar:
        for found in pictures:
            if request.name:
                there = f"{tally.known + tally.answered} of {total} pictures are in {out}"
                raise Stopped(one_line(f"stopped by {request.name}; {there}; run again to go on"))
            if folder.answered(out, found):
                tally.known += 1
            else:
                _one(found, question, answers, out, asked=asked, tally=tally)
            bar.advance(note=f"{tally.failed} failed" if tally.failed else "")
    if tally.known:
        print(f"{tally.known} of {total} pictures were answered before", file=sys.stderr)
    if question.everything and tally.answered and not tally.masks:
        print("nothing was outlined; a lower --stability or a larger --grid finds more", file=sys.stderr)
    if tally.failed:
        others = f"the others are in {out}" if tally.failed < total else "nothing was written"
        raise RunError(one_line(f"{tally.failed} of {total} pictures failed, as said above; {others}"))


def _one(
    found: Found, question: Question, answers: Answerer, out: Path, *, asked: Mapping[str, Any], tally: _Tally
) -> None:
    """Answer for one picture; one that cannot be used is named."""
    try:
        picture = images.read(found.path)
        question.fit(picture.shape[:2], name=paths.shown(found.path))
    except BadSample as error:
        tally.failed += 1
        print(f"vfmerge: {one_line(str(error))}", file=sys.stderr, flush=True)
        return
    answer = answers.answer(picture)
    folder.begin(out, asked=asked)
    _write(picture, answer, question, out, found=found)
    tally.answered += 1
    tally.masks += len(answer.masks)


def _write(picture: np.ndarray, answer: Answer, question: Question, out: Path, *, found: Found) -> None:
    """Write what was answered about one picture; its results at last, since they say that all is there."""
    folder.write_labels(out, found, _labels(answer, question))
    if question.prompted:
        for number in range(len(answer.masks)):
            mask = Image.fromarray(answer.masks[number].astype(np.uint8) * 255)
            folder.write_mask(out, found, mask, number=number + 1)
    drawn = overlay.draw(picture, answer.regions, legend=overlay.legend(answer, question), prompts=question.prompts)
    folder.write_overlay(out, found, drawn)
    folder.write_results(out, found, results(answer, question, found=found))


def results(answer: Answer, question: Question, *, found: Found) -> list[dict[str, Any]]:
    """An answer in COCO's form of results: one entry a mask. Categories are names, numbered from 1; 0 is no name.

    Points and boxes are in the entry too.
    """
    entries = []
    for number in range(len(answer.masks)):
        mask = answer.masks[number]
        category = -1 if answer.classes is None else int(answer.classes[number])
        entry: dict[str, Any] = {
            "image_id": found.id,
            "file_name": found.file,
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
    kind = np.uint8 if question.classes else np.uint16
    numbers = np.add(answer.regions, 1, dtype=kind, casting="unsafe")  # of nothing, -1, that makes 0
    image = Image.fromarray(numbers)
    if question.classes:
        image.putpalette([0, 0, 0, *(part for number in range(255) for part in overlay.colour(number))])
    return image
