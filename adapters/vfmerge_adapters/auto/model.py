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
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vfmerge import config as made
from vfmerge import hub, model
from vfmerge.capability import Capability
from vfmerge.errors import InputError
from vfmerge.model import MergedModel

from . import options
from .config import VfmergeConfig

_PLACES = ("cache_dir", "force_download", "local_files_only", "token", "proxies")  # for the hub's own library
_PUSHED = ("repo_id", "commit_message", "commit_description", "private", "token", "revision", "create_pr")


class VfmergeModel(PreTrainedModel):
    """A merged model. `merged` is it as vfmerge has it; what its heads can do is `model.NAME` here as there.

    Its parameters have the names that they have in `model.safetensors`. It has no image processor: heads take pictures
    as they come from a file, `model(pixel_values)` takes squares in [0, 1] of the trunk's own size.
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
        self._made = config.made
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

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """pixel_values: [B, 3, H, W] in [0, 1]; the trunk normalises by itself.

        The last of the trunk's maps, row by row, [B, n, C], and its summary [B, D], if it has one; as hidden states
        all of its maps, finest first, each with cells and channels of its own. return_dict: false for a tuple.
        Raises InputError for attentions, which trunks do not give.
        """
        if output_attentions:
            raise InputError("output_attentions: a merged model's trunk gives maps alone; leave it out")
        features = self.trunk(pixel_values)
        maps = tuple(each.flatten(2).transpose(1, 2) for each in features.maps)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        seen = BaseModelOutputWithPooling(
            last_hidden_state=maps[-1] if maps else None,
            pooler_output=features.summary,
            hidden_states=maps if wanted else None,
        )
        named = self.config.return_dict if return_dict is None else return_dict
        return seen if named else seen.to_tuple()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the trunk in place, for this model and for all heads; see `MergedModel.compile`."""
        self.merged.compile(*args, **kwargs)

    def capability(self, task: str) -> Capability:
        """What a person does with one of the heads."""
        return self.merged.capability(task)

    def segment(self, image: Any, classes: Sequence[str], **how: Any) -> Any:
        """Masks of what is called by some names; see `MergedModel.segment`."""
        return self.merged.segment(image, classes, **how)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        config: VfmergeConfig | str | os.PathLike[str] | None = None,
        revision: str | None = None,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        **kwargs: Any,
    ) -> Self:
        """The model in a folder, or of an id on the hub, in eval mode.

        config: the folder's own. dtype: of its numbers; none, or "auto", is as they were saved. device_map: one device,
        or "auto" for the first GPU where there is one. Raises InputError for what cannot be had, and CheckpointError
        for damaged files: no weight is ever missing.
        """
        places = {name: kwargs.pop(name) for name in _PLACES if name in kwargs}
        options.require_loadable(kwargs | ({"without a name": True} if model_args else {}))
        path = Path(pretrained_model_name_or_path)
        folder = path if path.is_dir() else hub.fetch(str(path), revision=revision, **places)
        config = options.config_of(folder, config)
        merged = model.load(folder, device=options.device(device_map))
        config.name_or_path = str(pretrained_model_name_or_path)
        kind = options.dtype(torch_dtype if dtype is None else dtype, saved=folder)
        return cls(config, merged).eval().to(kind)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Write the folder that `vfmerge.load` reads too, with card and recipe as they came. Other files in it stay.

        The card says so if the weights have changed (`vfmerge.papers`), and is then for its owner to rewrite.
        state_dict: the tensors, where they are not the model's own. kwargs: of `push_to_hub`, where that is asked for.
        Raises InputError for tensors or a config of another model, and for options by which it cannot be saved.
        """
        folder, plan = Path(save_directory), self._made
        pushed = {name: kwargs.pop(name) for name in _PUSHED if push_to_hub and name in kwargs}
        options.require_writable(kwargs, self)
        if self.config.made != plan:
            raise InputError("config: was changed since the model was made of it, and the model was not; undo that")
        if is_main_process:
            names = {name: part.adapter for name, part in (plan.parents | plan.tasks).items()}
            self.merged.save(folder, names=names, beside=True, tensors=state_dict)
        if push_to_hub and is_main_process:
            self.push_to_hub(pushed.pop("repo_id", folder.resolve().name), **pushed)

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
        """Upload the model with its own card, to a repository that is made if there is none. Returns its address.

        kwargs: of `save_pretrained`.
        """
        from huggingface_hub import HfApi

        options.require_writable(kwargs, self)
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
