"""`transformers.AutoModel` after `import vfmerge`: the same model, both ways, and nobody waits who does not use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from vfmerge_adapters.auto.config import VfmergeConfig
from vfmerge_adapters.auto.model import VfmergeModel
from vfmerge_adapters.open_clip import OpenCLIP
from vfmerge_adapters.sam import SAM

import vfmerge
from vfmerge import bridge, commit, config, papers
from vfmerge.errors import CheckpointError, InputError
from vfmerge.model import MergedModel

SMALL = {"depth": 1, "width": 32, "heads": 2, "global_blocks": [0], "decoder_width": 16, "decoder_mlp": 32}
SMALL |= {"decoder_heads": 2, "image_size": 32}
CARD = "---\nlicense: apache-2.0\n---\n# A card\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A merged model as vfmerge writes it."""
    out = tmp_path_factory.mktemp("saved") / "merged"
    adapters = {"sam": SAM(variant="tiny", random=True, geometry=SMALL), "clip": OpenCLIP(model="tiny", layers=1)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MergedModel(adapters, base="sam")
    model.save(out, names={"sam": "sam", "clip": "open_clip"}, texts={"README.md": CARD, "recipe.yaml": "base: sam\n"})
    return out


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_a_round_trip_is_exact(folder: Path, tmp_path: Path) -> None:
    """Loaded and saved, every file is the same, byte for byte, and vfmerge loads it."""
    model = transformers.AutoModel.from_pretrained(folder)
    assert isinstance(model, VfmergeModel)
    model.save_pretrained(tmp_path / "again")
    commit.verify(tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    again, own = transformers.AutoModel.from_pretrained(tmp_path / "again"), vfmerge.load(tmp_path / "again")
    for name, tensor in own.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert again.state_dict().keys() == own.state_dict().keys()
    assert torch.equal(again.clip.encode_image(picture()), own.clip.encode_image(picture()))


def test_what_a_merged_model_does_it_does(folder: Path) -> None:
    """Heads by name, capabilities, segmentation; and the trunk's features as transformers calls them."""
    model, own = transformers.AutoModel.from_pretrained(folder), vfmerge.load(folder)
    assert model.sam is model.merged.sam
    assert model.capability("clip").name == "image_text"
    assert model.segment(picture(), ["star", "ring"]).labels.shape == (40, 50)
    images = torch.rand(2, 3, 32, 40)
    with torch.no_grad():
        seen, (expected,) = model(pixel_values=images), own.trunk(images).maps
    assert torch.equal(seen.last_hidden_state.transpose(1, 2).unflatten(2, (4, 5)), expected)
    assert not model.training
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == own.fixed
    with pytest.raises(AttributeError, match="dino"):
        model.dino  # noqa: B018


def test_a_config_alone(folder: Path, tmp_path: Path) -> None:
    """`AutoConfig` reads it, what it saves vfmerge reads, and a model is made of it, with random weights."""
    found = transformers.AutoConfig.from_pretrained(folder)
    assert isinstance(found, VfmergeConfig)
    found.save_pretrained(tmp_path)
    assert config.read(tmp_path) == config.read(folder) == found.made
    model = transformers.AutoModel.from_config(found)
    assert model.state_dict().keys() == vfmerge.load(folder).state_dict().keys()
    with pytest.raises(InputError, match="base 'dino' is none of its parents"):
        VfmergeModel(VfmergeConfig(base="dino"))


def test_folders_of_earlier_versions_load(folder: Path, tmp_path: Path) -> None:
    """They did not say by what transformers knows them; vfmerge does not need it."""

    def write(new: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        del content["model_type"], content["architectures"]
        (new / "config.json").write_text(json.dumps(content))
        shutil.copy(folder / "model.safetensors", new)

    commit.commit(tmp_path / "old", write)
    assert vfmerge.load(tmp_path / "old").base == "sam"
    assert isinstance(VfmergeModel.from_pretrained(tmp_path / "old"), VfmergeModel)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """Nothing is filled at random."""
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    text = (damaged / name).read_bytes()
    (damaged / name).write_bytes(text.replace(b"16", b"17", 1) if name == "config.json" else text[:-1] + b"?")
    with pytest.raises(CheckpointError, match=f"{name} differs"):
        transformers.AutoModel.from_pretrained(damaged)


def test_types_are_kept_and_asked_for(folder: Path, tmp_path: Path) -> None:
    """A model saved in half precision is loaded in half; `dtype` says otherwise."""
    half = transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
    assert half.dtype == half.merged.clip.dtype == torch.bfloat16
    half.save_pretrained(tmp_path / "half")
    assert transformers.AutoModel.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    assert transformers.AutoModel.from_pretrained(tmp_path / "half", dtype="float32").dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device_map": "balanced"}, "device_map: 'balanced' is not one device"),
        ({"device_map": {"trunk": "cpu", "heads": "cpu"}}, "is not one device, and a merged model is not split"),
        ({"device_map": "cuda:99"}, "device cuda:99: not available here"),
        ({"dtype": "int9"}, "dtype: 'int9' is no type of torch"),
        ({"quantization_config": {"load_in_4bit": True}}, "no option quantization_config"),
    ],
)
def test_options_that_cannot_be_kept_are_one_line(folder: Path, options: dict[str, Any], message: str) -> None:
    """And not silently dropped."""
    with pytest.raises(InputError, match=message) as error:
        VfmergeModel.from_pretrained(folder, **options)
    assert len(str(error.value).splitlines()) == 1


def test_auto_is_one_device(folder: Path) -> None:
    """There is nothing to spread, so it is the first GPU where there is one."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    for given in ("auto", {"": "auto"}):
        assert transformers.AutoModel.from_pretrained(folder, device_map=given).device.type == where


def test_a_changed_config_is_refused(folder: Path, tmp_path: Path) -> None:
    """Weights are those of the folder's own parts, so nothing of another shape is made of them, nor saved for it."""
    changed = transformers.AutoConfig.from_pretrained(folder)
    changed.parents["sam"]["options"]["geometry"]["width"] = 999
    dropped = transformers.AutoConfig.from_pretrained(folder)
    dropped.parents = {"sam": dropped.parents["sam"]}
    for given in (changed, dropped):
        with pytest.raises(InputError, match=r"config: describes other parts .*AutoModel\.from_config") as error:
            transformers.AutoModel.from_pretrained(folder, config=given)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(InputError, match="config: a BertConfig is none of a merged model"):
        VfmergeModel.from_pretrained(folder, config=transformers.BertConfig())
    model = VfmergeModel.from_pretrained(folder, config=str(folder))
    model.config.parents = dropped.parents
    with pytest.raises(InputError, match="config: was changed since the model was made of it"):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"safe_serialization": False}, "safe_serialization: false is not how a merged model is saved"),
        ({"variant": "fp16"}, "variant: 'fp16' is not how a merged model is saved"),
        ({"max_shard_size": "10KB"}, r"max_shard_size: '10KB' is less than the \d+ bytes of the model"),
        ({"max_shard_size": 1000}, "max_shard_size: 1000 is less than"),
        ({"max_shard_size": "many"}, "max_shard_size: 'many' is no size; give '5GB'"),
        ({"foo": 1}, "save_pretrained: a merged model has no option foo; leave it out"),
        ({"repo_id": "me/it"}, "no option repo_id"),
        ({"state_dict": {"a": torch.zeros(1)}}, "tensors: .* do not fit the model, first: a is none of its own"),
    ],
)
def test_what_cannot_be_saved_is_one_line(folder: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """Before anything is written, rather than saved otherwise than was asked."""
    model = transformers.AutoModel.from_pretrained(folder)
    with pytest.raises(InputError, match=message) as error:
        model.save_pretrained(tmp_path / "out", **options)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_what_is_done_anyway_may_be_asked_for(folder: Path, tmp_path: Path) -> None:
    """Scripts that were written for other models say so."""
    model = transformers.AutoModel.from_pretrained(folder)
    said = {"safe_serialization": True, "variant": None, "save_function": torch.save}
    for number, size in enumerate(("50GB", "300MiB", 10**9, None)):
        model.save_pretrained(tmp_path / str(number), max_shard_size=size, **said)
        commit.verify(tmp_path / str(number))
    with pytest.raises(InputError, match="no option tags"):
        model.push_to_hub("me/it", tags=["x"])


def test_its_answer_is_given_as_transformers_gives_it(folder: Path) -> None:
    """As a tuple, with all maps as hidden states, by the call or by the config; attentions there are none."""
    model, images = transformers.AutoModel.from_pretrained(folder), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        seen = model(pixel_values=images)
        (cells,) = model(pixel_values=images, return_dict=False)
        states = model(images, output_hidden_states=True).hidden_states
        maps = model.trunk(images).maps
    assert seen.hidden_states is None
    assert torch.equal(cells, seen.last_hidden_state)
    assert torch.equal(states[-1], seen.last_hidden_state)
    assert [tuple(each.shape[1:]) for each in states] == [(each[0, 0].numel(), each.shape[1]) for each in maps]
    model.config.output_hidden_states = True
    assert len(model(images, return_dict=False)) == 2
    with pytest.raises(InputError, match="output_attentions: a merged model's trunk gives maps alone"):
        model(images, output_attentions=True)


def test_compile_is_that_of_the_merged_model(folder: Path) -> None:
    """Heads that are asked through it ask the compiled trunk."""
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = transformers.AutoModel.from_pretrained(folder)
    model.compile(backend=backend)
    model.clip.encode_image(picture())
    assert graphs


def test_files_of_others_stay(folder: Path, tmp_path: Path) -> None:
    """A processor or a trainer's state lies in the same folder; saving twice harms neither."""
    model = transformers.AutoModel.from_pretrained(folder)
    (tmp_path / "out" / "state").mkdir(parents=True)
    (tmp_path / "out" / "state" / "step").write_text("7")
    for _ in range(2):
        model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "state" / "step").read_text() == "7"
    assert vfmerge.load(tmp_path / "out").base == "sam"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_trainers_tensors_are_saved(folder: Path, tmp_path: Path) -> None:
    """Under the names that they have in the file."""
    model = transformers.AutoModel.from_pretrained(folder)
    doubled = {name: 2 * tensor for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "out", state_dict=doubled)
    for name, tensor in vfmerge.load(tmp_path / "out").state_dict().items():
        assert torch.equal(tensor, doubled[name])


