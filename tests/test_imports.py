"""Who knows whom: read from the code itself, and from what an import brings with it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGINE, ADAPTERS = ROOT / "vfmerge", ROOT / "adapters" / "vfmerge_adapters"
MODEL_LIBRARIES = {"open_clip", "segment_anything", "timm", "transformers", "torchvision", "vfmerge_adapters"}
FOR_ADAPTERS = {"adapter", "capability", "losses", "errors", "model", "random", "weights"}
FOR_ADAPTERS |= {"config", "export", "features", "hub", "images", "layers", "pixels", "points", "problem", "spdx"}
FOR_ADAPTERS |= {"attention", "templates"}
FOR_TRAINING = FOR_ADAPTERS | {"data", "benchmarks"}  # the scripts that made the tiny parents


def modules(folder: Path) -> dict[str, Path]:
    """Every module below a package's folder, by its dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        words = [folder.name, *path.relative_to(folder).with_suffix("").parts]
        found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return found


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not those of functions, nor those for type checkers."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            waiting += statement.orelse
            continue
        yield statement
        waiting += [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]


def imported(name: str, path: Path, statements: Iterator[ast.AST]) -> Iterator[str]:
    """The dotted names that import statements ask for; of `from a import b` both `a` and `a.b`."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            home = package.rsplit(".", statement.level - 1)[0] if statement.level else ""
            source = ".".join(filter(None, [home, statement.module or ""]))
            yield source
            yield from (f"{source}.{alias.name}" for alias in statement.names)


def everywhere(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


@pytest.mark.parametrize("name", modules(ENGINE))
def test_the_engine_knows_no_model(name: str) -> None:
    """Not even inside a function: no model library and no adapter."""
    path = modules(ENGINE)[name]
    assert {each.split(".")[0] for each in imported(name, path, everywhere(path))}.isdisjoint(MODEL_LIBRARIES)


@pytest.mark.parametrize("name", modules(ADAPTERS))
def test_an_adapter_knows_the_interfaces_alone(name: str) -> None:
    """What anybody's adapter may use, and no other part of vfmerge."""
    path = modules(ADAPTERS)[name]
    allowed = FOR_TRAINING if path.name.startswith("train_") else FOR_ADAPTERS
    used = {each for each in imported(name, path, everywhere(path)) if each.split(".")[0] == "vfmerge"} - {"vfmerge"}
    assert {each.split(".")[1] for each in used} <= allowed


def test_no_circles() -> None:
    """No module of the engine needs itself in order to be imported."""
    known = modules(ENGINE)
    needs = {
        name: {each for each in imported(name, path, at_import(ast.parse(path.read_text()))) if each in known} - {name}
        for name, path in known.items()
    }
    assert sum(map(len, needs.values())) > 100
    while leaves := [name for name, wanted in needs.items() if not wanted]:
        needs = {name: wanted.difference(leaves) for name, wanted in needs.items() if name not in leaves}
    assert needs == {}


@pytest.mark.parametrize("folder", [ENGINE, ADAPTERS])
def test_nothing_read_is_run(folder: Path) -> None:
    """No way from data to code: no pickle is loaded, and neither eval nor exec is called."""
    calls = {}
    for name, path in modules(folder).items():
        text = path.read_text()
        tree = ast.parse(text)
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        asked = {
            f"{keyword.arg}={ast.unparse(keyword.value)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
        }
        loads = [
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("torch.load")
            and not any(ast.unparse(keyword) == "weights_only=True" for keyword in node.keywords)
        ]
        bad = called & {"eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler"}
        bad |= called & {"os.system", "torch.jit.load", "torch.hub.load", "yaml.load", "yaml.unsafe_load"}
        bad |= asked & {"weights_only=False", "allow_pickle=True", "shell=True", "trust_remote_code=True"}
        if bad or loads:
            calls[name] = (bad, loads)
    assert calls == {}


@pytest.mark.parametrize(
    "names",
    [
        "vfmerge.recipe, vfmerge.plugins, vfmerge.options, vfmerge.rules, vfmerge.document, vfmerge.problem",
        "vfmerge.adapter, vfmerge.capability, vfmerge.errors, vfmerge.parts, vfmerge.check, vfmerge.retention",
        "vfmerge.data.world, vfmerge.data.folder, vfmerge.data.webdataset, vfmerge.data.coco, vfmerge.data.sa1b",
        "vfmerge.data.captions, vfmerge.data.semantic, vfmerge.data.pascal, vfmerge.data.ade20k",
        "vfmerge.data.coco_stuff, vfmerge.data.coco_panoptic",
        "vfmerge.benchmarks.classification, vfmerge.benchmarks.promptable, vfmerge.benchmarks.segmentation",
        "vfmerge.benchmarks.robustness, vfmerge.benchmarks.resolution, vfmerge.benchmarks.retrieval",
        "vfmerge.benchmarks.instance_ap, vfmerge.benchmarks.linear_probe, vfmerge.benchmarks.knn",
        "vfmerge.benchmarks.segmentation_probe, vfmerge.benchmarks.efficiency, vfmerge.benchmarks.recognition",
        "vfmerge.report.report, vfmerge.report.compare, vfmerge.report.fractions, vfmerge.store, vfmerge.trial",
        "vfmerge_adapters.sam, vfmerge_adapters.open_clip, vfmerge_adapters.merged, vfmerge.config",
        "vfmerge_adapters.timm, vfmerge_adapters.transformers_vision, vfmerge_adapters.transformers_clip",
        "vfmerge_adapters.transformers_sam, vfmerge_adapters.promptable.loss, vfmerge.features.parent",
        "vfmerge.new, vfmerge.testing, vfmerge.testing.command",
        "vfmerge.images, vfmerge.heads, vfmerge.naming, vfmerge.predict.question, vfmerge.predict.pictures",
        "vfmerge.predict.folder, vfmerge.hub, vfmerge.bridge",
        "vfmerge.export, vfmerge_adapters.exports.sam, vfmerge_adapters.exports.open_clip",
        "vfmerge_adapters.exports.torch_programs, vfmerge_adapters.exports.onnx_graphs",
        "vfmerge_adapters.exports.transformers",
    ],
)
def test_no_torch(names: str) -> None:
    """What answers `ls`, `check` and a mistyped recipe does not wait for torch or a model library."""
    heavy = {"torch", *MODEL_LIBRARIES} - {"vfmerge_adapters"}
    script = f"import {names}, sys; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
