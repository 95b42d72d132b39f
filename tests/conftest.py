"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vfmerge.demo.server import Server
    from vfmerge.session import Session

os.environ["VFMERGE_CACHE"] = ""  # nothing is remembered from one test to the next
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: such small tensors only make threads wait for each other

_ENTRY_POINTS = """\
[vfmerge.adapters]
fake_outline = fake_plugins:Outline
fake_caption = fake_plugins:Caption
fake_unfinished = fake_plugins:Unfinished
fake_unreadable = fake_plugins:Unreadable
fake_twice = fake_plugins:Caption
fake_stranger = fake_plugins:Pictures
fake_import = fake_import:Thing
fake_syntax = fake_syntax:Thing
fake_exit = fake_exit:Thing
fake_nothing = fake_plugins:Nothing
fake_warning = fake_warning:Thing
fake_older = fake_plugins:Older
fake_newer = fake_plugins:Newer
fake_unmarked = fake_plugins:Unmarked
fake_clumsy = fake_plugins:Clumsy

[vfmerge.data]
fake_pictures = fake_plugins:Pictures

[vfmerge.benchmarks]
fake_guessing = fake_plugins:Guessing
"""

_SAMPLE = """\
# Outlines learn to speak
#   vfmerge run sample
base: outline
parents:
  outline: {adapter: fake_outline, options: {variant: small, sharpness: 2}}
  caption: {adapter: fake_caption, options: {model: tiny}}
data:
  images: {kind: fake_pictures, path: pictures, count: 100}
  outlines: {kind: fake_pictures, path: drawings, masks: true}
stages:
  probe:
    steps: 100
    train: {heads.caption: 8e-4}
    warmup: 10
    cache: true
    streams:
      - {data: images, size: [16, 32], batch: 8, tasks: {caption: 1}}
  distill:
    epochs: 2.5
    train: {trunk: 4e-6, heads.outline: 4e-6, heads.caption: 4e-5}
    schedule: constant
    end: 0.1
    balance: true
    streams:
      - {data: images, size: 32, batch: 8, drop: 0.5, tasks: {caption: 1, outline: 1}}
      - {data: outlines, size: 32, batch: 4, fit: pad, masks: 4, fraction: 0.5, tasks: {outline: 10}}
evaluate:
  guess: {benchmark: fake_guessing, data: outlines, tries: 3}
optimizer: {betas: [0.9, 0.98], eps: 1e-6, weight_decay: 0.1}
clip: 1
precision: bf16
seed: 3
workers: 0
log_every: 10
save_minutes: 5
save_steps: 20
bad_samples: 0.02
"""

_SMALL = """\
# Small: a random SAM learns from the shipped tiny CLIP, in a second
base: sam
parents:
  sam:
    adapter: sam
    options:
      variant: tiny
      random: true
      geometry:
        {depth: 2, width: 32, heads: 2, global_blocks: [1], decoder_width: 16, decoder_mlp: 32, decoder_heads: 2}
  clip: {adapter: open_clip, options: {model: tiny, layers: 1}}
data:
  images: {kind: shapes, layout: mixed, split: train, count: 24, size: 32, masks: false}
  masks: {kind: shapes, layout: several, split: train, count: 12, size: 48}
  held_out_single: {kind: shapes, layout: single, split: held-out, count: 4, size: 32, masks: false}
  held_out: {kind: shapes, layout: several, split: held-out, count: 2, size: 48}
stages:
  probe:
    steps: 5
    train: {heads.clip: 2e-3}
    warmup: 2
    cache: true
    streams:
      - {data: images, size: 32, batch: 4, tasks: {clip: 1}}
  distill:
    steps: 6
    train: {trunk: 5e-4, heads.sam: 5e-4, heads.clip: 2e-3}
    warmup: 2
    streams:
      - {data: images, size: [32, 48], batch: 4, tasks: {clip: 1}}
      - {data: masks, size: 48, batch: 2, masks: 2, fit: pad, tasks: {sam: 10}}
  adapt:
    epochs: 0.5
    train: {heads.clip: 1e-3}
    schedule: constant
    streams:
      - {data: images, size: [32, 48], batch: 4, tasks: {clip: 1}}
evaluate:
  classify: {benchmark: zero_shot_classification, data: held_out_single}
  prompts: {benchmark: promptable, data: held_out}
optimizer: {betas: [0.9, 0.98], weight_decay: 0.05}
clip: 1.0
save_steps: 2
log_every: 2
"""


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of the real parts made small: 5 + 6 + 3 steps and an evaluation, about a second on one core."""
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(_SMALL)
    return path


@pytest.fixture
def start(small: Path, tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Begins a run of `small`, or of the recipe `of`, with overrides, up to its first step."""
    import torch

    from vfmerge import parts, recipe, signals
    from vfmerge.session import begin

    opened: list[Session] = []

    def begun(*changes: str, of: Path = small) -> Session:
        plan = recipe.load(str(of), changes)
        out = tmp_path / f"started-{len(opened)}"
        out.mkdir()
        adapters, sources = parts.build_adapters(plan), parts.build_sources(plan)
        place, request = torch.device("cpu"), signals.Request()
        opened.append(begin(plan, out, device=place, adapters=adapters, sources=sources, request=request))
        return opened[-1]

    yield begun
    for session in opened:
        session.close()


