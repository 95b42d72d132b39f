"""Keyed randomness: every draw in vfmerge is a function of names and numbers, never of a process's history.

So a run that is stopped and resumed, or whose data more processes load, draws the same numbers, and resuming is an
integer.
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(*parts: str | int) -> int:
    """A 63-bit integer that depends on all parts and their order."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*parts: str | int) -> np.random.Generator:
    """A random generator for one purpose, named by its parts."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


class Permutation:
    """A keyed shuffle of 0..length-1 in constant memory: a four-round Feistel network with cycle walking.

    `permutation[i]` takes microseconds whatever the length, so a stream over forty million images can start anywhere.
    """

    def __init__(self, length: int, seed: int) -> None:
        assert length > 0
        self.length = length
        self._half = max((length - 1).bit_length() + 1, 2) // 2
        self._keys = [key(seed, turn) & 0xFFFFFFFF for turn in range(4)]

    def __getitem__(self, index: int) -> int:
        assert 0 <= index < self.length
        while True:  # the network permutes a power of four; walk until back inside
            index = self._encrypt(index)
            if index < self.length:
                return index

    def _encrypt(self, value: int) -> int:
        mask = (1 << self._half) - 1
        left, right = value >> self._half, value & mask
        for turn in self._keys:
            mixed = (right * 0x9E3779B1 + turn) & 0xFFFFFFFF
            mixed = ((mixed ^ (mixed >> 15)) * 0x85EBCA77) & 0xFFFFFFFF
            left, right = right, left ^ ((mixed ^ (mixed >> 13)) & mask)
        return (left << self._half) | right
