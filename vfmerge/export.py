"""A merged model for other people's programs, with proof: what was written is read back and must answer as the model.

An exporter is a plug-in that knows one other tool. It writes that tool's files, loads them through the tool's own code,
and asks both, the merged model and what was loaded, the same about the same pictures. Nothing is there before every
answer is near enough. This file imports no torch until it exports.

Axis letters: H x W pixels.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from vfmerge import commit, config, home, plugins, random
from vfmerge.config import Config
from vfmerge.errors import InputError, RunError, one_line
from vfmerge.problem import shown, suggestion

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vfmerge.capability import Capability
    from vfmerge.figures import Comparison, Figure
    from vfmerge.model import MergedModel

_Loaded = TypeVar("_Loaded")
_FRAMES = ((60, 88), (104, 72), (50, 50))  # height and width of the pictures that are asked about: every shape
_COARSE = 6  # blots a side, so that there is something to outline


class Export(abc.ABC):
    """One merged model, or one task of it, in another tool's files. The first line of its docstring is what it is.

    tolerance: the most that an answer may differ by. capability: what a task must offer to be exported; none exports
    the model whole. benchmarks: the kinds that what was written can be measured by; none is any.
    suffixes: how the name of the one file may end that is written; none writes a folder.
    """

    tolerance: ClassVar[float]
    capability: ClassVar[str | None]
    benchmarks: ClassVar[tuple[str, ...] | None]
    suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: MergedModel, *, made: Config, task: str) -> None:
        """made: by which adapters. task: the exported one; of a model as a whole its base."""
        self.model, self.made, self.task = model, made, task

    @abc.abstractmethod
    def refusal(self) -> str | None:
        """Why this cannot be, with the remedy, in one line: the tool has no such model, or is not here. Or none."""

    @abc.abstractmethod
    def write(self, path: Path) -> None:
        """Make the file, or fill the empty folder."""

    @abc.abstractmethod
    def expected(self) -> Mapping[str, Tensor]:
        """What the merged model answers to `pictures()`, by a name for each answer."""

    @abc.abstractmethod
    def answered(self, path: Path) -> Mapping[str, Tensor]:
        """The same of what lies at the path, as the other tool itself loads it."""

    @abc.abstractmethod
    def capabilities(self, path: Path) -> Mapping[str, Capability]:
        """What a person does with what lies at the path, by task, through the other tool: `benchmarks` measure it."""

    @abc.abstractmethod
    def usage(self, path: Path) -> str:
        """Lines of Python that load it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How far two answers are apart at most. largest: NaN where one of them is not finite."""

    answer: str
    largest: float
    tolerance: float

    @property
    def small(self) -> bool:
        return self.largest <= self.tolerance  # which NaN is not


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, how near it is to the model, what it measures if that was wanted, and how it is loaded."""

    differences: tuple[Difference, ...]
    figures: tuple[Figure, ...]
    usage: str


def export(
    source: str | Path, *, kind: str, out: Path, task: str | None = None, measure: Sequence[str] | None = None
) -> Exported:
    """Write a merged model as files of that kind at `out`, where nothing is yet.

    source: the folder of the model, or of its run, or its id on the hub. task: which one, where several would do.
    measure: also measure what was written, by the benchmarks of the model's recipe with these changes, `key=value`.
    Raises InputError where the model, the kind, the path or the recipe will not do, and RunError where what was written
    answers or measures otherwise than the model: then nothing is there.
    """
    cls = plugins.find("exports", kind)
    assert issubclass(cls, Export)
    _require_free(cls, kind, out)
    found = home.find(source)

    from vfmerge.model import load

    model, made = load(found.folder), config.read(found.folder)
    exporter = cls(model, made=made, task=_choose(cls, model, kind=kind, task=task))
    reason = exporter.refusal()
    if reason is not None:
        raise InputError(one_line(f"--to {kind}: {reason}"))
    comparison = None if measure is None else _comparison(exporter, found.recipe, measure)
    differences: list[Difference] = []
    figures: list[Figure] = []

    def write(temporary: Path) -> None:
        exporter.write(temporary)
        answered = _ask(exporter.answered, temporary, kind=kind)
        differences.extend(compare(exporter.expected(), answered, tolerance=exporter.tolerance))
        _require_small(differences, kind=kind, out=out)
        if comparison is not None:
            figures.extend(comparison.measure(model, _ask(exporter.capabilities, temporary, kind=kind)))
            _require_same(figures, kind=kind, out=out)

    (commit.write_file if cls.suffixes else commit.commit)(out, write)
    return Exported(differences=tuple(differences), figures=tuple(figures), usage=exporter.usage(out))


