"""SAM (Kirillov et al., ICCV 2023, arXiv 2304.02643): the real `segment_anything` classes as a base or an auxiliary.

The trunk is the image encoder without its neck; the head is neck, prompt encoder (frozen) and mask decoder. It is
learnt from the frozen parent's mask scores, or from its image embedding: then the decoder stays the parent's too.
Imports torch only when a method is called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from vfmerge.adapter import BaseAdapter, Batch, FeatureSpec
from vfmerge.errors import InputError
from vfmerge.features.settings import Distill

from ..promptable.loss import Rehearsal
from .geometry import VARIANTS, Geometry, build

if TYPE_CHECKING:
    from segment_anything.modeling import Sam
    from torch import Tensor, nn

    from vfmerge.capability import Promptable
    from vfmerge.model import Network

    from .approach import Approach
    from .pyramid_neck import PyramidNeck

_MSE = Distill(summary="none", cells="mse")  # Open-Vocabulary SAM's SAM2CLIP, arXiv 2401.02955
_SHIPPED = Path(__file__).parent.parent / "tiny" / "sam.safetensors"


class SAM(BaseAdapter):
    """Segment Anything: promptable masks.

    variant: vit_b, vit_l, vit_h, or tiny (vfmerge's own, shipped with its weights).
    checkpoint: a state dict as Meta publishes them (.pth) or the same as .safetensors.
    random: take random weights instead of a checkpoint, for dry runs and tests.
    geometry: numbers of the variant to change, by the names of `Geometry` (for example `{depth: 4, width: 64}`).
    focal, dice: weights of the two mask losses; SAM's own are 20 and 1.
    iou: weight of the squared error on predicted IoU scores. Not in SAM-CLIP; SAM's own training had 1.
    learn: masks, of prompts simulated from the data's masks; or features, the image embedding, of any pictures.
    blocks: SAM's blocks in a learned neck on another model's trunk; Open-Vocabulary SAM has 5, 0 is no such neck.
    distill: how features are learnt; none is by MSE as they are (Open-Vocabulary SAM). `layers` go before SAM's own
        neck, which takes the place of an MLP: `hidden` says nothing here, and SAM has no summary.
    size: side in pixels at which the parent teaches, whatever the stream's is; none is the stream's own for masks, and
        the parent's own for features.
    """

    interface = 2
    licence = "Apache-2.0"

    def __init__(
        self,
        *,
        variant: Literal["vit_b", "vit_l", "vit_h", "tiny"] = "vit_b",
        checkpoint: str | None = None,
        random: bool = False,
        geometry: dict[str, int | list[int]] | None = None,
        focal: float = 20.0,
        dice: float = 1.0,
        iou: float = 0.0,
        learn: Literal["masks", "features"] = "masks",
        blocks: Annotated[int, Field(ge=0)] = 0,
        distill: Distill | None = None,
        size: int | None = None,
    ) -> None:
        self._variant = variant
        self._changes = dict(geometry or {})
        self.geometry = _change(VARIANTS[variant], self._changes)
        self._rehearsal = Rehearsal(focal=focal, dice=dice, iou=iou)
        self._learn, self._blocks, self._given = learn, blocks, distill
        self._distill = distill or _MSE
        self.needs_masks = learn == "masks"
        self._size = _size(size, patch=self.geometry.patch_size)
        _check_distill(distill, learn=learn, blocks=blocks)
        self.sources = _sources(variant, checkpoint, random, changed=bool(geometry))

    def portable(self) -> dict[str, Any]:
        settings = self._given and self._given.model_dump(mode="json")
        taught = {"learn": self._learn, "blocks": self._blocks, "distill": settings, "size": self._size}
        shape = {"variant": self._variant, "geometry": self._changes, "random": True}
        return shape | self._rehearsal.weights() | taught

    @property
    def teaches_at(self) -> int | None:
        own = self.geometry.image_size if self._learn == "features" else None
        return self._size or own

    def teacher(self) -> Network:
        """Batch -> mask logits and IoU scores of simulated prompts, or the image embedding [B, C, h, w]."""
        import torch

        from vfmerge import random, weights
        from vfmerge.model import Network

        from .network import MaskHead, ParentHead, Trunk

        with torch.random.fork_rng(devices=[]):  # a random parent is the same each time it is opened
            torch.manual_seed(random.key("sam", repr(self.geometry)))
            sam = build(self.geometry)
        for source in self.sources:
            weights.fit(sam, weights.read(source), source=str(source))
        if self._learn == "masks":
            return Network(Trunk(sam.image_encoder), MaskHead(sam), size=self.teaches_at).eval()
        return Network(Trunk(sam.image_encoder), ParentHead(sam), size=self.teaches_at).eval()

    @property
    def features(self) -> FeatureSpec:
        g = self.geometry
        return FeatureSpec(channels=(g.width,), strides=(g.patch_size,), heads=g.heads)

    def trunk(self) -> nn.Module:
        from .network import Trunk

        return Trunk(build(self.geometry).image_encoder)

    def head(self, features: FeatureSpec) -> nn.Module:
        """SAM's own neck and decoder; before them the learned neck's blocks, or what fits the neck to the trunk.

        Raises InputError where the learned neck cannot embed the trunk's maps.
        """
        from vfmerge.features.standard import standard

        from .network import EmbeddingHead, MaskHead

        sam, approach = self._approach(features)
        if self._learn == "features":
            scale = standard(self._distill, self.geometry.decoder_width)
            return EmbeddingHead(sam, spec=features, approach=approach, standard=scale)
        head = MaskHead(sam, spec=features, approach=approach)
        head.prompt_encoder.requires_grad_(False)
        return head

    def _approach(self, features: FeatureSpec) -> tuple[Sam, Approach | PyramidNeck]:
        """The way from another model's trunk to SAM's neck, and a SAM whose neck is as wide as the way's end."""
        from vfmerge.features.gather import nearest_map

        from .approach import Approach
        from .pyramid_neck import PyramidNeck

        g = self.geometry
        if self._blocks:
            sam = build(dataclasses.replace(g, depth=self._blocks, global_blocks=(self._blocks - 1,)))
            return sam, PyramidNeck(sam.image_encoder, spec=features)
        width = features.channels[nearest_map(features, g.patch_size)]
        sam = build(dataclasses.replace(g, width=width, heads=1, depth=0))
        return sam, Approach(features, patch=g.patch_size, layers=self._distill.layers)

    def own_head(self) -> nn.Module:
        """Neither layers nor blocks before its own neck, which needs none."""
        from vfmerge.features.standard import standard

        from .network import EmbeddingHead, MaskHead

        sam = build(dataclasses.replace(self.geometry, depth=0))
        if self._learn == "features":
            return EmbeddingHead(sam, standard=standard(self._distill, self.geometry.decoder_width))
        head = MaskHead(sam)
        head.prompt_encoder.requires_grad_(False)
        return head

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """The parent's own decoder; its neck too where that is as wide; what comes before the neck by its own rule."""
        own, new = teacher.head.state_dict(), head.state_dict()
        head.load_state_dict(new | {name: value for name, value in own.items() if value.shape == new[name].shape})
        head.approach.start(trunk, teacher.trunk)

    def calibrate(self, head: Any, targets: Iterator[Tensor]) -> None:
        """Fit the scale of features to those of the first pictures, where there is a scale to fit."""
        from vfmerge.features import marking

        if self._learn == "features":
            named = ({"cells": target} for target in targets)
            marking.calibrate({"cells": head.standard}, named, pictures=self._distill.pictures)

    def observe(self, head: Any, target: Any) -> None:
        """Let the scale of features go on, where its statistics run."""
        from vfmerge.features import marking

        if self._learn == "features":
            marking.observe({"cells": head.standard}, {"cells": target})

    def target(self, answer: Any) -> Any:
        """An embedding without its scale."""
        return answer if self._learn == "masks" else answer.parts["cells"]

    def loss(self, answer: Any, target: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Masks and scores of each prompt [M] against the frozen parent's, or embeddings of each image [B].

        SAM-CLIP, arXiv 2310.15308, equation 2; Open-Vocabulary SAM's SAM2CLIP, arXiv 2401.02955.
        """
        if self._learn == "masks":
            return self._rehearsal.terms(answer, target)
        from vfmerge.features import marking

        return marking.mark(answer, {"cells": target}, self._distill)

    def capability(self, network: Network) -> Promptable:
        from .use import SamSegmenter

        return SamSegmenter(network)


def _change(geometry: Geometry, changes: dict[str, int | list[int]]) -> Geometry:
    """The geometry with some numbers changed; an InputError names a number that it has not."""
    known = {field.name for field in dataclasses.fields(Geometry)}
    for name, value in changes.items():
        if name not in known:
            raise InputError(f"geometry.{name}: SAM has no such number; it has {', '.join(sorted(known))}")
        if isinstance(value, list) != (name == "global_blocks"):
            raise InputError(
                f"geometry.{name}: {value!r} should be {'a list' if name == 'global_blocks' else 'a number'}"
            )
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    changed = dataclasses.replace(geometry, **plain)  # type: ignore[arg-type]
    if changed.width % changed.heads or changed.decoder_width % 8 or changed.image_size % changed.patch_size:
        raise InputError(
            f"geometry: width {changed.width} must divide by heads {changed.heads}, decoder_width "
            f"{changed.decoder_width} by 8, image_size {changed.image_size} by patch_size {changed.patch_size}"
        )
    return changed


def _size(size: int | None, *, patch: int) -> int | None:
    if size is not None and (size < patch or size % patch):
        raise InputError(f"size: {size} is no multiple of SAM's {patch} pixels a cell; mend it")
    return size


def _check_distill(distill: Distill | None, *, learn: str, blocks: int) -> None:
    if distill is None:
        return
    if blocks and distill.layers:
        raise InputError("distill.layers: stand in the place of the neck's blocks; leave out one of the two")
    if learn == "masks":
        raise InputError("distill: says how features are learnt, and masks are; leave it out, or `learn: features`")
    if distill.cells == "none":
        raise InputError("distill.cells: none, and SAM has no other features; give a loss, or `learn: masks`")


def _sources(variant: str, checkpoint: str | None, random: bool, *, changed: bool) -> tuple[Path, ...]:
    if random and checkpoint:
        raise InputError("random: true contradicts checkpoint; give one of the two")
    if random:
        return ()
    if checkpoint:
        return (Path(checkpoint).expanduser(),)
    if variant == "tiny" and not changed:
        return (_SHIPPED,)
    raise InputError(f"checkpoint: missing for variant {variant}; give the .pth that Meta publishes (or random: true)")
