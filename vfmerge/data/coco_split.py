"""Splits of COCO's and LVIS's classes into those that a training sees and novel ones, as the literature has them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from vfmerge.data import classnames, coco_file, paths
from vfmerge.data.classnames import Keep
from vfmerge.errors import InputError

COCO17, RARE = "coco17", "rare"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Names of the classes that a training sees, and of those that it does not; a class of neither kind is left out."""

    seen: frozenset[str]
    unseen: frozenset[str]

    def kept(self, names: Sequence[str], *, keep: Keep) -> tuple[tuple[str, ...], frozenset[str]]:
        """Those of the names that are kept, in their order, and the unseen ones of them."""
        known = [name for name in names if name in self.seen | self.unseen]
        return classnames.kept(known, unseen=self.unseen, keep=keep)


def read(unseen: str, *, instances: dict[str, Any], classes: Sequence[str], where: str) -> Split:
    """The split that the option `unseen` names, of the classes of an `instances` file.

    coco17: of COCO's 80 classes 48 are seen and 17 novel, after Bansal et al. (arXiv 1804.04340); as in open-vocabulary
    detection since Zareian et al. (arXiv 2011.10678), all 65 compete. rare: LVIS's categories of frequency r are novel,
    after Gu et al. (arXiv 2104.13921). Else the path of a file with one novel class a line. Raises InputError.
    """
    if unseen == COCO17:
        return _coco17(classes, where=where)
    if unseen == RARE:
        novel = coco_file.rare(instances)
        if not novel:
            raise InputError(f"unseen: {RARE}, but {where!r} has no category of frequency r; give a file of LVIS")
    else:
        novel = _listed(unseen, classes, where=where)
    return Split(seen=frozenset(classes) - novel, unseen=novel)


def _coco17(classes: Sequence[str], *, where: str) -> Split:
    seen, unseen = (classnames.built_in(f"{COCO17}_{kind}") for kind in ("seen", "unseen"))
    missing = [name for name in (*seen, *unseen) if name not in classes]
    if missing:
        raise InputError(
            f"unseen: {COCO17}, but {where!r} has no class {missing[0]!r}; give an instances file of COCO, or a file "
            "of unseen names"
        )
    return Split(seen=frozenset(seen), unseen=frozenset(unseen))


def _listed(path: str, classes: Sequence[str], *, where: str) -> frozenset[str]:
    """The novel names of a file."""
    if not os.path.isfile(os.path.expanduser(path)):
        raise InputError(f"unseen: {paths.shown(path)!r} is neither {COCO17}, {RARE} nor a file; give one of these")
    novel = paths.class_names(path, option="unseen")
    unknown = [name for name in novel if name not in classes]
    if unknown:
        raise InputError(
            f"unseen: {paths.shown(path)!r} names {paths.shown(unknown[0])!r}, which is no class of {where!r}; "
            "write names as they stand there"
        )
    return frozenset(novel)
