"""The contract of `adapters/README.md`, checked on an adapter: `vfmerge check --adapter NAME` and its author's tests.

    findings = check_adapter(MyModel(random=True), reference=what_the_library_gives)
    assert [str(each) for each in findings if each.broken] == []

Nothing is trained but a head for ten steps, nothing is fetched, and nothing is left behind. Imports no torch until it
is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vfmerge.testing.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from vfmerge.adapter import AuxiliaryAdapter

__all__ = ["Finding", "check_adapter"]


def check_adapter(
    adapter: AuxiliaryAdapter, *, reference: Callable[[Tensor], Any] | None = None, device: str = "cpu"
) -> list[Finding]:
    """What of the contract holds for an adapter, check by check.

    reference: images [B, 3, H, W] in [0, 1] -> what the model's own library gives for them, in the form of the
    teacher's target: its preprocessing and its forward pass, called by the author and not through the adapter.
    device: where networks compute. Global random numbers are left as they were.
    """
    from vfmerge.testing.examination import examine

    return list(examine(adapter, reference=reference, device=device))
