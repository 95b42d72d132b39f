"""What the licences of parents make of the licence of their child. Imports no torch.

Weights that were distilled, or trained further, are taken to be derived from all parents. Where a licence is not known
here, that is what is said of the child, too: nobody is told that they may use what nobody has looked up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from vfmerge import spdx
from vfmerge.retention import escape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Licence:
    """What the parents' licences make of the child's. name: of the child. verdict: a sentence or two for people."""

    name: str
    verdict: str


def inherit(licences: Mapping[str, str]) -> Licence:
    """The child's licence from its parents', by parent."""
    names = sorted({term for text in licences.values() for term in spdx.terms(text)})
    listed = ", ".join(f"{escape(parent)}: {escape(text)}" for parent, text in licences.items())
    uses = {parent: spdx.use(text) for parent, text in licences.items()}
    barred = [parent for parent, use in uses.items() if use == "non-commercial"]
    unclear = [parent for parent, use in uses.items() if use == "unknown"]
    single = names[0] if len(names) == 1 else None
    said = [*([_bar(barred, listed)] if barred else []), *([_ask(unclear, listed)] if unclear else [])]
    if said:
        return Licence(name=single or ("non-commercial" if barred else spdx.UNKNOWN), verdict=" ".join(said))
    if single is not None:
        return Licence(name=single, verdict=f"{escape(single)}, as its parents ({listed}).")
    return Licence(name=spdx.join(names), verdict=f"The conditions of all parents' licences hold together ({listed}).")


def _bar(parents: Sequence[str], listed: str) -> str:
    who = f"parents {_all(parents)} are" if len(parents) > 1 else f"parent {_all(parents)} is"
    return f"**Not for commercial use**, because its {who} not ({listed})."


def _ask(parents: Sequence[str], listed: str) -> str:
    return f"The licence of {_all(parents)} is not known here ({listed}): find it out before you use this model."


def _all(names: Sequence[str]) -> str:
    return " and ".join(map(escape, names))


def notice(name: str, licences: Mapping[str, str]) -> str:
    """`LICENSE.md` of a merged model: what holds for it, in Markdown. name: of the model. licences: by parent."""
    rows = [f"| {escape(parent)} | {escape(text)} |" for parent, text in licences.items()]
    return "\n".join(
        [
            f"# Licence of {escape(name)}",
            "",
            inherit(licences).verdict,
            "",
            "| parent | licence of its weights |",
            "| --- | --- |",
            *rows,
            "",
            "The weights are derived from those of all parents, so each of these licences holds for them. Their texts",
            "are with the parents; where a licence wants its text to go along with copies, put it beside this file.",
            "",
        ]
    )
