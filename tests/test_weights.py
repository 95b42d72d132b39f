"""Weights from outside: either tensors or one line, and nothing is ever run."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import resource
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vfmerge import random, weights
from vfmerge.errors import CheckpointError, RunError

SUFFIXES = [".safetensors", ".pth", ".pt", ".bin"]


def state() -> dict[str, Tensor]:
    """Six small tensors of several types."""
    numbers = torch.arange(12.0)
    return {
        "trunk.weight": numbers.reshape(3, 4),
        "trunk.bias": numbers[:3].clone().half(),
        "brain": torch.ones(5, dtype=torch.bfloat16),
        "double": torch.ones(2, dtype=torch.float64),
        "steps": torch.tensor(7),
        "mask": torch.tensor([True, False]),
    }


def write(path: Path, content: Any, *, legacy: bool = False) -> Path:
    """Save in the format of the suffix."""
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def refused(path: Path, **options: Any) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        weights.read(path, **options)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) <= 300
    assert "weights_only" not in line
    return line


def assert_equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    """Same names, types, shapes and numbers."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype
        assert torch.equal(tensor, right[name])


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_read_is_what_was_saved(tmp_path: Path, suffix: str, legacy: bool) -> None:
    """In every format, zip or older, bit for bit and type for type."""
    assert_equal(weights.read(write(tmp_path / f"w{suffix}", state(), legacy=legacy)), state())


@pytest.mark.parametrize("wrap", [lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s, "sizes": torch.Size([2])}])
@pytest.mark.parametrize("legacy", [False, True])
def test_wrappings_are_taken_off(tmp_path: Path, wrap: Callable[[Any], Any], legacy: bool) -> None:
    """{"model": ...} and {"state_dict": ...}, whatever lies beside."""
    assert_equal(weights.read(write(tmp_path / "w.pth", wrap(state()), legacy=legacy)), state())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_prefix_of_parallel_training_goes(tmp_path: Path, suffix: str) -> None:
    """If every name has it; one that has not means that a part is called so."""
    prefixed = {f"module.{name}": tensor for name, tensor in state().items()}
    assert_equal(weights.read(write(tmp_path / f"a{suffix}", prefixed)), state())
    mixed = prefixed | {"head": torch.ones(1)}
    assert_equal(weights.read(write(tmp_path / f"b{suffix}", mixed)), mixed)


def test_parameters_come_as_plain_tensors(tmp_path: Path) -> None:
    """Without a gradient, as a network's own state dict would."""
    module = nn.Linear(2, 3)
    found = weights.read(write(tmp_path / "w.pth", dict(module.named_parameters())))
    assert {type(tensor) for tensor in found.values()} == {Tensor}
    assert not any(tensor.requires_grad for tensor in found.values())
    assert_equal(found, module.state_dict())


def test_tied_tensors_are_no_bomb(tmp_path: Path) -> None:
    """Two names for one tensor are stored once and claim its bytes once."""
    tensor = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    found = weights.read(write(tmp_path / "w.pth", {"in": tensor, "out": tensor}))
    assert torch.equal(found["in"], found["out"])


def test_small_floats_are_read(tmp_path: Path) -> None:
    """8-bit floats are weights, though not ones to fit into another type."""
    tensors = {"w": torch.ones(4).to(torch.float8_e4m3fn)}
    for suffix in (".safetensors", ".pth"):
        assert weights.read(write(tmp_path / f"w{suffix}", tensors))["w"].float().tolist() == [1, 1, 1, 1]


def test_the_hash_is_held_to(tmp_path: Path) -> None:
    """The right sha256 passes in either case; one flipped bit is refused though the format would not notice."""
    path = write(tmp_path / "w.safetensors", state())
    sha256 = weights.digest(path)
    assert_equal(weights.read(path, sha256=sha256.upper()), state())
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    assert weights.read(path).keys() == state().keys()
    assert "does not hash to sha256" in refused(path, sha256=sha256)


