"""Weights that open_clip publishes by tag: what they expect, and where they lie once fetched.

The weights are not read here: a fetched file goes the way of any local one.
"""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import Any

import open_clip

from vfmerge.errors import InputError, one_line

from .config import Config, Preprocess
from .licences import licence_of

_LOG = logging.getLogger("vfmerge")


def settle(config: Config, *, model: str, tag: str) -> Config:
    """The config of an architecture for a tag's weights: their preprocessing, and QuickGELU where they need it.

    open_clip itself only warns of a QuickGELU that differs between weights and architecture.
    """
    entry = _entry(model, tag)
    shape = config.model_cfg
    quick = shape.quick_gelu or bool(entry.get("quick_gelu", False))
    return Config(
        model_cfg=shape.model_copy(update={"quick_gelu": quick}), preprocess_cfg=Preprocess.model_validate(entry)
    )


def settle_untagged(config: Config, *, model: str, warn: bool) -> Config:
    """The config of an architecture for weights in a local file, which do not say what they expect.

    Where all published weights of the architecture agree on the preprocessing, it is theirs (SigLIP's, for example, is
    not OpenAI's); else it is open_clip's default.
    warn: say so where some of the published weights need QuickGELU and this shape has none.
    """
    entries = {tag: _entry(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model.replace("/", "-"))}
    published = {Preprocess.model_validate(entry) for entry in entries.values()}
    quick = [tag for tag, entry in entries.items() if entry.get("quick_gelu", False)]
    if warn and quick and not config.model_cfg.quick_gelu:
        _LOG.warning("%s with GELU: if the file's weights are %s, set quickgelu: true", model, " or ".join(quick))
    if len(published) == 1:
        return config.model_copy(update={"preprocess_cfg": published.pop()})
    return config


def fetch(model: str, tag: str) -> Path:
    """The file of a tag's weights, downloaded into the library's cache where it is not there yet."""
    entry = _entry(model, tag)
    try:
        return Path(open_clip.download_pretrained(entry))
    except Exception as error:  # of the hub, the network, the disk: a dozen libraries' types
        message = f"pretrained: {tag!r} of {model} cannot be fetched ({error}); give a local file as `checkpoint`"
        raise InputError(one_line(message)) from error


def licence(model: str, tag: str) -> str | None:
    """Of a tag's weights, where it is known."""
    repository = "/".join(str(_entry(model, tag).get("hf_hub", "")).split("/")[:2])
    return licence_of(repository)


def _entry(model: str, tag: str) -> dict[str, Any]:
    plain = model.replace("/", "-")
    entry: dict[str, Any] = open_clip.get_pretrained_cfg(plain, tag)
    if not entry:
        tags = open_clip.list_pretrained_tags_by_model(plain)
        near = difflib.get_close_matches(tag, tags, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(tags) or 'none'}"
        raise InputError(one_line(f"pretrained: open_clip has no weights {tag!r} for {model}; {hint}"))
    return entry
