"""Which path does what. Knows models and pictures, and nothing of connections."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import numpy as np

import vfmerge
from vfmerge.errors import BadSample, InputError
from vfmerge.naming import named
from vfmerge.predict.overlay import colour

from . import album, page, questions
from .album import Album
from .exhibit import Answer, Exhibit
from .opening import Exhibition
from .questions import Ask, Question
from .refusal import Refusal
from .turns import Turns

_ASKED: dict[str, Ask] = {
    "/outline": "outline",
    "/find": "find",
    "/similar": "similar",
    "/features": "features",
    "/alike": "alike",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    """What is sent back. kind: media type."""

    body: bytes
    kind: str
    status: int = 200
    retry_after: int | None = None


def plain(content: Answer, *, status: int = 200, retry_after: int | None = None) -> Reply:
    """A reply in JSON."""
    body = json.dumps(content, allow_nan=False).encode()
    return Reply(body=body, kind="application/json", status=status, retry_after=retry_after)


class Service:
    """Answers of an exhibition about the pictures of an album.

    turns: only whoever has one works on pictures or with models.
    """

    def __init__(self, exhibition: Exhibition, *, pictures: Album, turns: Turns) -> None:
        self._exhibition, self._album, self._turns = exhibition, pictures, turns
        self._exhibits: dict[str, Exhibit] = {each.key: each for each in exhibition.exhibits}

    def get(self, path: str) -> Reply:
        """Raises Refusal for a path that there is not."""
        if path == "/about":
            return plain(self._about())
        if path.startswith("/pictures/"):
            kind, body = self._album.find(path.removeprefix("/pictures/")).shown()
            return Reply(body=body, kind=kind)
        raise _nowhere(path)

    def most(self, path: str) -> tuple[int, str]:
        """How many bytes may be posted to a path, and of which media type. Raises Refusal for one that there is not."""
        if path == "/pictures":
            return album.MAX_BYTES, "application/octet-stream"
        if path in _ASKED:
            return questions.MAX_BYTES, "application/json"
        raise _nowhere(path)

    def post(self, path: str, body: bytes) -> Reply:
        """Raises Refusal for what cannot be answered."""
        with self._turns.turn():
            began = time.perf_counter()
            answer = self._upload(body) if path == "/pictures" else self._ask(_ASKED[path], questions.read(body))
            return plain(answer | {"seconds": round(time.perf_counter() - began, 3)})

    def _upload(self, body: bytes) -> Answer:
        key, picture = self._album.add(body)
        return {"id": key, "height": picture.pixels.shape[0], "width": picture.pixels.shape[1]}

    def _ask(self, ask: Ask, question: Question) -> Answer:
        exhibit = self._exhibits.get(question.model)
        if exhibit is None:
            raise Refusal(404, f"model: {question.model!r} is not shown here; give one of {', '.join(self._exhibits)}")
        picture = self._album.find(question.picture).pixels
        question.fit(width=picture.shape[1], height=picture.shape[0])
        try:
            names = named(question.names, option="names") if question.names else ()
            if ask == "outline":
                return exhibit.outline(picture, question.things, names, key=question.picture)
            if ask in ("features", "alike"):
                return _compare(exhibit, ask, question, picture)
            if not names:
                raise Refusal(422, "names: none; give one or more, such as cat, dog")
            return exhibit.find(picture, names) if ask == "find" else exhibit.similar(picture, names)
        except (InputError, BadSample) as error:
            raise Refusal(422, str(error)) from None

    def _about(self) -> dict[str, Any]:
        """All that the page wants to know before it asks."""
        return {
            "name": self._exhibition.name,
            "version": vfmerge.__version__,
            "models": [
                {"key": each.key, "title": each.title, "does": each.does, "features": each.patches.tasks}
                for each in self._exhibition.exhibits
            ],
            "missing": self._exhibition.missing,
            "examples": [
                {"id": key, "alt": each.alt, "names": each.names} for key, each in self._album.examples.items()
            ],
            "colours": ["#{:02x}{:02x}{:02x}".format(*colour(number)) for number in range(questions.MAX_NAMES)],
            "limits": {
                "bytes": album.MAX_BYTES,
                "things": questions.MAX_THINGS,
                "points": questions.MAX_POINTS,
                "names": questions.MAX_NAMES,
                "letters": questions.MAX_LETTERS,
            },
        }


def _compare(exhibit: Exhibit, ask: Ask, question: Question, picture: np.ndarray) -> Answer:
    """What a dense head sees. Raises Refusal for a task that has none, and for no place where one is needed."""
    patches, task = exhibit.patches, question.task
    if task not in patches.tasks:
        there = f"give {' or '.join(patches.tasks)}" if patches.tasks else "ask another model"
        raise Refusal(422, f"task: {task!r} has no features here; {there}")
    if ask == "features":
        return patches.colours(picture, task, key=question.picture, fine=question.fine)
    if question.place is None:
        raise Refusal(422, "place: none; give one, in pixels of the picture")
    return patches.alike(picture, task, question.place, key=question.picture, fine=question.fine)


def static(path: str) -> Reply | None:
    """A file of the page itself, which holds no secret; none if this is no such path."""
    found = page.FILES.get(path)
    return None if found is None else Reply(body=page.read(found[0]), kind=found[1])


def _nowhere(path: str) -> Refusal:
    return Refusal(404, f"{path!r}: nothing is here; begin at /")
