"""Weights in and out: files from outside hurt nobody, a network is filled whole or not at all, files are written plain.

What is refused is one `CheckpointError` of one line: the file, what is wrong with it, the remedy. Nothing in a file is
ever run: a pickle is read by torch's restricted reader, and before that looked through by `_inspect`.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vfmerge.commit import digest as digest
from vfmerge.commit import write_file
from vfmerge.errors import CheckpointError, RunError, one_line

FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
SMALL_FLOATS = {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
SMALL_FLOATS |= {torch.float8_e8m0fnu}
OTHERS = {torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.complex64, torch.complex128}
OTHERS |= {torch.uint8, torch.uint16, torch.uint32, torch.uint64}

# A pickle may name these. Torch's own list is longer: with bytearray and torch.Tensor a 100-byte file takes gigabytes.
CALLS = {"collections OrderedDict", "collections Counter", "torch Size", "torch device", "builtins set"}
CALLS |= {f"torch._utils _rebuild_{what}" for what in ("tensor", "tensor_v2", "tensor_v3", "parameter")}
CALLS |= {"torch.storage UntypedStorage"}
STORAGES = ["Half", "BFloat16", "Float", "Double", "ComplexFloat", "ComplexDouble"]
STORAGES += ["Bool", "Byte", "Char", "Short", "Int", "Long"]
CALLS |= {f"torch {kind}Storage" for kind in STORAGES}
CALLS |= {str(kind).replace(".", " ") for kind in FLOATS | SMALL_FLOATS | OTHERS}
CALLING = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
PICKLE_BYTES = 4 << 20
"""The most a pickle may hold besides the numbers: about 150 bytes a tensor; each byte can become a list of 56."""

AGAIN = "fetch the file again"
PLAIN = "where you trust it, save its state dict alone as .safetensors"


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth, .pt or .bin file from outside, finite, on the CPU, in the types of the file.

    A state dict wrapped in {"model": ...} or {"state_dict": ...} is unwrapped, and a `module.` before every name goes.
    Raises `CheckpointError`.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise _refusal(path, f"is not one of {', '.join(_READERS)}", "name a file of weights")
    _look(path)
    tensors = _state_dict(path, _READERS[suffix](path))
    _check(path, tensors)
    prefixed = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module.") if prefixed else name: tensor for name, tensor in tensors.items()}


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file as they stand, such as `save` wrote them. Raises `CheckpointError`."""
    try:
        return load_file(path)
    except Exception as error:
        raise _refusal(path, f"is damaged or not safetensors ({error})", AGAIN) from error


def save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a .safetensors file, whole or not at all. A non-finite tensor is a `RunError` that names it."""
    require_finite(tensors, source=str(path))
    seen: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain[name] = tensor.detach().cpu().contiguous()
        if plain[name].untyped_storage().data_ptr() in seen:  # the format has no tied tensors
            plain[name] = plain[name].clone()
        seen.add(plain[name].untyped_storage().data_ptr())

    def write(temporary: Path) -> None:
        try:
            save_file(plain, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_file(path, write)


def require_finite(tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Raise a `RunError` that names the first tensor with a NaN or an infinity in it."""
    for name, tensor in tensors.items():
        if not _finite(tensor.detach()):
            raise RunError(one_line(f"{source}: {name} is not finite, so nothing was written; lower the learning rate"))


def fingerprint(module: nn.Module, *more: str) -> str:
    """A SHA-256 of a module's tensors, their names, kinds and shapes, and of further texts."""
    state = hashlib.sha256(json.dumps(more).encode())
    for name, tensor in sorted(module.state_dict().items()):
        state.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return state.hexdigest()


def fit(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str, ignore: Sequence[str] = ()) -> None:
    """Fill a module in place: each of its tensors by name and shape, or none of them and a `CheckpointError`.

    Floats of 16 to 64 bits are cast to the module's; integers and 8-bit floats are not numbers of the same meaning
    without their scales, and are refused. source: what the message calls the weights.
    ignore: prefixes of names that the module need not have.
    """
    wanted = module.state_dict()
    assert not any(tensor.is_meta for tensor in wanted.values())  # torch would fill it with nothing, and not say so
    given = {name: t for name, t in tensors.items() if name in wanted or not name.startswith(tuple(ignore))}
    both = [(name, given[name], tensor) for name, tensor in wanted.items() if name in given]
    shapes = [(n, g, w) for n, g, w in both if g.shape != w.shape]
    types = [(n, g, w) for n, g, w in both if g.dtype != w.dtype and not {g.dtype, w.dtype} <= FLOATS]
    problems = [
        _count([name for name in wanted if name not in given], f"of {len(wanted)} tensors missing"),
        _count([f"{n} {list(g.shape)} against {list(w.shape)}" for n, g, w in shapes], "of another shape"),
        _count([f"{n} {_kind(g)} against {_kind(w)}" for n, g, w in types], "of another type"),
        _count([name for name in given if name not in wanted], "unknown"),
    ]
    if any(problems):
        what = "; ".join(filter(None, problems))
        raise CheckpointError(one_line(f"{source}: {what}; give the weights of this very architecture"))
    cast = {name: g.to(w.dtype) for name, g, w in both}
    for name, g, w in both:
        if g.dtype != w.dtype and not _finite(cast[name]):
            raise CheckpointError(one_line(f"{source}: {name} is too large for {_kind(w)}; give weights of that type"))
    module.load_state_dict(cast, strict=True)


