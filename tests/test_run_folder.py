"""A run's folder: what is in it, who may write there, and what must not change under it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from vfmerge import checkpoint, engine, parts, recipe, weights
from vfmerge.cli import main
from vfmerge.data.world import Shapes
from vfmerge.folder import Lines

SHORT = (  # two steps, no evaluation
    "stages={probe: {steps: 2, train: {heads.clip: 1e-3}, cache: true, streams: "
    "[{data: images, size: 32, batch: 4, tasks: {clip: 1}}]}}",
    "evaluate={}",
)


def content(folder: Path) -> dict[str, str]:
    """A hash of every file below a folder, but for the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that vfmerge itself had to say."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vfmerge: ")]
    assert len(lines) == 1
    assert len(lines[0]) <= 310
    return lines[0]


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of JPEGs, some of them torn."""

    def make(count: int, *, torn: tuple[int, ...] = ()) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03}.jpg")
            if number in torn:
                whole = (folder / f"{number:03}.jpg").read_bytes()
                (folder / f"{number:03}.jpg").write_bytes(whole[: len(whole) // 2])
        return folder

    return make


def test_a_finished_run_only_shows_its_table(
    small: Path, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recipe again: the table, no work, no file touched; keys that are no part of the result may differ."""
    before = content(finished)
    monkeypatch.delattr(engine, "begin")
    monkeypatch.delattr(engine.evaluation.measurement, "measure")
    assert main(["run", str(small), "--out", str(finished)]) == 0
    table = capsys.readouterr().out
    assert "Retention of small" in table
    rows = json.loads((finished / "retention.json").read_text())
    assert {"top1", "box_miou", "point_miou"} == {row["metric"] for row in rows}
    assert all(row["metric"] in table and f"{row['merged_value']:.3f}" in table for row in rows)
    free = ["workers=3", "log_every=7", "save_steps=null", "save_minutes=1"]
    assert main(["run", str(small), *free, "--out", str(finished)]) == 0
    assert content(finished) == before


def test_a_finished_run_has_no_cache(finished: Path) -> None:
    """It can be large, and the merged model is all that is wanted; two checkpoints are kept."""
    assert {path.name for path in finished.iterdir()} - {"tensorboard"} == {
        ".lock", "recipe.yaml", "manifest.json", "metrics.jsonl", "bad_samples.jsonl", "checkpoints", "merged",
        "retention.json", "report.html",
    }  # fmt: skip
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["step-00000012", "step-00000014"]


