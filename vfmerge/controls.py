"""Controls: what a merged model is compared with, made from its own recipe, parents and data.

naive       distilled without rehearsing the base, every parameter at the head's rate: what the method's care is for
wise_ft_A   the base's trunk and the naive one's, interpolated (Wortsman et al., arXiv 2109.01903; SAM-CLIP's control,
            arXiv 2310.15308, appendix D): A is the share of the naive one, 1 is `naive` itself
probe       the head alone is trained, for as many steps, on the base's frozen trunk
cascade     the parents one after another: whatever the one finds is cut out and named by the other (SAM-CLIP, table 7)
pipeline    the parents side by side in the merged model's own two-head pipeline: two encoders instead of one

`naive` and `probe` are trained, as runs of their own below the run's folder, and go on where they were like any run.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from vfmerge import engine, home, measurement, model
from vfmerge.data.source import Source
from vfmerge.errors import InputError
from vfmerge.model import MergedModel
from vfmerge.recipe import Recipe, Stage, Stream
from vfmerge.subject import Subject, Way

FOLDER = "controls"
SHARES = (0.0, 0.25, 0.5, 0.75)  # chosen here; the paper's curve has more points, which tell no more


def naive(recipe: Recipe, sources: Mapping[str, Source]) -> Recipe:
    """The recipe without rehearsal: no task of the base, its head left alone, and the trunk at the head's rate.

    Small rates on the trunk are a care against forgetting too, and a naive distillation takes none.
    """
    own = f"heads.{recipe.base}"

    def rates(stage: Stage) -> dict[str, float]:
        heads = [rate for prefix, rate in stage.train.items() if _of_heads(prefix) and not _within(prefix, own)]
        quick = max(heads, default=None)
        kept = {prefix: rate for prefix, rate in stage.train.items() if not _within(prefix, own)}
        return {prefix: rate if _of_heads(prefix) or quick is None else quick for prefix, rate in kept.items()}

    return _derive(recipe, sources, rates)


def probe(recipe: Recipe, sources: Mapping[str, Source]) -> Recipe:
    """The recipe with a trunk that stays the base's: only heads of the other parents are trained."""
    own = f"heads.{recipe.base}"

    def rates(stage: Stage) -> dict[str, float]:
        return {prefix: rate for prefix, rate in stage.train.items() if _of_heads(prefix) and not _within(prefix, own)}

    return _derive(recipe, sources, rates)


TRAINED = {"naive": naive, "probe": probe}


def train(run: Path, recipe: Recipe, sources: Mapping[str, Source], *, device: str) -> None:
    """Train the controls that are not there yet. Raises what a run raises."""
    for name, derive in TRAINED.items():
        engine.merge(derive(recipe, sources), run / FOLDER / name, name=name, device=device)


def there(run: Path) -> bool:
    """Whether all controls of a run are trained."""
    return all((run / FOLDER / name / home.MERGED).is_dir() for name in TRAINED)


def subjects(run: Path, recipe: Recipe, parents: Subject, *, device: str) -> list[Subject]:
    """The controls of a run, to be measured: trained ones, interpolations, and the parents together.

    parents: those that could be opened; controls that need another are left out.
    """
    folders = {name: model.load(run / FOLDER / name / home.MERGED, device=device) for name in TRAINED}
    found = [measurement.merged_of(merged, name=name, control=name) for name, merged in folders.items()]
    if recipe.base in parents.capabilities:
        found += curve(folders["naive"], parents.capabilities[recipe.base].network.trunk)
    if parents.capabilities.keys() == recipe.parents.keys():
        ways: dict[str, Way] = {"cascade": "cascade", "pipeline": "joint"}
        found += [dataclasses.replace(parents, name=name, control=name, way=way) for name, way in ways.items()]
    return found


def curve(naive: MergedModel, base: nn.Module) -> Iterator[Subject]:
    """Interpolations between the base's trunk and the naively distilled one, with the naive model's heads."""
    first, last = base.state_dict(), naive.trunk.state_dict()
    for share in SHARES:
        mixed = copy.deepcopy(naive)
        mixed.trunk.load_state_dict(interpolate(first, last, share=share))
        name = f"wise_ft_{share:g}"
        yield measurement.merged_of(mixed, name=name, control=name)


def interpolate(first: Mapping[str, Tensor], last: Mapping[str, Tensor], *, share: float) -> dict[str, Tensor]:
    """(1 - share) first + share last, for every tensor of numbers; others are the first's."""
    return {
        name: tensor.lerp(last[name].to(tensor.device), share) if tensor.is_floating_point() else tensor
        for name, tensor in first.items()
    }


def _derive(recipe: Recipe, sources: Mapping[str, Source], rates: Callable[[Stage], dict[str, float]]) -> Recipe:
    """The recipe without the base's task, with other rates, for as many steps, and nothing to measure."""
    stages = {}
    for name, stage in recipe.stages.items():
        streams = [bare for stream in stage.streams if (bare := _without(stream, recipe.base))]
        trained = rates(stage)
        if streams and trained:
            steps = stage.total_steps(len(sources[stage.streams[0].data]))
            change = {"streams": tuple(streams), "train": trained, "steps": steps, "epochs": None}
            stages[name] = stage.model_copy(update=change)
    if not stages:
        raise InputError(f"base: the recipe distills no parent but {recipe.base}; it has no controls")
    return recipe.model_copy(update={"stages": stages, "evaluate": {}})


def _without(stream: Stream, base: str) -> Stream | None:
    """The stream without the base's task, or none if that was all."""
    tasks = {task: weight for task, weight in stream.tasks.items() if task != base}
    return stream.model_copy(update={"tasks": tasks}) if tasks else None


def _of_heads(prefix: str) -> bool:
    return _within(prefix, "heads")


def _within(prefix: str, module: str) -> bool:
    return prefix == module or prefix.startswith(f"{module}.")
