"""A run that was stopped or killed, however and whenever, goes on to the very bytes that it would have come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.text_aligned.head import ClipHead

from vfmerge import cache, checkpoint, commit, engine, random, recipe
from vfmerge.benchmarks.promptable import Promptable
from vfmerge.cli import main
from vfmerge.errors import Stopped
from vfmerge.session import Session

FAULTS = ("begin", "written", "manifest", "synced", "aside", "renamed", "pruned", "dropped")  # in a checkpoint's commit


def run(small: Path, out: Path, *changes: str) -> None:
    engine.run(recipe.load(str(small), changes), out, name="small")


def result(out: Path) -> dict[str, bytes]:
    """All that must not depend on interruptions: the model, the newest checkpoint, metrics, bad samples, retention."""
    newest = max((out / "checkpoints").glob("step-*"))
    files = [*newest.iterdir(), *(out / "merged").iterdir()]
    files += [out / name for name in ("metrics.jsonl", "bad_samples.jsonl", "retention.json", "recipe.yaml")]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def assert_same(out: Path, wanted: Path) -> None:
    found, expected = result(out), result(wanted)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def terminate(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def at_step(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """A SIGTERM within each of these steps."""
    record = engine.record

    def note(session: Session, **line: Any) -> None:
        record(session, **line)
        if line["step"] in steps and session.request.name is None:  # a second one would end this very process
            terminate()

    monkeypatch.setattr(engine, "record", note)


def at_call(monkeypatch: pytest.MonkeyPatch, place: type, name: str, number: int) -> None:
    """A SIGTERM before the so-manieth call of a method."""
    calls, method = iter(range(1, 1000)), vars(place)[name]

    def counted(*arguments: Any, **more: Any) -> Any:
        if next(calls) == number:
            terminate()
        return method(*arguments, **more)

    monkeypatch.setattr(place, name, counted)


@pytest.mark.parametrize("step", [1, 3, 5, 7, 11, 13, 14])
def test_stopped_at_a_step(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """In the cached stage, at the ends of stages, in the distilling one, after the last step: the same in the end."""
    out = tmp_path / "run"
    ends = {5: "stopped after step 6;", 11: "stopped after step 12;", 14: "stopped while measuring;"}
    with monkeypatch.context() as patch:
        at_step(patch, step)
        with pytest.raises(Stopped, match=f"^SIGTERM: {ends.get(step, f'stopped after step {step};')} run again"):
            run(small, out)
    saved = checkpoint.newest(out)
    assert saved is not None
    assert saved.step == (step if step not in (5, 11) else step + 1)
    run(small, out)
    assert_same(out, finished)


def test_stopped_again_and_again(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped within each of its steps, a run comes to the same end, one or two steps at a time."""
    out, starts = tmp_path / "run", 0
    with monkeypatch.context() as patch:
        at_step(patch, *range(1, 15))
        while True:
            starts += 1
            try:
                run(small, out)
            except Stopped as stopped:
                if "measuring" in str(stopped):
                    break
    assert starts == 12  # a stage's last step and the next one's first in one go, twice
    assert "going on after step 9\n" in capsys.readouterr().err
    run(small, out)
    assert_same(out, finished)


