"""A sound adapter, and one for each way to break the contract, for tests of the check itself.

Axis letters: B images, C channels, h x w cells, H x W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vfmerge_adapters.sam import SAM

from vfmerge.adapter import AuxiliaryAdapter, Features, FeatureSpec
from vfmerge.features.parent import FeatureParent
from vfmerge.features.settings import Distill


class Sound(FeatureParent):
    """A random convolution of 16 pixels a cell, which keeps the whole contract."""

    interface = 2
    licence = "MIT"
    features = FeatureSpec(channels=(12,), strides=(16,), summary=12)

    def __init__(
        self,
        *,
        width: int = 4,
        scale: float = 1.0,
        size: int | None = None,
        distill: Distill = Distill(),
    ) -> None:
        super().__init__(size=size, distill=distill)
        self.width, self.scale = width, scale

    def portable(self) -> dict[str, Any]:
        return {"width": self.width, "scale": self.scale} | self.portable_features()

    def trunk(self) -> Any:
        from torch import nn

        adapter = self

        class Trunk(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Conv2d(3, adapter.width, kernel_size=8, stride=8)
                self.outer = nn.Conv2d(adapter.width, 12, kernel_size=2, stride=2)
                adapter.add(self)

            def forward(self, images: Any) -> Features:  # [B, 3, H, W] in [0, 1]
                cells = self.outer(self.inner(adapter.normalise(images)).relu())
                cells = adapter.last(adapter.scale * cells, self)
                return Features(maps=(cells,), summary=cells.mean((2, 3)))

        return Trunk()

    def normalise(self, images: Any) -> Any:
        return (images - 0.5) / 0.25

    def add(self, trunk: Any) -> None:
        """More tensors of the trunk."""

    def last(self, cells: Any, trunk: Any) -> Any:
        """What becomes of the cells [B, C, h, w]."""
        return cells

    def fill(self, trunk: Any) -> None:
        """Its weights are random."""


class Positional(Sound):
    """Has an option that no recipe can give."""

    def __init__(self, width: int = 4, *, scale: float = 1.0, size: int | None = None) -> None:
        super().__init__(scale=scale, size=size)

    def portable(self) -> dict[str, Any]:
        return {"scale": self.scale, "size": self._size}


class Old(Sound):
    """Was made for another interface."""

    interface = 1


class Unlicensed(Sound):
    """Says nothing of its licence."""

    licence = "unknown"


class Blank(Sound):
    """Says an empty word of its licence."""

    licence = ""


class Tuples(Sound):
    """Its options do not come back from JSON."""

    def __init__(self, *, pair: tuple[int, int] = (1, 2)) -> None:
        super().__init__()
        self.pair = pair

    def portable(self) -> dict[str, Any]:
        return {"pair": self.pair}


class Stuck(Sound):
    """What its options make still wants a file."""

    def __init__(self) -> None:
        super().__init__()
        self.sources = (Path("weights.pth"),)

    def portable(self) -> dict[str, Any]:
        return {}


class Locked(Sound):
    """Its teacher cannot be opened."""

    def fill(self, trunk: Any) -> None:
        raise OSError("no key")


class Heavy(Sound):
    """Imports torch when it is made."""

    def __init__(self) -> None:
        import torch

        super().__init__(width=int(torch.tensor(4)))

    def portable(self) -> dict[str, Any]:
        return {}


class Grounded(Sound):
    """Has a tensor that names its device."""

    def add(self, trunk: Any) -> None:
        import torch

        trunk.register_buffer("corner", torch.zeros(1, device="cpu"))


class Forgetful(Sound):
    """Forgets an option that its shapes depend on."""

    def portable(self) -> dict[str, Any]:
        return {"scale": self.scale, "size": self._size}


class Padded(Sound):
    """Gives a column of cells more than it promises."""

    def last(self, cells: Any, trunk: Any) -> Any:
        import torch

        return torch.nn.functional.pad(cells, (0, 1))


class Renamed(Sound):
    """Its teacher has a parameter that its trunk has not."""

    def fill(self, trunk: Any) -> None:
        import torch

        trunk.extra = torch.nn.Parameter(torch.zeros(1))


class Narrow(Sound):
    """Its head fits a trunk of one map alone."""

    def head(self, features: FeatureSpec) -> Any:
        assert len(features.channels) == 1
        return super().head(features)


class Restless(Sound):
    """Its teacher comes in training mode."""

    def teacher(self) -> Any:
        return super().teacher().train()


class Elsewhere(Sound):
    """Teaches at a side that it does not tell."""

    def teacher(self) -> Any:
        net = super().teacher()
        net.size = 96
        return net


class Fickle(Sound):
    """Its random weights are other ones each time."""

    def teacher(self) -> Any:
        import torch

        net = super().teacher()
        with torch.no_grad():
            net.trunk.outer.weight.normal_()
        return net


class Careless(Sound):
    """Its weights are the same each time, but others draw other numbers afterwards."""

    def teacher(self) -> Any:
        import torch

        torch.manual_seed(0)
        return super().teacher()


class Unnormalised(Sound):
    """Forgets its library's normalisation."""

    def normalise(self, images: Any) -> Any:
        return images


