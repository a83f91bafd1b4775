"""Checks of the options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.errors import ConfigError


def check_seed(seed: int) -> None:
    """ConfigError for a seed that is none."""
    if not 0 <= seed < 2**32:
        raise ConfigError("--seed", got=seed, expected="a whole number from 0 to 4294967295")


def check_asked(model: str, models: Iterable[str], k: int, seed: int, where: str = "") -> None:
    """ConfigError for a model that is neither ``auto`` nor among the models, a k below 1 or a seed that is none.

    where : what the message adds to their names.
    """
    names = ("auto", *models)
    if model not in names:
        raise ConfigError("--model", got=model, expected=", ".join(names) + where)
    if k < 1:
        raise ConfigError("--k", got=k, expected="a whole number from 1")
    check_seed(seed)
