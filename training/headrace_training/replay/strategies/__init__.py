"""Strategies by name."""

from __future__ import annotations

from collections.abc import Callable

from headrace.bidding.strategies.strategy import load_strategy
from headrace.errors import ConfigError
from headrace_training.replay.strategies.base import Start, Strategy
from headrace_training.replay.strategies.constant import constant
from headrace_training.replay.strategies.dual import Dual
from headrace_training.replay.strategies.dynamic import Dynamic
from headrace_training.replay.strategies.linear import linear
from headrace_training.replay.strategies.ortb import ortb
from headrace_training.replay.strategies.pid import Pid
from headrace_training.replay.strategies.resolve import resolve
from headrace_training.replay.strategies.rlb import Rlb
from headrace_training.replay.strategies.written import Written

DEFAULT = "resolve"

STRATEGIES: dict[str, Callable[[Start], Strategy]] = {
    "constant": constant,
    "linear": linear,
    "ortb": ortb,
    "dual": Dual,
    "pid": Pid,
    "rlb": Rlb,
    "dynamic": Dynamic,
    "resolve": resolve,
}


def make_strategy(name: str, start: Start) -> Strategy:
    """A strategy before its first auction, by name or as FILE.py:FUNCTION.

    Raises ConfigError for a name that is none, StrategyError for a file that holds no such strategy.
    """
    if ":" in name:
        return Written(load_strategy(name), resolve(start), start)
    if name not in STRATEGIES:
        raise ConfigError("--strategy", got=name, expected=f"FILE.py:FUNCTION, {', '.join(STRATEGIES)}")
    return STRATEGIES[name](start)
