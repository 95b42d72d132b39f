"""SAM (Kirillov et al., ICCV 2023, arXiv 2304.02643): the real `segment_anything` classes as a base or an auxiliary.

The trunk is the image encoder without its neck; the head is neck, prompt encoder (frozen) and mask decoder. It is
rehearsed on the frozen parent's mask scores. Imports torch only when a method is called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vfmerge.adapter import BaseAdapter, Batch, FeatureSpec
from vfmerge.errors import InputError

from .geometry import VARIANTS, Geometry, build

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import Promptable
    from vfmerge.model import Network

_SHIPPED = Path(__file__).parent.parent / "tiny" / "sam.safetensors"


class SAM(BaseAdapter):
    """Segment Anything: promptable masks.

    variant: vit_b, vit_l, vit_h, or tiny (vfmerge's own, shipped with its weights).
    checkpoint: a state dict as Meta publishes them (.pth) or the same as .safetensors.
    random: take random weights instead of a checkpoint, for dry runs and tests.
    geometry: numbers of the variant to change, by the names of `Geometry` (for example `{depth: 4, width: 64}`).
    focal, dice: weights of the two mask losses; SAM's own are 20 and 1.
    iou: weight of the squared error on predicted IoU scores. Not in SAM-CLIP; SAM's own training had 1.
    """

    licence = "Apache-2.0"
    needs_masks = True

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
    ) -> None:
        self._variant = variant
        self._changes = dict(geometry or {})
        self.geometry = _change(VARIANTS[variant], self._changes)
        self._weights = {"focal": focal, "dice": dice, "iou": iou}
        self.sources = _sources(variant, checkpoint, random, changed=bool(geometry))
        g = self.geometry
        self.features = FeatureSpec(channels=(g.width,), strides=(g.patch_size,), heads=g.heads)

    def portable(self) -> dict[str, Any]:
        return {"variant": self._variant, "geometry": self._changes, "random": True} | self._weights

    def teacher(self) -> Network:
        import torch

        from vfmerge import random, weights
        from vfmerge.model import Network

        from .network import MaskHead, Trunk

        with torch.random.fork_rng(devices=[]):  # a random parent is the same each time it is opened
            torch.manual_seed(random.key("sam", repr(self.geometry)))
            sam = build(self.geometry)
        for source in self.sources:
            weights.fit(sam, weights.read(source), source=str(source))
        return Network(Trunk(sam.image_encoder), MaskHead(sam)).eval()

    def trunk(self) -> nn.Module:
        from .network import Trunk

        return Trunk(build(self.geometry).image_encoder)

    def head(self, features: FeatureSpec) -> nn.Module:
        """SAM's own neck and decoder; on a wider or narrower trunk the neck's first convolution fits itself to it."""
        from .network import MaskHead

        head = MaskHead(build(dataclasses.replace(self.geometry, width=features.channels[0], heads=1, depth=0)))
        head.prompt_encoder.requires_grad_(False)
        return head

    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """The parent's own decoder; its neck too where the trunk is as wide as the parent's."""
        own, new = teacher.head.state_dict(), head.state_dict()
        head.load_state_dict(new | {name: value for name, value in own.items() if value.shape == new[name].shape})

    def loss(self, answer: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], batch: Batch) -> Mapping[str, Tensor]:
        """Mask scores against the frozen parent's, SAM-CLIP equation 2: per mask [M], averaged over its four outputs.

        Which of SAM's outputs to distil is not stated in the paper: all four, each against the parent's own (chosen
        here), so that single and ambiguous prompts are both rehearsed.
        """
        from vfmerge import losses

        logits, goal = answer[0].flatten(0, 1), target[0].flatten(0, 1).sigmoid()
        shape = answer[1].shape  # [M, 4]
        terms = {
            "focal": self._weights["focal"] * losses.soft_focal(logits, goal).view(shape).mean(1),
            "dice": self._weights["dice"] * losses.soft_dice(logits, goal).view(shape).mean(1),
        }
        if self._weights["iou"]:
            terms["iou"] = self._weights["iou"] * losses.squared(answer[1], target[1])
        return terms

    def capability(self, network: Network) -> Promptable:
        from .use import Segmenter

        return Segmenter(network, size=self.geometry.image_size)


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
