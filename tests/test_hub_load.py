"""Merged models by their id on the hub, in a cache as the hub's own library makes it; no network is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from vfmerge_adapters.sam import SAM

import vfmerge
from vfmerge import hub
from vfmerge.errors import CheckpointError, InputError
from vfmerge.model import MergedModel

COMMIT = "c" * 40
SMALL = {"depth": 1, "width": 32, "heads": 2, "global_blocks": [0], "decoder_width": 16, "decoder_mlp": 32}
SMALL |= {"decoder_heads": 2, "image_size": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged model of one parent, small, as vfmerge writes it."""
    out = tmp_path_factory.mktemp("saved") / "merged"
    model = MergedModel({"sam": SAM(variant="tiny", random=True, geometry=SMALL)}, base="sam")
    model.save(out, names={"sam": "sam"}, texts={"README.md": "card", "recipe.yaml": "base: sam\n"})
    return out


@pytest.fixture
def cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache after `someone/model` was fetched: links to blobs, a card that was edited there, git's file."""
    repository = tmp_path / "cache" / "models--someone--model"
    snapshot = repository / "snapshots" / COMMIT
    for each in (snapshot, repository / "blobs", repository / "refs"):
        each.mkdir(parents=True)
    for ref in ("main", "v2"):
        (repository / "refs" / ref).write_text(COMMIT)
    for path in folder.iterdir():
        blob = repository / "blobs" / path.name
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", path.name))
    (repository / "blobs" / "README.md").write_text("an edited card")
    (snapshot / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


@pytest.mark.parametrize(
    ("name", "revision"),
    [("someone/model", None), ("someone/model", "v2"), ("someone/model@v2", None), ("someone/model", COMMIT)],
)
def test_a_model_is_loaded_by_its_id(folder: Path, cache: Path, name: str, revision: str | None) -> None:
    """From the cache, without network; an edited card and git's files are no damage."""
    found, expected = vfmerge.load(name, revision=revision).state_dict(), vfmerge.load(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[each]) for each, tensor in found.items())


@pytest.mark.parametrize("damaged", ["model.safetensors", "config.json"])
def test_a_damaged_file_of_the_cache_is_refused(cache: Path, damaged: str) -> None:
    """What is read is held to the manifest, wherever it lies."""
    blob = (cache / damaged).resolve()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    with pytest.raises(CheckpointError, match=damaged.replace(".", r"\.")):
        vfmerge.load("someone/model")


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("someone/other", None, "someone/other: no folder here, and cannot be fetched from the hub .*connect"),
        ("someone/model", "v3", "someone/model: no folder here, and cannot be fetched from the hub"),
        ("someone/model@v2", "v2", "revision: someone/model@v2 names one already"),
        ("no/such/folder", None, "no/such/folder: MANIFEST.json is missing"),
        ("nowhere", None, "nowhere: MANIFEST.json is missing"),
    ],
)
def test_what_is_not_to_be_had_is_one_line(cache: Path, name: str, revision: str | None, message: str) -> None:
    """It names what was asked for and what to do."""
    with pytest.raises(InputError, match=message) as error:
        vfmerge.load(name, revision=revision)
    assert len(str(error.value).splitlines()) == 1


def test_a_repository_without_a_merged_model_is_named(cache: Path) -> None:
    """Some other model, or one of which the cache has only a part."""
    (cache / "MANIFEST.json").unlink()
    with pytest.raises(InputError, match=r"someone/model: has no MANIFEST\.json on the hub, or not in its cache"):
        vfmerge.load("someone/model")


def test_a_folder_goes_before_the_hub(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`someone/model` is a folder where there is one; and where `someone` is one, the path is mistyped, and no id."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone").mkdir()
    with pytest.raises(CheckpointError, match="someone/model: MANIFEST"):
        vfmerge.load("someone/model")
    shutil.copytree(folder, tmp_path / "someone" / "model")
    assert hub.find("someone/model") == Path("someone/model")
    with pytest.raises(InputError, match="revision: someone/model is a folder"):
        vfmerge.load("someone/model", revision="v2")


def test_what_others_put_into_a_folder_is_no_damage(folder: Path, tmp_path: Path) -> None:
    """A clone has git's files, and its card may be edited before it is published."""
    clone = Path(shutil.copytree(folder, tmp_path / "clone"))
    (clone / ".git").mkdir()
    (clone / ".git" / "config").write_text("")
    (clone / "README.md").write_text("better words")
    assert vfmerge.load(clone).base == "sam"
