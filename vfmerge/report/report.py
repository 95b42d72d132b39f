"""The report of a run: one self-contained HTML page that says what the merge kept, what it gained, and what it cost.

It is made from the files of a run's folder alone, and says of what is not there nothing at all.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path

from vfmerge import commit, left_out, licence, recipe
from vfmerge.report import claims, facets, findings, headline, page, recognition, recognition_claims, sections
from vfmerge.report.claims import Claim, Paper
from vfmerge.report.findings import Findings
from vfmerge.retention import Row

REPORT = "report.html"


def write(run: Path) -> Path:
    """Write `report.html` into a run's folder; its path. Raises InputError if there is no retention table."""
    path = run / REPORT
    commit.write_text(path, render(findings.read(run)))
    return path


def render(found: Findings) -> str:
    """The page. The same findings give the same text."""
    rows, plan = found.rows, found.plan
    base = plan.base if plan else None
    parts = {
        "kept": ("What was kept", "groups", sections.groups(rows, base=base)),
        "recognition": ("Recognition", "recognised", recognition.sheets(rows)),
        "claims": ("The paper's claims", "claims", papers(rows, base=base)),
        "sides": ("Side by side", "sides", sections.sides(rows, base=base)),
        "corner": ("Two parents at once", "corner", sections.corner(rows, base=base)),
        "gallery": ("Pictures", "gallery", found.gallery),
        "bygroup": ("Group by group", "by_group", facets.by_group(rows)),
        "resolution": ("Resolution", "sweeps", facets.sweeps(rows)),
        "robustness": ("Robustness", "robustness", facets.robustness(rows)),
        "efficiency": ("Cost", "costs", facets.costs(rows)),
        "training": ("Training", "training", facets.training(found.trace)),
        "again": ("Reproduce it", "commands", _commands(found.name)),
        "words": ("Words", "", True),
    }
    there = {key for key, (_, _, content) in parts.items() if content} | ({"gallery"} if found.picture else set())
    return page.render(
        "report.html.jinja",
        name=found.name,
        verdict=headline.verdict(rows, base=base),
        tiles=sections.tiles(rows, base=base),
        parents=list(plan.parents) if plan else headline.parents(rows),
        contents=[(key, title) for key, (title, _, _) in parts.items() if key in there],
        matrix=sections.matrix(rows),
        goal=headline.KEPT,
        picture=found.picture,
        left_out={"summary": left_out.summary(found.left_out), "pictures": found.left_out} if found.left_out else None,
        recipe=recipe.published(plan) if plan else "",
        manifest=found.manifest,
        licence=licence.inherit(found.manifest.licences).name if found.manifest and found.manifest.licences else "",
        **{variable: content for _, variable, content in parts.values() if variable},
    )


def papers(rows: Sequence[Row], *, base: str | None) -> list[Paper]:
    """The papers whose method was measured: the second one's where things were named, else, or as well, the first's."""
    first, second = claims.claims(rows, base=base) if rows else [], recognition_claims.claims(rows)
    if second and all(claim.verdict == "not measured" for claim in first[1:]):  # the first of them is of any merge
        first = []
    papers = [
        Paper(name="SAM-CLIP, Wang et al., CVPR 2024", link="2310.15308", claims=_by_text(first)),
        Paper(name="Open-Vocabulary SAM, Yuan et al., ECCV 2024", link="2401.02955", claims=_by_text(second)),
    ]
    return [paper for paper in papers if paper.claims]


def _by_text(found: Sequence[Claim]) -> list[list[Claim]]:
    """What several data sets say to one claim stands together."""
    return [list(alike) for _, alike in itertools.groupby(found, key=lambda claim: claim.text)]


def _commands(name: str) -> str:
    """What makes and measures the run again."""
    out = shlex.quote(f"runs/{name}")
    return f"vfmerge run recipe.yaml --out {out}\nvfmerge eval {out} --controls\nvfmerge compare {out} runs/ANOTHER"
