"""Losses of several parents weighed against each other: balancing and dropping."""

from __future__ import annotations

import math

import pytest
import torch

from vfmerge.balance import Balance
from vfmerge.dropping import drop


def test_balanced_losses_have_one_size() -> None:
    """A loss of thousands and one of thousandths both count 1 at first."""
    balance = Balance()
    assert balance.factor("0.sam", 4000.0) * 4000 == pytest.approx(1)
    assert balance.factor("0.dino", 0.002) * 0.002 == pytest.approx(1)


def test_a_factor_follows_its_loss_slowly() -> None:
    """One odd step hardly moves it; a loss that stays half as large is at last counted twice."""
    balance = Balance()
    balance.factor("a", 1.0)
    assert balance.factor("a", 11.0) == pytest.approx(1 / 1.1)
    for _ in range(1000):
        factor = balance.factor("a", 0.5)
    assert factor == pytest.approx(2, rel=1e-3)


def test_a_loss_that_is_not_finite_is_not_counted() -> None:
    """The mean is as before; the step itself is the engine's to skip."""
    balance = Balance()
    balance.factor("a", 2.0)
    assert balance.factor("a", math.nan) == balance.factor("a", math.inf) == 0.5


def test_balancing_goes_on_where_it_was() -> None:
    """Its state, saved and read, gives the same factors."""
    first = Balance()
    for loss in (3.0, 2.0, 5.0):
        first.factor("a", loss)
    second = Balance(first.state)
    assert second.factor("a", 4.0) == first.factor("a", 4.0)


def losses(images: int = 400) -> dict[str, dict[str, torch.Tensor]]:
    """Three tasks, one of two terms; for even images the first is worst, for odd ones the last."""
    even = torch.arange(images) % 2 == 0
    one = torch.where(even, 2.0, 0.1)
    return {"one": {"a": one / 2, "b": one / 2}, "two": {"a": torch.ones(images)}, "three": {"a": 2.1 - one}}


def test_the_worst_learnt_parent_is_never_dropped() -> None:
    """Its terms are whole for each image where their sum is largest."""
    given, keys = losses(), tuple(range(400))
    kept = drop(given, chance=0.9, keys=keys)
    even = torch.arange(400) % 2 == 0
    assert torch.equal(kept["one"]["a"][even], given["one"]["a"][even])
    assert torch.equal(kept["three"]["a"][~even], given["three"]["a"][~even])


def test_the_others_are_dropped_by_chance_and_whole() -> None:
    """About so many of them, all terms of a task together."""
    kept = drop(losses(), chance=0.25, keys=tuple(range(400)))
    silent = (kept["two"]["a"] == 0).float().mean()
    assert 0.18 < silent < 0.32
    assert torch.equal(kept["one"]["a"] == 0, kept["one"]["b"] == 0)
    assert (kept["one"]["a"] == 0).any()


def test_dropping_is_a_function_of_the_samples_keys() -> None:
    """The same again for the same keys, another choice for others, and nothing of it from global chance."""
    first = drop(losses(), chance=0.5, keys=tuple(range(400)))
    torch.manual_seed(7)
    again = drop(losses(), chance=0.5, keys=tuple(range(400)))
    other = drop(losses(), chance=0.5, keys=tuple(range(400, 800)))
    assert torch.equal(first["two"]["a"], again["two"]["a"])
    assert not torch.equal(first["two"]["a"], other["two"]["a"])


def test_a_dropped_task_sends_no_gradient() -> None:
    """Where its loss is left out, what it would have taught is not learnt."""
    learnt = torch.ones(400, requires_grad=True)
    kept = drop({"one": {"a": learnt}, "two": {"a": torch.full((400,), 5.0)}}, chance=0.5, keys=tuple(range(400)))
    kept["one"]["a"].sum().backward()
    assert learnt.grad is not None
    assert torch.equal(learnt.grad == 0, kept["one"]["a"] == 0)
    assert 100 < (learnt.grad == 0).sum() < 300
