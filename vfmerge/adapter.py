"""The interface between the engine and a parent: all that the engine knows of a model.

One adapter is one parent. It can *teach* (`teacher`), be *answered* (`head`) and *mark* the answer (`loss`); a base
adapter can also *lend its trunk*. What a person does with the model is its `capability`, for parent and merged alike.
A task that is learnt from the data's labels has no parent: a labelled adapter builds it upon the heads of others.

This file imports no torch, and an adapter's module should not either until one of its methods is called: `vfmerge ls`,
`vfmerge check` and a mistyped recipe then answer at once. `adapters/README.md` shows how to write one.

Axis letters: B images, C channels, h x w cells, H x W pixels, D summary width, M masks of all images together.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import Capability
    from vfmerge.model import Network

INTERFACE = 2
"""The version of what this file asks of an adapter. An adapter says which one it was written for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """What a trunk promises: channels and stride (pixels a cell) of each map, finest first; the summary's width.

    heads: attention heads of the trunk's blocks, where it has such; a head that starts from a block needs to know.
    fixed_size: side in pixels of the only square that it takes; none where it takes every multiple of its strides.
    origin: of the trunk of an earlier merge, which one that was: a head that was its own there is its own again.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    summary: int | None = None
    heads: int | None = None
    fixed_size: int | None = None
    origin: str | None = None

    def fit(self, side: int) -> int:
        """The side in pixels nearest to this one that the trunk takes."""
        stride = max(self.strides)
        return self.fixed_size or max(1, round(side / stride)) * stride


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """What a trunk gives: maps [B, C, h, w], finest first, and a summary [B, D] or none."""

    maps: tuple[Tensor, ...]
    summary: Tensor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one stream at one size.

    images: float [B, 3, H, W], RGB in [0, 1], padded below and to the right where the picture is not square. Until `to`
    has brought them to their device they are uint8 in 0..255: a quarter of the bytes on the way.
    keys: B integers, one per sample and step: whatever an adapter draws at random for a sample, it draws from its key.
    names: B names of samples, for messages and caches.
    masks: bool [M, H', W'] over the padded picture, at the stream's size or at most 256 pixels, or none.
    owner: int64 [M], which image each mask belongs to, or none.
    labels: int64, a class per mask [M] (or per image [B] where there are no masks), or none.
    classes: the names that labels count, those of the stream's data; none where it has no classes.
    rough: bool [M], masks that say where a thing is and not how it is outlined (a box, a whole picture); none: none is.
    """

    images: Tensor
    keys: tuple[int, ...]
    names: tuple[str, ...]
    masks: Tensor | None = None
    owner: Tensor | None = None
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    rough: Tensor | None = None

    def to(self, device: str) -> Batch:
        """The same batch on a device, ready for networks: its images in [0, 1]."""
        return dataclasses.replace(
            self,
            images=_in_unit_range(self.images.to(device)),
            masks=None if self.masks is None else self.masks.to(device),
            owner=None if self.owner is None else self.owner.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            rough=None if self.rough is None else self.rough.to(device),
        )


def _in_unit_range(images: Tensor) -> Tensor:
    """Images in [0, 1] as they are, those in 0..255 divided: to the same bits on every device."""
    if images.is_floating_point():
        return images
    floats = images.float()
    return floats.div_(floats.new_full((), 255))  # by a plain number CUDA would multiply with its rounded inverse


