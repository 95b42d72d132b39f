"""Image-text retrieval: a caption finds its picture, a picture its captions (CLIP, arXiv 2103.00020, appendix E.1).

Axis letters: n pictures, T sentences, Q queries, A answers, D embedding width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from vfmerge.capability import Capability, ImageText
from vfmerge.data.source import Source
from vfmerge.errors import InputError
from vfmerge.provenance import code_behind
from vfmerge.store import Store, key

from .benchmark import Benchmark, Score, Setup, batched, image_text_of, mean, ratio, samples, score
from .predictions import Predictions

DEPTHS = (1, 5, 10)

_TIE = 1e-9  # cosines closer than this are equal: above what rounding does in float64, far below what tells texts apart
_AT_ONCE = 1 << 22  # similarities held at a time: 32 MB
_TEXTS = 1024  # texts encoded in one call
_SHOWN = 10  # answers of each query that predictions name


class Retrieval(Benchmark):
    """Retrieval among all pictures of the data and all their captions: t2i_r1, t2i_r5, t2i_r10, i2t_r1 ...

    Text to image: the share of captions whose picture is among the first 1, 5 or 10. Image to text: the share of
    pictures of which any caption is among the first 1, 5 or 10. Depths beyond the first need more pictures than that.
    Captions are read as they are, without a prompt around them.

    Equal sentences are one answer: it is right for every picture that has it. A wrong answer that is as similar as the
    right one counts as before it. Where no two captions are equal, this is the protocol of COCO and Flickr30k.
    Intervals resample the queries; what they search in stays the same.

    image_text: the parent that embeds both. size: its input side in pixels; none is its own default.
    limit: at most so many pictures, and so an easier search. batch: pictures at once.
    captions: at most so many of a picture, the first ones (COCO and Flickr30k: 5).
    """

    def __init__(
        self,
        *,
        image_text: str = "clip",
        size: Annotated[int, Field(ge=8)] | None = None,
        limit: Annotated[int, Field(ge=1)] | None = None,
        batch: Annotated[int, Field(ge=1)] = 64,
        captions: Annotated[int, Field(ge=1)] = 5,
    ) -> None:
        self._task, self._size, self._limit, self._batch, self._captions = image_text, size, limit, batch, captions

    def tasks(self) -> dict[str, str]:
        return {ImageText.name: self._task}

    def lacks(self, source: Source) -> str:
        return "" if source.has_captions else "captions"

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        image_text = image_text_of(model, self._task)
        if image_text is None:
            return []
        gallery, pictures = self._embed(image_text, source, setup)
        if not gallery.names:
            raise InputError(f"no picture with a caption among {len(source)}; give data that has captions")
        texts = _embed_texts(image_text, gallery.sentences, store=setup.store)
        found = rank(pictures, texts, gallery.spoken)
        finding = rank(texts, pictures, gallery.spoken_of)
        _write(setup.predictions, gallery, found, finding)
        depths = [depth for depth in DEPTHS if depth == 1 or depth < len(gallery.names)]
        return [
            *(self._text_to_image(gallery, finding.best, depth) for depth in depths),
            *(self._image_to_text(found.best, depth) for depth in depths),
        ]

    def _embed(self, image_text: ImageText, source: Source, setup: Setup) -> tuple[Gallery, np.ndarray]:
        """What the pictures are called and say, and their unit embeddings, float64 [n, D]."""
        gallery, rows = Gallery(), []
        told = samples(source, limit=self._limit, setup=setup)
        for some in batched((sample for sample in told if sample.captions), self._batch):
            for sample in some:
                gallery.add(sample.name, sample.captions[: self._captions])
            embedded = image_text.encode_image([sample.image for sample in some], size=self._size)
            rows.append(embedded.double().cpu().numpy())
        return gallery, np.concatenate(rows) if rows else np.zeros((0, 0))

    def _text_to_image(self, gallery: Gallery, best: np.ndarray, depth: int) -> Score:
        """values [n, 2]: how many captions of a picture find one that has them, and how many there are."""
        values = np.array([((best[spoken] < depth).sum(), len(spoken)) for spoken in gallery.spoken], dtype=float)
        return score(metric=f"t2i_r{depth}", task=self._task, values=values, reduce=ratio, n=int(values[:, 1].sum()))

    def _image_to_text(self, best: np.ndarray, depth: int) -> Score:
        hits = (best < depth).astype(float)
        return score(metric=f"i2t_r{depth}", task=self._task, values=hits, reduce=mean, n=len(hits))


class Gallery:
    """What is searched: n pictures by name, and the T different sentences that they have.

    spoken: for each picture the numbers of its sentences; spoken_of: for each sentence the numbers of its pictures.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.spoken: list[list[int]] = []
        self.spoken_of: list[list[int]] = []
        self._numbers: dict[str, int] = {}

    @property
    def sentences(self) -> list[str]:
        return list(self._numbers)

    def add(self, name: str, captions: Sequence[str]) -> None:
        """One more picture, with at least one caption."""
        spoken = [self._numbers.setdefault(caption, len(self._numbers)) for caption in dict.fromkeys(captions)]
        self.spoken_of += [[] for _ in range(len(self._numbers) - len(self.spoken_of))]
        for number in spoken:
            self.spoken_of[number].append(len(self.names))
        self.names.append(name)
        self.spoken.append(spoken)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranks:
    """How far down Q queries find their right answers.

    right: for each query and each of its right answers, how many wrong answers are at least as similar.
    best: int [Q], the least of those. first: int [Q, up to 10], the most similar answers, best first.
    """

    right: list[list[int]]
    best: np.ndarray
    first: np.ndarray


