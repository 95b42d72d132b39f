"""A merged model for `open_clip`: a folder for its `local-dir:`. Imports torch when it exports.

A CLIP on its own trunk is one of open_clip's own architectures. A CLIP's head on another trunk is none: its image tower
is an architecture of timm, which open_clip takes any of, and which one import adds to timm (`tower.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vfmerge.export import Export, pictures

if TYPE_CHECKING:
    from torch import Tensor

    from vfmerge.capability import Capability

    from .clip_folder import Folder

_OTHER = "its text tower is none of open_clip's; export to onnx or torch"


class OpenCLIP(Export):
    """A local folder for open_clip: create_model_and_transforms, get_tokenizer, zero-shot classifiers."""

    tolerance = 1e-4  # of unit embeddings
    capability = "image_text"
    benchmarks = ("retrieval", "zero_shot_classification")

    def refusal(self) -> str | None:
        from .clip_folder import is_clip

        return None if is_clip(self.model, self.task) else f"{self.task}: {_OTHER}"

    def write(self, path: Path) -> None:
        self._folder.write(path)

    def expected(self) -> Mapping[str, Tensor]:
        from .clip_proof import ask_model

        return ask_model(self.model.capability(self.task), pictures())

    def answered(self, path: Path) -> Mapping[str, Tensor]:
        from .clip_proof import ask_open_clip

        return ask_open_clip(path, pictures())

    def capabilities(self, path: Path) -> Mapping[str, Capability]:
        from .embedded import Embedded

        return {self.task: Embedded(path)}

    def usage(self, path: Path) -> str:
        name = f"local-dir:{path}"
        first = "" if self._folder.own else "import vfmerge_adapters.exports.tower  # an architecture, for timm\n"
        return (
            f"import open_clip\n{first}model, _, preprocess = open_clip.create_model_and_transforms({name!r})\n"
            f"tokenizer = open_clip.get_tokenizer({name!r})"
        )

    @property
    def _folder(self) -> Folder:
        from .clip_folder import describe

        return describe(self.model, self.task, made=self.made)