class Sociable(Sound):
    """Looks at an image's neighbours."""

    def last(self, cells: Any, trunk: Any) -> Any:
        return cells - cells.mean(0)


class Huge(Sound):
    """Gives targets that half precision cannot hold."""

    def last(self, cells: Any, trunk: Any) -> Any:
        return 1e6 * cells


class Averaged(Sound):
    """Averages its loss over the batch."""

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        return {name: term.mean() for name, term in super().loss(answer, target, batch).items()}


class Counting(Sound):
    """Lets the statistics of its targets go on as it marks an answer."""

    def __init__(self, *, distill: Distill = Distill(standardise="running", pictures=3)) -> None:
        super().__init__(distill=distill)

    def portable(self) -> dict[str, Any]:
        return {"distill": self.portable_features()["distill"]}

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        terms = super().loss(answer, target, batch)
        answer.standards["summary"].observe(target[0] + 1)
        return terms


class Writing(Sound):
    """Marks an answer upon the target itself."""

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        terms = super().loss(answer, target, batch)
        target[0].zero_()
        return terms


class Meddling(Sound):
    """Moves a weight for every target that it sees."""

    def observe(self, head: Any, target: Any) -> None:
        head.norm.bias += 1


class Sharing(Sound):
    """Its head keeps a tensor of the teacher."""

    def start(self, head: Any, trunk: Any, teacher: Any) -> None:
        if hasattr(head, "mlps"):
            head.kept = teacher.trunk.outer.bias


class Detached(Sound):
    """Its loss does not depend on the head."""

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        import torch

        terms = super().loss(answer, target, batch)
        return {name: torch.zeros_like(term).requires_grad_() for name, term in terms.items()}


class Rising(Sound):
    """Its gradient has the wrong sign."""

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        return {name: 2 * term.detach() - term for name, term in super().loss(answer, target, batch).items()}


class Exact(Sound):
    """Computes something that there is no half precision of."""

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        import torch

        assert not torch.is_autocast_enabled("cpu"), "single precision alone"
        return super().loss(answer, target, batch)


class Changeable(Sound):
    """Keeps random numbers beside its weights that do not travel with them."""

    def add(self, trunk: Any) -> None:
        import torch

        trunk.register_buffer("noise", torch.rand(12, 1, 1), persistent=False)

    def last(self, cells: Any, trunk: Any) -> Any:
        return cells + trunk.noise


class Wordy(Sound):
    """Its answers cannot be targets."""

    def target(self, answer: Any) -> Any:
        return answer


class Twofold(Sound):
    """Answers for a merged model through another class."""

    def capability(self, network: Any) -> Any:
        from vfmerge.features.head import LearntHead
        from vfmerge.features.use import Observer

        class Other(Observer):
            pass

        return (Other if isinstance(network.head, LearntHead) else Observer)(network)


class Lossy(Sound):
    """Forgets an option that its answers depend on."""

    def portable(self) -> dict[str, Any]:
        return {"width": self.width, "size": self._size}


class Borrower(AuxiliaryAdapter):
    """The sound one without a trunk to lend."""

    interface = 2
    licence = "MIT"

    def __init__(self) -> None:
        self._inner = Sound()

    def portable(self) -> dict[str, Any]:
        return {}

    def teacher(self) -> Any:
        return self._inner.teacher()

    def head(self, features: FeatureSpec) -> Any:
        return self._inner.head(features)

    def start(self, head: Any, trunk: Any, teacher: Any) -> None:
        self._inner.start(head, trunk, teacher)

    def target(self, answer: Any) -> Any:
        return self._inner.target(answer)

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        return self._inner.loss(answer, target, batch)

    def capability(self, network: Any) -> Any:
        return self._inner.capability(network)


class Full(SAM):
    """A small SAM that cannot bear a batch without masks."""

    def loss(self, answer: Any, target: Any, batch: Any) -> Any:
        assert len(batch.masks), "nothing to learn from"
        return super().loss(answer, target, batch)
