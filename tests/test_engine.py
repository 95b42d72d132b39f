"""The engine: what a step learns from what, what stays as it was, and what is written down of it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

from vfmerge import checkpoint, engine, optimizer, recipe, weights
from vfmerge.cli import main
from vfmerge.flow import open_flow
from vfmerge.model import MergedModel
from vfmerge.session import Session
from vfmerge.stream import Steps

Start = Callable[..., Session]
ONE_SIZE = ("stages.distill.streams.0.size=32", "stages.distill.warmup=0", "stages.distill.schedule=constant")


def train(session: Session, name: str, *, steps: int) -> None:
    """So many steps of one stage."""
    engine.train_stage(session, name, session.recipe.stages[name], steps=steps, start=0, saved=None)


def learn(session: Session, name: str) -> list[dict[str, float]]:
    """The first step of a stage up to its gradients: the loss terms of each stream."""
    stage = session.recipe.stages[name]
    optimizer.freeze(session.model, stage)
    flows = [open_flow(session, name, stage, number=n, start=0) for n in range(len(stage.streams))]
    return [engine.learn(session, flow.plan, *next(flow.steps(0, 1)), number=flow.number) for flow in flows]


def disturb(session: Session) -> None:
    """Move the trunk away from the base's, so that there is something to rehearse."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in session.model.trunk.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def state(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: torch.nn.Module) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_every_step_has_its_line(finished: Path) -> None:
    """All stages in order, each step once, with every term, every rate, the gradient's norm; all finite."""
    found = lines(finished)
    assert [line["step"] for line in found] == list(range(1, 15))
    assert [line["stage"] for line in found] == ["probe"] * 5 + ["distill"] * 6 + ["adapt"] * 3
    clip, sam = {"loss.0.clip.cosine"}, {"loss.1.sam.focal", "loss.1.sam.dice"}
    of_stage = {
        "probe": {"rate.heads.clip"} | clip,
        "distill": {"rate.trunk", "rate.heads.sam", "rate.heads.clip"} | clip | sam,
        "adapt": {"rate.heads.clip"} | clip,
    }
    for line in found:
        named = of_stage[line["stage"]]
        assert line.keys() == {"step", "stage", "loss", "gradient_norm", "skipped"} | named
        assert all(math.isfinite(line[name]) for name in named | {"loss", "gradient_norm"})
        assert line["loss"] == pytest.approx(sum(line[name] for name in named if name.startswith("loss.")))
        assert line["gradient_norm"] > 0
        assert line["skipped"] == 0
    assert [line["rate.heads.clip"] for line in found[:3]] == pytest.approx([1e-3, 2e-3, 2e-3])
    assert [line["rate.trunk"] for line in found[5:8]] == pytest.approx([2.5e-4, 5e-4, 5e-4])
    assert [line["rate.heads.clip"] for line in found[11:]] == [1e-3] * 3


def test_a_stage_in_epochs(finished: Path) -> None:
    """Half a pass over 24 pictures in batches of four is three steps; what is left over is a step of its own."""
    assert sum(line["stage"] == "adapt" for line in lines(finished)) == 3
    stage = recipe.load(str(finished / "recipe.yaml")).stages["adapt"]
    assert [stage.total_steps(samples) for samples in (1, 24, 25, 1000)] == [1, 3, 4, 125]


@pytest.mark.parametrize(
    ("stage", "train_", "prefixes"),
    [
        ("probe", None, ("heads.clip.",)),
        ("distill", None, ("trunk.", "heads.sam.", "heads.clip.")),
        ("distill", "{trunk.blocks.1: 1e-3, heads.clip.mlp: 1e-3}", ("trunk.blocks.1.", "heads.clip.mlp.")),
    ],
)
def test_only_what_is_named_moves(start: Start, stage: str, train_: str | None, prefixes: tuple[str, ...]) -> None:
    """What the stage names moves, everything else is bit for bit as it was; a parent's fixed parts never move."""
    session = start(*([f"stages.{stage}.train={train_}"] if train_ else []))
    before = state(session.model)
    train(session, stage, steps=3)
    named = {name for name, _ in session.model.named_parameters() if name.startswith(prefixes)} - session.model.fixed
    unmarked = {name for name in named if "iou_prediction_head" in name}  # no loss looks at the scores
    assert session.model.fixed
    assert moved(before, session.model) == named - unmarked


