"""Files of the Hugging Face hub: from its cache where they lie there, else downloaded into it. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vfmerge.errors import InputError, one_line


def fetch(repository: str, name: str) -> Path | None:
    """The local file of that name of `owner/name` or `owner/name@revision`; none where the repository has no such.

    What was fetched once is taken from the cache, so that a run resumes with the weights it began with.
    Raises InputError where the repository cannot be reached, or asked for.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    identity, _, revision = repository.partition("@")
    cached = try_to_load_from_cache(identity, name, revision=revision or None)
    if cached is not None:  # a path, or else the memory that there was none
        return Path(cached) if isinstance(cached, str) else None
    try:
        with _quiet():
            return Path(hf_hub_download(identity, name, revision=revision or None))
    except LocalEntryNotFoundError as error:  # it is an EntryNotFoundError too, and means that there is no network
        raise _refusal(repository, name, error) from None
    except EntryNotFoundError:
        return None
    except Exception as error:  # of the hub, the network, the disk: a dozen libraries' types
        raise _refusal(repository, name, error) from None


def _refusal(repository: str, name: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = f"model: {name} of {repository} cannot be fetched ({reason}); mend the id, connect, or give a local folder"
    return InputError(one_line(text))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the hub's progress bars."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
