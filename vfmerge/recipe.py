"""The typed recipe: frozen, strict models of what `vfmerge run` reads. Imports no torch.

A recipe is data. Nothing in it is imported or executed: `adapter`, `kind` and `benchmark` are names of installed
plug-ins.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from omegaconf import MISSING, OmegaConf
from pydantic import Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from vfmerge import document, rules
from vfmerge.errors import InputError, one_line
from vfmerge.problem import Keys, Problem, explain, missing, refuse, shown, suggestion, unknown_name


class Model(pydantic.BaseModel):
    """Frozen, strict, closed: an unknown key or a wrong type is an error."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Plugged(Model):
    """A plug-in's name and, beside it, the plug-in's own options, which its signature checks."""

    model_config = pydantic.ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the declared ones."""
        return dict(self.__pydantic_extra__ or {})


class Parent(Model):
    adapter: str
    """name of an installed adapter (`vfmerge ls adapters`)"""
    options: dict[str, Any] = Field(default_factory=dict)
    """what that adapter's signature takes"""


class Task(Model):
    adapter: str
    """name of an installed adapter that learns from labels (`vfmerge ls adapters`)"""
    options: dict[str, Any] = Field(default_factory=dict)
    """what that adapter's signature takes, among it the parents that it is built upon"""


class Data(Plugged):
    kind: str
    """name of an installed data source (`vfmerge ls data`); its options stand beside it"""


Size = Annotated[int, Field(ge=8, le=8192)]
Scale = Annotated[float, Field(ge=0.05, le=20)]


def _ascending(scale: tuple[float, float]) -> tuple[float, float]:
    """The smaller number first."""
    if scale[0] > scale[1]:
        remedy = {"problem": f"from {scale[0]:g} to {scale[1]:g}", "remedy": "write the smaller number first"}
        raise PydanticCustomError("refused", "{problem}", remedy)
    return scale


Kept = Annotated[
    Annotated[bool, Tag("all")] | Annotated[Literal["targets"], Tag("some")],
    Discriminator(lambda kept: "some" if isinstance(kept, str) else "all"),
]