def test_teachers_stay(start: Start) -> None:
    """A teacher gets no gradient, is in eval mode, and is what it was to the last batch statistic."""
    session = start()
    before = {name: state(teacher) for name, teacher in session.teachers.items()}
    assert any("running_mean" in name for name in before["clip"])
    train(session, "distill", steps=2)
    for name, teacher in session.teachers.items():
        assert not any(module.training for module in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert moved(before[name], teacher) == set()


def by_hand(session: Session) -> dict[str, Tensor]:
    """The gradient of the distilling stage's first step: of both streams' weighted losses, summed in one graph."""
    model, stage = session.model, session.recipe.stages["distill"]
    optimizer.freeze(model, stage)
    total = torch.zeros(())
    for number, stream in enumerate(stage.streams):
        _, _, batch = next(open_flow(session, "distill", stage, number=number, start=0).steps(0, 1))
        (task,) = stream.tasks
        answer = model.heads[task](model.trunk(batch.images), batch)
        with torch.no_grad():
            target = session.adapters[task].teacher()(batch)  # a new one: the parent as it always was
        terms = session.adapters[task].loss(answer, target, batch)
        total = total + stream.tasks[task] * sum(term.mean() for term in terms.values())
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad(total, list(learning.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(learning, found, strict=True) if gradient is not None}


def test_gradients_of_all_streams_add_up(start: Start) -> None:
    """Before the one optimiser step, each gradient is that of both streams' losses, by their weights."""
    one, other = start(*ONE_SIZE), start(*ONE_SIZE)
    for session in (one, other):
        disturb(session)
    wanted = by_hand(other)
    learn(one, "distill")
    found = {name: parameter.grad for name, parameter in one.model.named_parameters() if parameter.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_step_by_hand(start: Start) -> None:
    """One step is one clipped AdamW update (arXiv 1711.05101) with both streams' gradient, its norm written down."""
    one, other = start(*ONE_SIZE, "clip=0.5"), start(*ONE_SIZE)
    for session in (one, other):
        disturb(session)
    gradients, before = by_hand(other), state(other.model)
    train(one, "distill", steps=1)
    norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt().item()
    one.metrics.flush()
    assert lines(one.out)[0]["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    clipped = [parameter.grad for parameter in one.model.parameters() if parameter.grad is not None]
    assert norm > 0.5
    assert torch.nn.utils.get_total_norm(clipped).item() == pytest.approx(0.5, rel=1e-4)
    after, rates = one.model.state_dict(), {"trunk": 5e-4, "heads.sam": 5e-4, "heads.clip": 2e-3}
    judged = set()
    for name, gradient in gradients.items():
        rate = next(rate for prefix, rate in rates.items() if name.startswith(prefix))
        decay = 0.05 if gradient.dim() > 1 else 0.0
        small = gradient * 0.5 / norm
        update = small / (small.abs() + 1e-8)  # the first step: both moments are the gradient's own
        sure = small.abs() > 1e-5  # a tiny gradient's sign is rounding
        torch.testing.assert_close(
            after[name][sure], (before[name] * (1 - rate * decay) - rate * update)[sure], rtol=1e-4, atol=1e-6
        )
        judged |= {name.rsplit(".", 2)[0]} if sure.any() else set()
    assert {"trunk.blocks.0.attn", "heads.clip.layers.0", "heads.sam.neck"} <= judged


def test_a_stage_can_clip_by_itself(start: Start) -> None:
    """Its own norm counts before the recipe's, and the other stages keep that."""
    for stage, norm in (("distill", 0.1), ("adapt", 0.2)):
        session = start(*ONE_SIZE, "clip=0.2", "stages.distill.clip=0.1")
        disturb(session)
        train(session, stage, steps=1)
        clipped = [parameter.grad for parameter in session.model.parameters() if parameter.grad is not None]
        assert torch.nn.utils.get_total_norm(clipped).item() == pytest.approx(norm, rel=1e-4)


def test_weights_scale_their_terms(start: Start) -> None:
    """A task with twice the weight has twice the loss, and the other's stays."""
    once, twice = start(*ONE_SIZE), start(*ONE_SIZE, "stages.distill.streams.1.tasks.sam=20")
    for session in (once, twice):
        disturb(session)
    (clip, sam), (clip_too, sam_twice) = learn(once, "distill"), learn(twice, "distill")
    assert clip == clip_too
    assert sam["1.sam.focal"] > 0
    assert sam_twice == pytest.approx({name: 2 * value for name, value in sam.items()})


def test_the_base_is_rehearsed_against_its_original(start: Start) -> None:
    """After the trunk has moved, the target of the base is still what the parent itself answers."""
    session = start("stages.distill.train.trunk=1e-2")
    stage = session.recipe.stages["distill"]
    train(session, "distill", steps=3)
    _, targets, batch = next(open_flow(session, "distill", stage, number=1, start=4).steps(4, 5))
    with torch.no_grad():
        original = session.adapters["sam"].teacher()(batch)
        own = session.model.network("sam")(batch)
    assert all(torch.equal(a, b) for a, b in zip(targets["sam"], original, strict=True))
    assert not torch.allclose(own[0], original[0], atol=1e-3)


def test_a_batch_without_masks_costs_nothing(start: Start) -> None:
    """Pictures without a single mask: a loss of zero, no gradient that is not zero, no NaN."""
    session = start()
    disturb(session)
    stage = session.recipe.stages["distill"]
    optimizer.freeze(session.model, stage)
    _, _, batch = next(open_flow(session, "distill", stage, number=1, start=0).steps(0, 1))
    assert batch.masks is not None
    assert batch.owner is not None
    empty = dataclasses.replace(batch, masks=batch.masks[:0], owner=batch.owner[:0])
    target = session.teachers["sam"](empty)
    terms = engine.learn(session, stage.streams[1], None, {"sam": target}, empty, number=1)
    assert terms == {"1.sam.focal": 0.0, "1.sam.dice": 0.0}
    gradients = [parameter.grad for parameter in session.model.parameters() if parameter.grad is not None]
    assert all(not gradient.any() for gradient in gradients)


def test_a_list_of_sizes(start: Start) -> None:
    """Each step's trunk sees the side that the stream draws; both of the list occur."""
    session = start()
    seen: list[int] = []
    session.model.trunk.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
    train(session, "adapt", steps=8)
    stream = session.recipe.stages["adapt"].streams[0]
    steps = Steps(session.sources["images"], stream, seed=session.recipe.seed, place="adapt/0")
    assert seen == [steps.plan(step).size for step in range(8)]
    assert set(seen) == {32, 48}


def test_the_trunk_runs_once_a_stream(start: Start) -> None:
    """Two tasks on one stream share the trunk's one forward pass, and both are taught."""
    session = start("stages.distill.streams=[{data: masks, size: 48, batch: 2, tasks: {clip: 1, sam: 10}}]")
    passes: list[object] = []
    session.model.trunk.register_forward_pre_hook(lambda module, inputs: passes.append(module))
    train(session, "distill", steps=2)
    assert len(passes) == 2
    session.metrics.flush()
    assert lines(session.out)[0].keys() >= {"loss.0.clip.cosine", "loss.0.sam.focal", "loss.0.sam.dice"}


def test_bf16(small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 masks are answered and taught in bf16, losses are near fp32's; weights and optimiser stay fp32."""
    kinds: list[tuple[torch.dtype, torch.dtype]] = []
    loss = SAM.loss

    def note(self: SAM, answer: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], batch: Any) -> Any:
        kinds.append((answer[0].dtype, target[0].dtype))
        return loss(self, answer, target, batch)

    monkeypatch.setattr(SAM, "loss", note)
    changes = ["precision=bf16", "evaluate={}", "stages.adapt.epochs=0.1"]
    engine.run(recipe.load(str(small), changes), tmp_path / "run", name="small")
    assert kinds == [(torch.bfloat16, torch.bfloat16)] * 6
    found, exact = ([line["loss"] for line in lines(out)] for out in (tmp_path / "run", finished))
    assert found[:8] == pytest.approx(exact[:8], rel=0.05)
    assert found[:8] != exact[:8]
    saved = checkpoint.newest(tmp_path / "run")
    assert saved is not None
    assert {tensor.dtype for tensor in saved.optimizer().values()} == {torch.float32}
    assert {tensor.dtype for tensor in saved.model().values() if tensor.is_floating_point()} == {torch.float32}


def spoil(monkeypatch: pytest.MonkeyPatch, steps: Collection[int], *, gradient: bool = False) -> None:
    """Make the CLIP loss not finite in these of its calls, or only its gradient."""
    calls = iter(range(1, 1000))
    whole = OpenCLIP.loss

    def loss(self: OpenCLIP, answer: Tensor, target: Tensor, batch: Any) -> dict[str, Tensor]:
        terms = dict(whole(self, answer, target, batch))
        if next(calls) in steps:
            broken = (answer - answer).sum(1).sqrt() if gradient else math.nan  # sqrt(0): 0, with a slope of infinity
            terms["cosine"] = terms["cosine"] + broken
        return terms

    monkeypatch.setattr(OpenCLIP, "loss", loss)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_step_that_is_not_finite_is_skipped(start: Start, monkeypatch: pytest.MonkeyPatch, gradient: bool) -> None:
    """Nothing moves in it, the optimiser's state included; it is counted, its line has none for the number."""
    session = start()
    spoil(monkeypatch, range(3, 4), gradient=gradient)
    states: list[dict[str, Tensor]] = []
    record = engine.record

    def note(session: Session, **line: Any) -> None:
        states.append(state(session.model))
        record(session, **line)

    monkeypatch.setattr(engine, "record", note)
    train(session, "probe", steps=4)
    changed = [any(not torch.equal(a[name], b[name]) for name in a) for a, b in itertools.pairwise(states)]
    assert changed == [True, False, True]
    session.metrics.flush()
    found = lines(session.out)
    assert [line["skipped"] for line in found] == [0, 0, 1, 1]
    broken = "gradient_norm" if gradient else "loss.0.clip.cosine"
    assert [line[broken] is None for line in found] == [False, False, True, False]
    assert ["samples.0" in line for line in found] == [False, False, True, False]
    stage = session.recipe.stages["probe"]
    steps = Steps(session.sources["images"], stage.streams[0], seed=session.recipe.seed, place="probe/0")
    assert found[2]["samples.0"] == [f"cached {index}" for index in steps.plan(2).indices]
    saved = checkpoint.newest(session.out)
    assert saved is not None
    assert {value.item() for name, value in saved.optimizer().items() if name.startswith("step/")} == {3.0}
    assert saved.state["skipped"] == 1


def test_the_names_of_what_was_skipped(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's line has those of its every stream, whichever of them was not finite, and no other line has any."""
    session = start()
    spoil(monkeypatch, (2, 4))
    train(session, "distill", steps=3)
    train(session, "adapt", steps=1)
    session.metrics.flush()
    first, second, third, alone = lines(session.out)
    for number, stream in enumerate(session.recipe.stages["distill"].streams):
        steps = Steps(session.sources[stream.data], stream, seed=session.recipe.seed, place=f"distill/{number}")
        assert second[f"samples.{number}"] == list(steps[1][0].names)
    assert not [key for line in (first, third) for key in line if key.startswith("samples")]
    assert [key for key in alone if key.startswith("samples")] == ["samples.0"]


def test_ten_in_a_row_stop(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and one line that names the loss; nine were skipped before, and the newest checkpoint is finite."""
    spoil(monkeypatch, range(4, 100))
    out = tmp_path / "run"
    assert main(["run", str(small), "--out", str(out)]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vfmerge: ")]
    assert len(said) == 1
    assert "10 steps in a row" in said[0]
    assert "0.clip.cosine" in said[0]
    assert "sam" not in said[0]
    assert [line["skipped"] for line in lines(out)] == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    saved = checkpoint.newest(out)
    assert saved is not None
    weights.require_finite(saved.model(), source="checkpoint")
    weights.require_finite(saved.optimizer(), source="checkpoint")


def test_nine_in_a_row_do_not(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One finite step in between, and the count begins anew."""
    spoil(monkeypatch, {*range(1, 10), 11, 12})
    engine.run(recipe.load(str(small), ["evaluate={}"]), tmp_path / "run", name="small")
    assert lines(tmp_path / "run")[-1]["skipped"] == 11


def test_a_parameter_that_is_not_finite_is_never_saved(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken behind the losses' back, it stops the run at the next checkpoint, which is not written."""
    record = engine.record

    def breaking(session: Session, **line: Any) -> None:
        record(session, **line)
        if line["step"] == 3:
            with torch.no_grad():
                session.model.heads["sam"].mask_decoder.iou_token.weight[0, 0] = math.inf

    monkeypatch.setattr(engine, "record", breaking)
    out = tmp_path / "run"
    assert main(["run", str(small), "--out", str(out)]) == 1
    assert "iou_token" in capsys.readouterr().err.splitlines()[-1]
    saved = checkpoint.newest(out)
    assert saved is not None
    assert saved.step == 2


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("stages.adapt.train={trunk.absent: 1e-3}", "trunk.absent"),
        ("stages.adapt.train={heads.clip.text: 1e-3}", "heads.clip.text"),
        ("stages.adapt.streams.0.size=[32, 50]", "stages.adapt.streams.0.size"),
        ("evaluate.prompts.data=held_out_single", "evaluate.prompts.data"),
        ("stages.distill.cache=targets", "stages.distill.cache"),
    ],
)
def test_nothing_is_trained_for_what_fails_later(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, key: str
) -> None:
    """A prefix without parameters, a size that is no whole cells, data that a benchmark or a cache cannot use."""
    out = tmp_path / "run"
    assert main(["run", str(small), change, "--out", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert key in said[0]
    assert not (out / "checkpoints").exists()


def test_sam_answers_what_it_is_asked(start: Start) -> None:
    """The loss of the base is zero where its trunk has not moved: answer and target have the same prompts."""
    session = start()
    assert isinstance(session.adapters["sam"], SAM)
    assert learn(session, "distill")[1] == pytest.approx({"1.sam.focal": 0.0, "1.sam.dice": 0.0}, abs=1e-4)


def test_no_memory_is_a_fault_that_names_the_knob(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Out of memory ends with exit code 1 and one line: which stream, its batch and size, what to do."""

    def exhausted(self: SAM, *arguments: object) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\na lot")

    monkeypatch.setattr(SAM, "loss", exhausted)
    assert main(["run", str(small), "--out", str(tmp_path / "run")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vfmerge: ")]
    assert len(lines) == 1
    assert "stages.distill.streams.1: out of memory with batch 2 at size 48" in lines[0]
    assert checkpoint.newest(tmp_path / "run") is not None


def clocked(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Let each look at the engine's clock be so many seconds after the one before."""
    ticks = itertools.count()
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: seconds * next(ticks)))


@pytest.mark.parametrize(
    ("changes", "kept"), [((), [3, 5]), (("save_minutes=10",), [5]), (("save_steps=2",), [2, 4, 5])]
)
def test_checkpoints_are_kept_by_minutes(
    start: Start, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...], kept: list[int]
) -> None:
    """Since the last one, where the recipe names no steps; and at a stage's end."""
    session = start("save_steps=null", "save_minutes=1", *changes)
    clocked(monkeypatch, seconds=25)
    saved: list[int] = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda out, *, step, **more: (saved.append(step), save(out, step=step, **more))
    )
    train(session, "probe", steps=5)
    assert saved == kept


DINO = "{adapter: timm, options: {model: tiny_dino, random: true, distill: {layers: 1}}}"


def test_heads_start_alike_in_any_company(small: Path, tmp_path: Path, start: Start) -> None:
    """The order of parents, which is no part of a recipe's fingerprint, changes no first weight; nor does one more."""
    text = small.read_text()
    (clip,) = re.findall(r"  clip: \{adapter: open_clip.*\n", text)
    recipes = {"alone": text}
    for name, both in (("after", f"{clip}  dino: {DINO}\n"), ("before", f"  dino: {DINO}\n{clip}")):
        recipes[name] = text.replace(clip, both)
    paths = {name: tmp_path / f"{name}.yaml" for name in recipes}
    for name, path in paths.items():
        path.write_text(recipes[name])
    plans = {name: recipe.load(str(path)) for name, path in paths.items()}
    assert list(plans["after"].parents) != list(plans["before"].parents)
    assert recipe.fingerprint(plans["after"]) == recipe.fingerprint(plans["before"])
    states = {name: start(of=path).model.state_dict() for name, path in paths.items()}
    assert states["after"].keys() == states["before"].keys() > states["alone"].keys()
    for other in ("before", "alone"):
        assert [name for name, each in states[other].items() if not torch.equal(each, states["after"][name])] == []


def test_heads_start_by_the_seed(start: Start) -> None:
    """Another seed gives another head and the same trunk, which is the base's; torch's own numbers are left alone."""
    first, same, other = (start(f"seed={seed}").model for seed in (0, 0, 1))
    assert moved(state(first), same) == set()
    random_ones = moved(state(first), other)
    assert "heads.clip.mlp.0.weight" in random_ones
    assert all(name.startswith("heads.clip.") for name in random_ones)


def test_a_model_draws_nothing_of_others(start: Start) -> None:
    """Whatever a head draws as it is made and started, torch's global numbers go on as if it had drawn none."""
    session = start()
    parents = {name: each for name, each in session.adapters.items() if name != "sam"}
    torch.manual_seed(3)
    session.adapters["sam"].trunk()
    wanted = torch.rand(4)
    torch.manual_seed(3)
    model = MergedModel({"sam": session.adapters["sam"], **parents}, base="sam", seed=0)
    model.start(session.teachers)
    assert torch.equal(torch.rand(4), wanted)
