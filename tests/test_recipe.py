"""Recipes: what is read, what is refused, and how it is said."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfmerge import parts, recipe
from vfmerge.errors import InputError
from vfmerge.recipe import Data, Recipe


def _problems(sample: Path, *overrides: str) -> list[str]:
    """The lines that a recipe is refused with, without what stands before the key."""
    with pytest.raises(InputError) as caught:
        recipe.load(str(sample), overrides)
    return [line.partition(": ")[2] for line in str(caught.value).splitlines()]


def _changed(sample: Path, old: str, new: str) -> Path:
    text = sample.read_text()
    assert text.count(old) == 1
    sample.write_text(text.replace(old, new))
    return sample


def test_load(sample: Path) -> None:
    """Values come typed: lists as tuples, integers as floats where floats are meant, 8e-4 as a number."""
    plan = recipe.load(str(sample))
    assert plan.stages["probe"].streams[0].size == (16, 32)
    assert plan.stages["probe"].train == {"heads.caption": 8e-4}
    assert plan.optimizer.betas == (0.9, 0.98)
    assert isinstance(plan.clip, float)
    assert plan.data["images"].options == {"path": "pictures", "count": 100}
    assert plan.stages["distill"].total_steps(100) == 32  # 2.5 passes in batches of 8
    with pytest.raises(ValueError, match="frozen"):
        plan.seed = 4


def test_overrides(sample: Path) -> None:
    """key=value sets one value, in mappings, in lists, and in what the file left out; mappings are replaced."""
    plan = recipe.load(
        str(sample),
        [
            "stages.probe.steps=50",
            "stages.distill.streams.1.batch=2",
            "stages.distill.train.heads.caption=1e-3",
            "stages.distill.train.trunk.stem=1e-5",
            "parents.outline={adapter: fake_outline}",
            "evaluate.again={benchmark: fake_guessing, data: outlines}",
            "evaluate.again.tries=7",
            "clip=null",
            "save_steps=",
        ],
    )
    assert plan.stages["probe"].steps == 50
    assert plan.stages["distill"].streams[1].batch == 2
    assert plan.stages["distill"].train["heads.caption"] == 1e-3
    assert plan.stages["distill"].train["trunk.stem"] == 1e-5
    assert plan.parents["outline"].options == {}
    assert plan.evaluate["again"].options == {"tries": 7}
    assert plan.clip is None
    assert plan.save_steps is None


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("sed=3", "sed: unknown key; did you mean 'seed'?"),
        ("stages.prob.steps=3", "stages.prob: no stage 'prob'; did you mean 'probe'?"),
        ("data.imags.count=3", "data.imags: no data set 'imags'; did you mean 'images'?"),
        ("parents.caption.options.modl=x", "parents.caption.options.modl: unknown key; did you mean 'model'?"),
        ("data.images.cout=3", "data.images.cout: unknown key; did you mean 'count'?"),
        ("evaluate.guess.trys=3", "evaluate.guess.trys: unknown key; did you mean 'tries'?"),
        ("stages.probe.streams.0.bach=3", "stages.probe.streams.0.bach: unknown key; did you mean 'batch'?"),
        ("stages.probe.streams.7.batch=3", "stages.probe.streams.7: no such entry; the list has 1, counted from 0"),
        ("stages.probe.steps=many", "stages.probe.steps: not a whole number: 'many'; write digits only"),
        ("stages.probe.streams.0.size=[8, 4]", "stages.probe.streams.0.size.1: too small: 4; write at least 8"),
        ("seed", "not key=value: 'seed'; write for example stages.probe.steps=100"),
        ("=3", "not key=value: '=3'; write for example stages.probe.steps=100"),
        ("a..b=3", "not key=value: 'a..b=3'; write for example stages.probe.steps=100"),
    ],
)
def test_wrong_overrides(sample: Path, override: str, problem: str) -> None:
    """A mistyped override is refused as a mistyped key in the file is, and said to be the command line's."""
    with pytest.raises(InputError) as caught:
        recipe.load(str(sample), [override])
    assert str(caught.value) == f"command line: {problem}"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("seed", "-1", "too small"),
        ("seed", "4294967296", "too large"),
        ("seed", "9" * 4000, "too large|too many digits"),
        ("seed", "1.5", "not a whole number"),
        ("seed", "true", "not a whole number"),
        ("seed", "null", "not a whole number"),
        ("clip", ".nan", "not a finite number"),
        ("clip", "-.inf", "not a finite number"),
        ("clip", "1e999", "not a finite number"),
        ("clip", "0", "too small"),
        ("clip", "'1'", "not a number"),
        ("precision", "fp16", "not a choice: 'fp16'; write 'fp32' or 'bf16'"),
        ("parents", "[1]", "not a mapping"),
        ("parents", "{}", "too few entries"),
        ("stages.probe.cache", "1", "not true or false"),
        ("stages.probe.streams", "{}", "not a list"),
        ("stages.probe.streams", "[]", "too few entries"),
        ("stages.probe.streams.0", "images", "not a mapping"),
        ("optimizer.betas", "[0.9]", "optimizer.betas.1: missing"),
        ("optimizer.betas", "[0.9, 1.0]", "too large"),
        ("base", "3", "not text: 3"),
        ("workers", "1:30", "reads differently in YAML"),
        ("workers", "017", "reads differently in YAML"),
        ("stages.probe.cache", "on", "reads differently in YAML"),
        ("data.images.path", "[a, b]", "not text"),
    ],
)
def test_wrong_values(sample: Path, key: str, value: str, reason: str) -> None:
    """Types and bounds are strict; the message names the key and shows the value."""
    lines = _problems(sample, f"{key}={value}")
    assert len(lines) == 1
    assert lines[0].startswith(key)
    assert re.search(reason, lines[0])


