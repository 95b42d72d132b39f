"""torch's attention, as the operations that it is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Within, no fused encoder layer runs: nothing can be counted inside one, and other runtimes do not know it."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
