"""Checks of shapes: what can be known of trunk and head without weights.

Axis letters: B images, C channels, h x w cells, H x W pixels, D summary width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from vfmerge.adapter import AuxiliaryAdapter, BaseAdapter, Features, FeatureSpec
from vfmerge.model import count
from vfmerge.testing.case import SINGLE, TASK, TRUNKS, Case
from vfmerge.testing.finding import Broken


def shapes_need_no_memory(case: Case) -> None:
    """Trunk and heads can be built on the meta device."""
    for name, module in _networks(case.adapter).items():
        real = [key for key, tensor in module.state_dict().items() if not tensor.is_meta]
        if real:
            raise Broken(f"{name}: {real[0]} is not on the default device; make tensors without naming one")


def portable_makes_the_same_shapes(case: Case) -> None:
    """What `portable()` rebuilds has the same shapes."""
    ours, theirs = _networks(case.adapter), _networks(case.rebuild())
    for name, module in ours.items():
        difference = _unlike(module, theirs[name])
        if difference:
            raise Broken(f"{name}: {difference}; `portable()` must hold all that shapes depend on")


def trunk_keeps_its_promise(case: Case) -> None:
    """The trunk gives what `features` promises.

    At several sizes, and where height and width differ.
    """
    base = case.base
    trunk = base.trunk().to(case.device).eval()
    small, large = case.sizes
    only = base.features.fixed_size
    for height, width in [(only, only)] if only else [(small, small), (large, large), (small, large)]:
        with torch.no_grad():
            found = trunk(torch.rand(2, 3, height, width, device=case.device))
        _require_promise(found, base.features, height=height, width=width)


def trunk_is_the_teachers(case: Case) -> None:
    """The trunk has the names of the teacher's parameters.

    And their shapes.
    """
    difference = _unlike(case.base.trunk(), case.teacher.trunk)
    if difference:
        raise Broken(f"{difference}; the teacher's weights are copied over by name")


def head_fits_any_trunk(case: Case) -> None:
    """The head learns on a trunk of one map, or a pyramid.

    With and without a summary, at several sizes.
    """
    for spec in TRUNKS:
        model = case.merged(spec)
        if not count(model.heads[TASK]):
            raise Broken("its head has no parameters, so it cannot learn on another trunk")
        for size in case.sizes:
            try:
                terms = case.learn(model, case.batch(size=size))
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise Broken(f"on maps of stride {list(spec.strides)}, at {size} pixels: {said}") from error
            if not all(torch.isfinite(term).all() for term in terms.values()):
                raise Broken(f"on maps of stride {list(spec.strides)}, at {size} pixels: its loss is not finite")


def _networks(adapter: AuxiliaryAdapter) -> dict[str, nn.Module]:
    """Its networks on the meta device."""
    with torch.device("meta"):
        found = {"head()": adapter.head(SINGLE)}
        if isinstance(adapter, BaseAdapter):
            found |= {"trunk()": adapter.trunk(), "own_head()": adapter.own_head()}
    return found


def _unlike(ours: nn.Module, theirs: nn.Module) -> str:
    """The first difference between two modules' tensors in words; nothing where they have the same."""
    left, right = _shapes(ours), _shapes(theirs)
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            return f"{name} is {left.get(name, 'missing')} here and {right.get(name, 'missing')} there"
    return ""


def _shapes(module: nn.Module) -> Mapping[str, object]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def _require_promise(found: object, spec: FeatureSpec, *, height: int, width: int) -> None:
    if not isinstance(found, Features):
        raise Broken(f"it gives {type(found).__name__}; give vfmerge.adapter.Features")
    wanted = [
        (2, channels, height // stride, width // stride)
        for channels, stride in zip(spec.channels, spec.strides, strict=True)
    ]
    maps = [tuple(each.shape) for each in found.maps]
    summary = None if found.summary is None else tuple(found.summary.shape)
    promised = None if spec.summary is None else (2, spec.summary)
    if maps != wanted or summary != promised:
        at = f"{height} x {width} pixels"
        raise Broken(f"at {at} maps {maps} and summary {summary}, but promised are {wanted} and {promised}")
