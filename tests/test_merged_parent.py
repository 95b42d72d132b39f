"""A merged model as a parent: merged once more, several times, or with a head dropped."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vfmerge_adapters.merged import Merged
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

import vfmerge
from vfmerge import check, commit, engine, licence, options, parts, plugins, recipe, spdx
from vfmerge.adapter import Batch
from vfmerge.errors import CheckpointError, InputError
from vfmerge.model import MergedModel
from vfmerge.testing import check_adapter

BOXES = torch.tensor([[5.0, 5.0, 60.0, 70.0], [30.0, 10.0, 110.0, 75.0]])
TEXTS = ["a photo of a star.", "a red circle"]
TASKS = ("sam", "clip", "eye")

_EYE = '''\
"""A parent of one convolution, whose heads keep statistics."""

from vfmerge.adapter import Features, FeatureSpec
from vfmerge.features.parent import FeatureParent
from vfmerge.features.settings import Distill


class Eye(FeatureParent):
    """Sees cells of sixteen pixels."""

    interface = 2
    licence = "MIT"
    features = FeatureSpec(channels=(6,), strides=(16,), summary=6)

    def __init__(self, *, running: bool = False) -> None:
        super().__init__(distill=Distill(standardise="running" if running else "fixed", pictures=8, momentum=0.5))
        self.running = running

    def portable(self):
        return {"running": self.running}

    def trunk(self):
        from torch import nn

        class Trunk(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 6, 16, 16)

            def forward(self, images):
                cells = self.conv(images)
                return Features(maps=(cells,), summary=cells.mean((2, 3)))

        return Trunk()

    def fill(self, trunk):
        pass
'''

_RECIPE = """\
base: sam
parents:
  sam: {{adapter: vfmerge, options: {{model: {model}, task: sam}}}}
  clip: {{adapter: vfmerge, options: {{model: "${{parents.sam.options.model}}", task: clip}}}}
  eye: {{adapter: eye}}
data:
  images: {{kind: shapes, layout: mixed, count: 8, size: 32, masks: false}}
  masks: {{kind: shapes, layout: several, count: 4, size: 48}}
  held_out: {{kind: shapes, layout: several, split: held-out, count: 2, size: 48}}
stages:
  probe:
    steps: 2
    train: {{heads.eye: 2e-3}}
    cache: true
    streams:
      - {{data: images, size: 32, batch: 4, tasks: {{eye: 1}}}}
  distill:
    steps: 2
    train: {{trunk: 5e-4, heads.sam: 5e-4, heads.clip: 5e-4, heads.eye: 5e-4}}
    streams:
      - {{data: images, size: 32, batch: 4, tasks: {{clip: 1, eye: 1}}}}
      - {{data: masks, size: 48, batch: 2, masks: 2, fit: pad, tasks: {{sam: 10}}}}
evaluate:
  prompts: {{benchmark: promptable, data: held_out}}
