"""Merged models on the Hugging Face hub: from its cache where they lie there, else downloaded into it.

Imports neither torch nor the hub's library until something is fetched. HF_HOME, HF_HUB_OFFLINE and HF_TOKEN hold, as
for everything that comes from there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vfmerge import commit, config
from vfmerge.errors import InputError, one_line

_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)
_ADDRESS = re.compile(r"\w+://(?:(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+))?", re.ASCII)
_NEEDED = (config.CONFIG, config.WEIGHTS, commit.MANIFEST)
_TEXTS = ("README.md", "LICENSE.md", "*.yaml")  # they go along, so that a model that is saved again has its papers


def find(path: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a merged model that is given by its path or, as a text that is no path here, by its id on the hub.

    Raises InputError where the hub cannot be asked, or has no such model, and for what is neither a path nor an id.
    Whether a folder is there is not looked at.
    """
    if path == "":
        raise InputError("path: empty; give runs/NAME/merged, or owner/name on the hub")
    address = _ADDRESS.match(path) if isinstance(path, str) else None
    if address is not None:
        told = f"give the id alone, {address[1]}" if address[1] else "give a folder, or owner/name on the hub"
        raise InputError(one_line(f"{path}: an address, and neither a folder nor an id; {told}"))
    folder = Path(path).expanduser()
    named = _ID.fullmatch(path) if isinstance(path, str) else None
    if folder.exists() or named is None or folder.parent.is_dir():  # of which the last is a mistyped path
        if revision is not None:
            raise InputError(one_line(f"revision: {path} is a folder, and has none; leave it out"))
        return folder
    identity, wanted = named.groups()
    if wanted is not None and revision is not None:
        raise InputError(one_line(f"revision: {path} names one already; leave one of the two out"))
    return fetch(identity, revision=revision or wanted)


def fetch(identity: str, *, revision: str | None = None, **options: Any) -> Path:
    """The folder in the hub's cache of the model `owner/name`, fetched if it is not there whole.

    revision: a branch, a tag or a commit; none is the main branch. options: as of `huggingface_hub.snapshot_download`,
    such as cache_dir, token and local_files_only. Raises InputError where it is not to be had.
    """
    from huggingface_hub import snapshot_download

    try:
        files = [*_NEEDED, *_TEXTS]
        folder = Path(snapshot_download(identity, revision=revision, allow_patterns=files, **options))
    except Exception as error:  # of the hub, the network, the disk: a dozen libraries' types
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        text = f"{identity}: no folder here, and cannot be fetched from the hub ({reason})"
        raise InputError(one_line(f"{text}; mend the path or the id, or connect")) from None
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        text = f"{identity}: has no {missing[0]} on the hub, or not in its cache"
        raise InputError(one_line(f"{text}; give a merged model of vfmerge, or connect"))
    return folder
