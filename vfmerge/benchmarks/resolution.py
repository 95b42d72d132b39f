"""Resolution: another benchmark at several input sizes, where a merged model may turn from one parent into another.

RADIO called that mode switching (arXiv 2412.07679): below one size it was CLIP, above it SAM, and classified nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from vfmerge import options
from vfmerge.capability import Capability
from vfmerge.data.source import Source
from vfmerge.errors import InputError, one_line

from .around import Around, Of, build, find, turn, wrong
from .benchmark import Score, Setup

_OPTION = "size"


class Resolution(Around):
    """Resolution: another benchmark at several input sizes.

    Each metric of the other benchmark gives one for each size, `top1@224`, which is compared with the parent's at the
    same size.

    of: the other benchmark and its options, `{benchmark: zero_shot_classification}`; one of its options is `size`.
    sizes: the values of that option, in pixels.
    """

    def __init__(
        self, *, of: Of, sizes: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(min_length=1)]
    ) -> None:
        cls, given = find(of, around=Resolution)
        if _OPTION not in {field.alias for field in options.signature(cls).model_fields.values()}:
            raise wrong("benchmark", f"{of['benchmark']} has no option {_OPTION}; name a benchmark that has")
        if _OPTION in given:
            raise wrong(_OPTION, "given beside sizes, which stand for it; leave it out")
        self._sizes = tuple(dict.fromkeys(sizes))
        super().__init__([build(cls, given | {_OPTION: size}) for size in self._sizes])
        self.controlled = False  # the merged model's sweep beside the parent's says what there is to say

    def measure(self, model: Mapping[str, Capability], source: Source, setup: Setup = Setup()) -> list[Score]:
        scores = []
        for number, (size, inner) in enumerate(zip(self._sizes, self._inner, strict=True)):
            now = turn(setup, number, len(self._sizes), name=str(size))
            try:
                scores += [_at(score, size) for score in inner.measure(model, source, now)]
            except InputError as error:
                raise InputError(one_line(f"sizes: {size}: {error}")) from error
        return scores


def _at(score: Score, size: int) -> Score:
    """A score under a name that says the size."""
    against = score.against and f"{score.against}@{size}"
    return dataclasses.replace(score, metric=f"{score.metric}@{size}", against=against)
