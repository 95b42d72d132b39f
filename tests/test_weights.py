"""Weights from outside: either tensors or one line, and nothing is ever run."""

from __future__ import annotations

import io
import os
import pickle
import resource
import shutil
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


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        weights.read(path)
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


@pytest.mark.parametrize(
    "wrap", [lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s, "sizes": torch.Size([2])}]
)
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


def by_hand(module: str, name: str, argument: str, *, start: bytes = b"") -> bytes:
    """A pickle that calls module.name(argument) with the oldest of opcodes."""
    return start + f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def payloads(canary: Path) -> dict[str, bytes]:
    """Pickles each of which makes the canary file when it is unpickled without a guard."""
    shell, python = f"echo > {canary}", f"open({str(canary)!r}, 'w')"
    calls: dict[str, Any] = {
        "os.system": Call(os.system, shell),
        "os.mkdir": Call(os.mkdir, str(canary)),
        "os.mkfifo": Call(os.mkfifo, str(canary)),
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "eval of an import": Call(eval, f"__import__('os').system({shell!r})"),
        "open": Call(open, str(canary), "w"),
        "io.FileIO": Call(io.FileIO, str(canary), "w"),
        "subprocess.call": Call(subprocess.call, ["touch", str(canary)]),
        "subprocess.run": Call(subprocess.run, ["touch", str(canary)]),
        "subprocess.check_output": Call(subprocess.check_output, ["touch", str(canary)]),
        "subprocess.getoutput": Call(subprocess.getoutput, shell),
        "Path.touch": Call(Path.touch, canary),
        "shutil.copy": Call(shutil.copy, "/dev/null", str(canary)),
        "zipfile": Call(zipfile.ZipFile, str(canary), "w"),
        "list of map": Call(list, Call(map, os.mkdir, [str(canary)])),
        "nested": {"w": [1.0, {"deep": (Call(os.system, shell),)}]},
        "as a name": {Call(os.system, shell): 1},
        "beside the model": {"model": {"w": 1}, "optimizer": Call(os.mkdir, str(canary))},
    }
    found = {f"{name}, protocol {p}": pickle.dumps(call, protocol=p) for name, call in calls.items() for p in (2, 4)}
    found["posix.system"] = by_hand("posix", "system", shell)
    found["posix.system, protocol 2"] = by_hand("posix", "system", shell, start=b"\x80\x02")
    found["builtins.exec"] = by_hand("builtins", "exec", python)
    found["__builtin__.eval"] = by_hand("__builtin__", "eval", python, start=b"\x80\x02")
    found["os.system through logging"] = b"\x80\x04\x8c\x07logging\x8c\x09os.system\x93V" + shell.encode() + b"\n\x85R."
    found["INST"] = b"(V" + shell.encode() + b"\niposix\nsystem\n."
    found["OBJ"] = b"(cposix\nsystem\nV" + shell.encode() + b"\no."
    return found


def wrapped(payload: bytes, kind: str) -> bytes:
    """The payload as a file by itself, as the content of a zip of torch.save, or as that of the older format."""
    if kind == "bare":
        return payload
    buffer = io.BytesIO()
    if kind == "legacy":
        magic = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
        return b"".join(pickle.dumps(part, protocol=2) for part in magic) + payload + pickle.dumps([], protocol=2)
    torch.save({"w": torch.ones(2)}, buffer)
    return rezip(buffer.getvalue(), change=lambda name, data: payload if name.endswith("data.pkl") else data)