def test_all_problems_at_once(sample: Path) -> None:
    """Structure, references, options and missing values are told together, unknown keys first, with their lines."""
    text = sample.read_text().replace("steps: 100", "stpes: 100").replace("sharpness: 2", "sharpness: x")
    sample.write_text(text.replace("path: drawings", "path: ???").replace("seed: 3", "seed: x"))
    with pytest.raises(InputError) as caught:
        recipe.load(str(sample))
    assert str(caught.value).splitlines() == [
        f"{sample}:12: stages.probe.stpes: unknown key; did you mean 'steps'?",
        f"{sample}:9: data.outlines.path: missing; give data.outlines.path=...",
        f"{sample}:{text.splitlines().index('seed: 3') + 1}: seed: not a whole number: 'x'; write digits only",
        f"{sample}:5: parents.outline.options.sharpness: not a number: 'x'; write one such as 0.001, without quotes",
    ]


def test_at_most_twenty_problems(sample: Path) -> None:
    """A recipe that is wrong throughout is not answered with a flood."""
    sample.write_text(sample.read_text() + "".join(f"strange_{number}: 1\n" for number in range(100)))
    with pytest.raises(InputError) as caught:
        recipe.load(str(sample))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 80 more problems; mend these first"


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["base=caption_"], "base: no parent 'caption_'; did you mean 'caption'?"),
        (["evaluate.guess.data=outline"], "evaluate.guess.data: no data set 'outline'; did you mean 'outlines'?"),
        (
            ["stages.probe.streams.0.data=x"],
            "stages.probe.streams.0.data: no data set 'x'; choose from images, outlines",
        ),
        (["stages.probe.epochs=1"], "stages.probe: both of steps and epochs; give one of them"),
        (["stages.probe.steps=null"], "stages.probe: neither of steps and epochs; give one of them"),
        (["stages.probe.warmup=101"], "stages.probe.warmup: longer than the stage: 101; write at most 100, its steps"),
        (
            ["stages.distill.train.heads.capton=1"],
            "stages.distill.train.heads.capton: no such part of the model; did you mean 'heads.caption'?",
        ),
        (
            ["stages.distill.train.trunks=1"],
            "stages.distill.train.trunks: no such part of the model; did you mean 'trunk'?",
        ),
        (
            ["stages.probe.train.trunk=1e-5"],
            "stages.probe.cache: the trunk learns ('trunk'); drop that, or write targets or false",
        ),
        (
            ["stages.probe.train.heads.outline=1e-5"],
            "stages.probe.train.heads.outline: no stream of the stage has the task outline; add one, or train less",
        ),
        (
            ["stages.probe.streams.0.tasks.outline=1"],
            "stages.probe.streams.0.tasks.outline: teaches nothing that is trained; "
            "add trunk or heads.outline to train",
        ),
        (
            ["stages.distill.streams.0.tasks.capton=1"],
            "stages.distill.streams.0.tasks.capton: no parent 'capton'; did you mean 'caption'?",
        ),
        (
            ["data.two-words={kind: fake_pictures, path: a}"],
            "data.two-words: not a name; write a letter, then letters, digits and _",
        ),
    ],
)
def test_contradictions(sample: Path, overrides: list[str], problem: str) -> None:
    """Fields that are each right but do not go together are refused, one rule a case."""
    assert _problems(sample, *overrides) == [problem]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("parents.outline.adapter=fake_outlin", "did you mean 'fake_outline'"),
        ("parents.outline.adapter=fake_import", "a_module_that_nobody_has"),
        ("data.images.kind=fake_outline", "no kind of data 'fake_outline'"),
        ("evaluate.guess.benchmark=fake_gessing", "did you mean 'fake_guessing'"),
    ],
)
def test_plugins_resolve(sample: Path, override: str, reason: str) -> None:
    """Names of plug-ins are looked up, and broken ones told, before anything else is done."""
    lines = _problems(sample, override)
    assert lines[0].startswith(override.partition("=")[0])
    assert reason in lines[0]