NOT_WEIGHTS = {
    "empty": (b"", "is empty"),
    "html": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "is a Git LFS pointer"),
    "garbage": (random.generator("garbage").bytes(5000), "is damaged or not"),
    "zeros": (bytes(5000), "is damaged or not"),
    "text": (b"weights go here\n", "is damaged or not"),
    "zip": (b"PK\x03\x04" + bytes(100), "is damaged or not"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_what_is_not_weights_is_named(tmp_path: Path, kind: str, suffix: str) -> None:
    """By what it is, with the remedy."""
    content, message = NOT_WEIGHTS[kind]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_path_that_is_no_file(tmp_path: Path, suffix: str) -> None:
    """Missing, a folder, a pipe, which would be waited for for ever."""
    path = tmp_path / f"w{suffix}"
    assert "does not exist; mend the path" in refused(path)
    path.mkdir()
    assert "is not a file; name the file" in refused(path)
    path.rmdir()
    os.mkfifo(path)
    assert "is not a file" in refused(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    """By its suffix, with those that can be read."""
    (tmp_path / "w.onnx").write_bytes(b"x")
    assert "is not one of .safetensors, .pth, .pt, .bin" in refused(tmp_path / "w.onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": torch.ones(2), "epoch": 3}, "holds 'epoch', a int and no tensor"),
        ({"w": {"deep": torch.ones(2)}}, "holds 'w', a dict and no tensor"),
        ({3: torch.ones(2)}, "holds 3, a Tensor and no tensor"),
        ([torch.ones(2)], "holds list and no tensors by name"),
        (torch.ones(2), "holds Tensor and no tensors by name"),
        ({}, "holds dict and no tensors by name"),
        ({"w\n\x1b[31m": "red"}, "a str and no tensor"),
    ],
)
def test_what_is_not_a_state_dict(tmp_path: Path, content: Any, message: str) -> None:
    """Only tensors by name are."""
    assert message in refused(write(tmp_path / "w.pth", content))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["trunk.weight", "trunk.bias", "brain", "double"])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, name: str, value: float, suffix: str) -> None:
    """One element, in any floating type."""
    tensors = state()
    tensors[name].view(-1)[-1] = value
    assert f"{name} has a NaN or an infinity" in refused(write(tmp_path / f"w{suffix}", tensors))


def test_large_numbers_are_finite(tmp_path: Path) -> None:
    """A sum that overflows is not taken for an infinity."""
    tensors = {"half": torch.full((99,), 60000.0).half(), "single": torch.full((99,), 3e38)}
    assert_equal(weights.read(write(tmp_path / "w.pth", tensors)), tensors)


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Named:
    """Pickles as the global `module name`, which need not exist here."""

    def __init__(self, text: str) -> None:
        self.text = text


def by_hand(module: str, name: str, *arguments: str, start: bytes = b"") -> bytes:
    """A protocol-0 pickle that calls module.name(*arguments)."""
    texts = b"".join(b"V" + a.encode("raw_unicode_escape") + b"\n" for a in arguments)
    return start + f"c{module}\n{name}\n(".encode() + texts + b"tR."


def payloads(canary: Path) -> dict[str, bytes]:
    """Pickles each of which makes the canary file when it is unpickled without a guard."""
    shell, python = f"echo > {canary}", f"open({str(canary)!r}, 'w')"
    hidden = f"__import__('os').system({shell!r})"
    calls: dict[str, Any] = {
        "os.system": Call(os.system, shell),
        "os.popen": Call(os.popen, shell),
        "os.mkdir": Call(os.mkdir, str(canary)),
        "os.mkfifo": Call(os.mkfifo, str(canary)),
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "eval import": Call(eval, hidden),
        "open": Call(open, str(canary), "w"),
        "io.FileIO": Call(io.FileIO, str(canary), "w"),
        "subprocess.call": Call(subprocess.call, ["touch", str(canary)]),
        "subprocess.run": Call(subprocess.run, ["touch", str(canary)]),
        "subprocess.check_output": Call(subprocess.check_output, ["touch", str(canary)]),
        "subprocess.getoutput": Call(subprocess.getoutput, shell),
        "path.touch": Call(Path.touch, canary),
        "torch.save": Call(torch.save, 1, str(canary)),
        "torch hub": Call(torch.hub._import_module if hasattr(torch.hub, "_import_module") else eval, python),
        "nested": {"w": [torch.ones(2).tolist(), Call(os.system, shell)]},
        "key": {Call(os.system, shell): 1},
        "after tensors": {"model": {"w": 1}, "optimizer": Call(os.mkdir, str(canary))},
        "map": Call(list, Call(map, os.mkdir, [str(canary)])),
    }
    del calls["torch hub"]
    found = {f"{name}, protocol {p}": pickle.dumps(c, protocol=p) for name, c in calls.items() for p in (2, 4)}
    found["posix.system by hand"] = by_hand("posix", "system", shell)
    found["nt-like alias"] = by_hand("os", "system", shell)
    found["builtins.exec by hand"] = by_hand("builtins", "exec", python)
    found["__builtin__.eval by hand"] = by_hand("__builtin__", "eval", python)
    found["protocol 2 by hand"] = by_hand("posix", "system", shell, start=b"\x80\x02")
    found["dotted logging.os.system"] = b"\x80\x04\x8c\x07logging\x8c\x09os.system\x93\x8c" + pascal(shell) + b"\x85R."
    found["INST"] = b"(V" + shell.encode() + b"\niposix\nsystem\n."
    found["OBJ"] = b"(cposix\nsystem\nV" + shell.encode() + b"\no."
    found["runpy"] = by_hand("runpy", "_run_code", python, start=b"\x80\x02").replace(b"tR.", b"}tR.")
    found["timeit"] = by_hand("timeit", "timeit", python)
    found["pdb"] = by_hand("code", "interact", "x").replace(b"ccode\ninteract", b"cposix\nsystem").replace(b"Vx", b"V" + shell.encode())
    return found


def pascal(text: str) -> bytes:
    """A short string with its length before it."""
    return bytes([len(text)]) + text.encode()