"""


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type]:
    """A third parent of anybody's, in a local file."""
    path = tmp_path_factory.mktemp("eye") / "eye.py"
    path.write_text(_EYE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_files", {})
        plugins.add_file(path)
        yield plugins.find("adapters", "eye")


@pytest.fixture(scope="module")
def first(finished: Path) -> Path:
    """The merged model of SAM and CLIP, of a finished run."""
    return finished / "merged"


@pytest.fixture(scope="module")
def second(first: Path, eye: type, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a third parent learnt, by the recipe as it stands."""
    return merge(first, tmp_path_factory.mktemp("second"))


def merge(model: Path, home: Path, *changes: str) -> Path:
    """The merged model that a run of the recipe, with changes, makes in the folder `home`."""
    (home / "recipe.yaml").write_text(_RECIPE.format(model=model))
    engine.merge(recipe.load(str(home / "recipe.yaml"), changes), home / "run", name="again")
    return home / "run" / "merged"


def picture(height: int = 80, width: int = 120) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def answers(model: MergedModel, *tasks: str) -> list[torch.Tensor]:
    """What the model says to a picture by its tasks."""
    said: list[torch.Tensor] = []
    for task in tasks:
        use: Any = model.capability(task)
        if task == "sam":
            for multimask in (False, True):
                said += use.set_image(picture()).predict(boxes=BOXES, multimask=multimask)
        elif task == "clip":
            said += [use.encode_image([picture()]), use.encode_text(TEXTS), use.encode_cells([picture()])]
        else:
            said += [use.encode_image([picture()]), use.encode_cells([picture()])]
    return said


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(map(torch.equal, one, other))


def batch() -> Batch:
    """Two pictures with a mask each."""
    torch.manual_seed(3)
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[0, 5:20, 10:40], masks[1, 30:45, 5:25] = True, True
    return Batch(
        images=torch.rand(2, 3, 48, 48),
        keys=(1, 2),
        names=("a", "b"),
        masks=masks,
        owner=torch.tensor([0, 1]),
    )


def begun(adapters: dict[str, Any], *, base: str) -> MergedModel:
    """A merge that nothing was learnt in."""
    with torch.random.fork_rng(devices=[]):
        model = MergedModel(adapters, base=base)
        model.start({name: adapter.teacher() for name, adapter in adapters.items()})
    return model.eval().requires_grad_(False)  # as `load` gives one: torch computes a little differently where it is on


def test_an_untrained_merge_answers_as_the_earlier_one(first: Path, eye: type, tmp_path: Path) -> None:
    """With a new parent beside it, everything that SAM and CLIP say is the same, bit for bit."""
    merged = vfmerge.load(merge(first, tmp_path, "stages={}"))
    assert same(answers(merged, "sam", "clip"), answers(vfmerge.load(first), "sam", "clip"))
    assert set(merged.heads) == {"sam", "clip", "eye"}


def test_a_third_parent_is_learnt_beside_the_first_two(first: Path, second: Path) -> None:
    """A whole run: all three answer, the trunk has learnt, and rows set the merge beside the one before."""
    before, after = vfmerge.load(first), vfmerge.load(second)
    assert len(answers(after, *TASKS)) == 9
    assert not torch.equal(before.clip.encode_image([picture()]), after.clip.encode_image([picture()]))
    assert torch.equal(before.clip.encode_text(TEXTS), after.clip.encode_text(TEXTS))
    assert row(second.parent)["parent_value"] == row(first.parent)["merged_value"]


def row(run: Path) -> dict[str, float]:
    """What a run says of SAM's boxes; both recipes measure on the same pictures."""
    rows = json.loads((run / "retention.json").read_text())
    return next(each for each in rows if each["metric"] == "box_miou")


def test_the_new_model_needs_not_the_old_one(first: Path, eye: type, tmp_path: Path) -> None:
    """With the earlier folder gone, the model loads and answers; its config names no path."""
    (tmp_path / "two").mkdir()
    old = tmp_path / "one"
    shutil.copytree(first, old)
    new = merge(old, tmp_path / "two", "stages={}")
    expected = answers(vfmerge.load(new), *TASKS)
    shutil.rmtree(old)
    assert same(answers(vfmerge.load(new), *TASKS), expected)
    assert str(tmp_path) not in (new / "config.json").read_text()


def test_many_merges_name_the_first_parents(second: Path, eye: type, tmp_path: Path) -> None:
    """A merge of a merge of a merge answers the same, and its config is as short as that of the merge before."""
    ours = "parents.eye={adapter: vfmerge, options: {model: '${parents.sam.options.model}', task: eye}}"
    third = merge(second, made(tmp_path / "third"), "stages={}", ours)
    fourth = merge(third, made(tmp_path / "fourth"), "stages={}", ours)
    for folder in (third, fourth):
        assert same(answers(vfmerge.load(folder), *TASKS), answers(vfmerge.load(second), *TASKS))
    lineages = [json.loads((each / "config.json").read_text())["parents"] for each in (second, third, fourth)]
    assert [each["clip"]["options"]["lineage"]["head"]["adapter"] for each in lineages] == ["open_clip"] * 3
    assert [each["clip"]["options"]["lineage"]["trunk"]["adapter"] for each in lineages] == ["sam"] * 3
    assert len(json.dumps(lineages[1])) == len(json.dumps(lineages[2]))


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_head_is_dropped(first: Path, eye: type, tmp_path: Path) -> None:
    """A parent that is not named is gone, were it the base; the others answer as before."""
    path = tmp_path / "clip.yaml"
    path.write_text(
        f"base: clip\nparents: {{clip: {{adapter: vfmerge, options: {{model: {first}, task: clip}}}}}}\nstages: {{}}"
    )
    engine.run(recipe.load(str(path)), tmp_path / "run", name="clip")
    merged = vfmerge.load(tmp_path / "run" / "merged")
    assert same(answers(merged, "clip"), answers(vfmerge.load(first), "clip"))
    assert {name.split(".")[1] for name in merged.state_dict() if name.startswith("heads.")} == {"clip"}


def test_any_task_lends_the_trunk(second: Path, eye: type, tmp_path: Path) -> None:
    """Which of its tasks is the base makes no difference to an untrained merge."""
    merged = begun({name: Merged(model=str(second), task=name) for name in TASKS}, base="eye")
    assert same(answers(merged, *TASKS), answers(vfmerge.load(second), *TASKS))


def test_a_base_of_features_stays_itself_beside_another_base(eye: type, tmp_path: Path) -> None:
    """A head that was the trunk's own is known again, though another task lends the trunk; twice over."""
    model = begun({"eye": eye(), "clip": OpenCLIP(model="tiny", layers=1)}, base="eye")
    assert list(model.heads["eye"].parameters()) == []
    expected = answers(model, "eye", "clip")
    for generation, names in enumerate(
        ({"eye": "eye", "clip": "open_clip"}, dict.fromkeys(("eye", "clip"), "vfmerge"))
    ):
        folder = tmp_path / str(generation)
        model.save(folder, names=names, texts={})
        model = begun({name: Merged(model=str(folder), task=name) for name in ("eye", "clip")}, base="clip")
        assert same(answers(model, "eye", "clip"), expected)
    elsewhere = Merged(model=str(folder), task="eye").head(eye().features)
    assert list(elsewhere.parameters())  # on any other trunk it has to learn


def test_on_another_trunk_the_head_starts_anew(first: Path) -> None:
    """It has the text tower of the merged model, and layers of the trunk that it sits on, as any head for a CLIP."""
    model = begun({"sam": SAM(variant="tiny"), "clip": Merged(model=str(first), task="clip")}, base="sam")
    texts = answers(vfmerge.load(first), "clip")[1]
    assert torch.equal(answers(model, "clip")[1], texts)
    block, layer = model.trunk.blocks[-1], model.heads["clip"].layers[0]
    assert torch.equal(layer.qkv.weight, block.attn.qkv.weight)


def test_a_head_that_goes_on_keeps_its_statistics(second: Path, eye: type) -> None:
    """On its own trunk its scales are those that it learnt with; on another it takes new ones."""
    pupil = Merged(model=str(second), task="eye")
    own, targets = begun({"eye": pupil}, base="eye").heads["eye"], [(torch.rand(8, 6), torch.rand(8, 6, 2, 2))]
    before = {name: each.clone() for name, each in own.standards.state_dict().items()}
    pupil.calibrate(own, iter(targets))
    assert all(torch.equal(each, before[name]) for name, each in own.standards.state_dict().items())
    other = begun({"sam": SAM(variant="tiny"), "eye": pupil}, base="sam").heads["eye"]
    pupil.calibrate(other, iter(targets))
    assert torch.allclose(other.standards["summary"].mean, targets[0][0].mean(0), atol=1e-6)


def test_statistics_run_on(tmp_path: Path, eye: type) -> None:
    """As the inner adapter's do, in a merge of a merge."""
    model = begun({"sam": SAM(variant="tiny"), "eye": eye(running=True)}, base="sam")
    model.save(tmp_path / "once", names={"sam": "sam", "eye": "eye"}, texts={})
    pupil = Merged(model=str(tmp_path / "once"), task="eye")
    head = begun({"eye": pupil}, base="eye").heads["eye"]
    summary = torch.rand(8, 6)
    pupil.observe(head, (summary, torch.rand(8, 6, 2, 2)))
    torch.testing.assert_close(head.standards["summary"].mean, 0.5 * summary.mean(0))


@pytest.mark.parametrize("task", ["sam", "clip", "eye"])
def test_the_merged_model_teaches_what_it_answers(second: Path, eye: type, task: str) -> None:
    """Its targets have the form of the inner adapter's, and a pupil that begins as it is has nothing to learn."""
    parent = Merged(model=str(second), task=task)
    pupil, asked = begun({task: parent}, base=task), batch()
    inner = {"sam": lambda: SAM(variant="tiny"), "clip": lambda: OpenCLIP(model="tiny"), "eye": eye}[task]()
    with torch.no_grad():
        target, form = parent.teacher()(asked), inner.teacher()(asked)
        answer = pupil.heads[task](pupil.trunk(asked.images), asked)
        losses = parent.loss(answer, target, asked)
    assert type(target) is type(form)
    assert [each.dim() for each in target] == [each.dim() for each in form]
    if task == "sam":  # of soft targets focal and Dice losses are not zero at their least
        assert all(map(torch.equal, answer, target))
    else:
        assert all(values.abs().max() < 1e-6 for values in losses.values())


@pytest.mark.parametrize("task", ["sam", "clip"])
def test_the_contract_holds(first: Path, task: str) -> None:
    """All that is asked of any adapter."""
    findings = check_adapter(Merged(model=str(first), task=task))
    assert [str(each) for each in findings if each.broken] == []


def test_parents_of_one_folder_share_the_trunk(first: Path) -> None:
    """It is in memory once while one of them is, and nobody who draws at random notices who read it."""
    state = torch.random.get_rng_state()
    sam, clip = (Merged(model=str(first), task=task).teacher() for task in ("sam", "clip"))
    assert sam.trunk is clip.trunk
    assert torch.equal(torch.random.get_rng_state(), state)
    alone = weakref.ref(sam.trunk)
    del sam, clip
    gc.collect()
    assert alone() is None


def test_a_run_stands_for_its_model(first: Path) -> None:
    """`runs/NAME` does as well as `runs/NAME/merged`; both files are hashed into the manifest."""
    for folder in (first, first.parent):
        sources = Merged(model=str(folder), task="sam").sources
        assert sources == (first / "model.safetensors", first / "config.json")


def test_what_the_inner_adapter_says_holds(first: Path) -> None:
    """SAM is still learnt from masks, and CLIP still is not."""
    assert Merged(model=str(first), task="sam").needs_masks
    assert not Merged(model=str(first), task="clip").needs_masks


def test_a_dropped_head_leaves_its_licence_behind(eye: type, tmp_path: Path) -> None:
    """All parents had their say in the trunk, so their licences hold for each task of it, in the next merge too."""
    clip = OpenCLIP(model="tiny", layers=1, licence="CC-BY-NC-4.0")
    model = begun({"eye": eye(), "clip": clip}, base="eye")
    model.save(tmp_path / "one", names={"eye": "eye", "clip": "open_clip"}, texts={})
    alone = Merged(model=str(tmp_path / "one"), task="eye")
    assert alone.licence == "CC-BY-NC-4.0 AND MIT"
    begun({"eye": alone}, base="eye").save(tmp_path / "two", names={"eye": "vfmerge"}, texts={})
    assert Merged(model=str(tmp_path / "two"), task="eye").licence == "CC-BY-NC-4.0 AND MIT"
    assert licence.inherit({"eye": alone.licence}).name == "non-commercial"
    assert licence.inherit({"eye": "MIT AND unknown"}).name == "unknown"
    assert licence.inherit({"eye": "Apache-2.0 OR MIT", "clip": "ISC"}).name == "(Apache-2.0 OR MIT) AND ISC"
    assert spdx.join(["(Apache-2.0 OR MIT) AND X", "X AND Y", ""]) == "(Apache-2.0 OR MIT) AND X AND Y AND unknown"
    assert licence.inherit({"eye": "Apache-2.0 AND MIT", "clip": "MIT"}).name == "Apache-2.0 AND MIT"


def test_one_key_gives_the_built_in_recipe_its_model() -> None:
    """Both earlier parents are of the folder that is named once; it measures as the merge of all three at once does."""
    plan = recipe.load("shapes_add_dino", ["parents.sam.options.model=runs/mine"])
    assert {plan.parents[name].options["model"] for name in ("sam", "clip")} == {"runs/mine"}
    together = recipe.load("shapes_sam_clip_dino")
    assert (plan.data, plan.evaluate, plan.parents["dino"]) == (
        together.data,
        together.evaluate,
        together.parents["dino"],
    )


def test_check_says_that_nothing_is_trained(
    first: Path, eye: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe that only drops a head has no tables of stages."""
    (tmp_path / "r.yaml").write_text(_RECIPE.format(model=first))
    check.check(recipe.load(str(tmp_path / "r.yaml"), ["stages={}"]))
    said = capsys.readouterr().out
    assert "no stages: nothing is trained" in said
    assert "trainable" not in said
    assert "sam (base)" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{task: sam}", "parents.sam: model: missing; give the folder of a merged model, as runs/NAME/merged"),
        ("{model: no/where, task: sam}", "parents.sam: model: no folder 'no/where'; give that of a merged model"),
        ("{model: HOME, task: sam}", "holds no merged model (no config.json); give a folder as runs/NAME/merged"),
        ("{model: FIRST}", "parents.sam: task: missing; choose from clip, sam"),
        ("{model: FIRST, task: clop}", "has no 'clop'; did you mean 'clip'?"),
        ("{model: FIRST, task: sam, tsk: sam}", "parents.sam.options.tsk: unknown key; did you mean 'task'?"),
    ],
)
def test_a_mistake_is_one_line(first: Path, tmp_path: Path, options: str, message: str) -> None:
    """It names the option, its value and the remedy, before anything is read."""
    options = options.replace("FIRST", str(first)).replace("HOME", str(tmp_path))
    (tmp_path / "r.yaml").write_text(
        f"base: sam\nparents: {{sam: {{adapter: vfmerge, options: {options}}}}}\nstages: {{}}"
    )
    with pytest.raises(InputError) as caught:
        parts.build_adapters(recipe.load(str(tmp_path / "r.yaml")))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def altered(first: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A model of the same weights whose config says something else; its checksums are right."""
    written = json.loads((first / "config.json").read_text())
    change(written)

    def write(new: Path) -> None:
        (new / "config.json").write_text(json.dumps(written))
        shutil.copy(first / "model.safetensors", new)

    commit.commit(folder, write)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["parents"]["clip"].update(adapter="os:system"), "made with adapter 'os:system': no adapter"),
        (lambda c: c.update(base="nobody"), "config.json: no merged model's config"),
        (lambda c: c.update(schema=9), "config.json: schema 9 is of a newer vfmerge; upgrade vfmerge"),
        (lambda c: c.update(parents=3), "config.json: no merged model's config"),
        (lambda c: c["parents"]["clip"]["options"].update(layer=3), "head.options.layer: unknown key"),
        (lambda c: c["parents"]["sam"].update(adapter="open_clip", options={}), "pretrained: ViT-B-16 needs weights"),
        (lambda c: c["parents"]["clip"].update(adapter="vfmerge", options={}), "config.json: damaged"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    first: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """Whatever it says, nothing is imported but installed adapters, and nobody sees a traceback."""
    folder = altered(first, tmp_path / "model", change)
    with pytest.raises(InputError) as caught:
        Merged(model=str(folder), task="clip")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_base_that_lends_no_trunk_is_one_line(fakes: Path, first: Path, tmp_path: Path) -> None:
    """A config that says so was not written by vfmerge."""
    part = {"adapter": "fake_caption", "options": {"model": "tiny"}}
    folder = altered(first, tmp_path / "model", lambda c: c["parents"].update(sam=part))
    with pytest.raises(InputError, match="adapter fake_caption lends no trunk"):
        Merged(model=str(folder), task="clip")


def test_a_dropped_adapter_need_not_be_there(first: Path, tmp_path: Path) -> None:
    """A task can be kept where the adapter of another one is not installed any more."""
    folder = altered(first, tmp_path / "model", lambda c: c["parents"]["clip"].update(adapter="gone"))
    merged = begun({"sam": Merged(model=str(folder), task="sam")}, base="sam")
    assert same(answers(merged, "sam"), answers(vfmerge.load(first), "sam"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_folder_does_not_teach(first: Path, tmp_path: Path, name: str) -> None:
    """One flipped bit is found before anything is learnt from it, and the file named."""
    shutil.copytree(first, tmp_path / "model")
    content = bytearray((tmp_path / "model" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model" / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        Merged(model=str(tmp_path / "model"), task="clip").teacher()


def test_shapes_alone_do_not_teach(first: Path) -> None:
    """What a config.json holds rebuilds the head; who asks it for a teacher is told what to give."""
    (lineage,) = options.check_options(Merged, Merged(model=str(first), task="clip").portable()).values()
    with pytest.raises(InputError, match="cannot teach; give `model` and `task`"):
        Merged(lineage=lineage).teacher()
    with pytest.raises(InputError, match="lineage: contradicts model and task"):
        Merged(lineage=lineage, task="clip")