def test_another_recipe_is_refused(small: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the keys that differ, each and no other; the folder stays."""
    before = content(finished)
    changes = ["clip=2", "stages.probe.train.heads.clip=1e-3", "data.images.count=25"]
    assert main(["run", str(small), *changes, "log_every=9", "--out", str(finished)]) == 2
    line = said(capsys)
    assert "(clip, data.images.count, stages.probe.train.heads.clip)" in line
    assert "--fresh" in line
    assert content(finished) == before


def test_fresh_moves_the_old_run_aside(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it is lost, also the second time; and the user hears where it is."""
    out, plans = tmp_path / "run", [["seed=0"], ["seed=1"], ["seed=2"]]
    kept = []
    for plan in plans:
        assert main(["run", str(small), *SHORT, *plan, "--out", str(out), "--fresh"]) == 0
        kept.append(content(out))
    assert [content(tmp_path / name) for name in ("run.old-1", "run.old-2", "run")] == kept
    assert len({each["merged/model.safetensors"] for each in kept}) == 3
    assert f"now {tmp_path / 'run.old-2'}" in capsys.readouterr().err


def test_fresh_leaves_a_run_at_work(small: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that another process writes to is not moved from under it."""
    with checkpoint.lock(finished):
        assert main(["run", str(small), "--out", str(finished), "--fresh"]) == 2
    assert f"in use by process {os.getpid()}" in said(capsys)
    assert (finished / "merged").exists()


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_a_folder_of_other_things_is_left_alone(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fresh: list[str]
) -> None:
    """Somebody's folder or file is neither written to nor moved; below a file there is no folder."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("one")
    for out, text in {
        "thesis": "has files but is no run; give --out another folder",
        "thesis/chapter.tex": "is a file; give --out a folder",
        "thesis/chapter.tex/run": "cannot be used (Not a directory); give --out another folder",
        "x" * 300: "cannot be used (File name too long); give --out another folder",
    }.items():
        assert main(["run", str(small), *SHORT, "--out", str(tmp_path / out), *fresh]) == 2
        assert text in said(capsys)
    assert content(tmp_path) == {"thesis/chapter.tex": hashlib.sha256(b"one").hexdigest()}


def test_a_run_killed_before_it_began(small: Path, tmp_path: Path) -> None:
    """A folder with a lock and left-overs of writing, but no recipe yet, is begun."""
    out = tmp_path / "run"
    (out / ".tmp-recipe.yaml").mkdir(parents=True)
    (out / ".lock").write_text("12345")
    assert main(["run", str(small), *SHORT, "--out", str(out)]) == 0
    assert (out / "merged" / "model.safetensors").exists()
    assert not (out / ".tmp-recipe.yaml").exists()


@pytest.mark.parametrize("part", ["weights", "data", "manifest.json"])
def test_what_a_run_is_of_must_stay(
    small: Path, tmp_path: Path, pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str], part: str
) -> None:
    """Another file of weights under the same name, or another picture: refused, naming which. Also a torn manifest."""
    sam = parts.build_adapters(recipe.load(str(small)))["sam"].teacher()
    own = {f"image_encoder.{name}": tensor for name, tensor in sam.trunk.state_dict().items()}
    for name, tensor in sam.head.state_dict().items():
        own[f"image_encoder.{name}" if name.startswith("neck") else name] = tensor
    save_file(own, tmp_path / "sam.safetensors")
    options = [f"parents.sam.options.checkpoint={tmp_path / 'sam.safetensors'}", "parents.sam.options.random=false"]
    folder = pictures(12)
    arguments = ["run", str(small), *SHORT, *options, f"data.images={{kind: folder, path: {folder}}}"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    if part == "weights":
        save_file(own | {"image_encoder.pos_embed": own["image_encoder.pos_embed"] + 1}, tmp_path / "sam.safetensors")
    elif part == "data":
        shutil.copy(folder / "001.jpg", folder / "100.jpg")
    else:
        (tmp_path / "run" / "manifest.json").write_text('{"schema": ')
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    line = said(capsys)
    assert ("manifest.json: damaged" if part == "manifest.json" else f"{part} changed") in line
    assert "--fresh" in line


def test_the_manifest(finished: Path, small: Path) -> None:
    """What the run was made of: recipe, weights, data, seed, licences, versions, by hash where they are large."""
    told = json.loads((finished / "manifest.json").read_text())
    plan = recipe.load(str(small))
    assert told["recipe"] == recipe.fingerprint(plan) != recipe.fingerprint(recipe.load(str(small), ["seed=1"]))
    assert told["seed"] == 0
    sources = parts.build_adapters(plan)["clip"].sources
    hashes = {source.name: hashlib.sha256(source.read_bytes()).hexdigest() for source in sources}
    assert any(name.endswith(".safetensors") for name in hashes)
    assert told["weights"] == {"sam": {}, "clip": hashes}
    images = Shapes(layout="mixed", split="train", count=24, size=32, masks=False)
    assert told["data"]["images"] == {"samples": 24, "sha256": images.digest()}
    assert told["data"].keys() == plan.data.keys()
    assert told["licences"] == {"sam": "Apache-2.0", "clip": "Apache-2.0"}
    assert {"python", "vfmerge", "torch", "open_clip_torch", "safetensors"} <= told["versions"].keys()
    assert recipe.load(str(finished / "recipe.yaml")) == plan


def test_nothing_of_this_machine_is_told(
    small: Path, tmp_path: Path, pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file of a run, text or not, holds an absolute path of the machine it was made on."""
    pictures(24, torn=(3,))
    monkeypatch.chdir(tmp_path)
    changes = ["data.images={kind: folder, path: pictures}", "bad_samples=0.5"]
    assert main(["run", str(small), *changes, "--out", "run"]) == 0
    homes = [str(tmp_path), f"{Path.home()}/", str(Path(engine.__file__).parent)]
    files = [path for path in Path("run").rglob("*") if path.is_file()]
    assert {"README.md", "config.json", "manifest.json", "recipe.yaml", "bad_samples.jsonl"} <= {p.name for p in files}
    assert [(path, home) for path in files for home in homes if home.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_files_follow_the_umask(small: Path, tmp_path: Path, mask: int) -> None:
    """Whoever may read a file written by hand here may read a run's, all of it, and nobody else."""
    before = os.umask(mask)
    try:
        assert main(["run", str(small), *SHORT, "--out", str(tmp_path / "run")]) == 0
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*")}
    assert len(modes) > 15
    assert {path: m for path, m in modes.items() if m != (0o777 if path.is_dir() else 0o666) & ~mask} == {}


def bad_lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "bad_samples.jsonl").read_text().splitlines()]


def test_bad_samples_are_listed(small: Path, tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """Torn pictures are replaced; each is listed with its reason, once for a cache and once for a pass, no other is."""
    folder, out = pictures(24, torn=(3, 8, 15)), tmp_path / "run"
    changes = [f"data.images={{kind: folder, path: {folder}}}", "bad_samples=0.3", "evaluate={}"]
    assert main(["run", str(small), *changes, "--out", str(out)]) == 0
    found = bad_lines(out)
    assert {line["data"] for line in found} == {"images"}
    assert {line["sample"] for line in found} == {3, 8, 15}
    assert all(f"{line['sample']:03}.jpg" in line["reason"] for line in found)
    assert sorted(line["sample"] for line in found if line["step"] == 1) == [3, 8, 15]  # the cache, at its first step
    of_pass = Counter(line["sample"] for line in found if 6 <= line["step"] <= 11)  # 6 steps of 4: one pass
    assert of_pass.keys() == {3, 8, 15}
    assert [line["step"] for line in found] == sorted(line["step"] for line in found)
    saved = checkpoint.newest(out)
    assert saved is not None
    assert saved.state["unusable"] == len(found)
    assert saved.state["seen"] == 24 + 24 + 12 + 12 + len(
        found
    )  # the cache, a pass and the masks beside it, half a pass


@pytest.mark.parametrize("cached", ["true", "false"])
def test_too_many_bad_samples(
    small: Path, tmp_path: Path, pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str], cached: str
) -> None:
    """More than the limit: exit code 1, and a line that names the limit and the file where they are listed."""
    folder, out = pictures(150, torn=tuple(range(0, 150, 30))), tmp_path / "run"
    changes = [*SHORT, f"data.images={{kind: folder, path: {folder}}}", "stages.probe.streams.0.batch=75"]
    assert main(["run", str(small), *changes, f"stages.probe.cache={cached}", "--out", str(out)]) == 1
    line = said(capsys)
    assert "bad_samples=0.01" in line
    assert str(out / "bad_samples.jsonl") in line
    assert {line["sample"] for line in bad_lines(out)} >= {0, 30, 60, 90, 120} - ({0} if cached == "false" else set())


def test_a_share_is_of_all_samples(small: Path, tmp_path: Path, pictures: Callable[..., Path]) -> None:
    """A hundred torn pictures of three hundred are a third of them, not all: within a limit of a half."""
    folder, out = pictures(300, torn=tuple(range(0, 300, 3))), tmp_path / "run"
    changes = [*SHORT, f"data.images={{kind: folder, path: {folder}}}", "bad_samples=0.5"]
    assert main(["run", str(small), *changes, "--out", str(out)]) == 0
    assert {line["sample"] for line in bad_lines(out)} == set(range(0, 300, 3))


def test_several_processes_are_refused(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be a run of its own in one folder: a launcher's number of them is told in a line, before any work."""
    arguments = ["run", str(small), "no_such_key=1", "--out", str(tmp_path / "run")]
    for several in ("2", "16"):
        monkeypatch.setenv("WORLD_SIZE", several)
        assert main(arguments) == 2
        assert said(capsys).startswith(f"vfmerge: WORLD_SIZE={several}: a run is one process on one device so far;")
    for one in ("1", "", "many"):
        monkeypatch.setenv("WORLD_SIZE", one)
        assert main(arguments) == 2
        assert "no_such_key" in said(capsys)
    assert not (tmp_path / "run").exists()


def written(path: Path, steps: Iterable[int], *, after: str = "") -> list[bytes]:
    """A file of a line for each of these steps, and what a kill left after them."""
    found = Lines(path)
    for number, step in enumerate(steps):
        found.write({"step": step, "note": "é" * (number % 7)})
    found.close()
    with path.open("a") as file:
        file.write(after)
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("after", ["", '{"step": 9, "no', '{"step": 2}', "\0\0\0\n\0", "9\n", "\n"])
@pytest.mark.parametrize("steps", [(), (1,), (3, 3, 3), tuple(range(1, 9)), (1, 1, 2, 5, 5, 5, 8)])
def test_lines_are_wound_back(tmp_path: Path, steps: tuple[int, ...], after: str) -> None:
    """Those up to a step stay, byte for byte, those after it go, and with them what a kill cut short."""
    for last in range(10):
        path = tmp_path / f"{last}.jsonl"
        before = written(path, steps, after=after)
        lines = Lines(path)
        lines.rewind(last)
        lines.write({"step": last + 1})
        lines.close()
        kept = before[: sum(step <= last for step in steps)]
        assert path.read_bytes() == b"".join([*kept, b'{"step": %d}\n' % (last + 1)])


def test_winding_back_reads_little(tmp_path: Path) -> None:
    """Of a run's hundred thousand lines only a few are looked at, and none is kept in memory."""
    before = written(tmp_path / "lines", range(1, 100_001))
    lines = Lines(tmp_path / "lines")
    tracemalloc.start()
    lines.rewind(77_777)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    lines.close()
    assert (tmp_path / "lines").read_bytes() == b"".join(before[:77_777])
    assert most < 100_000


def test_what_was_trained_is_what_is_loaded(finished: Path) -> None:
    """The merged model's file has the newest checkpoint's numbers, and with them the parents' own fixed parts."""
    saved = checkpoint.newest(finished)
    assert saved is not None
    merged, learnt = load_file(finished / "merged" / "model.safetensors"), saved.model()
    assert learnt.keys() < merged.keys()
    assert all((merged[name] == tensor).all() for name, tensor in learnt.items())
    weights.require_finite(merged, source="merged")
