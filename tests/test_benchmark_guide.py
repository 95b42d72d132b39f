"""The guide to benchmarks says what there is, and its examples are accepted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest
import yaml

from vfmerge import options, plugins

GUIDE = (Path(__file__).parent.parent / "vfmerge" / "benchmarks" / "README.md").read_text()


def test_every_benchmark_has_its_line() -> None:
    """The first table names all that come with vfmerge, and no other."""
    table = GUIDE.split("\n## ", 1)[0]
    named = re.findall(
        r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    )
    assert sorted(named) == sorted(each.name for each in plugins.listing("benchmarks"))


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))
def test_examples_are_accepted(block: str) -> None:
    """Each line of an example names a plug-in that is there, with options that it takes."""
    written = yaml.safe_load(block)
    groups = written if "evaluate" in written else {"evaluate": written}
    checked = 0
    for section, kind, key in (("data", "data", "kind"), ("evaluate", "benchmarks", "benchmark")):
        for name, values in groups.get(section, {}).items():
            own = {"data", "train"} if section == "evaluate" else set()
            cls = plugins.find(cast(plugins.Kind, kind), values[key])
            given = {option: value for option, value in values.items() if option not in {key, *own}}
            assert options.examine(cls, given, keys=(section, name))[1] == []
            checked += 1
    assert checked
