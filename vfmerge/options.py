"""A plug-in's options: the keyword-only, annotated parameters of its `__init__`, checked before it is made.

Imports no torch, and makes nothing: only the signature is read.
"""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic import Field

from vfmerge.errors import InputError, one_line
from vfmerge.problem import Keys, Problem, explain, refuse


def check_options(cls: type, options: Mapping[str, Any], *, where: str = "options") -> dict[str, Any]:
    """The options as `cls(**options)` takes them: paths are paths, an integer will do for a float.

    where: what stands before an option's name in a message, such as `parents.sam.options`.
    Raises InputError with a line for each unknown, missing or mistyped option.
    """
    checked, problems = examine(cls, options, keys=(where,))
    refuse(problems)
    return checked


def examine(cls: type, options: Mapping[str, Any], *, keys: Keys = ()) -> tuple[dict[str, Any], list[Problem]]:
    """The options as `cls` takes them, and what is wrong with them, told below `keys`."""
    model = signature(cls)
    try:
        # JSON has lists where signatures have tuples, and text where they have paths: strict there means what is meant
        checked = model.model_validate_json(json.dumps(dict(options), default=str))
    except pydantic.ValidationError as error:
        return {}, explain(error, model, dict(options), below=keys)
    given = checked.model_fields_set
    values = {info.alias: vars(checked)[field] for field, info in model.model_fields.items() if field in given}
    return {name: value for name, value in values.items() if name is not None}, []


@functools.cache
def signature(cls: type) -> type[pydantic.BaseModel]:
    """A strict, closed model of what `cls.__init__` takes by keyword.

    Its fields bear the parameters' names as aliases, so that a parameter may be called like a method of the model.
    """
    made_by = inspect.getattr_static(cls, "__init__")
    try:
        hints = typing.get_type_hints(made_by, include_extras=True)
        taken = inspect.signature(made_by).parameters.values()
        fields: dict[str, Any] = {
            f"option_{each.name}": (
                hints[each.name],
                Field(default=... if each.default is each.empty else each.default, alias=each.name),
            )
            for each in taken
            if each.kind is each.KEYWORD_ONLY
        }
        settings = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
        return pydantic.create_model(cls.__name__, __config__=settings, **fields)
    except (NameError, KeyError, TypeError, pydantic.errors.PydanticUserError) as error:
        name = f"{cls.__module__}.{cls.__qualname__}"
        reason = one_line(f"{type(error).__name__}: {error}", limit=120)
        remedy = "annotate its keyword-only parameters with plain types"
        raise InputError(one_line(f"plug-in {name}: its signature cannot be read: {reason}; {remedy}")) from None
