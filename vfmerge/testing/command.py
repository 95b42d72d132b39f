"""`vfmerge check --adapter NAME`: the contract, in a table. What is wrong with its options is said without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vfmerge import document, options, plugins
from vfmerge.adapter import AuxiliaryAdapter
from vfmerge.errors import InputError, RunError, one_line
from vfmerge.problem import refuse, shown
from vfmerge.table import show


def check(name: str, given: Sequence[str], *, device: str) -> None:
    """Print what of the contract holds for the adapter of that name.

    given: its options, `key=value` each, the value in YAML. Raises InputError for a name or an option that is wrong and
    for weights that are not there, RunError if anything does not hold.
    """
    adapter = _make(name, given)

    from vfmerge import model
    from vfmerge.testing.examination import examine

    findings = list(examine(adapter, reference=None, device=str(model.on(device))))
    show(
        f"adapter {name}",
        ("the contract", "", "found"),
        [(each.says, each.outcome, each.note) for each in findings],
    )
    broken = [each.check for each in findings if each.broken]
    if broken:
        raise RunError(f"adapter {name}: {len(broken)} of {len(findings)} do not hold: {', '.join(broken)}")


def _make(name: str, given: Sequence[str]) -> AuxiliaryAdapter:
    cls = plugins.find("adapters", name)
    checked, problems = options.examine(cls, _parse(given))
    refuse(problems)
    adapter = plugins.make(cls, checked)
    if not isinstance(adapter, AuxiliaryAdapter):
        text = f"--adapter {name}: learns from labels upon other heads, and this contract is of parents; give a parent"
        raise InputError(one_line(text))
    for source in adapter.sources:
        if not source.is_file():
            raise InputError(one_line(f"no file {shown(str(source))}; give the path of the weights"))
    return adapter


def _parse(given: Sequence[str]) -> dict[str, Any]:
    """`key=value` words as options; `geometry.depth=2` is a key within one."""
    overrides = []
    for word in given:
        key, equals, value = word.partition("=")
        keys = key.split(".")
        if not (equals and all(keys)):
            raise InputError(one_line(f"not key=value: {shown(word)}; write an option of the adapter, as random=true"))
        overrides.append((("options", *keys), value))
    values = document.read("options: {}\n", name=document.COMMAND_LINE, overrides=overrides).values
    return dict(values["options"])