class Adapter(abc.ABC):
    """One task. Its options are the keyword-only, annotated parameters of its `__init__`, checked by the recipe.

    Making an adapter reads no weights, builds no network and imports no torch; what is wrong with its options is an
    `InputError` that names the option.
    """

    interface: ClassVar[int]
    """The version of this interface that the adapter was written for: a plain number, not `INTERFACE` itself."""

    licence: str = "unknown"
    """The licence of the weights, an SPDX name where there is one: it goes into the manifest and the model card."""

    needs_masks: bool = False
    """Whether its task is learnt from masks, so that its streams' data must have some."""

    needs_labels: bool = False
    """Whether its task is learnt from classes, so that its streams' data must have some."""

    sources: tuple[Path, ...] = ()
    """Files that hold the parent's weights: they must exist, and are hashed into the run's manifest."""

    @abc.abstractmethod
    def portable(self) -> dict[str, Any]:
        """Options, plain as JSON, from which the same class makes the same shapes without any file of the parent.

        They go into a merged model's `config.json`.
        """

    @abc.abstractmethod
    def loss(self, answer: Any, target: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Named terms, already weighted against each other, each one number per image [B] or per mask [M].

        It changes nothing of what it is given; a head that keeps statistics of its targets has `observe`.
        target: what the teacher says of the batch; none for a task that is learnt from labels.
        """

    @abc.abstractmethod
    def capability(self, network: Network) -> Capability:
        """What a person does with a network: the parent (as `teacher` gave it) or the merged model's own."""


class AuxiliaryAdapter(Adapter):
    """One parent, which teaches a head of its own."""

    @property
    def teaches_at(self) -> int | None:
        """Side in pixels at which the teacher looks at a batch, its `Network.size`; none is the stream's own."""
        return None

    @abc.abstractmethod
    def teacher(self) -> Network:
        """The parent itself with its weights, in eval mode: its own trunk and its own head, Batch -> target.

        The target is opaque to the engine: a tensor or a tuple of tensors with the images (or masks) as first axis.
        """

    @abc.abstractmethod
    def head(self, features: FeatureSpec) -> nn.Module:
        """The trainable module (Features, Batch) -> answer on a trunk that gives `features`: its shape, no weights.

        A frozen part that the capability needs (a text tower, a prompt encoder) belongs to the head, with
        `requires_grad` off.
        """

    @abc.abstractmethod
    def start(self, head: nn.Module, trunk: nn.Module, teacher: Network) -> None:
        """Give a new head its first weights in place, from the teacher's or from those of the trunk it will sit on."""

    def calibrate(self, head: nn.Module, targets: Iterator[Any]) -> None:
        """Set what a head keeps of its targets' statistics, in place, before the first step that teaches it.

        targets: what the teacher says of the first batches of the first stream that teaches the task, made one by one
        as they are asked for, without end. Most heads keep no statistics and ask for none.
        """

    def observe(self, head: nn.Module, target: Any) -> None:
        """Let statistics of its targets that run go on, in the head's buffers, by what the teacher says of one batch.

        Called in every step for a head that learns, or that has nothing to learn: a base's own. Where the step is then
        left out because something in it was not finite, all buffers are put back. Most heads keep no statistics.
        """

    def target(self, answer: Any) -> Any:
        """A head's answer in the form of a target, for a merged model that teaches what it was taught.

        Most heads answer as their teachers do.
        """
        return answer


class BaseAdapter(AuxiliaryAdapter):
    """A parent that can lend its trunk: `teacher().trunk` has the same parameter names as `trunk()`."""

    @property
    @abc.abstractmethod
    def features(self) -> FeatureSpec:
        """What the trunk promises."""

    @abc.abstractmethod
    def trunk(self) -> nn.Module:
        """images [B, 3, H, W] in [0, 1] -> Features: its shape, no weights. It normalises the images itself."""

    @abc.abstractmethod
    def own_head(self) -> nn.Module:
        """The parent's own head for its own trunk, (Features, Batch) -> answer: its shape, no weights.

        `start` fills it as it does the others, so that an untrained merged model equals its base.
        """


class LabelledAdapter(Adapter):
    """A task without a teacher: it is learnt from the labels of a batch, upon what other tasks of the model can do."""

    @abc.abstractmethod
    def upon(self) -> dict[str, str]:
        """Which parents it is built upon: by the name of the capability that it asks of each, the parent's name."""

    @abc.abstractmethod
    def head(self, features: FeatureSpec, upon: Mapping[str, Capability]) -> nn.Module:
        """The trainable module (Features, Batch) -> answer: its shape, no weights.

        upon: by role, what the same merged model can do with the heads of those parents. Their modules stay theirs:
        the head may keep the capabilities, which are no modules, and never registers a part of them as its own.
        Raises InputError where one is not of a kind that it can be built upon.
        """

    @abc.abstractmethod
    def start(self, head: nn.Module) -> None:
        """Give a new head its first weights in place; the heads that it is built upon have theirs already."""

    @abc.abstractmethod
    def path(self, head: nn.Module) -> list[nn.Module]:
        """All modules beside the trunk that answer one question, its own and those of others: for counting them."""
