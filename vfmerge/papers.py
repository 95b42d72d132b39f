"""The papers of a merged model: card, licences and recipe, which go along when it is loaded and saved again.

A card vouches for the very weights that it was written for. Saved beside others, it says so, above all that it says.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from vfmerge import commit, config

CARD, NOTICE, RECIPE = "README.md", "LICENSE.md", "recipe.yaml"
CHANGED = """\
> **Changed since.** The weights in this folder are not those that this card was written for: somebody trained them
> further, or converted them. Licences bind them all the same; figures, data and recipe are those of the model before.
> Measure this one with `vfmerge eval`.
"""

_FRONT = re.compile(r"---\r?\n.*?\r?\n---\r?\n", re.DOTALL)  # YAML, which has to stay the first thing in the file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Papers:
    """Texts by file name, and the SHA-256 of the file of weights that they were written for."""

    texts: Mapping[str, str]
    weights: str

    @classmethod
    def read(cls, folder: Path) -> Papers:
        """Of a merged model's whole folder, which need not have any: a card may be edited, or deleted."""
        found = [folder / name for name in (CARD, NOTICE, RECIPE) if (folder / name).is_file()]
        texts = {path.name: path.read_bytes().decode("utf-8", "surrogateescape") for path in found}
        _, weights = commit.entries(folder)[config.WEIGHTS]
        return cls(texts=texts, weights=weights)

    def write(self, folder: Path) -> None:
        """Into a folder that has its weights already, which may be others by now."""
        texts = dict(self.texts)
        if CARD in texts and commit.digest(folder / config.WEIGHTS) != self.weights:
            texts[CARD] = outdate(texts[CARD])
        for name, text in texts.items():
            (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))


def outdate(card: str) -> str:
    """A card that says that the weights are not those that it was written for; once is enough."""
    if CHANGED in card:
        return card
    front = _FRONT.match(card)
    start = front.end() if front else 0
    return f"{card[:start]}\n{CHANGED}\n{card[start:].lstrip()}"
