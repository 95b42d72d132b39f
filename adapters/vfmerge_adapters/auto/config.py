"""`config.json` of a merged model as a config of `transformers`. Imports no torch by itself."""

from __future__ import annotations

import functools
from typing import Any

import pydantic
from transformers import PreTrainedConfig

from vfmerge.config import MODEL_TYPE, SCHEMA, Config
from vfmerge.errors import InputError


class VfmergeConfig(PreTrainedConfig):
    """By which adapters a merged model's trunk and heads were made; see `vfmerge.config.Config`."""

    model_type = MODEL_TYPE

    schema: int = SCHEMA
    library: str = "vfmerge"
    base: str = ""
    parents: dict[str, Any] | None = None
    tasks: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.parents, self.tasks = dict(self.parents or {}), dict(self.tasks or {})
        super().__post_init__(**kwargs)
        # Not before there is such a config: the model's class needs all of transformers, which takes seconds to import,
        # and whoever imports AutoTokenizer is not to wait for that.
        _register_model()

    @property
    def made(self) -> Config:
        """The same as vfmerge has it. Raises InputError for a config of no merged model."""
        try:
            given = {name: vars(self)[name] for name in ("schema", "library", "base", "parents", "tasks")}
            config = Config.model_validate(given)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InputError(f"config: {first['loc'][0]}: {first['msg']}; give a merged model's") from None
        if config.base not in config.parents or config.schema_ > SCHEMA:
            raise InputError(f"config: base {config.base!r} is none of its parents, or of a newer vfmerge; mend it")
        return config


def register() -> None:
    """Make merged models known to `AutoConfig`, and with the first of their configs to `AutoModel`."""
    from transformers import AutoConfig  # whose import calls this function: not at the top

    AutoConfig.register(MODEL_TYPE, VfmergeConfig, exist_ok=True)


@functools.cache
def _register_model() -> None:
    from transformers import AutoModel

    from .model import VfmergeModel

    AutoModel.register(VfmergeConfig, VfmergeModel, exist_ok=True)