def rank(queries: np.ndarray, answers: np.ndarray, right: Sequence[Sequence[int]]) -> Ranks:
    """Rank answers by cosine. queries: unit float64 [Q, D]. answers: unit float64 [A, D]. right: answers of each query.

    The similarities are never all in memory. One that is not a number ranks as worst.
    """
    step = max(_AT_ONCE // len(answers), 1)
    ranks: list[list[int]] = []
    first = []
    for start in range(0, len(queries), step):
        similarity = queries[start : start + step] @ answers.T  # [some of Q, A]
        first.append(_first(similarity))
        for row, wanted in zip(similarity, right[start : start + step], strict=True):
            before = ~(row < row[wanted, None] - _TIE)  # [right ones, A]
            before[:, wanted] = False
            ranks.append(before.sum(1).tolist())
    return Ranks(right=ranks, best=np.array([min(each) for each in ranks]), first=np.concatenate(first))


def _first(similarity: np.ndarray) -> np.ndarray:
    """The columns of the largest values in each row, largest first, equal ones in their order: int [Q, up to 10]."""
    kept = min(_SHOWN, similarity.shape[1])
    likely = np.sort(np.argpartition(-similarity, kept - 1, axis=1)[:, :kept], axis=1)
    order = np.argsort(-np.take_along_axis(similarity, likely, axis=1), axis=1, kind="stable")
    return np.take_along_axis(likely, order, axis=1)


def _embed_texts(image_text: ImageText, sentences: Sequence[str], *, store: Store) -> np.ndarray:
    """Unit embeddings of sentences, float64 [T, D], remembered for all models that share the text tower."""

    def embed() -> dict[str, np.ndarray]:
        some = (sentences[start : start + _TEXTS] for start in range(0, len(sentences), _TEXTS))
        return {"texts": np.concatenate([image_text.encode_text(texts).float().cpu().numpy() for texts in some])}

    if not store.remembers:
        return embed()["texts"].astype(np.float64)
    known = key("captions", image_text.text_key(), code_behind(image_text), list(sentences))
    return store.recall(known, embed)["texts"].astype(np.float64)


def _write(predictions: Predictions, gallery: Gallery, found: Ranks, finding: Ranks) -> None:
    """One line for each query: what was right, how many wrong answers came before, and what came first."""
    if not predictions.wanted:
        return
    names, sentences = gallery.names, gallery.sentences
    directions = (
        ("image_to_text.jsonl", names, sentences, gallery.spoken, found),
        ("text_to_image.jsonl", sentences, names, gallery.spoken_of, finding),
    )
    for file, queries, answers, right, ranks in directions:
        for query, wanted, before, first in zip(queries, right, ranks.right, ranks.first, strict=True):
            predictions.line(
                file,
                {
                    "query": query,
                    "right": [answers[number] for number in wanted],
                    "ranks": before,
                    "first": [answers[number] for number in first],
                },
            )