class Stream(Model):
    data: str
    """which data set"""
    size: Annotated[
        Annotated[Size, Tag("one")] | Annotated[tuple[Size, ...], Field(min_length=1), Tag("several")],
        Discriminator(lambda size: "several" if isinstance(size, list | tuple) else "one"),
    ]
    """side of the square input in pixels; of several, each step draws one"""
    batch: int = Field(ge=1)
    """images a step"""
    tasks: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """which parents teach on these images, or which tasks learn from their labels, and the weight of each one's loss"""
    fit: Literal["crop", "pad"] = "crop"
    """how it becomes square: resized and cropped about its middle (CLIP's), or padded below and right (SAM's)"""
    flip: float = Field(default=0.0, ge=0, le=1)
    """chance that a picture is mirrored, left to right"""
    scale: Annotated[tuple[Scale, Scale], pydantic.AfterValidator(_ascending)] = (1.0, 1.0)
    """from and to so many times as large as `fit` would make it, drawn for each picture; what then stands out of the
    square is cut off at a drawn place, and what is left of it is padded"""
    masks: int = Field(default=32, ge=1)
    """at most so many masks an image, drawn per step, where the data has masks"""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """share of the data set's samples that is read, at least one, drawn by seed and data set: a smaller share is within
    a larger one. `epochs` are passes over this share, so fewer steps; `steps` stay what they are"""
    drop: float = Field(default=0.0, ge=0, lt=1)
    """chance that a task is left out for an image, the one with its largest loss never (UNIC's teacher dropping)"""

    @property
    def augments(self) -> bool:
        """Whether a picture looks another way each time."""
        return self.flip > 0 or self.scale != (1.0, 1.0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes that a step may have."""
        return (self.size,) if isinstance(self.size, int) else self.size

    def samples(self, whole: int) -> int:
        """How many of a data set's `whole` samples the stream reads."""
        return max(round(self.fraction * whole), 1)


class Stage(Model):
    steps: int | None = Field(default=None, ge=1)
    """how long: optimiser steps"""
    epochs: float | None = Field(default=None, gt=0)
    """how long: passes over what the first stream reads (give steps or epochs)"""
    train: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    """parameter prefix: peak learning rate; everything else is frozen, the longest matching prefix counts"""
    streams: tuple[Stream, ...] = Field(min_length=1)
    warmup: int = Field(default=0, ge=0)
    """optimiser steps of linear warm-up"""
    schedule: Literal["cosine", "constant", "steps"] = "cosine"
    """how the rate falls after the warm-up"""
    drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """shares of the stage at which the rate of schedule `steps` becomes a tenth"""
    end: float = Field(default=0.0, ge=0, le=1)
    """fraction of the peak rate that a cosine ends at"""
    cache: Kept = False
    """what is kept of every sample on disk, once per size: nothing, `targets`, or with true the features of the trunk
    too, which must be frozen then"""
    clip: float | None = Field(default=None, gt=0)
    """largest norm of the gradient in this stage; none is the recipe's own `clip`"""
    balance: bool = False
    """divide each task's loss by its running mean, so that weights say how much tasks matter, whatever their units"""

    def total_steps(self, samples: int) -> int:
        """Optimiser steps of the stage; an epoch is one pass over what its first stream reads of so many `samples`."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        first = self.streams[0]
        return max(math.ceil(self.epochs * first.samples(samples) / first.batch), 1)


class AdamW(Model):
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """decoupled; not applied to parameters of one axis (biases, norms)"""


class Evaluation(Plugged):
    benchmark: str
    """name of an installed benchmark (`vfmerge ls benchmarks`); its options stand beside it"""
    data: str
    """which data set"""
    train: str | None = None
    """a second data set, which the benchmark learns from if it learns (probes)"""


class Recipe(Model):
    base: str
    """the parent that lends its trunk"""
    parents: dict[str, Parent] = Field(min_length=1)
    tasks: dict[str, Task] = Field(default_factory=dict)
    """what is learnt from the data's labels, without a parent of its own"""
    data: dict[str, Data] = Field(default_factory=dict)
    stages: dict[str, Stage]
    """what is trained, in order; none, `{}`, where all heads are already learnt"""
    evaluate: dict[str, Evaluation] = Field(default_factory=dict)
    """what is measured when all stages are done; not part of what is learnt"""
    optimizer: AdamW = AdamW()
    clip: float | None = Field(default=None, gt=0)
    """largest norm of the gradient of all streams together"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is autocast: weights and optimiser stay fp32"""
    seed: int = Field(default=0, ge=0, lt=2**31)
    workers: int = Field(default=0, ge=0, le=256)
    """processes that load data, per stream; not part of the result"""
    log_every: int = Field(default=50, ge=1)
    """steps between lines of the log; not part of the result"""
    save_minutes: float = Field(default=10.0, gt=0)
    """minutes between checkpoints; not part of the result"""
    save_steps: int | None = Field(default=None, ge=1)
    """steps between checkpoints instead of minutes; not part of the result"""
    bad_samples: float = Field(default=0.01, ge=0, le=1)
    """largest share of unusable samples before the run stops"""

    @property
    def adapted(self) -> dict[str, Parent | Task]:
        """All that has a head: parents, then tasks without one."""
        return {**self.parents, **self.tasks}


_GROUPS = {"parents": "parent", "tasks": "task", "data": "data set", "stages": "stage", "evaluate": "evaluation"}
_DEEPEST = 32  # keys of an override
_NOT_RESULT = {"evaluate", "workers", "log_every", "save_minutes", "save_steps"}


def load(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe, all but the weights and the data.

    source: a path, or the name of a built-in recipe. overrides: `key=value`, as `stages.probe.streams.0.batch=8` or
    `stages.probe.train.heads.clip=1e-3`; the value is YAML and replaces what stood there.
    Raises InputError with a line for each problem, at most twenty of at most 300 letters.
    """
    written = document.read(_text(source), name=source, overrides=[_split(each) for each in overrides])
    recipe, problems = _typed(written.values)
    problems += rules.plugged(written.values, problems)
    if recipe is not None:
        problems += rules.cross_check(recipe)
    unknown = {each.keys for each in problems if each.unknown}
    asked = [*(missing(keys) for keys in written.missing if keys not in unknown), *_strangers(written)]
    told = [each for each in problems if not any(each.within(known.keys) for known in asked)]
    refuse([*asked, *told], written.origin)
    assert recipe is not None
    return recipe


def builtin() -> dict[str, Path]:
    """The recipes that come with vfmerge, by name: beside the package in a wheel, else in the checkout."""
    package = Path(__file__).parent
    folder = package / "recipes" if (package / "recipes").is_dir() else package.parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def resolved(recipe: Recipe) -> str:
    """The recipe as YAML, every default written out; it loads to an equal recipe."""
    return OmegaConf.to_yaml(OmegaConf.create(recipe.model_dump(mode="json")))


def published(recipe: Recipe) -> str:
    """The recipe as `resolved` gives it, but absolute paths are left to be given: they are of one machine alone."""
    values = recipe.model_dump(mode="json")
    adapted = (*values["parents"].values(), *values["tasks"].values())
    for options in (*(each["options"] for each in adapted), *values["data"].values()):
        local = [
            key for key, value in options.items() if isinstance(value, str) and Path(value).expanduser().is_absolute()
        ]
        options |= dict.fromkeys(local, MISSING)
    return OmegaConf.to_yaml(OmegaConf.create(values))


def differences(old: Recipe, new: Recipe) -> list[str]:
    """The dotted keys in which two recipes differ, but for those that are no part of what is learnt."""
    before, after = _flat(old), _flat(new)
    return sorted(
        key
        for key in before.keys() | after.keys()
        if key not in before or key not in after or before[key] != after[key]
    )


def fingerprint(recipe: Recipe) -> str:
    """A sha256 of all that is part of what is learnt."""
    return hashlib.sha256(json.dumps(_flat(recipe), sort_keys=True).encode()).hexdigest()


def _flat(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json", exclude=_NOT_RESULT)
    return {".".join(map(str, keys)): value for keys, value in document.leaves(values)}


def _text(source: str) -> str:
    """The text of a recipe file, or of a built-in recipe."""
    there = builtin()
    path = there.get(source, Path(source))
    try:
        content = path.read_bytes() if path.is_file() and path.stat().st_size <= document.LARGEST else None
        found = path.is_file()
    except (OSError, ValueError) as error:  # no permission, a name too long, a zero byte in it
        raise InputError(one_line(f"{one_line(source, limit=90)}: cannot be read ({error}); give a file")) from None
    if not found:
        raise InputError(one_line(f"{source}: no such recipe; {suggestion(source, there)} (`vfmerge ls recipes`)"))
    if content is None:
        raise InputError(one_line(f"{source}: larger than {document.LARGEST} bytes; give a recipe"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(one_line(f"{source}: byte {error.start} is not UTF-8; save it as UTF-8")) from None


def _split(override: str) -> tuple[Keys, str]:
    """`a.b=value` as keys and text. What follows `train` is one key: the prefix of parameters."""
    key, equals, value = override.partition("=")
    keys = tuple(key.split("."))
    plain = override.encode("utf-8", "ignore").decode() == override  # bytes of a shell that are no text
    if not (plain and equals and all(keys) and len(keys) <= _DEEPEST):
        text = f"not key=value: {shown(override)}; write for example stages.probe.steps=100"
        raise InputError(one_line(f"{document.COMMAND_LINE}: {text}"))
    if keys[0] == "stages" and keys[2:3] == ("train",) and len(keys) > 4:
        keys = (*keys[:3], ".".join(keys[3:]))
    return keys, value


def _strangers(written: document.Document) -> Iterator[Problem]:
    """Overrides inside a parent, data set, stage or evaluation that nobody has defined: surely a mistyped name."""
    defined = {keys for keys in (*written.lines, *written.overridden) if len(keys) == 2}
    for keys in written.overridden:
        if keys[0] in _GROUPS and len(keys) > 2 and keys[:2] not in defined:
            known = [str(each[1]) for each in defined if each[0] == keys[0]]
            yield unknown_name(keys[:2], _GROUPS[str(keys[0])], str(keys[1]), known)


def _typed(values: dict[str, Any]) -> tuple[Recipe | None, list[Problem]]:
    """The recipe that the values make, or what is wrong with them."""
    try:
        # as JSON, because strict JSON has lists where the models have tuples, and integers where they have floats
        return Recipe.model_validate_json(json.dumps(values)), []
    except pydantic.ValidationError as error:
        return None, explain(error, Recipe, values)
