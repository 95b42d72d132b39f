"""A merged model for `segment_anything`: its state dict, as Meta publishes SAM's. Imports torch when it exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vfmerge.export import Export, pictures

if TYPE_CHECKING:
    from torch import Tensor

    from vfmerge.capability import Capability


class SegmentAnything(Export):
    """A SAM's state dict for segment_anything: sam_model_registry, SamPredictor, SamAutomaticMaskGenerator."""

    tolerance = 1e-4  # of mask logits, and of IoU scores
    capability = "promptable"
    benchmarks = ("promptable",)
    suffixes = (".safetensors", ".pth")

    def refusal(self) -> str | None:
        from .sam_state import refusal

        reason = refusal(self.model.network(self.task))
        return None if reason is None else f"{self.task}: {reason}"

    def write(self, path: Path) -> None:
        import torch

        from vfmerge import weights

        from .sam_state import gather

        tensors = gather(self.model.network(self.task))
        if path.suffix == ".pth":
            torch.save(tensors, path)  # the form that segment_anything's registry reads
        else:
            weights.save(path, tensors)

    def expected(self) -> Mapping[str, Tensor]:
        from .sam_proof import ask_model

        return ask_model(self.model.capability(self.task), pictures())

    def answered(self, path: Path) -> Mapping[str, Tensor]:
        from .sam_proof import ask_predictor
        from .sam_state import geometry_of, load

        return ask_predictor(load(path, geometry_of(self.model.network(self.task))), pictures())

    def capabilities(self, path: Path) -> Mapping[str, Capability]:
        from .predicted import Predicted
        from .sam_state import geometry_of, load

        return {self.task: Predicted(load(path, geometry_of(self.model.network(self.task))))}

    def usage(self, path: Path) -> str:
        from .sam_state import geometry_of, variant_of

        geometry = geometry_of(self.model.network(self.task))
        variant = variant_of(geometry)
        if variant is None:
            return (
                "from vfmerge_adapters.exports.sam_state import load\n"
                "from vfmerge_adapters.sam.geometry import Geometry\n"
                f"sam = load({str(path)!r}, {geometry!r})"
            )
        if path.suffix == ".pth":
            return (
                "import segment_anything\n"
                f"sam = segment_anything.sam_model_registry[{variant!r}](checkpoint={str(path)!r})"
            )
        return (
            "import safetensors.torch, segment_anything\n"
            f"sam = segment_anything.sam_model_registry[{variant!r}]()\n"
            f"sam.load_state_dict(safetensors.torch.load_file({str(path)!r}))"
        )
