"""Under which licence the weights are that open_clip publishes by tag; open_clip itself does not say.

By repository of the Hugging Face hub, as its card there has it, or where timm publishes the same tower, as timm does
(timm 1.0). Imports neither torch nor open_clip.
"""

from __future__ import annotations

import fnmatch

_PUBLISHED = (
    ("apple/*", "apple-amlr"),  # DFN and MobileCLIP: for research alone since February 2025, apple-ascl before
    ("timm/MobileCLIP2-*", "apple-amlr"),
    ("timm/*metaclip*", "CC-BY-NC-4.0"),
    ("visheratin/nllb-*", "CC-BY-NC-4.0"),
    ("timm/*_clip*.openai", "MIT"),
    ("timm/*_clip*.laion400m*", "MIT"),  # EVA01-g-14 among them
    ("timm/*_clip*.laion2b*", "MIT"),  # EVA02-E-14 among them
    ("timm/*_clip*.merged2b*", "MIT"),  # EVA
    ("timm/*_clip*.cc12m", "MIT"),
    ("timm/*_clip*.yfcc15m", "MIT"),
    ("laion/*", "MIT"),
    ("jienengchen/ViTamin-*", "MIT"),
    ("timm/*-SigLIP*", "Apache-2.0"),
    ("timm/PE-Core-*", "Apache-2.0"),
    ("UCSC-VLAA/*-CLIPA-*", "Apache-2.0"),
)
"""Patterns of repositories; the first that fits counts."""


def licence_of(repository: str) -> str | None:
    """The licence of the weights in a repository, `owner/name`; none where it is not known here."""
    return next((licence for pattern, licence in _PUBLISHED if fnmatch.fnmatchcase(repository, pattern)), None)
