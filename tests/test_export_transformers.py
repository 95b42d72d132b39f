"""Export for transformers: its own AutoModel on the written folder, and vfmerge.load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import metadata_load
from transformers import AutoModel
from vfmerge_adapters.exports.transformers import Transformers

from vfmerge import export, model, retention
from vfmerge.cli import main
from vfmerge.errors import RunError


def test_auto_model_has_the_very_model(finished: Path, tmp_path: Path) -> None:
    """Every number and every answer is the same, and the folder is a merged model still."""
    made = export.export(finished, kind="transformers", out=tmp_path / "auto")
    assert {each.largest for each in made.differences} == {0.0}
    assert {"numbers of the trunk", "numbers of the head sam", "numbers of the head clip"} <= {
        each.answer for each in made.differences
    }
    source, again = model.load(finished / "merged"), AutoModel.from_pretrained(tmp_path / "auto")
    wanted = source.state_dict()
    assert wanted.keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.state_dict().items())
    loaded = model.load(tmp_path / "auto")
    assert torch.equal(loaded.clip.encode_text(["a star"]), source.clip.encode_text(["a star"]))
    assert "AutoModel.from_pretrained" in made.usage


def test_card_and_recipe_come_along(finished: Path, tmp_path: Path) -> None:
    """As they are: the hub reads the one, and by the other `vfmerge eval` finds the figures of the run again."""
    export.export(finished, kind="transformers", out=tmp_path / "auto")
    for name in ("README.md", "recipe.yaml"):
        assert (tmp_path / "auto" / name).read_bytes() == (finished / "merged" / name).read_bytes()
    front = metadata_load(tmp_path / "auto" / "README.md")
    assert front is not None
    assert (front["library_name"], front["pipeline_tag"]) == ("vfmerge", "image-segmentation")
    assert {"mask-generation", "zero-shot-image-classification"} <= set(front["tags"])
    assert main(["eval", str(tmp_path / "auto"), "--device", "cpu"]) == 0
    assert retention.read(tmp_path / "auto.retention.json") == retention.read(finished / "retention.json")


def test_another_number_is_noticed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose weights are not the model's is not written."""
    write = Transformers.write

    def spoil(self: Transformers, path: Path) -> None:
        with torch.no_grad():
            next(self.model.trunk.parameters()).view(-1)[0].add_(1)
        write(self, path)
        with torch.no_grad():
            next(self.model.trunk.parameters()).view(-1)[0].sub_(1)

    monkeypatch.setattr(Transformers, "write", spoil)
    with pytest.raises(RunError, match="trunk"):
        export.export(finished, kind="transformers", out=tmp_path / "auto")
    assert not (tmp_path / "auto").exists()
