"""Networks: one trunk with one head is a parent; one trunk with many heads is the merged model.

A head without a parent is built upon others: it is given what the model can do with them, and none of their modules.

A merged model is saved as one folder: `model.safetensors`, `config.json` (which adapters with which shapes), the
recipe, a model card and its licences. It is rebuilt from the shapes alone, without its parents' files and without
network.

Axis letters: B images, H x W pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import torch
from torch import Tensor, nn

from vfmerge import commit, config, home, random, weights
from vfmerge.adapter import Adapter, AuxiliaryAdapter, BaseAdapter, Batch, Features, LabelledAdapter
from vfmerge.capability import Capability
from vfmerge.errors import InputError, one_line
from vfmerge.papers import Papers
from vfmerge.pixels import resize
from vfmerge.problem import shown, suggestion
from vfmerge.shared_trunk import SharedTrunk

if TYPE_CHECKING:
    from vfmerge.images import One, Several
    from vfmerge.segmentation import Options, Segmentation

_COMPILED = "_orig_mod."  # what torch.compile puts before the names of the module that it stands for


class Network(nn.Module):
    """One trunk and one head: a parent as a whole, or one task of a merged model. Batch -> answer.

    size: side in pixels of the square at which a batch is looked at; none is as it comes. A parent that teaches at
    a size of its own says so here.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, *, size: int | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.size = size

    def encode(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]."""
        features = self.trunk(images)
        assert isinstance(features, Features)
        return features

    def forward(self, batch: Batch) -> Any:
        return self.head(self.encode(self.fit(batch.images)), batch)

    def fit(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] in [0, 1] at the size at which the network looks."""
        return images if self.size is None else resize(images, (self.size, self.size))


