"""Networks of `transformers`: built from a config, and filled with weights, without a word on the screen.

A config is data from outside. Only numbers that shape the network are taken from it: nothing that names code, kernels
or number types. Networks are float32, and the library's own renaming brings older files' tensors to today's names.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from vfmerge.errors import CheckpointError, InputError, one_line
from vfmerge.weights import FLOATS

# What is random in the library's own training; ours draws nothing that a seed of the recipe does not fix.
_CERTAIN = dict.fromkeys(("attention_dropout", "attention_probs_dropout_prob", "dropout", "hidden_dropout_prob"), 0.0)
_CERTAIN |= {"drop_path_rate": 0.0, "pos_embed_shift": None, "pos_embed_jitter": None, "pos_embed_rescale": None}
_STALE = ("position_ids",)  # an index that old files hold as a tensor, at the end of its name


def configure(kind: type[PreTrainedModel], content: Mapping[str, Any], *, source: str) -> PreTrainedConfig:
    """The config of a class of models from the content of a `config.json`. Raises InputError for one that is not."""
    cls = kind.config_class
    assert cls is not None
    try:
        with quiet():
            return cls.from_dict(_plain(cls, content))
    except Exception as error:  # of whichever check the class has
        raise _refusal(source, error) from None


def part_of(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a config says of one of its parts; the oldest CLIPs add a second word on it."""
    return (content.get(name) or {}) | (content.get(f"{name}_dict") or {})


def square(content: Mapping[str, Any]) -> dict[str, Any]:
    """A config's content with single numbers where its sizes are pairs of the same. Raises InputError for others."""
    plain = dict(content)
    for name in ("image_size", "patch_size"):
        value = plain.get(name)
        if isinstance(value, list | tuple):
            if len(set(value)) != 1:
                raise InputError(one_line(f"config: {name}: {list(value)} is no square; give a model of squares"))
            plain[name] = value[0]
    return plain


def build(kind: type[PreTrainedModel], config: PreTrainedConfig, *, source: str, **arguments: Any) -> Any:
    """A model of that class with random weights, in eval mode. arguments: further ones of the class."""
    try:
        with quiet():
            return kind(config, **arguments).eval()
    except Exception as error:
        raise _refusal(source, error) from None


def fill(
    model: PreTrainedModel, tensors: Mapping[str, Tensor], *, source: str, ignore: Sequence[str] = (), **arguments: Any
) -> None:
    """Fill a model in place with the tensors of a file that `save_pretrained` wrote, wholly, or a `CheckpointError`.

    ignore: prefixes of names that the model need not have. arguments: those that the model was built with.
    """
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(_STALE)}
    strange = [f"{name} is {tensor.dtype}" for name, tensor in given.items() if tensor.dtype not in FLOATS]
    if strange:
        raise CheckpointError(one_line(f"{source}: {strange[0]}, no plain float; give the weights before quantisation"))
    with quiet(), torch.random.fork_rng(devices=[]):  # what is missing would be drawn at random
        read, found = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=given,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **arguments,
        )
    _require_whole(found, source=source, ignore=ignore)
    model.load_state_dict(read.state_dict())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the library's reports, progress bars and warnings: what they may tell is checked here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _plain(kind: type[PreTrainedConfig], content: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config's content is this class's own to say, and so of its parts."""
    own = set(inspect.signature(kind).parameters) - set(inspect.signature(PreTrainedConfig).parameters)
    own = {name for name in own if not name.startswith("_")} | set(kind.attribute_map) | {"model_type"}
    plain = {name: value for name, value in content.items() if name in own}
    plain |= {name: value for name, value in _CERTAIN.items() if name in own}
    for name, part in kind.sub_configs.items():
        inner = part_of(content, name)
        if inner:
            cls = CONFIG_MAPPING[inner["model_type"]] if part is AutoConfig else part
            plain[name] = _plain(cls, inner)
    return plain


def _require_whole(found: Mapping[str, Any], *, source: str, ignore: Sequence[str]) -> None:
    """Raise a `CheckpointError` where the library's report of a loading is not empty."""
    missing = sorted(found["missing_keys"])
    unknown = sorted(name for name in found["unexpected_keys"] if not name.startswith(tuple(ignore)))
    shapes = [
        f"{name} {list(given)} against {list(wanted)}" for name, given, wanted in sorted(found["mismatched_keys"])
    ]
    problems = [
        f"{len(items)} {what}, first: {items[0]}"
        for items, what in ((missing, "tensors missing"), (shapes, "of another shape"), (unknown, "unknown"))
        if items
    ]
    problems += [str(each) for each in found["error_msgs"]]
    if problems:
        what = "; ".join(problems)
        raise CheckpointError(one_line(f"{source}: {what}; give the weights of this very architecture"))


def _refusal(source: str, error: Exception) -> InputError:
    return InputError(one_line(f"{source}: transformers cannot build this shape ({error}); mend its config"))