@pytest.fixture(scope="session")
def finished(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `small` that nobody interrupted; not to be changed."""
    from vfmerge import engine, recipe

    out = tmp_path_factory.mktemp("finished") / "run"
    engine.run(recipe.load(str(small)), out, name="small")
    return out


_TINY = """\
# The shipped tiny SAM and tiny CLIP, merged and not trained
base: sam
parents:
  sam: {adapter: sam, options: {variant: tiny}}
  clip: {adapter: open_clip, options: {model: tiny}}
data: {}
stages: {}
"""


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the tiny parents that learnt nothing: masks are its SAM's, names are anybody's guess."""
    import torch

    from vfmerge import parts, recipe
    from vfmerge.model import MergedModel

    run = tmp_path_factory.mktemp("untrained") / "tiny"
    run.mkdir()
    (run / "recipe.yaml").write_text(_TINY)
    adapters = parts.build_adapters(recipe.load(str(run / "recipe.yaml")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MergedModel(adapters, base="sam")
        model.start({name: adapter.teacher() for name, adapter in adapters.items()})  # type: ignore[union-attr]
    model.save(run / "merged", names={"sam": "sam", "clip": "open_clip"}, texts={"recipe.yaml": _TINY})
    return run


@pytest.fixture(scope="session")
def demo(untrained: Path) -> Iterator[Server]:
    """A demonstration of `untrained`, answering at a free port of this machine."""
    from vfmerge.demo import opening
    from vfmerge.demo.album import Album
    from vfmerge.demo.server import listen
    from vfmerge.demo.service import Service
    from vfmerge.demo.turns import Turns

    turns = Turns(waiting=8, patience=20)
    service = Service(opening.open_all(untrained, tasks=(), device="cpu"), pictures=Album(), turns=turns)
    server = listen(service, turns, host="127.0.0.1", port=0)
    ended = threading.Event()
    thread = threading.Thread(target=server.serve, kwargs={"until": ended.is_set})
    thread.start()
    yield server
    ended.set()
    thread.join()


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, in this process and in those it starts, where the fake plug-ins are installed."""
    folder = tmp_path / "site"
    for package, text in (("fakes", _ENTRY_POINTS), ("rival", "[vfmerge.adapters]\nfake_twice = other:Thing\n")):
        installed = folder / f"{package}-1.0.dist-info"
        installed.mkdir(parents=True)
        (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (installed / "entry_points.txt").write_text(text)
    (folder / "fake_import.py").write_text("import a_module_that_nobody_has\n")
    (folder / "fake_syntax.py").write_text("def :\n")
    (folder / "fake_exit.py").write_text("import sys; sys.exit(3)\n")
    (folder / "fake_warning.py").write_text("raise RuntimeError('one line\\nand another')\n")
    shutil.copy(Path(__file__).parent / "fakes" / "fake_plugins.py", folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def sample(fakes: Path, tmp_path: Path) -> Path:
    """A small, complete recipe of fake plug-ins, with every key there is."""
    path = tmp_path / "sample.yaml"
    path.write_text(_SAMPLE)
    return path
