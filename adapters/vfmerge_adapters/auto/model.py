"""A merged model as a model of `transformers`: `AutoModel.from_pretrained`, `save_pretrained`, `push_to_hub`.

Files are read and written by vfmerge itself, to its own rules: transformers would fill at random what a damaged file
lacks, and leave out what vouches for the folder.

Axis letters: B images, n cells, C channels of the trunk's last map, D summary width.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vfmerge import config as made
from vfmerge import hub, model
from vfmerge.capability import Capability
from vfmerge.errors import InputError, one_line
from vfmerge.model import MergedModel

from .config import VfmergeConfig

_TEXTS = ("README.md", "recipe.yaml")
_PLACES = ("cache_dir", "force_download", "local_files_only", "token", "proxies")  # for the hub's own library
_TOLD = {"trust_remote_code", "adapter_kwargs", "use_safetensors", "weights_only", "low_cpu_mem_usage"}
_TOLD |= {"_from_auto", "_from_pipeline"}
"""What transformers says to every model; there is only one way to read a merged one, which runs no code of a folder."""


class VfmergeModel(PreTrainedModel):
    """A merged model. `merged` is it as vfmerge has it; what its heads can do is `model.NAME` here as there.

    Its parameters have the names that they have in `model.safetensors`.
    """

    config_class = VfmergeConfig
    main_input_name = "pixel_values"
    input_modalities = "image"

    def __init__(self, config: VfmergeConfig, merged: MergedModel | None = None) -> None:
        """merged: the model of that config; none is one with random weights."""
        super().__init__(config)
        if merged is None:
            plan = config.made
            merged = MergedModel(made.build_all(plan, where="config"), base=plan.base)
        self.__dict__["merged"] = merged  # not as a module: trunk and heads would be there twice
        self.texts: dict[str, str] = {}
        self.trunk, self.heads = merged.trunk, merged.heads
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in merged.fixed)
        self.post_init()

    def __getattr__(self, name: str) -> Any:
        merged = self.__dict__.get("merged")
        if merged is not None and name in merged.heads:
            return getattr(merged, name)
        return super().__getattr__(name)

    def init_weights(self) -> None:
        """Nothing: weights are as vfmerge read them, or as adapters make them."""

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """pixel_values: [B, 3, H, W] in [0, 1]; the trunk normalises by itself.

        The last of the trunk's maps, row by row, [B, n, C], and its summary [B, D], if it has one.
        """
        features = self.trunk(pixel_values)
        cells = features.maps[-1].flatten(2).transpose(1, 2) if features.maps else None
        return BaseModelOutputWithPooling(last_hidden_state=cells, pooler_output=features.summary)

    def capability(self, task: str) -> Capability:
        """What a person does with one of the heads."""
        return self.merged.capability(task)

    def segment(self, image: Any, classes: Sequence[str], **options: Any) -> Any:
        """Masks of what is called by some names; see `MergedModel.segment`."""
        return self.merged.segment(image, classes, **options)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        config: VfmergeConfig | None = None,
        revision: str | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        **kwargs: Any,
    ) -> Self:
        """The model in a folder, or of an id on the hub, in eval mode.

        dtype: of its numbers; none, or "auto", is as they were saved. device_map: one device. Raises InputError for
        what cannot be had, and CheckpointError for damaged files: no weight is ever missing.
        """
        places = {name: kwargs.pop(name) for name in _PLACES if name in kwargs}
        wrong = [name for name, value in kwargs.items() if name not in _TOLD and value]
        if wrong or model_args:
            named = wrong[0] if wrong else "without a name"
            raise InputError(f"from_pretrained: a merged model has no option {named}; leave it out")
        path = Path(pretrained_model_name_or_path)
        folder = path if path.is_dir() else hub.fetch(str(path), revision=revision, **places)
        merged = model.load(folder, device=_device(device_map))
        config = config if isinstance(config, VfmergeConfig) else VfmergeConfig.from_pretrained(folder)
        config.name_or_path = str(pretrained_model_name_or_path)
        loaded = cls(config, merged).eval()
        loaded.texts = {name: (folder / name).read_text() for name in _TEXTS if (folder / name).is_file()}
        return loaded.to(_dtype(torch_dtype if dtype is None else dtype, saved=folder / made.WEIGHTS))

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the folder that `vfmerge.load` reads too. Other files in it stay.

        state_dict: the tensors, where they are not the model's own. kwargs: of `push_to_hub`.
        """
        folder, plan = Path(save_directory), self.config.made
        if is_main_process:
            names = {name: part.adapter for name, part in (plan.parents | plan.tasks).items()}
            self.merged.save(folder, names=names, texts=self.texts, beside=True, tensors=state_dict)
        if push_to_hub and is_main_process:
            self.push_to_hub(kwargs.pop("repo_id", folder.resolve().name), **kwargs)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        **kwargs: Any,
    ) -> str:
        """Upload the model with its own card, to a repository that is made if there is none. Returns its address."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        made_there = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as temporary:
            self.save_pretrained(temporary)
            done = api.upload_folder(
                repo_id=made_there,
                folder_path=temporary,
                commit_message=commit_message or "Upload a merged model of vfmerge",
                commit_description=commit_description,
                revision=revision,
                create_pr=create_pr,
            )
        return str(done)


def _device(device_map: Any) -> str:
    """The one device of a map."""
    device = device_map.get("") if isinstance(device_map, Mapping) and set(device_map) == {""} else device_map
    if device is None:
        return "cpu"
    try:
        return str(torch.device(device))
    except (RuntimeError, TypeError):
        text = (
            f"device_map: {device_map!r} is not one device, and a merged model is not split; give 'cuda', for example"
        )
        raise InputError(one_line(text)) from None


def _dtype(dtype: str | torch.dtype | None, *, saved: Path) -> torch.dtype:
    """The type that is asked for; none, or "auto", is that of the trunk in a file of weights."""
    if dtype is None or dtype == "auto":
        with safe_open(saved, framework="pt") as file:
            tensors = (file.get_tensor(name) for name in file.keys() if name.startswith("trunk."))  # noqa: SIM118
            return next(tensor.dtype for tensor in tensors if tensor.is_floating_point())
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise InputError(one_line(f"dtype: {dtype!r} is no type of torch; give 'bfloat16', for example"))
    return found