def test_interpolation(sample: Path) -> None:
    """${key.path} takes another key's value, with its type."""
    _changed(sample, "sharpness: 2", "sharpness: '${clip}'")
    plan = recipe.load(str(sample), ["data.outlines.path=${data.images.path}/masks"])
    assert plan.parents["outline"].options["sharpness"] == 1
    assert plan.data["outlines"].options["path"] == "pictures/masks"


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:VFMERGE_SECRET}",
        "${oc.decode:1}",
        "${oc.create:{a: 1}}",
        "${${base}}",
        "${" * 1000,
        "\\${base}",
        "${base",
        "${bse}",
        "${data.images.path}",
        "${data}",
    ],
)
def test_interpolation_is_plain(sample: Path, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No resolver, no nesting, no reference to itself or to what is not there."""
    monkeypatch.setenv("VFMERGE_SECRET", "hush")
    lines = _problems(sample, f"data.images.path={value}")
    assert len(lines) == 1
    assert lines[0].startswith("data.images.path: ")
    assert "hush" not in lines[0]


def test_interpolation_cannot_multiply(sample: Path) -> None:
    """A chain in which each value holds the next one twice is refused, not filled in."""
    chain = "".join(f"a{number}: '${{a{number + 1}}}${{a{number + 1}}}'\n" for number in range(30))
    sample.write_text(sample.read_text() + chain + "a30: x\n")
    assert all("is itself filled in from elsewhere" in line for line in _problems(sample)[:-1])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no mapping"),
        (b"hello", "no mapping"),
        (b"3", "no mapping"),
        (b"- 1\n- 2\n", "a list"),
        (b"a: [1", "not YAML"),
        (b"a: b: c", "1: not YAML"),
        (b"a: 1\na: 2", "2: 'a' stands twice, first in line 1"),
        (b"a: &x 1\nb: 2", "1: an anchor or alias"),
        (b"a: 1\nb: *x", "2: an anchor or alias"),
        (b"a: !!python/object/apply:os.system ['true']", "a tag of YAML"),
        (b"a: !!python/object/apply:pathlib.PosixPath [x]", "a tag of YAML"),
        (b"a: !!str 1", "a tag of YAML"),
        (b"<<: {a: 1}", "no word for a key"),
        (b"1: 2", "no word for a key"),
        (b"1e999: 2", "no word for a key"),
        (b"on: 2", "no word for a key"),
        (b"? [a]\n: 2", "no word for a key"),
        (b"a: " + b"[" * 2000, "nested more than 32 deep"),
        (b"a: " + b"9" * 5000, "5000 letters"),
        (b"a: [" + b"1," * 3000 + b"]", "more than 2000 values"),
        (b"a: 1\n---\nb: 2", "2: a second document"),
        ("a: \xe9".encode("latin-1"), "byte 3 is not UTF-8"),
        ("a: 1".encode("utf-16"), "is not UTF-8"),
        (b"a: \x00", "not YAML"),
        (b"#" * (1 << 20) + b"\na: 1", "larger than 1048576 bytes"),
        (b"a: {b: ? ???}", "not YAML"),
    ],
)
def test_hostile_files(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file that is no plain YAML mapping is refused in one line with the file's name."""
    path = tmp_path / "hostile.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        recipe.load(str(path))
    assert str(caught.value).startswith(f"{path}:")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_byte_order_mark_is_fine(sample: Path) -> None:
    """Editors that write one are forgiven."""
    sample.write_bytes(b"\xef\xbb\xbf" + sample.read_bytes())
    assert recipe.load(str(sample)).seed == 3


@pytest.mark.parametrize("source", ["nothing.yaml", "", ".", "\0", "x" * 5000, "quikstart", "a\nb", "~nobody/x"])
def test_no_such_file(source: str) -> None:
    """A path that is no file is refused in one line."""
    with pytest.raises(InputError) as caught:
        recipe.load(source)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) <= 300


