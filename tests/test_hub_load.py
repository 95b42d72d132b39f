"""Merged models by their id on the hub, in a cache as the hub's own library makes it; no network is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from vfmerge_adapters.sam import SAM

import vfmerge
from vfmerge import home, hub
from vfmerge.cli import main
from vfmerge.demo import opening
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
        ("no/such/folder", None, "no/such/folder: no such folder; give runs/NAME/merged"),
        ("nowhere", None, "nowhere: no such folder"),
        (".", None, r"\.: holds no merged model"),
    ],
)
def test_what_is_not_to_be_had_is_one_line(cache: Path, name: str, revision: str | None, message: str) -> None:
    """It names what was asked for and what to do."""
    with pytest.raises(InputError, match=message) as error:
        vfmerge.load(name, revision=revision)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "path: empty; give runs/NAME/merged, or owner/name on the hub"),
        ("https://huggingface.co/o/n", "neither a folder nor an id; give the id alone, o/n"),
        ("https://hf.co/o/n/tree/main", "give the id alone, o/n"),
        ("https://example.org/model.zip", "neither a folder nor an id; give a folder, or owner/name on the hub"),
        ("hf://o/n", "neither a folder nor an id; give a folder"),
    ],
)
def test_what_is_neither_a_path_nor_an_id_is_told_so(path: str, message: str) -> None:
    """An empty path is not the folder where one is, and an address is nothing that can be mistyped."""
    with pytest.raises(InputError, match=message) as error:
        vfmerge.load(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x"])
def test_a_device_that_is_not_there_is_one_line(folder: Path, device: str) -> None:
    """And told before anything is read."""
    with pytest.raises(InputError, match=f"device {device}: not available here .*give auto, cpu, cuda") as error:
        vfmerge.load("nowhere", device=device)
    assert len(str(error.value).splitlines()) == 1
    where = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    assert next(vfmerge.load(folder, device="auto").parameters()).device == where
    assert next(vfmerge.load(folder, device=torch.device("cpu")).parameters()).device == torch.device("cpu")


def test_a_run_stands_for_its_model(folder: Path, tmp_path: Path) -> None:
    """As for every command; the run need not have a recipe."""
    shutil.copytree(folder, tmp_path / "run" / "merged")
    assert vfmerge.load(tmp_path / "run").base == vfmerge.load(str(tmp_path / "run")).base == "sam"
    assert home.find(tmp_path / "run").run is None
    (tmp_path / "run" / "recipe.yaml").write_text("base: sam\n")
    found = home.find(tmp_path / "run")
    assert (found.name, found.run, found.folder) == ("run", tmp_path / "run", tmp_path / "run" / "merged")


def test_a_model_of_the_hub_is_exported_and_shown_by_its_id(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `predict` takes the other commands take."""
    arguments = ["export", "someone/model@v2", "--to", "transformers", "--out", str(tmp_path / "auto")]
    assert main(arguments) == 0, capsys.readouterr().err
    assert vfmerge.load(tmp_path / "auto").base == "sam"
    shown = opening.open_all("someone/model", tasks=(), device="cpu")
    assert (shown.name, [each.key for each in shown.exhibits]) == ("someone/model", ["merged"])
    for command in (["export", "someone/other", "--to", "sam", "--out", "x.safetensors"], ["demo", "someone/other"]):
        assert main(command) == 2
        assert "someone/other: no folder here, and cannot be fetched from the hub" in capsys.readouterr().err


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
    with pytest.raises(InputError, match="someone/model: no such folder"):
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
