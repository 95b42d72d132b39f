"""The rules of a recipe that no single field can check: names that refer to each other, plug-ins and their options.

Imports no torch, and of plug-ins only those that the recipe names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vfmerge import options, plugins
from vfmerge.errors import InputError
from vfmerge.problem import Keys, Problem, nearest, shown, unknown_name

if TYPE_CHECKING:
    from vfmerge.recipe import Recipe, Stage, Stream

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = """
T_destination adapters add_module apply base bfloat16 buffers call_super_init capabilities capability children
clear compile cpu cuda double dump_patches eval extra_repr fixed float forward get_buffer get_extra_state
get_parameter get_submodule half heads ipu items keys load_state_dict modules mtia named_buffers named_children
named_modules named_parameters network parameters pop register_backward_hook register_buffer
register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ save segment set_extra_state set_submodule
share_memory start state_dict to to_empty train training trunk type update values xpu zero_grad
"""
RESERVED = frozenset(_RESERVED.split())
"""What a merged model has already: `model.NAME` would not be the parent's capability."""
_PLUGGED: dict[str, tuple[plugins.Kind, str]] = {  # section: kind of plug-in, the key that names it
    "parents": ("adapters", "adapter"),
    "tasks": ("adapters", "adapter"),
    "data": ("data", "kind"),
    "evaluate": ("benchmarks", "benchmark"),
}


def cross_check(recipe: Recipe) -> list[Problem]:
    """What contradicts itself in a recipe whose fields are well typed."""
    return [*_names(recipe), *_base(recipe), *_stages(recipe), *_evaluations(recipe)]


def plugged(values: Mapping[str, Any], told: Sequence[Problem]) -> Iterator[Problem]:
    """Plug-ins that are not there or cannot be used, and what is wrong with their options.

    values: a recipe's plain values; sections with a problem among `told` are left out.
    """
    for group, (kind, key) in _PLUGGED.items():
        if any(each.keys in ((group,), ()) for each in told):
            continue
        for name, section in values.get(group, {}).items():
            if not any(each.within((group, name)) for each in told):
                yield from _plug(kind, key, section, (group, name))


def _plug(kind: plugins.Kind, key: str, section: Mapping[str, Any], keys: Keys) -> Iterator[Problem]:
    try:
        cls = plugins.find(kind, section[key])
        if kind == "adapters":
            given, below = section.get("options", {}), (*keys, "options")
        else:
            given, below = {name: value for name, value in section.items() if name not in _OWN[kind]}, keys
        yield from options.examine(cls, given, keys=below)[1]
    except InputError as error:
        yield Problem(keys=(*keys, key), text=str(error), unknown=True)


_OWN: dict[plugins.Kind, set[str]] = {"data": {"kind"}, "benchmarks": {"benchmark", "data", "train"}}


def _names(recipe: Recipe) -> Iterator[Problem]:
    for group in ("parents", "tasks", "data", "stages", "evaluate"):
        for name in recipe.__dict__[group]:
            if not _NAME.fullmatch(name):
                yield Problem(keys=(group, name), text="not a name; write a letter, then letters, digits and _")
    for group, noun in (("parents", "parent"), ("tasks", "task")):
        for name in recipe.__dict__[group]:
            if name in RESERVED:
                yield Problem(keys=(group, name), text=f"every model has a {name} already; call the {noun} otherwise")
    for name in recipe.tasks.keys() & recipe.parents.keys():
        yield Problem(keys=("tasks", name), text="a parent is called so too; call the task otherwise")


def _base(recipe: Recipe) -> Iterator[Problem]:
    if recipe.base not in recipe.parents:
        yield unknown_name(("base",), "parent", recipe.base, recipe.parents)


def _evaluations(recipe: Recipe) -> Iterator[Problem]:
    for name, evaluation in recipe.evaluate.items():
        if evaluation.data not in recipe.data:
            yield unknown_name(("evaluate", name, "data"), "data set", evaluation.data, recipe.data)
        if evaluation.train is not None and evaluation.train not in recipe.data:
            yield unknown_name(("evaluate", name, "train"), "data set", evaluation.train, recipe.data)


def _stages(recipe: Recipe) -> Iterator[Problem]:
    for name, stage in recipe.stages.items():
        keys = ("stages", name)
        yield from _length(stage, keys)
        yield from _drops(stage, keys)
        yield from _trained(recipe, stage, keys)
        for number, stream in enumerate(stage.streams):
            yield from _stream(recipe, stage, stream, (*keys, "streams", number))


def _length(stage: Stage, keys: Keys) -> Iterator[Problem]:
    if (stage.steps is None) == (stage.epochs is None):
        given = "neither" if stage.steps is None else "both"
        yield Problem(keys=keys, text=f"{given} of steps and epochs; give one of them")
    if stage.steps is not None and stage.warmup > stage.steps:
        text = f"longer than the stage: {stage.warmup}; write at most {stage.steps}, its steps"
        yield Problem(keys=(*keys, "warmup"), text=text)


def _drops(stage: Stage, keys: Keys) -> Iterator[Problem]:
    if (stage.schedule == "steps") != bool(stage.drops):
        text = "none, and schedule is steps; give shares of the stage, as [0.67, 0.92]"
        if stage.drops:
            text = f"{list(stage.drops)} with schedule {stage.schedule}; write schedule: steps, or leave them out"
        yield Problem(keys=(*keys, "drops"), text=text)


def _trained(recipe: Recipe, stage: Stage, keys: Keys) -> Iterator[Problem]:
    """Prefixes of parameters that can be, of heads that something teaches."""
    taught = {task for stream in stage.streams for task in stream.tasks}
    possible = ["trunk", *(f"heads.{task}" for task in recipe.adapted)]
    for prefix in stage.train:
        here = (*keys, "train", prefix)
        part = ".".join(prefix.split(".")[: 2 if prefix.startswith("heads.") else 1])
        if part not in possible:
            near = nearest(prefix, possible)
            remedy = f"did you mean {shown(near[0])}?" if near else f"begin with one of {', '.join(possible[:6])}"
            yield Problem(keys=here, text=f"no such part of the model; {remedy}", unknown=True)
        elif part != "trunk" and part.removeprefix("heads.") not in taught:
            text = f"no stream of the stage has the task {part.removeprefix('heads.')}; add one, or train less"
            yield Problem(keys=here, text=text)
        elif part == "trunk" and stage.cache is True:
            text = f"the trunk learns ({shown(prefix)}); drop that, or write targets or false"
            yield Problem(keys=(*keys, "cache"), text=text)


def _stream(recipe: Recipe, stage: Stage, stream: Stream, keys: Keys) -> Iterator[Problem]:
    if stream.data not in recipe.data:
        yield unknown_name((*keys, "data"), "data set", stream.data, recipe.data)
    if stage.cache and stream.augments:
        text = (
            "keeps one look at each picture, and flip or scale draws another each time; leave these out, or write false"
        )
        yield Problem(keys=("stages", keys[1], "cache"), text=text)
    if stream.drop and len(stream.tasks) < 2:
        yield Problem(keys=(*keys, "drop"), text=f"{stream.drop} of a single task; give the stream another, or write 0")
    for task in stream.tasks:
        here = (*keys, "tasks", task)
        if task not in recipe.adapted:
            yield unknown_name(here, "task" if recipe.tasks else "parent", task, recipe.adapted)
        elif not any(part.startswith(("trunk", f"heads.{task}")) for part in stage.train):
            yield Problem(keys=here, text=f"teaches nothing that is trained; add trunk or heads.{task} to train")
