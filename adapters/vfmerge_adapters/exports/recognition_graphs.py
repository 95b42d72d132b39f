"""A recogniser as graphs: masks of prompts, embeddings of their regions, and names out of a vocabulary of texts.

A picture lies in the encoder's square, and a prompt in it, as for the promptable task that it is built upon, and the
neck is that task's. Texts are embedded by the text tower of the other. A region is named by the prompt's box, far edges
exclusive, and without one by the box that the decoder gives.

Axis letters: M prompts of all images together, H x W pixels of a picture, s x s of a low-resolution mask, T classes, S
sentences of a class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vfmerge.adapter import LabelledAdapter
from vfmerge.capability import ImageText, Promptable

from ..clip2sam.head import Head
from ..clip2sam.use import Recogniser
from .asked import Asked, asked_of
from .graph import Axes, Frame, Graph
from .parts import features_of
from .promptable_graphs import FREE, PROMPT, prompts
from .recognition_parts import Names, NamesAlone, Outliner, Pyramid, Regions, Stability
from .task_graphs import Answers, Say, TaskGraphs

if TYPE_CHECKING:
    import numpy as np

_WORDS = ("thing", "red star", "photograph")  # what the proof's things are named by; the last as if never taught
_MASKS = (2, 48, 64)  # M, H, W of logits that the proof scores
_SENTENCES: Axes = {0: "classes", 1: "sentences"}


class RecognitionGraphs(TaskGraphs):
    """Beside the encoder and the neck of the promptable task: pyramid, decoder, regions, names and stability."""

    @property
    def frame(self) -> Frame:
        return self._head.sam.side, self._head.sam.side

    @property
    def _head(self) -> Head:
        head = self.model.heads[self.task]
        assert isinstance(head, Head)
        return head

    @property
    def _capability(self) -> Recogniser:
        capability = self.model.capability(self.task)
        assert isinstance(capability, Recogniser)
        return capability

    def _upon(self, role: str) -> str:
        """The task of a role that it is built upon."""
        adapter = self.model.adapters[self.task]
        assert isinstance(adapter, LabelledAdapter)
        return adapter.upon()[role]

    def seeing(self, features: Mapping[str, Tensor], *, frame: Frame) -> Iterator[Graph]:
        if frame != self.frame:
            return
        levels: dict[str, Tensor] = {}
        if self._head.fpn is not None:
            pyramid = Pyramid(self._head.fpn, maps=self._maps)
            levels = {f"level_{number}": each for number, each in enumerate(pyramid(*features.values()))}
            yield self._pyramid(pyramid, features, outputs=tuple(levels))
        seen = features_of(tuple(features.values()), maps=self._maps)
        given = prompts(self._head.sam.side, images=2, alike=False) | {"embedding_0": self._head.sam.embed(seen)[0]}
        outliner = Outliner(self._head)
        yield self._decoder(outliner, given)
        masks, tokens, boxes = outliner(*given.values())
        yield self._regions(
            {"boxes": boxes, "owner": given["owner"], "tokens": tokens, "masks": masks}, levels, features
        )

    def _pyramid(self, pyramid: Pyramid, features: Mapping[str, Tensor], *, outputs: tuple[str, ...]) -> Graph:
        return Graph(
            name=f"{self.task}_pyramid",
            about="features to what regions are named from: once for each image",
            module=pyramid,
            inputs=dict(features),
            free={name: {0: "images"} for name in features},
            outputs=outputs,
        )

    def _decoder(self, outliner: Outliner, given: dict[str, Tensor]) -> Graph:
        neck = f"{self._upon(Promptable.name)}_neck"
        return Graph(
            name=f"{self.task}_decoder",
            about=f"prompts on the embedding of {neck} to mask logits, label tokens, and the boxes of the masks in "
            f"pixels of the encoder's square, far edges exclusive; {PROMPT}",
            module=outliner,
            inputs=given,
            free={**FREE, "embedding_0": {0: "images"}},
            outputs=("logits", "tokens", "boxes"),
        )

    def _regions(self, given: dict[str, Tensor], levels: dict[str, Tensor], features: Mapping[str, Tensor]) -> Graph:
        fused = self._capability.shares is not None
        clip = "; regions: the same by the frozen CLIP; covered: whether a mask covers a cell of the CLIP's"
        return Graph(
            name=f"{self.task}_regions",
            about=f"boxes (a prompt's own, else the decoder's) to unit embeddings in the space of "
            f"{self._upon(ImageText.name)}_text{clip if fused else ''}",
            module=Regions(self._head, levels=len(levels), maps=self._maps, fused=fused),
            inputs=given | levels | dict(features),
            free={name: {0: "prompts"} for name in given} | {name: {0: "images"} for name in (*levels, *features)},
            outputs=("embeddings", "regions", "covered") if fused else ("embeddings",),
        )

    def further(self) -> Iterator[Graph]:
        shares = self._capability.shares
        width, draw = self._head.clip.embedding, torch.Generator().manual_seed(0)
        said = {"embeddings": torch.randn(3, width, generator=draw)}
        if shares is not None:
            said |= {"regions": torch.randn(3, width, generator=draw), "covered": torch.tensor([True, False, True])}
        known = {"words": torch.randn(4, 2, width, generator=draw)}
        if shares is not None:
            known |= {"seen": torch.tensor([True, True, False, True])}
        free: dict[str, Axes] = {name: {0: "prompts"} for name in said}
        taught = "; seen: whether a class was taught" if shares is not None else ""
        yield Graph(
            name=f"{self.task}_names",
            about=f"how likely each class is; words: unit embeddings of the sentences of each class{taught}",
            module=NamesAlone(self._head) if shares is None else Names(self._head, shares=shares),
            inputs=said | known,
            free=free | {"words": _SENTENCES, "seen": {0: "classes"}},
            outputs=("scores",),
        )
        yield Graph(
            name=f"{self.task}_stability",
            about="mask logits at the picture's own size to what stands for IoU scores, which no head gives here",
            module=Stability(),
            inputs={"logits": _logits()},
            free={"logits": {0: "prompts", 1: "height", 2: "width"}},
            outputs=("scores",),
        )

    def look(self, picture: np.ndarray) -> None:
        self._capability.set_image(picture)

    def said(self, say: Say, features: tuple[Tensor, ...], pictures: Sequence[np.ndarray]) -> Answers:
        """Of a box and a point in each picture: of several pictures all at once, of one each by itself."""
        (embedding, *_), part = say(f"{self._upon(Promptable.name)}_neck", features), self.task
        levels = () if self._head.fpn is None else say(f"{part}_pyramid", features)
        asked = asked_of(pictures, side=self._head.sam.side)
        found: Answers = {}
        for some in [asked] if len(pictures) > 1 else [[each] for each in asked]:
            found |= self._named(say, some, embedding, seen=[*levels, *features])
        (stable,) = say(f"{part}_stability", [_logits()])
        return found | {f"{part}: stability": stable}

    def _named(self, say: Say, asked: Sequence[Asked], embedding: Tensor, *, seen: Sequence[Tensor]) -> Answers:
        """What the graphs say of prompts. seen: what regions are read from."""
        vocabulary = self._capability.vocabulary(_WORDS, unseen=_WORDS[-1:])
        coords, labels, owner = (torch.cat(each) for each in zip(*(each.tokens() for each in asked), strict=True))
        masks, tokens, boxes = say(f"{self.task}_decoder", [coords, labels, owner, embedding])
        edges = torch.cat([each.edges(found) for each, found in zip(asked, boxes.split(1), strict=True)])
        found = say(f"{self.task}_regions", [edges, owner, tokens, masks, *seen])
        known = [vocabulary.words] if len(found) == 1 else [vocabulary.words, vocabulary.seen]
        (scores,) = say(f"{self.task}_names", [*found, *known])
        outlines = [each.placement.outward(low[:, None])[:, 0] for each, low in zip(asked, masks.split(1), strict=True)]
        return self._told(asked, outlines, scores.split(1))

    def said_beside(self, say: Say, features: tuple[Tensor, ...], *, frame: Frame) -> Answers:
        return {}

    def own(self, picture: np.ndarray) -> Answers:
        image, asked = self._capability.set_image(picture), asked_of([picture], side=self._head.sam.side)
        vocabulary = self._capability.vocabulary(_WORDS, unseen=_WORDS[-1:])
        found = [image.recognise(vocabulary, **each.given) for each in asked]
        return self._told(asked, [each.logits for each in found], [each.scores for each in found])

    def _told(self, asked: Sequence[Asked], outlines: Sequence[Tensor], scores: Sequence[Tensor]) -> Answers:
        """outlines, scores: mask logits [1, H, W] and scores [1, T] of each prompt.

        Scores also among the names alone: where the background is by far the likeliest, all others are nearly 0.
        """
        told: Answers = {}
        for each, outline, score in zip(asked, outlines, scores, strict=True):
            told[f"{self.task}: mask logits of {each}"] = outline
            told[f"{self.task}: scores of {each}"] = score
            told[f"{self.task}: names of {each}"] = score / score.sum(1, keepdim=True)
        return told


def _logits() -> Tensor:
    return 3 * torch.randn(_MASKS, generator=torch.Generator().manual_seed(0))
