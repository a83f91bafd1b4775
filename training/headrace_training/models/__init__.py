"""Models that score every item for a user, behind one interface."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from headrace.errors import ConfigError
from headrace_training.models.base import Model, Parameters
from headrace_training.models.blend import BlendModel
from headrace_training.models.graph import GraphModel
from headrace_training.models.ials import IalsModel
from headrace_training.models.itemknn import ItemKnnModel
from headrace_training.models.linear import LinearModel
from headrace_training.models.popularity import PopularityModel

MODELS: Mapping[str, Callable[..., Model]] = {
    "blend": BlendModel,
    "graph": GraphModel,
    "ials": IalsModel,
    "itemknn": ItemKnnModel,
    "linear": LinearModel,
    "popularity": PopularityModel,
}


def make_model(name: str, seed: int = 0, parameters: Parameters | None = None) -> Model:
    """A model with its default parameters but for those given; "graph.low_pass" is the low_pass of its part "graph".

    Raises ConfigError for an unknown name, an unknown parameter or a number that is not finite.
    """
    if name not in MODELS:
        raise ConfigError("model", got=name, expected=f"auto, {', '.join(MODELS)}")
    maker = MODELS[name]
    known = signature(maker).parameters
    own: dict[str, Any] = {"seed": seed} if "seed" in known else {}
    parts: dict[str, Parameters] = {}
    for key, value in (parameters or {}).items():
        part, dot, rest = key.partition(".")
        if part not in known or (dot and part not in MODELS) or not _is_plain(value):
            raise ConfigError(f"parameter {key} of {name}", got=value, expected=f"finite values of {', '.join(known)}")
        if dot:
            parts.setdefault(part, {})[rest] = value
        else:
            own[key] = value
    return maker(**own, **{part: make_model(part, seed, inner) for part, inner in parts.items()})


def _is_plain(value: object) -> bool:
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


__all__ = [
    "MODELS",
    "BlendModel",
    "GraphModel",
    "IalsModel",
    "ItemKnnModel",
    "LinearModel",
    "Model",
    "Parameters",
    "PopularityModel",
    "make_model",
]
