"""`vfmerge check`: everything that can be known before training, in tables.

The networks are built as shapes on the meta device: no weights are read and no memory is taken, whatever their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vfmerge import parts
from vfmerge.adapter import AuxiliaryAdapter, BaseAdapter
from vfmerge.benchmarks.benchmark import Benchmark
from vfmerge.data.source import Source
from vfmerge.problem import Keys, Problem, nearest, refuse, shown, suggestion
from vfmerge.recipe import Recipe, Stage
from vfmerge.table import show


def check(recipe: Recipe, *, device: str = "auto") -> None:
    """Print stages, trainable parameters, data sets, teachers and evaluations of a recipe that `recipe.load` passed.

    Raises InputError for what is wrong: first what needs no torch (files, data, sizes), then parameters and device.
    """
    adapters, sources = parts.build_adapters(recipe), parts.build_sources(recipe)
    require(recipe, adapters, sources)
    learning = _parameters(recipe, adapters, device=device)
    if recipe.stages:
        show("stages", ("stage", "steps", "data", "samples", "size", "batch", "tasks"), _stage_rows(recipe, sources))
        show("trainable parameters", ("stage", "prefix", "rate", "parameters"), learning)
    else:
        print("no stages: nothing is trained\n")
    if recipe.data:
        show("data", ("name", "kind", "samples", "masks", "classes"), _data_rows(recipe, sources))
    show("teachers", ("parent", "adapter", "licence", "weights"), _teacher_rows(recipe, adapters))
    if recipe.evaluate:
        rows = [(name, each.benchmark, each.data) for name, each in recipe.evaluate.items()]
        show("evaluation", ("name", "benchmark", "data"), rows)


def require(recipe: Recipe, adapters: Mapping[str, AuxiliaryAdapter], sources: Mapping[str, Source]) -> None:
    """Refuse what can be known to fail later without reading a weight or importing torch. Raises InputError."""
    benchmarks = parts.build_benchmarks(recipe)
    refuse(
        [
            *_files(adapters),
            *_sizes(recipe, adapters),
            *_warm_ups(recipe, sources),
            *_caches(recipe, sources),
            *_masks(recipe, adapters, sources),
            *_fitting(recipe, benchmarks, sources),
        ]
    )


def _files(adapters: Mapping[str, AuxiliaryAdapter]) -> Iterator[Problem]:
    for name, adapter in adapters.items():
        for source in adapter.sources:
            if not source.is_file():
                yield Problem(
                    keys=("parents", name), text=f"no file {shown(str(source))}; give the path of the weights"
                )


def _sizes(recipe: Recipe, adapters: Mapping[str, AuxiliaryAdapter]) -> Iterator[Problem]:
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


def _caches(recipe: Recipe, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Caches of targets that change: prompts are drawn from masks anew at each step."""
    for name, stage in recipe.stages.items():
        for stream in stage.streams:
            if stage.cache and sources[stream.data].has_masks:
                text = f"data.{stream.data} has masks, whose prompts change; write false, or give the data masks: false"
                yield Problem(keys=("stages", name, "cache"), text=text)


def _masks(
    recipe: Recipe, adapters: Mapping[str, AuxiliaryAdapter], sources: Mapping[str, Source]
) -> Iterator[Problem]:
    """Tasks that are learnt from masks, on data without, or where images are what is dropped."""
    for name, stage in recipe.stages.items():
        for number, stream in enumerate(stage.streams):
            for task in stream.tasks:
                if adapters[task].needs_masks and not sources[stream.data].has_masks:
                    text = f"{task} is learnt from masks, and data.{stream.data} has none; choose other data"
                    yield Problem(keys=("stages", name, "streams", number, "data"), text=text)
                if adapters[task].needs_masks and stream.drop:
                    text = f"{task} is learnt mask by mask and cannot be left out image by image; write 0"
                    yield Problem(keys=("stages", name, "streams", number, "drop"), text=text)


def _fitting(recipe: Recipe, benchmarks: Mapping[str, Benchmark], sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Roles of a benchmark that no parent fills, and data that it cannot measure on."""
    for name, each in recipe.evaluate.items():
        for role, task in (benchmarks[name].tasks() or {}).items():
            if task not in recipe.parents:
                text = f"no parent is called {shown(task)}; {suggestion(task, recipe.parents)}"
                yield Problem(keys=("evaluate", name, role), text=text)
        lacking = benchmarks[name].lacks(sources[each.data])
        if lacking:
            text = f"{shown(each.data)} has not what {each.benchmark} needs: {lacking}; choose other data"
            yield Problem(keys=("evaluate", name, "data"), text=text)


def _parameters(
    recipe: Recipe, adapters: Mapping[str, AuxiliaryAdapter], *, device: str
) -> list[tuple[str, str, str, int]]:
    """Stage, prefix, peak rate and how many numbers it trains. Raises InputError for a prefix that trains none."""
    import torch

    from vfmerge import model, optimizer

    model.on(device)
    with torch.device("meta"):
        merged = model.MergedModel(adapters, base=recipe.base)
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


def _teacher_rows(recipe: Recipe, adapters: Mapping[str, AuxiliaryAdapter]) -> Iterator[tuple[object, ...]]:
    for name, adapter in adapters.items():
        weights = ", ".join(source.name for source in adapter.sources) or "none given"
        role = f"{name} (base)" if name == recipe.base else name
        yield role, recipe.parents[name].adapter, adapter.licence, weights