def _look(path: Path) -> None:
    """Refuse what is plainly not weights, by its kind and its first bytes."""
    if not path.exists():
        raise _refusal(path, "does not exist", "mend the path")
    if not path.is_file():
        raise _refusal(path, "is not a file", "name the file of weights itself")
    try:
        with path.open("rb") as file:
            head = file.read(512).lstrip().lower()
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}", "mend its permissions") from error
    if not head:
        raise _refusal(path, "is empty", AGAIN)
    if head.startswith(b"version https://git-lfs"):
        raise _refusal(path, "is a Git LFS pointer, not the weights", "run `git lfs pull` where it is from")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _refusal(path, "is a web page, not weights", "fetch the file itself: a raw or direct link")


def _unpickle(path: Path) -> Any:
    """Read a file of `torch.save`, zip or older, without running anything in it."""
    try:
        _inspect(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except CheckpointError:
        raise
    except Exception as error:  # a dozen types; not chained, for torch's text advises to switch the guard off
        raise _refusal(path, f"is damaged or not weights ({type(error).__name__})", AGAIN) from None


def _inspect(path: Path) -> None:
    """Refuse what would unpack to more than it is, or calls anything but tensors, before anything is unpickled."""
    with path.open("rb") as file:
        head = file.read(PICKLE_BYTES)
    if head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            _inspect_records(path, archive)
    else:
        _inspect_calls(path, head, pickles=5)  # magic number, protocol, system, content, keys; then the numbers


def _inspect_records(path: Path, archive: zipfile.ZipFile) -> None:
    records = archive.infolist()
    if any(record.filename.endswith("/constants.pkl") for record in records):
        raise _refusal(path, "is a TorchScript archive", "save the state_dict() of torch.jit.load as .safetensors")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise _refusal(path, "has compressed records, which torch.save never writes", PLAIN)
    sizes = sum(record.file_size for record in records)
    if any(r.file_size != r.compress_size for r in records) or sizes > path.stat().st_size:
        raise _refusal(path, "has records larger than itself", AGAIN)
    for record in records:
        if record.filename.endswith("/data.pkl"):
            if record.file_size > PICKLE_BYTES:
                raise _refusal(path, f"has a pickle of {record.file_size} bytes besides its numbers", PLAIN)
            _inspect_calls(path, archive.read(record), pickles=1)


def _inspect_calls(path: Path, data: bytes, *, pickles: int) -> None:
    stream = io.BytesIO(data)
    for _ in range(pickles):
        for code, argument, _ in pickletools.genops(stream):
            called = str(argument) if code.name in {"GLOBAL", "INST"} else code.name
            if code.name in CALLING and called not in CALLS:
                raise _refusal(path, f"asks to call {called.replace(' ', '.')}, so it is not only weights", PLAIN)


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """The names and tensors in what a file holds."""
    for wrapping in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    if not isinstance(content, Mapping) or not content:
        raise _refusal(path, f"holds {type(content).__name__} and no tensors by name", PLAIN)
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise _refusal(path, f"holds {name!r}, a {type(value).__name__} and no tensor", PLAIN)
        tensors[name] = Tensor.detach(value)  # by the class: a pickle can give an instance attributes of any name
    return tensors


def _check(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not plain, larger than what is stored, or not finite."""
    views: dict[tuple[Any, ...], int] = {}
    for name, tensor in tensors.items():
        strided = tensor.layout is torch.strided and tensor.device.type == "cpu"
        if not strided or tensor.dtype not in FLOATS | SMALL_FLOATS | OTHERS:
            raise _refusal(path, f"{name} is a {_kind(tensor)} tensor of a kind vfmerge does not read", PLAIN)
        views[(tensor.data_ptr(), tensor.shape, tensor.stride())] = tensor.nbytes  # tied tensors count once
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise _refusal(path, f"{name} claims {tensor.nbytes} bytes, more than are stored", PLAIN)
    if sum(views.values()) > path.stat().st_size * 1.05:
        raise _refusal(path, f"its tensors claim {sum(views.values())} bytes, more than the file has", PLAIN)
    for name, tensor in tensors.items():
        if not _finite(tensor):
            raise _refusal(path, f"{name} has a NaN or an infinity in it", "take weights from before training failed")


def _finite(tensor: Tensor) -> bool:
    if tensor.dtype in SMALL_FLOATS:
        tensor = tensor.float()  # few operations know them
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    # A sum takes a fifth of the time of looking at each number, and is finite only if all are. It may also overflow.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _count(items: Sequence[str], what: str) -> str:
    return f"{len(items)} {what}, first: {items[0]}" if items else ""


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _refusal(path: Path, what: str, remedy: str) -> CheckpointError:
    return CheckpointError(one_line(f"{path}: {what}; {remedy}"))


_READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": load,
    ".pth": _unpickle,
    ".pt": _unpickle,
    ".bin": _unpickle,
}
