"""Class names to text embeddings, by the prompt ensembling of CLIP (arXiv 2103.00020, section 3.1.4).

Axis letters: K classes, T templates, D embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from vfmerge.capability import Words
from vfmerge.provenance import code_behind
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
Templates = Literal["openai", "vild", "plain"] | Annotated[tuple[Sentence, ...], Field(min_length=1)]
"""The 80 that OpenAI published for ImageNet, 14 of ViLD's for things in scenes, one plain one, or one's own."""

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
VILD = (  # arXiv 2104.13921, of which Open-Vocabulary SAM (arXiv 2401.02955) takes these
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    *(f"a photo of a {size} {{}}." for size in ("small", "medium", "large")),
    *(f"This is a photo of a {size} {{}}." for size in ("small", "medium", "large")),
    *(f"There is a {size} {{}} in the scene." for size in ("small", "medium", "large")),
)
PLAIN = ("a photo of a {}.",)

_TEXTS = {"openai": OPENAI, "vild": VILD, "plain": PLAIN}
_AT_ONCE = 1024  # texts encoded in one call


def sentences(templates: Templates) -> tuple[str, ...]:
    """The sentences that a word stands for, or those that were given."""
    return _TEXTS[templates] if isinstance(templates, str) else templates


def embed_classes(model: Words, classes: Sequence[str], *, templates: Templates, store: Store) -> Tensor:
    """Unit embeddings of classes [K, D] on the CPU: each the mean of its T unit text embeddings, made unit again.

    store: where they are remembered by text tower, code, classes and templates; models that share these share them.
    """
    import torch
    import torch.nn.functional as F

    def means() -> Tensor:
        return F.normalize(torch.cat([each.mean(1) for each in _embed(model, classes, templates)]), dim=-1).cpu()

    if not store.remembers:
        return means()
    known = key("texts", model.text_key(), code_behind(model), list(classes), list(sentences(templates)))
    return torch.from_numpy(store.recall(known, lambda: {"words": means().numpy()})["words"])


def embed_sentences(model: Words, classes: Sequence[str], *, templates: Templates) -> Tensor:
    """Unit embeddings of every sentence of every class [K, T, D], where the model is."""
    import torch

    return torch.cat(list(_embed(model, classes, templates)))


def _embed(model: Words, classes: Sequence[str], templates: Templates) -> Iterator[Tensor]:
    """Unit embeddings [k, T, D] of a few classes at a time."""
    filled = sentences(templates)
    step = max(_AT_ONCE // len(filled), 1)
    for start in range(0, len(classes), step):
        some = classes[start : start + step]
        texts = [sentence.format(name) for name in some for sentence in filled]
        yield model.encode_text(texts).view(len(some), len(filled), -1).float()
