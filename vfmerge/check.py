"""`vfmerge check`: everything that can be known before training, in tables.

The networks are built as shapes on the meta device: no weights are read and no memory is taken, whatever their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vfmerge import parts
from vfmerge.adapter import Adapter, AuxiliaryAdapter, BaseAdapter
from vfmerge.data.source import Source
from vfmerge.problem import Keys, Problem, nearest, refuse, shown
from vfmerge.recipe import Recipe, Stage
from vfmerge.table import show

if TYPE_CHECKING:
    from vfmerge.model import MergedModel


def check(recipe: Recipe, *, device: str = "auto") -> None:
    """Print stages, parts, caches, data sets, teachers and evaluations of a recipe that `recipe.load` passed.

    Raises InputError for what is wrong: first what needs no torch (files, data, sizes), then parameters and device.
    """
    adapters, sources = parts.build_adapters(recipe), parts.build_sources(recipe)
    require(recipe, adapters, sources)
    merged = _build(recipe, adapters, device=device)
    learning = _parameters(recipe, merged)
    if recipe.stages:
        show("stages", ("stage", "steps", "data", "samples", "size", "batch", "tasks"), _stage_rows(recipe, sources))
        show("trainable parameters", ("stage", "prefix", "rate", "parameters"), learning)
    else:
        print("no stages: nothing is trained\n")
    _show_parts(recipe, merged)
    _show_caches(recipe, adapters, sources)
    if recipe.data:
        show("data", ("name", "kind", "samples", "masks", "classes"), _data_rows(recipe, sources))
        _show_dropped(sources)
    show("teachers", ("parent", "adapter", "licence", "weights"), _teacher_rows(recipe, adapters))
    if recipe.evaluate:
        rows = [(name, each.benchmark, each.data) for name, each in recipe.evaluate.items()]
        show("evaluation", ("name", "benchmark", "data"), rows)


def require(recipe: Recipe, adapters: Mapping[str, Adapter], sources: Mapping[str, Source]) -> None:
    """Refuse what can be known to fail later without reading a weight or importing torch. Raises InputError."""
    benchmarks = parts.build_benchmarks(recipe.evaluate)
    refuse(
        [
            *_files(adapters),
            *_sizes(recipe, adapters),
            *_warm_ups(recipe, sources),
            *_caches(recipe, adapters),
            *_masks(recipe, adapters, sources),
            *parts.misfits(recipe.evaluate, benchmarks, tasks=recipe.adapted, sources=sources),
        ]
    )


def _files(adapters: Mapping[str, Adapter]) -> Iterator[Problem]:
    for name, adapter in adapters.items():
        for source in adapter.sources:
            if not source.is_file():
                yield Problem(
                    keys=("parents", name), text=f"no file {shown(str(source))}; give the path of the weights"
                )


def _sizes(recipe: Recipe, adapters: Mapping[str, Adapter]) -> Iterator[Problem]:
    """Sizes that the trunk cannot divide into cells, or does not take."""
    base = adapters[recipe.base]
    assert isinstance(base, BaseAdapter)
    stride, only = max(base.features.strides), base.features.fixed_size
    for name, stage in recipe.stages.items():
        for number, stream in enumerate(stage.streams):
            keys: Keys = ("stages", name, "streams", number, "size")
            for size in stream.sizes:
                if only is not None and size != only:
                    yield Problem(
                        keys=keys, text=f"{size} does not fit the trunk, which takes {only} alone; write {only}"
                    )
                elif size % stride:
                    near = base.features.fit(size)
                    yield Problem(keys=keys, text=f"no multiple of the trunk's stride {stride}: {size}; write {near}")


def _warm_ups(recipe: Recipe, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """A warm-up longer than its epochs; where `steps` are given, the recipe itself was checked."""
    for name, stage in recipe.stages.items():
        steps = stage.total_steps(len(sources[stage.streams[0].data]))
        if stage.warmup > steps:
            text = f"longer than the stage: {stage.warmup}; write at most {steps}, its steps"
            yield Problem(keys=("stages", name, "warmup"), text=text)


def _caches(recipe: Recipe, adapters: Mapping[str, Adapter]) -> Iterator[Problem]:
    """Caches of targets that change, for prompts are drawn from masks anew at each step; and tasks that need pictures.

    Data may have masks that no task learns from. Beside cached targets a batch has its labels and masks, beside cached
    features it has not.
    """
    for name, stage in recipe.stages.items():
        for task in (task for stream in stage.streams if stage.cache for task in stream.tasks):
            taught = isinstance(adapters[task], AuxiliaryAdapter)
            if taught and adapters[task].needs_masks:
                text = f"{task} is learnt from masks, of which prompts are drawn anew at each step; write false"
                yield Problem(keys=("stages", name, "cache"), text=text)
            if not taught and stage.cache is True:
                text = f"{task} is learnt from labels, which are not kept beside features; write targets or false"
                yield Problem(keys=("stages", name, "cache"), text=text)


def _masks(recipe: Recipe, adapters: Mapping[str, Adapter], sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Tasks that are learnt from masks, on data without, or where images are what is dropped."""
    for name, stage in recipe.stages.items():
        for number, stream in enumerate(stage.streams):
            for task in stream.tasks:
                if adapters[task].needs_masks and not sources[stream.data].has_masks:
                    text = f"{task} is learnt from masks, and data.{stream.data} has none; choose other data"
                    yield Problem(keys=("stages", name, "streams", number, "data"), text=text)
                if adapters[task].needs_labels and not sources[stream.data].classes:
                    text = f"{task} is learnt from classes, and data.{stream.data} has none; choose other data"
                    yield Problem(keys=("stages", name, "streams", number, "data"), text=text)
                if adapters[task].needs_labels and sources[stream.data].unseen:
                    text = f"data.{stream.data} has classes that no training may see; give it keep: seen"
                    yield Problem(keys=("stages", name, "streams", number, "data"), text=text)
                if adapters[task].needs_masks and stream.drop:
                    text = f"{task} is learnt mask by mask and cannot be left out image by image; write 0"
                    yield Problem(keys=("stages", name, "streams", number, "drop"), text=text)