def test_a_changed_model_has_a_card_that_says_so(folder: Path, tmp_path: Path) -> None:
    """Once, below the front matter, however often it is changed; all else in the card and the recipe stays."""
    shutil.copytree(folder, tmp_path / "0")
    (tmp_path / "0" / "README.md").write_bytes(CARD.replace("card", "c\u00e4rd").encode() + b"\xff of old\r\n")
    for number in range(3):
        model = transformers.AutoModel.from_pretrained(tmp_path / str(number))
        with torch.no_grad():
            next(model.trunk.parameters()).add_(0.5)
        model.save_pretrained(tmp_path / str(number + 1))
    text = (tmp_path / "3" / "README.md").read_bytes()
    assert text.count(papers.CHANGED.encode()) == 1
    assert text.endswith("# A c\u00e4rd\n".encode() + b"\xff of old\r\n")
    (tmp_path / "plain.md").write_bytes(text.replace(b"\xff", b""))
    assert huggingface_hub.metadata_load(tmp_path / "plain.md") == {"license": "apache-2.0"}
    assert (tmp_path / "3" / "recipe.yaml").read_text() == "base: sam\n"
    transformers.AutoModel.from_pretrained(tmp_path / "3").save_pretrained(tmp_path / "same")
    assert (tmp_path / "same" / "README.md").read_bytes() == text


