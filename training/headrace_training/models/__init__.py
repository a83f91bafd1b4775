"""Models that score every item for a user, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.errors import ConfigError
from headrace_training.models.base import Model, Parameters
from headrace_training.models.blend import BlendModel
from headrace_training.models.graph import GraphModel
from headrace_training.models.ials import IalsModel
from headrace_training.models.itemknn import ItemKnnModel
from headrace_training.models.popularity import PopularityModel

MODELS: Mapping[str, Callable[[int], Model]] = {
    "blend": lambda seed: BlendModel(seed=seed),
    "graph": lambda seed: GraphModel(seed=seed),
    "ials": lambda seed: IalsModel(seed=seed),
    "itemknn": lambda seed: ItemKnnModel(),
    "popularity": lambda seed: PopularityModel(),
}


def make_model(name: str, seed: int = 0) -> Model:
    """A model with its default parameters; ConfigError for an unknown name."""
    if name not in MODELS:
        raise ConfigError("model", got=name, expected=f"auto, {', '.join(MODELS)}")
    return MODELS[name](seed)


__all__ = [
    "MODELS",
    "BlendModel",
    "GraphModel",
    "IalsModel",
    "ItemKnnModel",
    "Model",
    "Parameters",
    "PopularityModel",
    "make_model",
]
