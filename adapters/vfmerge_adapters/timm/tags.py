"""Weights that timm publishes by tag: what they expect, and where they lie once fetched.

The weights are not read here: a fetched file goes the way of any local one.
"""

from __future__ import annotations

import difflib
import logging
from pathlib import Path

from timm.models import PretrainedCfg, get_arch_pretrained_cfgs, get_pretrained_cfg

from vfmerge.errors import InputError, one_line

from ..hub.repository import fetch as fetch_file
from .shape import Settings

_LOG = logging.getLogger("vfmerge")

# A file of the hub as timm lists it, and what the same weights are called there as safetensors.
_SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


def settings(name: str, tag: str) -> Settings:
    """What a tag's weights expect. Raises InputError, which names the nearest, for one that the architecture lacks."""
    return _plain(_config(name, tag))


def default_settings(name: str, *, warn: bool) -> Settings:
    """What timm expects of weights of an architecture that do not say it: those of its first tag.

    warn: say so where its published weights do not agree about the normalisation.
    """
    published = {tag.partition(".")[2]: _plain(config) for tag, config in get_arch_pretrained_cfgs(name).items()}
    config = get_pretrained_cfg(name)
    chosen = Settings() if config is None else _plain(config)
    others = [tag for tag, each in published.items() if (each.mean, each.std) != (chosen.mean, chosen.std)]
    if warn and others:
        text = "%s: colours have mean %s and std %s; if the file's weights are %s, write `model: %s.TAG`"
        _LOG.warning(text, name, list(chosen.mean), list(chosen.std), " or ".join(others), name)
    return chosen


def fetch(name: str, tag: str) -> Path:
    """The file of a tag's weights, safetensors alone, downloaded into the hub's cache where it is not there yet."""
    config = _config(name, tag)
    listed = config.hf_hub_filename or "pytorch_model.bin"
    if config.hf_hub_id:
        path = fetch_file(config.hf_hub_id, _SAFE.get(listed, str(Path(listed).with_suffix(".safetensors"))))
        if path is not None:
            return path
    text = f"pretrained: {tag!r} of {name} is not published as safetensors; give a local file as `checkpoint`"
    raise InputError(one_line(text))


def _config(name: str, tag: str) -> PretrainedCfg:
    published = get_arch_pretrained_cfgs(name)
    if f"{name}.{tag}" not in published:
        tags = [each.partition(".")[2] for each in published if "." in each]
        near = difflib.get_close_matches(tag, tags, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(tags) or 'none'}"
        raise InputError(one_line(f"pretrained: timm has no weights {tag!r} for {name}; {hint}"))
    return published[f"{name}.{tag}"]


def _plain(config: PretrainedCfg) -> Settings:
    return Settings.model_validate(config.to_dict())
