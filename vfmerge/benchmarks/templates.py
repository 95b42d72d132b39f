"""Class names to text embeddings, by the prompt ensembling of CLIP (arXiv 2103.00020, section 3.1.4).

Axis letters: K classes, T templates, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from vfmerge.capability import ImageText
from vfmerge.store import Store, key

if TYPE_CHECKING:
    from torch import Tensor


def _with_place(sentence: str) -> str:
    """A sentence with one place for the name of a class, which is written {}."""
    if sentence.count("{}") != 1 or "{" in sentence.replace("{}", "") or "}" in sentence.replace("{}", ""):
        remedy = "write {} once, where the name of the class goes, and no other brace"
        raise PydanticCustomError("refused", "{problem}", {"problem": "no template", "remedy": remedy})
    return sentence


Sentence = Annotated[str, AfterValidator(_with_place)]
Templates = Literal["openai", "plain"] | Annotated[tuple[Sentence, ...], Field(min_length=1)]
"""The 80 templates that OpenAI published for ImageNet, one plain sentence, or sentences of one's own."""

OPENAI = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)
PLAIN = ("a photo of a {}.",)

_TEXTS = {"openai": OPENAI, "plain": PLAIN}
_AT_ONCE = 1024  # texts encoded in one call


def embed_classes(model: ImageText, classes: Sequence[str], *, templates: Templates, store: Store) -> Tensor:
    """Unit embeddings of classes [K, D] on the CPU: each the mean of its T unit text embeddings, made unit again.

    store: where they are remembered by text tower, classes and templates; models that share a tower share them.
    """
    import torch

    sentences = _TEXTS[templates] if isinstance(templates, str) else templates
    if not store.remembers:
        return _embed(model, classes, sentences)
    known = key("texts", model.text_key(), list(classes), list(sentences))
    kept = store.recall(known, lambda: {"words": _embed(model, classes, sentences).numpy()})
    return torch.from_numpy(kept["words"])


def _embed(model: ImageText, classes: Sequence[str], sentences: Sequence[str]) -> Tensor:
    import torch
    import torch.nn.functional as F

    step = max(_AT_ONCE // len(sentences), 1)
    means = []
    for start in range(0, len(classes), step):
        some = classes[start : start + step]
        texts = [sentence.format(name) for name in some for sentence in sentences]
        means.append(model.encode_text(texts).view(len(some), len(sentences), -1).mean(1))
    return F.normalize(torch.cat(means).float(), dim=-1).cpu()
