"""A run's checkpoints: the newest whole one is found after any kill, any damage and a full disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vfmerge import checkpoint, commit, random
from vfmerge.errors import CheckpointError, InputError, RunError

POINTS = ["begin", "written", "manifest", "synced", "aside", "renamed", "pruned", "dropped"]

# Each kill in a fork of one process that has imported torch: an import for each would take a minute.
KILLED = """
import os, pathlib, sys
import torch
from vfmerge import checkpoint
for fault in sys.argv[2:]:
    if not (process := os.fork()):
        os.environ["VFMERGE_FAULT"] = fault
        for step in (1, 2, 3, 4, 4):
            tensors = {"w": torch.full((100,), float(step))}
            parts = {"model": tensors, "optimizer": tensors, "state": {"at": step}}
            checkpoint.save(pathlib.Path(sys.argv[1], fault), step=step, **parts)
        os._exit(0)
    print(fault, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""

HOLDER = """
import pathlib, sys, time
from vfmerge import checkpoint
with checkpoint.lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

PARENT = """
import os, pathlib, sys, time
from vfmerge import checkpoint
with checkpoint.lock(pathlib.Path(sys.argv[1])):
    if not os.fork():
        print("worker", flush=True)
    time.sleep(60)
"""


def tensors(step: int) -> dict[str, Tensor]:
    """A model of a step, some 4 kB."""
    return {"trunk.w": torch.full((32, 32), float(step)), "steps": torch.tensor(step)}


def save(run: Path, step: int, **changes: Any) -> Path:
    """A checkpoint whose every part tells its step."""
    parts = {"model": tensors(step), "optimizer": {"exp_avg": torch.full((9,), step / 7)}, "state": {"at": step}}
    return checkpoint.save(run, step=step, **{**parts, **changes})


def names(run: Path) -> list[str]:
    """All that lies in the folder of checkpoints, hidden or not."""
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def assert_step(found: checkpoint.Checkpoint | None, step: int) -> None:
    """Every part is of this step."""
    assert found is not None
    assert (found.step, found.state) == (step, {"at": step})
    assert torch.equal(found.model()["trunk.w"], tensors(step)["trunk.w"])
    assert torch.equal(found.optimizer()["exp_avg"], torch.full((9,), step / 7))


def test_the_newest_is_what_was_saved(tmp_path: Path) -> None:
    """Bit for bit, with no pickle among the files."""
    assert checkpoint.newest(tmp_path) is None
    path = save(tmp_path, 123)
    assert path == tmp_path / "checkpoints" / "step-00000123"
    assert_step(checkpoint.newest(tmp_path), 123)
    assert sorted(p.name for p in path.iterdir()) == [
        "MANIFEST.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    assert json.loads((path / "state.json").read_text()) == {"schema": 1, "step": 123, "state": {"at": 123}}


def test_names_of_tensors_and_an_empty_optimizer_come_back(tmp_path: Path) -> None:
    """A `module.` prefix is the model's own here; plain SGD keeps nothing."""
    save(tmp_path, 1, model={"module.w": torch.ones(2)}, optimizer={})
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert list(found.model()) == ["module.w"]
    assert found.optimizer() == {}


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    """By number, not by name: the hundred-millionth step has one digit more."""
    for step in (1, 99_999_999, 100_000_000):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-100000000", "step-99999999"]
    assert_step(checkpoint.newest(tmp_path), 100_000_000)


def test_what_was_just_saved_is_never_dropped(tmp_path: Path) -> None:
    """Even among checkpoints of later steps."""
    for step in (7, 8, 9, 3):
        save(tmp_path, step)
    assert names(tmp_path) == ["step-00000003", "step-00000008", "step-00000009"]


@pytest.mark.parametrize("part", ["model", "optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_committed(tmp_path: Path, part: str, value: float) -> None:
    """Not a byte is written, and the tensor is named; also if both parts have a tensor of that name."""
    save(tmp_path, 1)
    bad = {"trunk.w": torch.tensor([1.0, value]), "steps": torch.tensor(2), "exp_avg": torch.zeros(9)}
    with pytest.raises(RunError, match=r"step-00000002: trunk\.w is not finite, so nothing was written"):
        save(tmp_path, 2, **{"model": tensors(2), "optimizer": tensors(2), part: bad})
    assert names(tmp_path) == ["step-00000001"]


def test_a_disk_without_room_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the bytes must be free; the message says how many are needed."""
    save(tmp_path, 1)
    usage = namedtuple("usage", "free")
    size = 32 * 32 * 4 + 8 + 36 + len(json.dumps({"schema": 1, "step": 2, "state": {"at": 2}}, indent=1))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2 * size - 1))
    with pytest.raises(RunError, match=rf"a checkpoint needs {2 * size} bytes free, not {2 * size - 1}; make room"):
        save(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2 * size))
    save(tmp_path, 2)


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    """At fifty offsets into the files: one line, the one before loads, no left-overs."""
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for offset in range(0, 4150, 83):
        resource.setrlimit(resource.RLIMIT_FSIZE, (offset, hard))
        try:
            with pytest.raises(RunError, match="cannot be written"):
                save(tmp_path, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert names(tmp_path) == ["step-00000001"], offset
    assert_step(checkpoint.newest(tmp_path), 1)
    save(tmp_path, 2)
    assert_step(checkpoint.newest(tmp_path), 2)


def test_a_kill_at_any_boundary_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """At the third to the fifth save, of which the last replaces one: the newest is that save's or the one before."""
    faults = [f"{point}:{passage}" for point in POINTS for passage in (3, 5)]
    command = [sys.executable, "-c", KILLED, str(tmp_path), *faults]
    printed = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert printed.stdout.splitlines() == [f"{fault} {-signal.SIGKILL}" for fault in faults]
    for fault in faults:
        point, passage = fault.split(":")
        done = point in {"renamed", "pruned", "dropped"}
        found = checkpoint.newest(tmp_path / fault)
        assert found is not None, fault
        assert found.step == (4 if passage == "5" else 3 if done else 2), fault
        assert found.state == {"at": found.step}
        assert set(found.model()["w"].tolist()) == set(found.optimizer()["w"].tolist()) == {float(found.step)}
        assert found.skipped == ()
        assert not [name for name in names(tmp_path / fault) if name.startswith(".")], fault
        save(tmp_path / fault, 9)
        assert len(names(tmp_path / fault)) == 2


def corrupt(folder: Path, seed: int) -> None:
    """Damage one file of a checkpoint in one of five ways."""
    draw = random.generator("corrupt checkpoint", seed)
    path = sorted(folder.iterdir())[int(draw.integers(4))]
    data = bytearray(path.read_bytes())
    at = int(draw.integers(len(data)))
    match seed % 5:
        case 0:
            path.write_bytes(data[:at])
        case 1:
            data[at] ^= 1 << int(draw.integers(8))
            path.write_bytes(data)
        case 2:
            data[at:] = bytes(len(data) - at)
            data[at - 1] ^= 1  # the end may have been zeros
            path.write_bytes(data)
        case 3:
            path.unlink()
        case 4:
            (folder / "extra").touch()


def test_a_damaged_checkpoint_is_never_used(tmp_path: Path) -> None:
    """300 of 300: the one before is used, the damaged one is named, put aside and kept."""
    save(tmp_path / "good", 1)
    save(tmp_path / "good", 2)
    for seed in range(300):
        run = tmp_path / "bad"
        shutil.copytree(tmp_path / "good", run)
        corrupt(run / "checkpoints" / "step-00000002", seed)
        found = checkpoint.newest(run)
        assert_step(found, 1)
        assert found is not None
        (line,) = found.skipped
        assert "step-00000002: " in line, seed
        assert line.endswith("; now .bad-step-00000002")
        assert len(line) <= 300
        assert names(run) == [".bad-step-00000002", "step-00000001"]
        shutil.rmtree(run)


def test_when_all_are_damaged_it_is_said_once(tmp_path: Path) -> None:
    """A run never starts afresh in silence; damaged ones of the same step do not overwrite each other."""
    for _ in range(2):
        save(tmp_path, 1)
        (tmp_path / "checkpoints" / "step-00000001" / "state.json").write_text("{}")
        with pytest.raises(CheckpointError, match="no checkpoint is whole; run again to start afresh"):
            checkpoint.newest(tmp_path)
        assert checkpoint.newest(tmp_path) is None
    assert names(tmp_path) == [".bad-step-00000001", ".bad-step-00000001-2"]


def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays where it is: an older vfmerge must not put it aside."""
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "SCHEMA", 2)
    save(tmp_path, 2)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"step-00000002: made by a newer vfmerge \(schema 2 > 1\); upgrade") as caught:
        checkpoint.newest(tmp_path)
    assert not isinstance(caught.value, CheckpointError)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_folder_that_is_no_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """Whole, but somebody else's."""
    save(tmp_path, 1)
    commit.commit(
        tmp_path / "checkpoints" / "step-00000002", lambda temporary: (temporary / "state.json").write_text("[]")
    )
    found = checkpoint.newest(tmp_path)
    assert_step(found, 1)
    assert found is not None
    assert "state.json is not a checkpoint's" in found.skipped[0]


def test_one_process_has_the_run(tmp_path: Path) -> None:
    """Another is told which; the lock goes with the process, even with SIGKILL, and with the block."""
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"run: in use by process {holder.pid}; "), checkpoint.lock(run):
            pass
        holder.kill()
    with checkpoint.lock(run):
        assert (run / ".lock").read_text() == str(os.getpid())
        held = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert f"in use by process {os.getpid()}" in held.stderr
    freed = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert freed.stdout == "held\n"


def test_a_worker_that_outlives_its_parent_does_not_hold_the_run(tmp_path: Path) -> None:
    """A loader's worker is a fork: while it lives the lock is its parent's alone."""
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "worker\n"
        with pytest.raises(InputError, match=f"in use by process {parent.pid}"), checkpoint.lock(tmp_path):
            pass
        parent.kill()
        parent.wait()
        with checkpoint.lock(tmp_path):
            os.killpg(parent.pid, signal.SIGKILL)  # raises unless the worker is still there