def compare(expected: Mapping[str, Tensor], answered: Mapping[str, Tensor], *, tolerance: float) -> list[Difference]:
    """The largest difference of each answer. Raises RunError where answers are missing or of another shape."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in answers.items()} for answers in (expected, answered)]
    if shapes[0] != shapes[1]:
        raise RunError(one_line(f"what was written answers {shapes[1]}, the model {shapes[0]}; please report it"))
    return [
        Difference(
            answer=name,
            largest=float((tensor.double() - answered[name].double()).abs().max()),
            tolerance=tolerance,
        )
        for name, tensor in expected.items()
    ]


def pictures() -> list[np.ndarray]:
    """The pictures that are asked about, uint8 [H, W, 3]: coloured blots under noise, the same each time."""
    import numpy as np
    from PIL import Image

    made = []
    for number, (height, width) in enumerate(_FRAMES):
        draw = random.generator("export", number)
        blots = draw.integers(0, 256, (_COARSE, _COARSE, 3), dtype=np.uint8)
        large = np.asarray(Image.fromarray(blots).resize((width, height), Image.Resampling.NEAREST), dtype=np.int16)
        made.append((large + draw.integers(-20, 21, large.shape)).clip(0, 255).astype(np.uint8))
    return made


def _require_free(cls: type[Export], kind: str, out: Path) -> None:
    """Raise InputError unless `out` can become what the exporter writes; nothing is ever replaced."""
    if cls.suffixes and out.suffix not in cls.suffixes:
        raise InputError(one_line(f"--out {out}: {kind} is one file; end its name in {' or '.join(cls.suffixes)}"))
    if out.is_symlink() or out.exists():
        raise InputError(one_line(f"--out {out}: is there already; choose another path, or move it"))


def _choose(cls: type[Export], model: MergedModel, *, kind: str, task: str | None) -> str:
    """The task that is exported. Raises InputError where none will do, or several would."""
    if cls.capability is None:
        if task is not None:
            raise InputError(one_line(f"--task {shown(task)}: {kind} takes the model whole; leave it out"))
        return model.base
    if task is not None and task not in model.adapters:
        raise InputError(one_line(f"--task: no {shown(task)} in this model; {suggestion(task, model.adapters)}"))
    offers = {name: model.capability(name).name for name in model.adapters}
    able = [name for name, offered in offers.items() if offered == cls.capability]
    if task is not None and task not in able:
        raise InputError(one_line(f"--task {task}: offers {offers[task]}, and {kind} needs {cls.capability}"))
    if not able:
        listed = ", ".join(f"{name} offers {offered}" for name, offered in offers.items())
        raise InputError(one_line(f"--to {kind}: needs a task that offers {cls.capability}, and {listed}"))
    if task is None and len(able) > 1:
        raise InputError(one_line(f"--to {kind}: takes one task, and several would do; add --task {' or '.join(able)}"))
    return task or able[0]


def _comparison(exporter: Export, source: Path, overrides: Sequence[str]) -> Comparison:
    from vfmerge.figures import Comparison

    every = list(exporter.model.adapters)
    return Comparison(
        source,
        overrides,
        benchmarks=exporter.benchmarks,
        tasks=every if exporter.capability is None else [exporter.task],
        among=every,
    )


def _ask(load: Callable[[Path], _Loaded], path: Path, *, kind: str) -> _Loaded:
    """What was written answers. Raises RunError where the other tool cannot load it."""
    try:
        return load(path)
    except (InputError, RunError):
        raise
    except Exception as error:  # anything: it is somebody else's code
        reason = f"what was written cannot be used ({type(error).__name__}: {error})"
        raise RunError(one_line(f"--to {kind}: {reason}, so nothing is there; please report it")) from error


def _require_small(differences: list[Difference], *, kind: str, out: Path) -> None:
    """Raise RunError that names the worst answer if any is too far from the model's."""
    far = [each for each in differences if not each.small]
    if far:
        worst = max(far, key=lambda each: (each.largest != each.largest, each.largest))
        apart = f"{worst.answer} differs by {worst.largest:.1e}, more than {worst.tolerance:.0e}"
        raise RunError(one_line(f"--to {kind}: {apart}, so {out} was not written; please report it"))


def _require_same(figures: Sequence[Figure], *, kind: str, out: Path) -> None:
    """Raise RunError that names the first figure that is another than the model's."""
    for each in figures:
        if not each.same:
            apart = f"{each.evaluation} {each.metric} is {each.exported:.4f}, and the model's {each.model:.4f}"
            raise RunError(one_line(f"--to {kind}: {apart}, so {out} was not written; please report it"))
