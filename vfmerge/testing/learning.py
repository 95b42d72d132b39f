"""Checks of the loss and of what learns from it: a head on a trunk that it has never met.

Axis letters: B images, M masks of all images together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vfmerge.adapter import BaseAdapter
from vfmerge.model import MergedModel
from vfmerge.testing.case import SINGLE, TASK, Case, parts, without_masks
from vfmerge.testing.finding import Broken, NotChecked

_STEPS = 10
_RATE = 1e-3  # of AdamW: what a new head learns with in most recipes (chosen here)


def loss_is_of_each_sample(case: Case) -> None:
    """The loss is one finite number a sample.

    An image, or a mask.
    """
    batch = case.batch()
    terms = case.learn(case.merged(SINGLE), batch)
    counts = {len(batch.names)} | (set() if batch.masks is None else {len(batch.masks)})
    if not isinstance(terms, Mapping) or not terms:
        raise Broken(f"it is a {type(terms).__name__}; give a mapping with at least one term")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.dim() != 1 or len(term) not in counts:
            shape = list(term.shape) if isinstance(term, Tensor) else type(term).__name__
            wanted = " or ".join(f"[{count}]" for count in sorted(counts))
            raise Broken(f"{name} is {shape}, not {wanted}; leave averaging over the batch to the engine")
        if not torch.isfinite(term).all():
            raise Broken(f"{name} is not finite")


def loss_changes_nothing(case: Case) -> None:
    """The loss changes nothing, and `observe` no weight.

    Of a step that is not made the engine puts buffers back, and neither weights nor targets.
    """
    model, batch = case.merged(SINGLE).train(), case.batch(size=case.sizes[1])
    case.calibrate(model, case.batch())  # by other targets than those to come, which would change its statistics
    with torch.no_grad():
        target, answer = case.teacher(batch), model.network(TASK)(batch)
        given = {f"part {number} of the target": each for number, each in enumerate(parts(target))}
        before = {name: each.clone() for name, each in (_tensors(model) | given).items()}
        case.adapter.loss(answer, target, batch)
        changed = [name for name, each in (_tensors(model) | given).items() if not torch.equal(each, before[name])]
        if changed:
            raise Broken(f"it changes {changed[0]}; statistics of targets go on in `observe`")
        case.adapter.observe(model.heads[TASK], target)
    moved = [name for name, each in model.named_parameters() if not torch.equal(each, before[name])]
    if moved:
        raise Broken(f"`observe` changes the weight {moved[0]}; keep statistics in buffers")


def teacher_is_left_alone(case: Case) -> None:
    """The teacher gets no gradient and shares no tensor."""
    model = case.merged(SINGLE).train()
    _total(case.learn(model, case.batch())).backward()  # type: ignore[no-untyped-call]
    if not any(each.grad is not None and each.grad.any() for each in model.heads[TASK].parameters()):
        raise Broken("no gradient reaches the head either; what the loss is given must depend on it")
    reached = [name for name, each in case.teacher.named_parameters() if each.grad is not None]
    if reached:
        raise Broken(f"a gradient reaches {reached[0]} of the teacher; compute no answer with its parameters")
    models = [model, case.merged(None)] if isinstance(case.adapter, BaseAdapter) else [model]
    theirs = {tensor.data_ptr(): name for name, tensor in _tensors(case.teacher).items()}
    for name, tensor in (pair for each in models for pair in _tensors(each).items()):
        if tensor.data_ptr() in theirs:
            raise Broken(f"{name} of the merged model is the teacher's {theirs[tensor.data_ptr()]}; copy it in `start`")


def loss_falls(case: Case) -> None:
    """The loss falls in ten steps of the head."""
    model, batch = case.merged(SINGLE), case.batch()
    case.calibrate(model, batch)
    head = model.heads[TASK].train()
    learning = [each for each in head.parameters() if each.requires_grad]
    if not learning:
        raise Broken("no parameter of its head can learn")
    optimizer = torch.optim.AdamW(learning, lr=_RATE, weight_decay=0.0)
    losses = []
    for _ in range(_STEPS + 1):
        optimizer.zero_grad()
        loss = _total(case.learn(model, batch))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    if not losses[-1] < losses[0]:
        raise Broken(f"it went from {losses[0]:.4g} to {losses[-1]:.4g}")


def no_mask_is_no_fault(case: Case) -> None:
    """A batch without masks has a loss of nothing."""
    if not case.adapter.needs_masks:
        raise NotChecked("its task is not learnt from masks")
    model = case.merged(SINGLE)
    terms = case.learn(model, without_masks(case.batch()))
    sizes = {name: list(term.shape) for name, term in terms.items() if term.numel()}
    if sizes:
        raise Broken(f"without masks there are terms {sizes}; give [0]")
    _total(terms).backward()  # type: ignore[no-untyped-call]


def half_precision_is_enough(case: Case) -> None:
    """Teaching and learning work in bf16."""
    model = case.merged(SINGLE)
    with torch.autocast(torch.device(case.device).type, torch.bfloat16):
        loss = _total(case.learn(model, case.batch()))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [each.grad for each in model.heads[TASK].parameters() if each.grad is not None]
    if not torch.isfinite(loss) or not all(torch.isfinite(each).all() for each in gradients):
        raise Broken("its loss or gradient is not finite")


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of all terms' means, as the engine takes it: zero, with a gradient, where there is no sample."""
    return torch.stack([term.float().sum() / max(term.numel(), 1) for term in terms.values()]).sum()


def _tensors(module: nn.Module | MergedModel) -> dict[str, Tensor]:
    """Parameters and buffers that hold something, by name."""
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if tensor.numel()}
