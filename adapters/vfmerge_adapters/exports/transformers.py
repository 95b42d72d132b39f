"""A merged model for `transformers`: a folder for its `AutoModel`. Imports torch when it exports.

Axis letters: n cells, C channels, D summary width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vfmerge.export import Export, pictures

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vfmerge.capability import Capability

    from ..auto.model import VfmergeModel


class Transformers(Export):
    """A folder for transformers' AutoModel after `import vfmerge`; vfmerge.load reads it too."""

    tolerance = 0.0
    capability = None
    benchmarks = None

    def refusal(self) -> str | None:
        return None

    def write(self, path: Path) -> None:
        self._model().save_pretrained(path)

    def expected(self) -> Mapping[str, Tensor]:
        return _answers(self._model())

    def answered(self, path: Path) -> Mapping[str, Tensor]:
        from transformers import AutoModel

        return _answers(AutoModel.from_pretrained(path))

    def capabilities(self, path: Path) -> Mapping[str, Capability]:
        from transformers import AutoModel

        found: Mapping[str, Capability] = AutoModel.from_pretrained(path).merged.capabilities()
        return found

    def usage(self, path: Path) -> str:
        return f"import vfmerge\nfrom transformers import AutoModel\nmodel = AutoModel.from_pretrained({str(path)!r})"

    def _model(self) -> VfmergeModel:
        from ..auto.config import VfmergeConfig
        from ..auto.model import VfmergeModel

        return VfmergeModel(VfmergeConfig(**self.made.model_dump(mode="json", by_alias=True)), self.model).eval()


def _answers(model: VfmergeModel) -> dict[str, Tensor]:
    """What the trunk sees in the pictures, [n, C] and [D] each, and all numbers of the trunk and of each head."""
    import torch

    side = model.merged.capability(model.merged.base).fixed_size or 224
    parts = {"trunk": model.trunk, **{f"head {name}": head for name, head in model.heads.items()}}
    found = {f"numbers of the {name}": _numbers(part) for name, part in parts.items()}
    with torch.no_grad():
        for number, picture in enumerate(pictures()):
            image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
            seen = model(torch.nn.functional.interpolate(image, size=(side, side), mode="bilinear"))
            found[f"picture {number}, cells"] = seen.last_hidden_state[0]
            if seen.pooler_output is not None:
                found[f"picture {number}, summary"] = seen.pooler_output[0]
    return found


def _numbers(part: nn.Module) -> Tensor:
    """All parameters and buffers of a module, in a row."""
    import torch

    return torch.cat([tensor.flatten().float() for tensor in part.state_dict().values()])
