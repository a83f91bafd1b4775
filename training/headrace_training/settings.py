"""Options of `headrace-train fit`: defaults, then a TOML file, then flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from headrace.errors import ConfigError
from headrace_training.mapping import EVENT_TYPES
from headrace_training.toml import convert, read_toml

DEFAULT_EVENT_WEIGHTS = {"view": 0.1, "cart": 0.5, "purchase": 1.0, "share": 0.5, "click": 0.1, "impression": 0.0}


class FitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what `fit` learns."""

    n_factors: int = 64
    """Columns of the factors."""
    iterations: int = 15
    """Sweeps of alternating least squares."""
    alpha: float = 0.0
    """Confidence of an interaction of weight 1; 0 picks one of 1, 2, 5 and 20 on the slice before the last."""
    regularization: float = 10.0
    """Weight of the factors' squared length in the loss."""
    seed: int = 0
    """Of every random choice."""
    event_weights: dict[str, float] = {}
    """Weights by event type that differ from the defaults."""
    learn_weights: bool = False
    """Learn the weights by event type and the half-life on the slice before the last, where something is better."""
    half_life_days: float = 0.0
    """Age at which an interaction counts half for the item factors; 0 for no ageing."""
    horizon_days: float = 7.0
    """The probability model speaks of a purchase within so many days; at most a sixth of the log's time."""
    recent_days: float = 28.0
    """Window of popularity before the end of training."""
    repeat_policy: Literal["auto", "allow", "exclude_purchased"] = "auto"
    """Default for serving; auto allows repeats when at least a fifth of the purchases are repeats."""
    neighbours: int = 50
    """Co-purchase neighbours kept an item, at most 50."""
    blend: Literal["auto", "off"] = "auto"
    """What is served beside the factors: auto adds links between items where the slice before the last gains by it."""
    links: int = 100
    """Links kept an item for that, fewer above 200,000 items."""
    assumed_median_cpm: float = 4.0
    """Without auctions: median market price of the assumed landscape, currency units per thousand impressions."""
    assumed_sigma: float = 0.6
    """Without auctions: standard deviation of its logarithm."""

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "n_factors": (1, 1024),
            "iterations": (1, 1000),
            "alpha": (0, 1e6),
            "regularization": (1e-6, 1e6),
            "seed": (0, 2**32 - 1),
            "half_life_days": (0, 1e5),
            "horizon_days": (0.01, 365),
            "recent_days": (0.01, 36_500),
            "neighbours": (1, 50),
            "links": (1, 1000),
            "assumed_median_cpm": (0.01, 1000),
            "assumed_sigma": (0.01, 5),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(name, got=value, expected=f"{low:g} to {high:g}")
        for name, value in self.event_weights.items():
            if name not in DEFAULT_EVENT_WEIGHTS or not 0 <= value <= 1000:
                raise ConfigError(
                    f"event_weights.{name}", got=value, expected=f"0 to 1000 for {', '.join(EVENT_TYPES)}"
                )
        if not any(weight > 0 for weight in self.weights().values()):
            raise ConfigError("event_weights", got=self.event_weights, expected="at least one above 0")

    def weights(self) -> dict[str, float]:
        """Weight of every event type; a return takes a purchase back and has no weight of its own."""
        return {**DEFAULT_EVENT_WEIGHTS, **self.event_weights}


def read_settings(path: Path | None, overrides: dict[str, Any]) -> FitSettings:
    """Settings of a TOML file, if one is given, with flags on top; None means not given. Raises ConfigError."""
    flags = {name: value for name, value in overrides.items() if value is not None}
    return convert(path, read_toml(path), flags, FitSettings)