def rezip(data: bytes, *, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file again with its records changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


CONTROL = """
import pathlib, pickle, shutil, sys
canary, folder = map(pathlib.Path, sys.argv[1:])
for path in sorted(folder.iterdir()):
    try:
        pickle.loads(path.read_bytes())
    except Exception:
        pass
    if canary.exists():
        print(path.name)
        canary.rmdir() if canary.is_dir() else canary.unlink()
"""


def test_every_payload_runs_without_a_guard(tmp_path: Path) -> None:
    """The control: plain `pickle.loads`, in a process of its own, makes the canary for each of them."""
    (tmp_path / "payloads").mkdir()
    known = payloads(tmp_path / "canary")
    for name, payload in known.items():
        (tmp_path / "payloads" / name).write_bytes(payload)
    command = [sys.executable, "-W", "ignore", "-c", CONTROL, tmp_path / "canary", tmp_path / "payloads"]
    fired = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(fired) == sorted(known)
    assert len(known) >= 25


@pytest.mark.parametrize("kind", ["bare", "zip", "legacy"])
def test_no_payload_runs(tmp_path: Path, kind: str) -> None:
    """Each is refused with what it asks for, before torch sees it."""
    canary = tmp_path / "canary"
    for name, payload in payloads(canary).items():
        for suffix in SUFFIXES:
            path = tmp_path / f"w{suffix}"
            path.write_bytes(wrapped(payload, kind))
            line = refused(path)
            assert not canary.exists(), name
            assert suffix == ".safetensors" or "asks to call" in line, name


@pytest.mark.parametrize("kind", ["bare", "zip", "legacy"])
def test_no_payload_runs_past_the_first_guard(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own restricted reader stands behind `_inspect`."""
    monkeypatch.setattr(weights, "_inspect", lambda path: None)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary = tmp_path / "canary"
    for name, payload in payloads(canary).items():
        (tmp_path / "w.pth").write_bytes(wrapped(payload, kind))
        assert "is damaged or not weights" in refused(tmp_path / "w.pth")
        assert not canary.exists(), name


def test_torchscript_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """It is a program, though it looks like weights."""
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl"):
            archive.writestr(f"w/{name}", b"\x80\x02N.")
    assert "is a TorchScript archive; save the state_dict() of torch.jit.load" in refused(path)


def mutant(data: bytes, seed: int) -> bytes:
    """The bytes with a few changed, cut, blanked or doubled, near the beginning more often than not."""
    draw = random.generator("mutant", seed)
    reach = len(data) if seed % 3 else min(len(data), 700)
    changed = bytearray(data)
    for _ in range(int(draw.integers(1, 9))):
        at = int(draw.integers(reach))
        match int(draw.integers(5)):
            case 0 | 1:
                changed[at % len(changed)] = int(draw.integers(256))
            case 2:
                changed[at : at + int(draw.integers(1, 64))] = b""
            case 3:
                changed[at : at + 16] = bytes(16)
            case 4:
                changed[at:at] = changed[at : at + 32]
        changed = changed or bytearray(b"x")
    return bytes(changed)


@pytest.mark.parametrize(("suffix", "legacy"), [(".safetensors", False), (".pth", False), (".pth", True)])
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, suffix: str, legacy: bool) -> None:
    """300 mutants of each format: tensors or one line, no other error; most are refused."""
    path = write(tmp_path / f"w{suffix}", state(), legacy=legacy)
    data, lines = path.read_bytes(), []
    for seed in range(300):
        path.write_bytes(mutant(data, seed))
        try:
            tensors = weights.read(path)
        except CheckpointError as error:
            lines.append(str(error))
            continue
        assert all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors.values())
    assert len(lines) > 200
    assert all(line.isprintable() and len(line) <= 300 for line in lines)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_truncation_is_refused(tmp_path: Path, suffix: str) -> None:
    """Whatever is cut off."""
    path = write(tmp_path / f"w{suffix}", state())
    data = path.read_bytes()
    for length in range(1, len(data), 37):
        path.write_bytes(data[:length])
        refused(path)


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that unpack to gigabytes, or say so, and how each is refused."""

    def saved(content: Any, *, legacy: bool = False) -> bytes:
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
        return buffer.getvalue()

    expanded, block = torch.zeros(1).as_strided((10**6, 10**6), (0, 0)), torch.zeros(10_000)
    thousand, billion = b"M\xe8\x03", b"J" + struct.pack("<i", 10**9)
    small = saved({"w": torch.zeros(1000)})
    assert thousand in small
    compressed = rezip(saved({"w": torch.zeros(10**7)}), change=lambda n, d: d, compression=zipfile.ZIP_DEFLATED)
    lying = saved({"w": torch.zeros(1000)}, legacy=True).replace(thousand, billion)
    lists = b"\x80\x02" + b"]" * (5 << 20) + b"."
    return {
        "compressed": (compressed, "has compressed records"),
        "stride 0": (saved({"w": expanded}), "w claims 4000000000000 bytes, more than are stored"),
        "stride 0, legacy": (saved({"w": expanded}, legacy=True), "w claims 4000000000000 bytes"),
        "stride 0 beside more": (saved({"model": {"w": expanded[0, :9]}, "rest": block}), "w claims 36 bytes"),
        "overlapping views": (saved({str(i): block[i:] for i in range(1000)}), "its tensors claim 38002000 bytes"),
        "bytearray": (saved({"w": Call(bytearray, 10**9)}), "asks to call"),
        "tensor": (saved({"w": Call(torch.Tensor, 10**9)}), "asks to call torch.Tensor"),
        "sizes that lie": (rezip(small, change=lambda n, d: d.replace(thousand, billion)), "is damaged"),
        "sizes that lie, legacy": (lying, "is damaged"),
        "empty lists": (
            rezip(small, change=lambda n, d: lists if n.endswith("data.pkl") else d),
            "has a pickle of 524",
        ),
        "empty lists, legacy": (lists, "is damaged"),
    }


def test_bombs_are_refused_unopened(tmp_path: Path) -> None:
    """In seconds at most, and without the memory they claim."""
    for name, (data, message) in bombs().items():
        path = tmp_path / "w.pth"
        path.write_bytes(data)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        line = refused(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10, name
        assert time.monotonic() - start < 120, name
        assert message in line, name


def network() -> nn.Module:
    """Two layers and a counter: 7 tensors."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def test_fit_fills_every_tensor() -> None:
    """By name, bit for bit, and the module stays in its own types."""
    module, parent = network(), network()
    for tensor in parent.state_dict().values():
        tensor.copy_(torch.full_like(tensor, 3))
    weights.fit(module, parent.state_dict(), source="parent")
    assert_equal(module.state_dict(), parent.state_dict())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_fit_casts_floats(kind: torch.dtype) -> None:
    """Of 16 and 64 bits, to the module's 32."""
    module = network()
    given = {name: t.to(kind) if t.is_floating_point() else t for name, t in network().state_dict().items()}
    given["0.bias"] = torch.full((3,), 0.5, dtype=kind)
    weights.fit(module, given, source="parent")
    assert module.state_dict()["0.bias"].dtype == torch.float32
    assert module.state_dict()["0.bias"].tolist() == [0.5] * 3


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_fit_refuses_numbers_of_another_meaning(kind: torch.dtype) -> None:
    """Integers and 8-bit floats need their scales; the counter may not become a float either."""
    given = network().state_dict()
    given["0.weight"] = given["0.weight"].to(kind)
    name = str(kind).removeprefix("torch.")
    with pytest.raises(
        CheckpointError, match=rf"^parent: 1 of another type, first: 0.weight {name} against float32; give"
    ):
        weights.fit(network(), given, source="parent")
    given = network().state_dict()
    given["1.num_batches_tracked"] = torch.tensor(1.0)
    with pytest.raises(CheckpointError, match=r"1.num_batches_tracked float32 against int64"):
        weights.fit(network(), given, source="parent")


def test_fit_refuses_what_overflows() -> None:
    """A double too large for the module would become an infinity."""
    given = network().state_dict()
    given["0.bias"] = torch.full((3,), 1e300, dtype=torch.float64)
    with pytest.raises(CheckpointError, match=r"^parent: 0.bias is too large for float32"):
        weights.fit(network(), given, source="parent")


def test_fit_fills_all_or_nothing() -> None:
    """One line counts what is wrong of each kind, and the module is as it was."""
    module, before = network(), network().state_dict()
    given = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    del given["0.weight"], given["1.bias"]
    given["0.bias"] = torch.zeros(5)
    given["logit_scale"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        weights.fit(module, given, source="parent")
    assert str(caught.value) == (
        "parent: 2 of 7 tensors missing, first: 0.weight; 1 of another shape, first: 0.bias [5] against [3]; "
        "1 unknown, first: logit_scale; give the weights of this very architecture"
    )
    assert_equal(module.state_dict(), before)


def test_fit_ignores_what_it_is_told_to() -> None:
    """Names with these prefixes and no others."""
    given = {**network().state_dict(), "text.weight": torch.ones(1), "visual": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"^parent: 1 unknown, first: visual; "):
        weights.fit(network(), given, source="parent", ignore=["text."])
    weights.fit(network(), given, source="parent", ignore=["text.", "visual"])


def test_fit_says_no_more_than_a_line() -> None:
    """However many tensors and however long their names."""
    given = {f"{'deep.' * 60}{i}": torch.ones(1) for i in range(999)}
    with pytest.raises(
        CheckpointError, match=r"^parent: 7 of 7 tensors missing, first: 0.weight; 999 unknown"
    ) as caught:
        weights.fit(network(), given, source="parent")
    assert len(str(caught.value)) <= 300
    assert str(caught.value).endswith("give the weights of this very architecture")


def test_saved_is_loaded(tmp_path: Path) -> None:
    """Also what safetensors would not take: tied, transposed, with a gradient; names are left alone."""
    tensor = torch.arange(6.0).reshape(2, 3)
    tensors = {
        "module.a": tensor,
        "module.tied": tensor,
        "module.turned": tensor.T,
        "module.p": nn.Parameter(tensor[1]),
    }
    weights.save(tmp_path / "w.safetensors", tensors)
    assert_equal(weights.load(tmp_path / "w.safetensors"), tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_saved_twice_is_the_same_file(tmp_path: Path) -> None:
    """Whatever the order of the names."""
    weights.save(tmp_path / "a.safetensors", state())
    weights.save(tmp_path / "b.safetensors", dict(reversed(state().items())))
    assert weights.digest(tmp_path / "a.safetensors") == weights.digest(tmp_path / "b.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_saved(tmp_path: Path, value: float) -> None:
    """The tensor is named, and the file before is as it was."""
    weights.save(tmp_path / "w.safetensors", state())
    bad = state() | {"double": torch.tensor([1.0, value], dtype=torch.float64)}
    with pytest.raises(RunError, match="double is not finite, so nothing was written"):
        weights.save(tmp_path / "w.safetensors", bad)
    assert_equal(weights.load(tmp_path / "w.safetensors"), state())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_saved_file_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    """safetensors alone makes it private."""
    before = os.umask(mask)
    try:
        weights.save(tmp_path / "w.safetensors", state())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "w.safetensors").stat().st_mode) == mode


def test_a_full_disk_keeps_the_file_before(tmp_path: Path) -> None:
    """One line with the path, the old numbers, no left-overs."""
    weights.save(tmp_path / "w.safetensors", state())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(RunError, match=r"w\.safetensors: cannot be written: .*; make room"):
            weights.save(tmp_path / "w.safetensors", {"w": torch.zeros(1 << 20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_equal(weights.load(tmp_path / "w.safetensors"), state())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
