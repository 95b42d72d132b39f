"""CLIP2SAM: prompted masks get names out of an open vocabulary. Open-Vocabulary SAM, arXiv 2401.02955, section 3.3.

A task without a parent: learnt from masks that have classes, upon a SAM and a CLIP in one merged model. Where paper and
published code differ, the defaults are the code's. Imports no torch until one of its methods is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from vfmerge.adapter import Batch, FeatureSpec, LabelledAdapter
from vfmerge.capability import Capability, ImageText, Promptable, PromptableRecognition
from vfmerge.errors import InputError
from vfmerge.templates import Templates

from .loss import Lesson

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.model import Network

Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class CLIP2SAM(LabelledAdapter):
    """Names for prompted masks, upon a SAM and a CLIP (Open-Vocabulary SAM).

    promptable, image_text: the parents that it is built upon: one of adapter `sam`, and one that knows texts.
    fpn: name things by their regions of a feature pyramid.
    use_label_token: name things by what a token of the decoder's learns of them, as the paper has it; with `fpn`, the
        two are added. The published code multiplies the token's part by zero.
    templates: the sentences of a class; the nearest of them counts.
    side: cells along a side of a region. scale: natural logarithm of what cosines are multiplied by.
    names, masks, dice: weights of the losses. points: of a mask, where its losses are taken. oversample, importance:
        as many candidates a point, and the share of points that are chosen for being uncertain (PointRend).
    fuse: whether the frozen CLIP's own opinion is heard, with the part alpha on classes that were seen in training, and
        beta on others.
    """

    interface = 2
    licence = "Apache-2.0"  # SAM's: its decoder is where this one starts; all else is learnt from the data's labels
    needs_masks = True
    needs_labels = True

    def __init__(
        self,
        *,
        promptable: str = "sam",
        image_text: str = "clip",
        fpn: bool = True,
        use_label_token: bool = False,
        templates: Templates = "vild",
        side: Count = 12,
        scale: Annotated[float, Field(gt=0, le=10)] = 4.6052,
        names: Weight = 2.0,
        masks: Weight = 5.0,
        dice: Weight = 5.0,
        points: Count = 12544,
        oversample: Annotated[float, Field(ge=1)] = 3.0,
        importance: Share = 0.75,
        alpha: Share = 0.1,
        beta: Share = 0.9,
        fuse: bool = True,
    ) -> None:
        if not (fpn or use_label_token):
            raise InputError("fpn: false, and use_label_token too, leave nothing to name things by; switch one on")
        self._parents = {Promptable.name: promptable, ImageText.name: image_text}
        self._shape: dict[str, Any] = {"fpn": fpn, "use_label_token": use_label_token, "side": side, "scale": scale}
        self._templates: Templates = templates
        self._fusion: dict[str, Any] = {"alpha": alpha, "beta": beta, "fuse": fuse}
        self._lesson = Lesson(
            names=names, masks=masks, dice=dice, points=points, oversample=oversample, importance=importance
        )

    def portable(self) -> dict[str, Any]:
        templates = self._templates if isinstance(self._templates, str) else list(self._templates)
        return self._parents | self._shape | {"templates": templates} | self._lesson.options() | self._fusion

    def upon(self) -> dict[str, str]:
        return dict(self._parents)

    def head(self, features: FeatureSpec, upon: Mapping[str, Capability]) -> nn.Module:
        """Mask logits [M, 4h, 4w], and logits of the batch's classes and the background [M, T + 1]."""
        from ..sam.network import Head as SamHead
        from ..text_aligned.aligned import TextAligned
        from .head import Head

        promptable, image_text = upon[Promptable.name], upon[ImageText.name]
        if not isinstance(promptable.network.head, SamHead):
            raise InputError(
                f"promptable: {self._parents[Promptable.name]} is not of adapter sam; name a parent that is"
            )
        if not isinstance(image_text.network.head, TextAligned):
            name = self._parents[ImageText.name]
            raise InputError(f"image_text: {name} has no text tower of its own; name a parent that has")
        if self._fusion["fuse"] and not image_text.network.head.regional:
            name = self._parents[ImageText.name]
            raise InputError(f"fuse: {name} has no opinion of regions, only of whole images; write false")
        return Head(features, promptable=promptable, image_text=image_text, templates=self._templates, **self._shape)

    def start(self, head: Any) -> None:
        """The decoder begins as the SAM's, but for its label token; what names things begins at random."""
        head.start()

    def path(self, head: Any) -> list[nn.Module]:
        """Its own pyramid and decoder, the SAM's neck and prompt encoder; where they are fused, CLIP's projection."""
        own = [head.decoder] if head.fpn is None else [head.fpn, head.decoder]
        sam = [head.sam.approach, head.sam.neck, head.sam.prompt_encoder]
        clip = [part for name, part in head.clip.named_children() if name != "text"]  # a text is embedded once for all
        return [*own, *sam, *(clip if self._fusion["fuse"] else [])]

    def loss(self, answer: tuple[Tensor, Tensor], target: None, batch: Batch) -> Mapping[str, Tensor]:
        """Names, masks and Dice, per mask [M]: see `Lesson.terms`."""
        return self._lesson.terms(answer, batch)

    def capability(self, network: Network) -> PromptableRecognition:
        from .use import Recogniser

        return Recogniser(network, **self._fusion)
