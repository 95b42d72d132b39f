"""What transformers says to every model that it loads or saves, and how a merged model takes it.

A merged model is one file of safetensors on one device, and nothing that is asked of it is silently dropped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from vfmerge import config as made
from vfmerge.errors import InputError, one_line
from vfmerge.problem import shown

from .config import VfmergeConfig

_TOLD = {"trust_remote_code", "adapter_kwargs", "use_safetensors", "weights_only", "low_cpu_mem_usage"}
_TOLD |= {"_from_auto", "_from_pipeline"}
"""What may be said of loading: there is only one way to read a merged model, which runs no code of a folder."""
_WRITTEN = {"safe_serialization": (None, True), "variant": (None,), "distributed_checkpoint": (None, False)}
"""What may be said of saving, where it is what is done anyway."""
_ELSEWHERE = {"save_peft_format", "save_original_format", "save_function", "token"}
"""What may be said of saving, and concerns nothing that a merged model has."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)(I?)B")


def require_loadable(given: Mapping[str, Any]) -> None:
    """Raise InputError for an option of `from_pretrained` that a merged model has not."""
    wrong = [name for name, value in given.items() if name not in _TOLD and value]
    if wrong:
        raise InputError(one_line(f"from_pretrained: a merged model has no option {wrong[0]}; leave it out"))


def require_writable(given: Mapping[str, Any], model: nn.Module) -> None:
    """Raise InputError for an option of `save_pretrained` or `push_to_hub` by which it would not be saved."""
    for name, value in given.items():
        if name == "max_shard_size" and value is not None:
            size = sum(tensor.nbytes for tensor in model.state_dict().values())
            if _bytes(value) < size:
                text = f"{shown(value)} is less than the {size} bytes of the model, whose weights are one file"
                raise InputError(one_line(f"max_shard_size: {text}; leave it out"))
        elif name in _WRITTEN and value not in _WRITTEN[name]:
            text = f"{name}: {shown(value)} is not how a merged model is saved, in one file of safetensors"
            raise InputError(one_line(f"{text}; leave it out"))
        elif name not in {"max_shard_size", *_WRITTEN, *_ELSEWHERE}:
            raise InputError(one_line(f"save_pretrained: a merged model has no option {name}; leave it out"))


def _bytes(size: int | str) -> float:
    """A size as transformers has it: a number, or a text such as 5GB or 300MiB."""
    if isinstance(size, int):
        return size
    found = _SIZE.fullmatch(str(size).upper().replace(" ", ""))
    if found is None:
        raise InputError(one_line(f"max_shard_size: {shown(size)} is no size; give '5GB', for example"))
    return float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " ")


def config_of(folder: Path, given: VfmergeConfig | str | os.PathLike[str] | None) -> VfmergeConfig:
    """A folder's config, or what is given in its place. Raises InputError if that is of a model of another shape."""
    own = VfmergeConfig.from_pretrained(folder)
    if given is None:
        return own
    if isinstance(given, str | os.PathLike):
        given = VfmergeConfig.from_pretrained(given)
    if not isinstance(given, VfmergeConfig):
        raise InputError(f"config: a {type(given).__name__} is none of a merged model; leave it out")
    if given.made != own.made:
        text = "config: describes other parts than the folder's own, whose weights would not fit"
        raise InputError(one_line(f"{text}; leave it out, or make a new model of it by AutoModel.from_config"))
    return given


def device(device_map: Any) -> str:
    """The one device of a map; `auto` is the first GPU where there is one, for a merged model is not split."""
    only = device_map.get("") if isinstance(device_map, Mapping) and set(device_map) == {""} else device_map
    if only is None or only == "auto":
        return only or "cpu"
    try:
        return str(torch.device(only))
    except (RuntimeError, TypeError):
        text = f"device_map: {device_map!r} is not one device, and a merged model is not split"
        raise InputError(one_line(f"{text}; give 'auto' or 'cuda', for example")) from None


def dtype(wanted: str | torch.dtype | None, *, saved: Path) -> torch.dtype:
    """The type that is asked for; none, or "auto", is that of the trunk in a folder's weights."""
    if wanted is None or wanted == "auto":
        with safe_open(saved / made.WEIGHTS, framework="pt") as file:
            tensors = (file.get_tensor(name) for name in file.keys() if name.startswith("trunk."))  # noqa: SIM118
            return next(tensor.dtype for tensor in tensors if tensor.is_floating_point())
    found = wanted if isinstance(wanted, torch.dtype) else getattr(torch, wanted, None)
    if not isinstance(found, torch.dtype):
        raise InputError(one_line(f"dtype: {wanted!r} is no type of torch; give 'bfloat16', for example"))
    return found