@pytest.mark.parametrize(("card", "start"), [("# A card\n", 0), ("---\na: b\n---\n# A card\n", 13), ("", 0)])
def test_the_note_stands_below_the_front_matter(card: str, start: int) -> None:
    """Which the hub looks for on the first line; a card may have none, or be empty."""
    assert papers.outdate(card) == f"{card[:start]}\n{papers.CHANGED}\n{card[start:]}"


def test_a_model_without_papers_is_saved_without(folder: Path, tmp_path: Path) -> None:
    """Of one that was made here nothing is known."""
    made = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(folder))
    made.save_pretrained(tmp_path / "made")
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "MANIFEST.json",
        "config.json",
        "model.safetensors",
    }
    bare = Path(shutil.copytree(tmp_path / "made", tmp_path / "bare"))
    (bare / "README.md").mkdir()
    vfmerge.load(bare).save(tmp_path / "again", names={"sam": "sam", "clip": "open_clip"})
    assert not (tmp_path / "again" / "README.md").exists()


def test_a_model_is_pushed_with_its_own_card(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the hub gets is the folder; both ways that transformers has for it."""
    made: list[str] = []

    class Repository:
        repo_id = "someone/model"

    def create(self: Any, repo_id: str, **_: Any) -> Repository:
        made.append(repo_id)
        return Repository()

    def upload(self: Any, *, repo_id: str, folder_path: str, **_: Any) -> str:
        shutil.copytree(folder_path, tmp_path / str(len(made)))
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    model = transformers.AutoModel.from_pretrained(folder)
    assert model.push_to_hub("model") == "https://hub/someone/model"
    model.save_pretrained(tmp_path / "local", push_to_hub=True)
    assert made == ["model", "local"]
    for number in ("1", "2"):
        commit.verify(tmp_path / number)
        assert (tmp_path / number / "README.md").read_text() == CARD


@pytest.mark.parametrize(
    "orders",
    [
        "import transformers; import vfmerge",
        "from transformers import AutoModel; import vfmerge_adapters.auto.config",
        "import vfmerge; from transformers import AutoTokenizer; waits = 'transformers.modeling_utils' in sys.modules",
    ],
)
def test_either_may_be_imported_first(orders: str, folder: Path) -> None:
    """AutoConfig knows merged models; the rest of transformers is not imported for that."""
    script = (
        f"import sys; waits = False; {orders}\n"
        "assert not waits\n"
        "from transformers.models.auto.configuration_auto import CONFIG_MAPPING\n"
        "import transformers.models.auto.configuration_auto as module\n"
        "assert type(module.__loader__).__name__ == 'SourceFileLoader'\n"
        "print(CONFIG_MAPPING['vfmerge'].__name__)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("VfmergeConfig\n", "")


def test_importing_vfmerge_imports_nothing_heavy() -> None:
    """Neither torch nor transformers, and nothing of what bridges need."""
    script = "import vfmerge, sys; print({'torch', 'transformers', 'numpy', 'importlib.metadata'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_broken_bridge_harms_nobody(fakes: Path) -> None:
    """Whoever imports the library may want something else of it: it is a warning, of one line."""
    points = fakes / "fakes-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text() + "\n[vfmerge.bridges]\nfake_library = fake_import:Thing\n")
    with pytest.warns(UserWarning, match=r"fake_library does not know merged models \(ModuleNotFoundError"):
        bridge.cross("fake_library")
