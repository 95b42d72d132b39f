"""The few values that were asked for last, so that they are made once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Newest(Generic[Key, Value]):
    """Values by key, of which the one not asked for longest is forgotten. For one thread at a time."""

    def __init__(self, *, count: int) -> None:
        """count: how many are remembered."""
        self._count = count
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def recall(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not remembered."""
        value = self._values.pop(key) if key in self._values else make()
        self._values[key] = value
        while len(self._values) > self._count:
            self._values.popitem(last=False)
        return value