def test_builtin_by_name(monkeypatch: pytest.MonkeyPatch, sample: Path) -> None:
    """A built-in recipe is found by its name; the recipes are those of the checkout or the wheel."""
    assert {path.suffix for path in recipe.builtin().values()} == {".yaml"}
    monkeypatch.setattr(recipe, "builtin", lambda: {"mine": sample})
    assert recipe.load("mine").seed == 3


def test_resolved(sample: Path, tmp_path: Path) -> None:
    """The recipe as it is written into a run loads to an equal one, with its overrides."""
    plan = recipe.load(str(sample), ["seed=9", "data.images.path='on'", "data.outlines.path='1e-4'"])
    again = tmp_path / "again.yaml"
    again.write_text(recipe.resolved(plan))
    assert recipe.load(str(again)) == plan
    assert recipe.differences(recipe.load(str(again)), plan) == []


_TEXTS = st.text(max_size=20) | st.sampled_from(["on", "017", "1:30", "1e-4", "null", "~", "=", "0x_", "[a]", "\x85"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(text=_TEXTS.filter(lambda text: "${" not in text and text != "???"))
def test_resolved_keeps_every_text(sample: Path, text: str) -> None:
    """Whatever text an option holds, it is the same after it was written and read again."""
    plan = recipe.load(str(sample))
    plan = plan.model_copy(update={"data": {**plan.data, "images": Data(kind="fake_pictures", path=text)}})
    again = sample.with_name("again.yaml")
    again.write_bytes(recipe.resolved(plan).encode())
    assert recipe.load(str(again)) == plan


def test_differences(sample: Path) -> None:
    """Keys that differ are named; how often it is logged, saved and loaded does not count."""
    old = recipe.load(str(sample))
    quiet = recipe.load(str(sample), ["workers=4", "log_every=1", "save_minutes=1", "save_steps=1"])
    new = recipe.load(str(sample), ["seed=9", "stages.probe.streams.0.size=32", "stages.probe.train.heads.caption=1"])
    assert recipe.differences(old, quiet) == []
    assert recipe.fingerprint(old) == recipe.fingerprint(quiet)
    assert recipe.differences(old, new) == [
        "seed",
        "stages.probe.streams.0.size",
        "stages.probe.streams.0.size.0",
        "stages.probe.streams.0.size.1",
        "stages.probe.train.heads.caption",
    ]
    assert recipe.fingerprint(old) != recipe.fingerprint(new)


def test_parts(sample: Path) -> None:
    """Adapters, data and benchmarks are made from the recipe's options."""
    plan = recipe.load(str(sample))
    adapters = parts.build_adapters(plan)
    assert set(adapters) == {"outline", "caption"}
    assert adapters["outline"].taken["sharpness"] == 2.0  # type: ignore[attr-defined]
    assert len(parts.build_sources(plan)["images"]) == 100
    assert set(parts.build_benchmarks(plan.evaluate)) == {"guess"}


def test_parts_name_the_recipe(sample: Path) -> None:
    """What a constructor refuses is told with the key of the recipe, all at once."""
    plan = recipe.load(str(sample), ["data.images.path=absent", "data.outlines.path=absent too"])
    with pytest.raises(InputError) as caught:
        parts.build_sources(plan)
    assert str(caught.value).splitlines() == [
        "data.images: path: 'absent' does not exist; give a folder",
        "data.outlines: path: 'absent too' does not exist; give a folder",
    ]
    with pytest.raises(InputError, match=r"^parents\.outline: levels: empty"):
        parts.build_adapters(recipe.load(str(sample), ["parents.outline.options.levels=[]"]))
    with pytest.raises(InputError, match=r"^data\.images: has no samples"):
        parts.build_sources(recipe.load(str(sample), ["data.images.count=0"]))
    with pytest.raises(InputError, match=r"^base: adapter fake_caption cannot lend its trunk"):
        parts.build_adapters(recipe.load(str(sample), ["base=caption"]))


def test_no_torch(sample: Path) -> None:
    """A recipe is read, checked against its plug-ins and made into parts without torch."""
    code = (
        "import sys; from vfmerge import parts, recipe; plan = recipe.load(sys.argv[1]); parts.build_adapters(plan); "
        "parts.build_sources(plan); parts.build_benchmarks(plan.evaluate); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, sample], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_models_are_closed(sample: Path) -> None:
    """The models refuse on their own what `load` would."""
    values = recipe.load(str(sample)).model_dump()
    assert Recipe.model_validate(values).seed == 3
    with pytest.raises(ValueError, match="Extra inputs"):
        Recipe.model_validate({**values, "sed": 3})