class MergedModel(nn.Module):
    """One trunk, one head per task. `model.clip` is what the parent `clip` can do: its capability on this trunk.

    What is worth compiling is the trunk, which all heads ask, so that is what `model.compile()` compiles, in place. Not
    so `torch.compile(model)`: it compiles what `model(images)` does and nothing else, for heads and `segment` go past
    it, and ask the trunk themselves.
    """

    def __init__(self, adapters: Mapping[str, Adapter], *, base: str, seed: int | None = None) -> None:
        """adapters: of parents, and of tasks without one, in any order. Raises InputError for heads that do not fit.

        seed: of the random first weights of heads, each of which draws its own, whatever other heads there are; with
        none they go on from where torch's global generator is.
        """
        super().__init__()
        self._seed = seed
        lender = adapters[base]
        assert isinstance(lender, BaseAdapter)
        self.adapters = dict(adapters)
        self.base = base
        self.trunk = lender.trunk()
        parents = {name: each for name, each in adapters.items() if isinstance(each, AuxiliaryAdapter)}
        self.heads = nn.ModuleDict()
        for name, parent in parents.items():
            with self._drawing("head", name):
                self.heads[name] = lender.own_head() if name == base else parent.head(lender.features)
        for name, each in adapters.items():
            if isinstance(each, LabelledAdapter):
                upon = {role: self._part(parent, role, task=name) for role, parent in each.upon().items()}
                with self._drawing("head", name):
                    self.heads[name] = each.head(lender.features, upon)
        self.fixed = frozenset(name for name, p in self.named_parameters() if not p.requires_grad)
        """Parameters that no stage may train: text towers, prompt encoders."""
        self._papers: Papers | None = None  # of the folder that it was loaded from
        self._asked: dict[str, Capability] = {}

    def forward(self, images: Tensor) -> Features:
        """images: [B, 3, H, W] in [0, 1]. What the trunk sees; what heads make of it is `model.NAME`."""
        features = self.trunk(images)
        assert isinstance(features, Features)
        return features

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the trunk in place, with the arguments of `torch.compile`: for `model(images)` and for all heads."""
        self.trunk.compile(*args, **kwargs)

    def network(self, task: str) -> Network:
        """The trunk with one head; it shares this model's parameters."""
        return Network(self.trunk, self.heads[task])

    def _part(self, parent: str, role: str, *, task: str) -> Capability:
        """What a parent's head can do for a task that is built upon it, if it is what the task asks for."""
        found = self.adapters[parent].capability(self.network(parent))
        if found.name != role:
            can = f"parent {parent} offers {found.name}, not {role}; name another parent"
            raise InputError(f"tasks.{task}.options.{role}: {can}")
        return found

    def capability(self, task: str) -> Capability:
        """What a person does with one of the heads. Raises InputError for a name that no head has."""
        if task not in self.adapters:
            raise InputError(one_line(f"task: no head is called {shown(task)}; {suggestion(task, self.adapters)}"))
        return self.adapters[task].capability(self.network(task).eval())

    def capabilities(self) -> dict[str, Capability]:
        """What a person does with all heads. Where two of them look at the same images, the trunk runs once."""
        trunk = SharedTrunk(self.trunk)
        return {
            task: adapter.capability(Network(trunk, self.heads[task]).eval()) for task, adapter in self.adapters.items()
        }

    @overload
    def segment(self, image: One, classes: Sequence[str], **options: Unpack[Options]) -> Segmentation: ...

    @overload
    def segment(self, image: Several, classes: Sequence[str], **options: Unpack[Options]) -> list[Segmentation]: ...

    def segment(
        self, image: One | Several, classes: Sequence[str], **options: Unpack[Options]
    ) -> Segmentation | list[Segmentation]:
        """Where in a picture are things of these names? Masks, scores and a label map, in one pass of the trunk.

        image: a path, an image of Pillow's, an array [H, W, C], a tensor [C, H, W], or a list of these; several
        pictures, which an array or tensor of four axes is too, give a list. See `vfmerge.images.pictures`.
        options: background, threshold, templates, and image_text and promptable, the tasks whose heads answer where
        the model has several that could; see `vfmerge.segmentation.Options`.
        Raises InputError for a picture, name or option that cannot be used, and for a model that lacks a head.
        """
        from vfmerge import images
        from vfmerge.segmentation import Segmenter

        segmenter = Segmenter(self.capabilities(), classes, **options)
        found = [segmenter.segment(picture) for picture in images.pictures(image)]
        return found if images.several(image) else found[0]

    def __getattr__(self, name: str) -> Any:
        heads = self.__dict__.get("_modules", {}).get("heads")
        if heads is not None and name in heads:
            return self._ask(name)
        return super().__getattr__(name)

    def _ask(self, task: str) -> Capability:
        """The same capability each time, so that it remembers what it was told (which image is set), in eval mode."""
        found = self._asked.get(task)
        if found is None or found.network.trunk is not self.trunk or found.network.head is not self.heads[task]:
            found = self._asked[task] = self.capability(task)
        found.network.eval()
        return found

    def start(self, teachers: Mapping[str, Network]) -> None:
        """First weights: the base's own trunk; each head as its adapter starts it, those upon others after them."""
        self.trunk.load_state_dict(teachers[self.base].trunk.state_dict())
        for name, adapter in self.adapters.items():
            if isinstance(adapter, AuxiliaryAdapter):
                with self._drawing("start", name):
                    adapter.start(self.heads[name], self.trunk, teachers[name])
        for name, adapter in self.adapters.items():
            if isinstance(adapter, LabelledAdapter):
                with self._drawing("start", name):
                    adapter.start(self.heads[name])

    @contextlib.contextmanager
    def _drawing(self, *purpose: str) -> Iterator[None]:
        """Within, torch draws numbers of this purpose alone, and goes on afterwards as if it had drawn none."""
        if self._seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random.key(self._seed, *purpose))
            yield

    def save(
        self,
        folder: Path,
        *,
        names: Mapping[str, str],
        texts: Mapping[str, str] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        beside: bool = False,
    ) -> None:
        """Write the model as a folder, whole or not at all.

        names: the installed adapter's name of each task. texts: further files by name (model card, recipe); none is
        those that it was loaded with, of which the card then says if the weights have changed. tensors: none is its
        own state dict. beside: into a folder that may hold files of others, which stay.
        Raises InputError for tensors that are not the model's by name and shape.
        """
        given = self.state_dict()
        if tensors is not None:
            self._require_own(tensors)
            given = dict(tensors)
        described = {
            name: config.Part(adapter=names[name], options=adapter.portable(), licence=adapter.licence)
            for name, adapter in self.adapters.items()
        }
        made = config.Config(
            base=self.base,
            parents={name: part for name, part in described.items() if self._is_parent(name)},
            tasks={name: part for name, part in described.items() if not self._is_parent(name)},
        )

        def write(temporary: Path) -> None:
            plain = {_plain(name): tensor for name, tensor in given.items()}
            weights.save(temporary / config.WEIGHTS, plain)
            (temporary / config.CONFIG).write_text(made.dump())
            for name, text in (texts or {}).items():
                (temporary / name).write_text(text, encoding="utf-8")
            if texts is None and self._papers is not None:
                self._papers.write(temporary)

        (commit.add if beside else commit.commit)(folder, write)

    def _require_own(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise InputError unless a model could be filled with these tensors."""
        given = {_plain(name): list(tensor.shape) for name, tensor in tensors.items()}
        own = {_plain(name): list(tensor.shape) for name, tensor in self.state_dict().items()}
        wrong = [f"{name} is none of its own" for name in given if name not in own]
        wrong += [f"{name} is missing" for name in own if name not in given]
        wrong += [
            f"{name} is {given[name]}, not {own[name]}" for name in own if given.get(name, own[name]) != own[name]
        ]
        if wrong:
            text = f"tensors: {len(wrong)} do not fit the model, first: {wrong[0]}; give its own state dict"
            raise InputError(one_line(text))

    def _is_parent(self, name: str) -> bool:
        return isinstance(self.adapters[name], AuxiliaryAdapter)


def _plain(name: str) -> str:
    """A tensor's name in the file, whether or not a part of the model is compiled."""
    return name.replace(_COMPILED, "")


def load(path: str | Path, *, device: str | torch.device = "cpu", revision: str | None = None) -> MergedModel:
    """Rebuild a merged model from its folder, in eval mode.

    path: of the folder, or of that of its run; or, as a text, the id that a model has on the Hugging Face hub,
    `owner/name` or `owner/name@revision`, which is fetched into the hub's cache if it is not there. revision: of that:
    a branch, a tag or a commit. device: auto, cpu, cuda or cuda:N, see `on`.
    Raises InputError if the folder is no merged model, or was made with an adapter that is not installed, or if the hub
    has no such, or if the device is not there; CheckpointError if a file is damaged.
    """
    place = on(device, option="device")
    folder = home.find(path, revision=revision).folder
    tensors = read(folder)
    made = config.read(folder)
    adapters = config.build_all(made, where=str(folder))
    model = MergedModel(adapters, base=made.base)
    weights.fit(model, tensors, source=str(folder / config.WEIGHTS))
    model._papers = Papers.read(folder)
    return model.to(place).eval().requires_grad_(False)


def read(folder: Path) -> dict[str, Tensor]:
    """All tensors in a merged model's folder, if it is as it was written. Raises CheckpointError if it is not.

    That is, what is read of it: a card may be edited, and a hub and git put files of their own beside it. Raises
    InputError for what is plainly no such folder.
    """
    if not any((folder / name).exists() for name in (commit.MANIFEST, config.CONFIG)):
        what = "holds no merged model" if folder.is_dir() else "no such folder"
        raise InputError(one_line(f"{folder}: {what}; give runs/NAME/merged, for example"))
    commit.verify(folder, only=(config.CONFIG, config.WEIGHTS))
    return weights.read(folder / config.WEIGHTS)


def count(module: nn.Module) -> int:
    """How many numbers a module's parameters hold."""
    return sum(parameter.numel() for parameter in module.parameters())


def on(device: str | torch.device, *, option: str = "--device") -> torch.device:
    """`auto` is the first GPU where there is one. Raises InputError, of the option, for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = f"not available here ({str(error).splitlines()[0][:120]})"
        raise InputError(one_line(f"{option} {device}: {reason}; give auto, cpu, cuda or cuda:N")) from None
