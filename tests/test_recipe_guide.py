"""The guide to recipes: its tables name every key with its default, and its examples are accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pydantic
import pytest
from pydantic_core import PydanticUndefined

from vfmerge import recipe
from vfmerge.cli import main

GUIDE = (Path(__file__).parent.parent / "recipes" / "README.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[pydantic.BaseModel]] = {
    "The recipe": recipe.Recipe,
    "`parents.NAME`": recipe.Parent,
    "`data.NAME`": recipe.Data,
    "`stages.NAME`": recipe.Stage,
    "`stages.NAME.streams`": recipe.Stream,
    "`evaluate.NAME`": recipe.Evaluation,
    "`optimizer`": recipe.AdamW,
}


def rows(section: str) -> dict[str, str]:
    """Keys of the table below a heading, and what stands in its last column."""
    text = re.split(r"^#+ ", GUIDE.split(f"\n### {section}\n")[1], flags=re.MULTILINE)[0]
    found = re.findall(r"^\| `(\w+)`[ *]* \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    assert len({key for key, _ in found}) == len(found)
    return dict(found)


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def meant(cell: str) -> Any:
    """The value that a cell of the column `default` states."""
    if cell == "none":
        return None
    text = re.fullmatch(r"`(.+)`", cell)
    assert text, cell
    try:
        return json.loads(text[1])
    except ValueError:
        return text[1]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_with_its_default(section: str) -> None:
    """A table has the keys of its model in their order, no other, and the defaults are the model's."""
    told, fields = rows(section), SECTIONS[section].model_fields
    assert list(told) == list(fields)
    for key, field in fields.items():
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            assert default is PydanticUndefined
            assert told[key] == "required"
        elif isinstance(default, pydantic.BaseModel):
            assert (told[key], default) == ("below", type(default)())
        else:
            assert meant(told[key]) == plain(default), key


def test_keys_that_are_no_part_of_the_result_are_marked() -> None:
    """The star stands where a run may be gone on with another value."""
    starred = set(re.findall(r"^\| `(\w+)` \* \|", GUIDE, re.MULTILINE))
    assert starred == recipe._NOT_RESULT


def test_every_built_in_recipe_is_listed() -> None:
    """The guide names each recipe that comes with vfmerge, with its command."""
    assert [name for name in recipe.builtin() if f"| `{name}` |" not in GUIDE] == []


def test_the_example_passes_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole recipe in the guide is one that `vfmerge check` accepts, 512 / 32 x 4 steps in its second stage."""
    path = tmp_path / "example.yaml"
    path.write_text(GUIDE.split("<!-- example -->\n```yaml\n")[1].split("```")[0], encoding="utf-8")
    assert main(["check", str(path)]) == 0
    assert re.search(r"distill +64 ", capsys.readouterr().out)


def test_the_overrides_of_the_guide_are_understood() -> None:
    """Each line that changes a recipe does so: the data and benchmark are added, the numbers are replaced."""
    text = GUIDE.split("Changes on the command line")[1].split("```sh\n")[1].split("```")[0]
    lines = [re.sub(r"\s+#.*", "", line).strip().strip("'") for line in text.splitlines()]
    weights = ["parents.sam.options={variant: vit_b, random: true}", "stages.probe.epochs=null"]
    changed = recipe.load("sam_clip", [*weights, "data.images.path=photos", *lines, "stages.probe.warmup=0"])
    assert changed.stages["probe"].steps == 100
    assert changed.stages["probe"].train == {"heads.clip": 1e-3}
    assert changed.stages["distill"].streams[1].batch == 2
    assert changed.clip is None
    assert changed.stages["probe"].streams[0].size == (64, 128)
    assert changed.data["sa1b"].kind == "coco"
    assert changed.evaluate["prompts"].data == "sa1b"
