"""Keyed randomness: fixed by its parts alone."""

from __future__ import annotations

import pytest

from vfmerge import random


def test_keys_depend_on_every_part_and_their_order() -> None:
    """Another part, or the same ones in another order, is another key."""
    keys = {random.key("a", 1), random.key("a", 2), random.key(1, "a"), random.key("b", 1), random.key("a", 1, 0)}
    assert len(keys) == 5
    assert all(0 <= key < 2**63 for key in keys)


def test_a_key_is_the_same_everywhere() -> None:
    """Pinned: a run resumed by a later version must draw what the first one drew."""
    assert random.key(0, "probe/0", "order", 3) == 2251601883662108271


def test_generators_of_one_name_draw_the_same() -> None:
    """Two generators of one purpose agree, of two purposes do not."""
    first, same, other = (random.generator("x", n).random(8).tolist() for n in (1, 1, 2))
    assert first == same
    assert first != other


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 17, 64, 1000, 4097])
def test_permutation_is_a_bijection(length: int) -> None:
    """Every number once."""
    shuffled = random.Permutation(length, 7)
    assert sorted(shuffled[n] for n in range(length)) == list(range(length))


def test_permutations_of_two_seeds_differ_and_mix() -> None:
    """Another seed is another order, and neither is nearly the identity."""
    one, two = ([random.Permutation(1000, seed)[n] for n in range(1000)] for seed in (1, 2))
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 20
    assert sum(a == n for n, a in enumerate(one)) < 20


def test_permutation_of_forty_million_starts_anywhere() -> None:
    """No memory and no time in proportion to the length."""
    shuffled = random.Permutation(40_600_000, 0)
    assert len({shuffled[n] for n in range(20_000_000, 20_002_048)}) == 2048
