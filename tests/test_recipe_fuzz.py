"""Recipes from anybody: whatever is in them, the answer is a recipe or one short line a problem, at once."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfmerge import recipe
from vfmerge.errors import InputError
from vfmerge.recipe import Recipe

_MUTANTS = 500
_SECONDS = 60  # a recipe takes a twentieth of a second; one that explodes would take minutes
_HOSTILE = [
    "os.system",
    "builtins:exec",
    "a:b",
    "../x",
    "/etc/passwd",
    "vfmerge_adapters.sam:SAM",
    "antigravity",
    "__import__('antigravity')",
    "!!python/object/apply:os.system [id]",
    "!!python/name:antigravity.fly",
    "${oc.env:VFMERGE_SECRET}",
    "${oc.env:VFMERGE_SECRET,x}",
    "${oc.decode:${oc.env:VFMERGE_SECRET}}",
    "$VFMERGE_SECRET",
    "{{ VFMERGE_SECRET }}",
    "\x1b[31mred",
    "a\nb",
    "\u202egnp.exe",
    "\0",
    "x" * 5000,
    "9" * 5000,
    "${" * 500,
    "???",
    "1e999999",
    "0x" + "f" * 4000,
]
_TOKENS = [
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "|\n",
    "#",
    "---\n",
    "...\n",
    "%YAML 9\n",
]
_TOKENS += [
    "\t",
    "\n",
    "  ",
    "<<: ",
    "=",
    "null",
    "true",
    "on",
    ".nan",
    "-.inf",
    "1e400",
    "017",
    "1:30",
    "9" * 400,
    "é",
    "\x85",
]

_OVERRIDDEN = ["seed", "data.images", "data.images.path", "stages.probe.streams", "stages.probe.streams.0.size", "x.y"]


def _texts(sample: Path) -> dict[str, str]:
    """The sample and the built-in recipes, as PyYAML can read them too."""
    texts = {"sample": sample.read_text()} | {name: path.read_text() for name, path in recipe.builtin().items()}
    return {name: text.replace(": ???", ": '???'") for name, text in texts.items()}


def _answer(path: Path, content: bytes) -> Recipe | InputError:
    """What `load` gives or raises, with everything about it that is promised."""
    path.write_bytes(content)
    began = time.perf_counter()
    try:
        return recipe.load(str(path))
    except InputError as error:
        assert time.perf_counter() - began < _SECONDS
        _check_lines(error)
        return error


def _check_lines(error: InputError) -> None:
    lines = str(error).split("\n")
    assert len(lines) <= 21
    assert all(0 < len(line) <= 300 and line.isprintable() for line in lines)


def _mutate_bytes(text: str, draw: random.Random) -> bytes:
    """Some bytes changed, cut, doubled or moved."""
    content = bytearray(text.encode())
    for _ in range(draw.randint(1, 6)):
        start = draw.randrange(len(content))
        piece = content[start : start + draw.randint(1, 40)]
        kind = draw.randrange(4)
        if kind == 0:
            content[start] = draw.randrange(256)
        elif kind == 1:
            del content[start : start + len(piece)]
        elif kind == 2:
            content[start:start] = piece * draw.choice([1, 2, 50])
        else:
            content[draw.randrange(len(content)) :] += piece
    return bytes(content)


def _mutate_tokens(text: str, draw: random.Random) -> bytes:
    """Some marks of YAML put where they do not belong."""
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(text))
        token = draw.choice(_TOKENS) * draw.choice([1, 1, 1, 3, 400])
        text = text[:place] + token + text[place + draw.choice([0, 1, 5]) :]
    return text.encode()


def _mutate_structure(text: str, draw: random.Random) -> bytes:
    """Some values dropped, replaced, or put in each other's place, in well-formed YAML."""
    values = yaml.safe_load(text)
    for _ in range(draw.randint(1, 5)):
        places = list(_places(values))
        holder, key = draw.choice(places)
        other, name = draw.choice(places)
        kind = draw.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = draw.choice([None, True, -1, 0, 1e300, [], {}, [[]], {"a": {}}, *_HOSTILE])
        elif kind == 2:
            holder[key] = yaml.safe_load(yaml.safe_dump(other[name]))
        elif kind == 3 and isinstance(holder, dict):
            holder[draw.choice(_HOSTILE)] = holder.pop(key)
        else:
            for _ in range(draw.choice([1, 40])):
                holder[key] = [holder[key]]
        if not list(_places(values)):
            break
    return yaml.safe_dump(values, allow_unicode=True).encode()


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping or list with each of its keys."""
    if isinstance(values, dict | list):
        for key in list(values) if isinstance(values, dict) else range(len(values)):
            yield values, key
            yield from _places(values[key])


@pytest.mark.parametrize("mutate", [_mutate_bytes, _mutate_tokens, _mutate_structure])
def test_mutants(sample: Path, mutate: Any) -> None:
    """Every mutant is read or refused, at once, in short printable lines; nothing else is ever raised."""
    texts = _texts(sample)
    target = sample.with_name("mutant.yaml")
    refused = 0
    for number in range(-(-_MUTANTS // 3)):
        draw = random.Random(f"{mutate.__name__}/{number}")
        text = texts[draw.choice(sorted(texts))]
        refused += isinstance(_answer(target, mutate(text, draw)), InputError)
    assert refused > _MUTANTS // 6  # or the mutations do nothing


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(override=st.text(max_size=30) | st.builds("{}={}".format, st.sampled_from(_OVERRIDDEN), st.text(max_size=30)))
def test_any_override(sample: Path, override: str) -> None:
    """Whatever follows the recipe on the command line is an override or is refused in short printable lines."""
    try:
        recipe.load(str(sample), [override])
    except InputError as error:
        _check_lines(error)


def _typos(word: str, draw: random.Random) -> Iterator[str]:
    """One letter too few, one too many, two in the wrong order."""
    place = draw.randrange(len(word))
    yield word[:place] + word[place + 1 :]
    yield word[:place] + draw.choice("abcdefghijklmnopqrstuvwxyz") + word[place:]
    swaps = [at for at in range(len(word) - 1) if word[at] != word[at + 1] and "." not in word[at : at + 2]]
    if swaps:
        at = draw.choice(swaps)
        yield word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _keys(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], yaml.ScalarNode, set[str]]]:
    """Every key that means something to vfmerge, with its path and the keys beside it.

    The names of stages and evaluations are free: a typo in one is another name.
    """
    if isinstance(node, yaml.MappingNode):
        beside = {key.value for key, _ in node.value}
        for key, value in node.value:
            if path not in (("stages",), ("evaluate",)):
                yield (*path, key.value), key, beside
            yield from _keys(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _keys(value, path)


def test_every_mistyped_key(sample: Path) -> None:
    """One wrong letter in any key: refused, the typed key named, and in 95 % of cases the right one proposed.

    A key that several recipes have at the same place is mistyped in the first of them.
    """
    target = sample.with_name("typo.yaml")
    proposed, total, missed = 0, 0, []
    met: set[tuple[str, ...]] = set()
    for name, text in _texts(sample).items():
        for path, node, beside in _keys(yaml.compose(text)):
            if path in met:
                continue
            met.add(path)
            draw = random.Random(f"{name}/{'/'.join(path)}")
            for typo in _typos(node.value, draw):
                if typo in beside or not typo:
                    continue
                changed = text[: node.start_mark.index] + f"'{typo}'" + text[node.end_mark.index :]
                error = _answer(target, changed.encode())
                assert isinstance(error, InputError), f"{name}: {typo} for {'.'.join(path)} was accepted"
                named = [line for line in str(error).splitlines() if typo in line]
                assert named, f"{name}: {typo} for {'.'.join(path)} is not named in {error}"
                total += 1
                found = any(
                    node.value in line.partition(" did you mean ")[2] or typo in line.partition(" did you mean ")[2]
                    for line in named
                )
                proposed += found
                missed += [] if found else [f"{name}: {typo} for {'.'.join(path)}: {named[0]}"]
    assert total > 100
    assert proposed >= 0.95 * total, missed


def test_hostile_strings(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A string from a recipe is never imported, executed, or filled in from the environment, wherever it stands."""
    monkeypatch.setenv("VFMERGE_SECRET", "hush-hush")
    target = sample.with_name("hostile.yaml")
    values = yaml.safe_load(sample.read_text())
    recipe.load(str(sample))  # what an honest recipe imports
    recipe.load(str(sample), ["parents.caption.options.model=x"])
    before = set(sys.modules)
    fields = {key: holder for holder, key in _places(values) if isinstance(holder[key], str)}  # each kind of field once
    assert {"base", "adapter", "variant", "kind", "path", "data", "benchmark"} <= set(fields)
    for key, holder in fields.items():
        honest = holder[key]
        for text in _HOSTILE:
            holder[key] = text
            answer = _answer(target, yaml.safe_dump(values).encode())
            assert "hush" not in (str(answer) if isinstance(answer, InputError) else recipe.resolved(answer))
        holder[key] = honest
    assert set(sys.modules) == before


def test_tags_and_the_environment(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as bare YAML, where a tag would be a tag: refused, and nothing imported."""
    monkeypatch.setenv("VFMERGE_SECRET", "hush-hush")
    text = sample.read_text()
    before = set(sys.modules)
    for hostile in _HOSTILE[:15]:
        answer = _answer(sample.with_name("hostile.yaml"), text.replace("path: pictures", f"path: {hostile}").encode())
        assert isinstance(answer, InputError) or "!!" not in hostile
        assert "hush" not in (str(answer) if isinstance(answer, InputError) else recipe.resolved(answer))
    assert set(sys.modules) == before