def _build(recipe: Recipe, adapters: Mapping[str, Adapter], *, device: str) -> MergedModel:
    """The merged model on the meta device. Raises InputError for heads that do not fit, a device that is not there."""
    import torch

    from vfmerge import model

    model.on(device)
    with torch.device("meta"):
        return model.MergedModel(adapters, base=recipe.base)


def _parameters(recipe: Recipe, merged: MergedModel) -> list[tuple[str, str, str, int]]:
    """Stage, prefix, peak rate and how many numbers it trains. Raises InputError for a prefix that trains none."""
    from vfmerge import optimizer

    counts = {name: each.numel() for name, each in merged.named_parameters() if name not in merged.fixed}
    refuse(problem for name, stage in recipe.stages.items() for problem in _idle(name, stage, counts))
    rows = []
    for name, stage in recipe.stages.items():
        for prefix, rate in stage.train.items():
            covered = sum(counts[each] for each in counts if optimizer.prefix_of(each, stage) == prefix)
            rows.append((name, prefix, f"{rate:g}", covered))
    return rows


def _idle(name: str, stage: Stage, counts: Mapping[str, int]) -> Iterator[Problem]:
    """Prefixes that no trainable parameter has."""
    parts_of = [parameter.split(".") for parameter in counts]
    known = {".".join(words[:length]) for words in parts_of for length in range(1, len(words) + 1)}
    for prefix in stage.train:
        if prefix not in known:
            near = nearest(prefix, known)
            remedy = f"did you mean {shown(near[0])}?" if near else "write trunk or heads.NAME"
            text = f"no trainable parameter begins so; {remedy}"
            yield Problem(keys=("stages", name, "train", prefix), text=text, unknown=True)


def _show_parts(recipe: Recipe, merged: MergedModel) -> None:
    from vfmerge import anatomy

    show("parts", ("part", "parameters", "trained in"), anatomy.rows(recipe, merged))


def _show_caches(recipe: Recipe, adapters: Mapping[str, Adapter], sources: Mapping[str, Source]) -> None:
    """Nothing where no stage has one."""
    from vfmerge import forecast
    from vfmerge.forecast import readable

    shares = list(forecast.foresee(recipe, adapters, sources))
    if shares:
        columns = ("stage", "data", "what", "samples", "size", "a sample", "in all")
        rows = [
            (each.stage, each.data, each.what, each.samples, each.size, readable(each.each), readable(each.total))
            for each in shares
        ]
        least = readable(sum(each.total or 0 for each in shares))
        more = "more than " if any(each.total is None for each in shares) else ""
        show(f"caches, {more}{least} together", columns, rows)


def _stage_rows(recipe: Recipe, sources: Mapping[str, Source]) -> Iterator[tuple[object, ...]]:
    for name, stage in recipe.stages.items():
        steps = stage.total_steps(len(sources[stage.streams[0].data]))
        for number, stream in enumerate(stage.streams):
            tasks = ", ".join(f"{task} x {weight:g}" for task, weight in stream.tasks.items())
            sides = ", ".join(map(str, stream.sizes))
            yield (
                name if number == 0 else "",
                f"{steps:,}" if number == 0 else "",
                stream.data,
                stream.samples(len(sources[stream.data])),
                sides,
                stream.batch,
                tasks,
            )


def _data_rows(recipe: Recipe, sources: Mapping[str, Source]) -> Iterator[tuple[object, ...]]:
    for name, source in sources.items():
        yield name, recipe.data[name].kind, len(source), "yes" if source.has_masks else "", len(source.classes)


def _show_dropped(sources: Mapping[str, Source]) -> None:
    """Nothing where every annotation is used."""
    rows = [(name, count, reason) for name, source in sources.items() for reason, count in source.dropped.items()]
    if rows:
        show("annotations left out", ("data", "annotations", "because"), rows)


def _teacher_rows(recipe: Recipe, adapters: Mapping[str, Adapter]) -> Iterator[tuple[object, ...]]:
    for name, adapter in adapters.items():
        if name not in recipe.parents:
            continue
        weights = ", ".join(source.name for source in adapter.sources) or "none given"
        role = f"{name} (base)" if name == recipe.base else name
        yield role, recipe.parents[name].adapter, adapter.licence, weights