@pytest.mark.parametrize(
    ("place", "name", "number", "said"),
    [
        (cache.Filler, "add", 2, "while filling a cache"),
        (cache.Filler, "finish", 1, "after step 1"),
        (Promptable, "measure", 1, "while measuring"),
        (Promptable, "measure", 2, "while measuring"),
    ],
)
def test_stopped_elsewhere(
    small: Path,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: type,
    name: str,
    number: int,
    said: str,
) -> None:
    """While a cache is filled, or a model is measured, a request is seen too."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_call(patch, place, name, number)
        with pytest.raises(Stopped, match=f"^SIGTERM: stopped {said}; run again to go on$"):
            run(small, out)
    run(small, out)
    assert_same(out, finished)


def test_stopped_while_calibrating(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two batches that a teacher is asked about beforehand; nothing of the stage is done yet."""
    dino = "{adapter: timm, options: {model: tiny_dino, random: true, distill: {standardise: phi_s, pictures: 12}}}"
    changes = [f"parents.dino={dino}", "stages.distill.train={heads.clip: 2e-3, heads.dino: 2e-3}", "evaluate={}"]
    changes += ["stages.distill.streams=[{data: images, size: 32, batch: 4, tasks: {clip: 1, dino: 1}}]"]
    run(small, tmp_path / "whole", *changes)
    with monkeypatch.context() as patch:
        at_call(patch, Session, "target", 2)
        with pytest.raises(Stopped, match=r"^SIGTERM: stopped while calibrating; run again to go on$"):
            run(small, tmp_path / "run", *changes)
    saved = checkpoint.newest(tmp_path / "run")
    assert saved is not None
    assert saved.step == 5
    run(small, tmp_path / "run", *changes)
    for name in ("metrics.jsonl", "merged/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("name", ["complete.json", "map-0.npy"])
def test_a_damaged_cache_is_filled_again(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Zeros where a write was lost, and half a list of what there is: nothing is learnt from them, nothing fails."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 3)
        with pytest.raises(Stopped):
            run(small, out)
    path = out / "cache" / "probe-0-32" / name
    content = path.read_bytes()
    half = content[: len(content) // 2]
    path.write_bytes(half if name == "complete.json" else half.ljust(len(content), b"\0"))
    run(small, out)
    assert_same(out, finished)


def test_skipped_steps_are_remembered(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped among steps that were not finite, before the optimiser has any state: the counts go on."""
    loss = OpenCLIP.loss
    with monkeypatch.context() as patch:
        patch.setattr(OpenCLIP, "loss", lambda *given: {name: v * torch.nan for name, v in loss(*given).items()})
        for out in (tmp_path / "whole", tmp_path / "stopped"):
            with patch.context() as stop:
                if out.name == "stopped":
                    at_step(stop, 3)
                    with pytest.raises(Stopped):
                        run(small, out, "stages.distill.streams.0.tasks.clip=2")
            with patch.context() as stop:
                at_step(stop, 4)
                with pytest.raises(Stopped):
                    run(small, out, "stages.distill.streams.0.tasks.clip=2")
    for out in (tmp_path / "whole", tmp_path / "stopped"):
        saved = checkpoint.newest(out)
        assert saved is not None
        assert saved.state["skipped"] == saved.state["skipped_in_a_row"] == 4
        assert saved.optimizer() == {}
        run(small, out, "stages.distill.streams.0.tasks.clip=2")
    assert_same(tmp_path / "stopped", tmp_path / "whole")


def test_what_draws_as_it_learns(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head with dropout draws the same for a step, whatever was drawn before it in the process."""
    embed = ClipHead.embed

    def dropped(self: ClipHead, features: Any) -> torch.Tensor:
        return F.dropout(embed(self, features), 0.3, training=self.training)

    monkeypatch.setattr(ClipHead, "embed", dropped)
    run(small, tmp_path / "whole", "evaluate={}")
    for step in (2, 8):
        with monkeypatch.context() as patch:
            at_step(patch, step)
            with pytest.raises(Stopped):
                run(small, tmp_path / "stopped", "evaluate={}")
        torch.rand(7)
    run(small, tmp_path / "stopped", "evaluate={}")
    saved, whole = checkpoint.newest(tmp_path / "stopped"), checkpoint.newest(tmp_path / "whole")
    assert saved is not None
    assert whole is not None
    assert all(torch.equal(value, whole.model()[name]) for name, value in saved.model().items())


def test_a_damaged_checkpoint_is_told(
    small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one before it is taken, the steps since are done again, and the user hears of it."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 9)
        with pytest.raises(Stopped):
            run(small, out)
    with (out / "checkpoints/step-00000009/model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    run(small, out)
    said = capsys.readouterr().err
    assert "model.safetensors differs" in said
    assert "going on after step 8\n" in said
    assert_same(out, finished)


def test_workers_may_change(small: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun with loading processes and ended without: the same, though some batches were loaded in vain."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 7)
        with pytest.raises(Stopped):
            run(small, out, "workers=1")
    run(small, out)
    assert (out / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()
    assert (out / "merged/model.safetensors").read_bytes() == (finished / "merged/model.safetensors").read_bytes()


# Processes ------------------------------------------------------------------------------------------------------------

_NURSERY = """
import json, os, sys
from vfmerge import cli, engine  # once: importing takes longer than such a run
for line in sys.stdin:
    environment, arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        os.environ.update(environment)
        code = cli.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Starts `vfmerge` again and again, each time as a process of its own that may be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout

    def run(self, *arguments: str, fault: str = "", kill: Callable[[], bool] | None = None) -> int:
        """The exit code, or minus the signal. kill: polled; a SIGKILL when it says so. fault: see `commit.fault`."""
        self._input.write(json.dumps([{"VFMERGE_FAULT": fault}, arguments]) + "\n")
        self._input.flush()
        child = int(self._next())
        while kill is not None and Path(f"/proc/{child}/fd").exists():
            if kill():
                os.kill(child, signal.SIGKILL)  # not yet waited for by the nursery, or it would be gone from /proc
                break
            time.sleep(0.002)
        return int(self._next())

    def _next(self) -> str:
        while True:
            line = self._output.readline()
            if line.strip().lstrip("-").isdecimal():
                return line
            assert line, "the nursery is gone"

    def close(self) -> None:
        self._input.close()
        self._process.wait(timeout=60)
        self._output.close()


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    opened = Nursery()
    yield opened
    opened.close()


def quickstart() -> list[str]:
    """The arguments of quickstart with its own parents and stages, all of it short."""
    plan = recipe.load("quickstart")
    changes = ["save_steps=2", "log_every=1"]
    for name, stage in plan.stages.items():
        changes += [f"stages.{name}.epochs=null", f"stages.{name}.steps=6", f"stages.{name}.warmup=2"]
        changes += [f"stages.{name}.streams.{number}.batch=4" for number in range(len(stage.streams))]
    learnt = {stream.data for stage in plan.stages.values() for stream in stage.streams}
    changes += [f"data.{name}.count={40 if name in learnt else 10}" for name in plan.data]
    return ["run", "quickstart", *changes]


def newest_step(out: Path) -> int:
    return max((int(path.name[5:]) for path in (out / "checkpoints").glob("step-*")), default=0)


def test_killed_again_and_again(nursery: Nursery, tmp_path: Path) -> None:
    """Quickstart, killed two dozen times in one life: while its cache is filled, between steps, in every phase of

    writing a checkpoint, while it is measured, and while the merged model is written. Model and optimiser are the same
    to the bit as those of the run that nobody disturbed.
    """
    whole, out = tmp_path / "whole", tmp_path / "killed"
    arguments = quickstart()
    last = 6 * len(recipe.load("quickstart").stages)
    assert nursery.run(*arguments, "--out", str(whole)) == 0

    def die(fault: str) -> None:
        assert nursery.run(*arguments, "--out", str(out), fault=fault) == -signal.SIGKILL, fault

    def die_after(steps: int, seconds: float) -> None:
        """So many seconds after the run got so many steps further, or was at its last."""
        goal, since = min(newest_step(out) + steps, last), None

        def now() -> bool:
            nonlocal since
            if since is None and newest_step(out) >= goal:
                since = time.monotonic()
            return since is not None and time.monotonic() - since >= seconds

        assert nursery.run(*arguments, "--out", str(out), kill=now) == -signal.SIGKILL

    draw = random.generator("kills")
    for fault in ("cached:2", "cached:5", "cached:9"):
        die(fault)
    assert not list((out / "cache").glob("*/complete.json"))
    for number, fault in enumerate(FAULTS):
        die(f"{fault}:1")
        die_after(0, float(draw.uniform(0, 0.8)))  # while it loads, restores, or takes its first steps
        if number % 2:
            die_after(int(draw.integers(1, 3)), float(draw.uniform(0, 0.1)))
    reached = newest_step(out)
    die_after(last, float(draw.uniform(0, 0.05)))  # while it is measured
    die("synced:1")  # the merged model
    assert reached < last == newest_step(out)
    assert not (out / "merged").exists()
    assert nursery.run(*arguments, "--out", str(out)) == 0
    assert_same(out, whole)
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]


def start(small: Path, out: Path, *changes: str) -> subprocess.Popen[str]:
    """`vfmerge run` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vfmerge", "run", str(small), *changes, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals) -> None:
    """Exit code 75 and one line that says how to go on; all that was done is kept. A second run finds it in use."""
    out = tmp_path / "run"
    process = start(small, out, "stages.distill.steps=100000")
    wait_for(lambda: newest_step(out) >= 8, process)
    assert main(["run", str(small), "stages.distill.steps=100000", "--out", str(out)]) == 2
    assert f"in use by process {process.pid}" in capsys.readouterr().err
    process.send_signal(number)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert printed == ""
    own = [line for line in said.splitlines() if line.startswith("vfmerge: ")]
    step = newest_step(out)
    assert own == [f"vfmerge: {number.name}: stopped after step {step}; run again to go on"]
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, step + 1))


def test_the_second_signal_ends_at_once() -> None:
    """The first is only remembered; the second does not wait for anything."""
    script = (
        "import os, signal, sys\n"
        "from vfmerge import signals\n"
        "with signals.watch() as request:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print(request.name, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (75, "SIGTERM\n", "")


def test_fault_points_are_all_known(tmp_path: Path) -> None:
    """The points that the kills above go through are those that a checkpoint's writing has."""
    commit._passed.clear()
    checkpoint.save(tmp_path, step=1, model={}, optimizer={}, state={})
    assert set(commit._passed) == set(FAULTS)


def test_loading_processes_of_the_command_itself(small: Path, finished: Path, tmp_path: Path) -> None:
    """`python -m vfmerge run` with workers: they start, end with it, and change no byte of the result."""
    command = [sys.executable, "-m", "vfmerge", "run", str(small), "workers=1", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("merged model:") == 1
    wanted, found = finished / "merged", tmp_path / "run" / "merged"
    assert (found / "model.safetensors").read_bytes() == (wanted / "model.safetensors").read_bytes()
