"""Bidding rules that users write: a Python function under a decorator, compiled into the hot path."""

from __future__ import annotations

import hashlib
import inspect
import math
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from headrace.bidding.strategies.grammar import FIELDS, MATH, MAX_PARAMETERS, Parsed, parse_strategy
from headrace.errors import InvalidRequestError, StrategyError
from headrace.types import Float64

MAX_BYTES = 1 << 20
_TRIALS = 10_000

F = TypeVar("F", bound=Callable[..., float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a strategy is told of one candidate for one impression; prices are micros per thousand impressions (CPM).

    value_cpm : expected worth of the impression.   multiplier : the pacing multiplier.
    paced_cpm : value times multiplier, at most the highest bid and what the money left allows.
    shaded_cpm : what would be bid without the strategy: in a first-price auction the paced bid, shaded.
    floor_cpm : lowest accepted bid, 0 for none.   highest_cpm : what is above it is cut to it.
    first_price : 1.0 in a first-price auction, else 0.0.
    budget_left, time_left : shares of the scarcest plan's budget and of its traffic that are still to come, 0 to 1.
    prices, wins : a price landscape, ascending prices and P(win) at each; compiled code sees the auction's own.
    """

    value_cpm: float
    multiplier: float = 1.0
    paced_cpm: float = 0.0
    shaded_cpm: float = 0.0
    floor_cpm: float = 0.0
    highest_cpm: float = 1e12
    first_price: float = 0.0
    budget_left: float = 1.0
    time_left: float = 1.0
    prices: Sequence[float] = (0.0, 1.0)
    wins: Sequence[float] = (0.0, 0.0)

    def win_rate(self, bid_cpm: float) -> float:
        """P(win) at a bid."""
        return float(np.interp(bid_cpm, self.prices, self.wins, left=0.0))


assert tuple(entry.name for entry in fields(Ask))[: len(FIELDS)] == FIELDS


def strategy(function: F) -> F:
    """Check a function of (ask: Ask, parameter: float = number, …) that returns a bid; it stays callable as it is.

    Raises StrategyError that names the line and what may not stand there.
    """
    try:
        lines, first = inspect.getsourcelines(function)
    except OSError as error:
        raise StrategyError(f"strategy {function.__name__}", str(error), "a function in a file") from None
    where = inspect.getsourcefile(function) or "?"
    parse_strategy(textwrap.dedent("".join(lines)), function.__name__, where, first)
    return function


@dataclass(frozen=True, slots=True)
class Strategy:
    """A compiled strategy.

    path, digest : the file, and the first 16 hexadecimal digits of its SHA-256.
    parameters : names and defaults.   shades : it reads the shaded bid.
    address : of its machine code, for `headrace.kernels.price.Strategies`.
    compile_seconds, call_ns : what compiling cost, and CPU nanoseconds of one call.
    """

    name: str
    path: str
    digest: str
    parameters: dict[str, float]
    shades: bool
    address: int
    compile_seconds: float
    call_ns: float
    _code: Any = field(repr=False, compare=False)  # keeps the machine code alive

    def __str__(self) -> str:
        return (
            f"{self.name} of {self.path} (SHA-256 {self.digest}…): compiled in {self.compile_seconds:.2f} s, "
            f"{self.call_ns:.0f} ns a call"
        )

    def row(self, given: Sequence[float]) -> Float64:
        """Parameters as the kernels read them, (8,) float64: those given, in order, then the defaults.

        Raises InvalidRequestError for too many, or one that is not finite.
        """
        if len(given) > len(self.parameters):
            expected = f"at most {len(self.parameters)} ({', '.join(self.parameters) or 'it takes none'})"
            raise InvalidRequestError("strategy_parameters", list(given), expected)
        values = [*given, *list(self.parameters.values())[len(given) :]]
        if not np.isfinite(values).all():
            raise InvalidRequestError("strategy_parameters", list(given), "finite numbers")
        result = np.zeros(MAX_PARAMETERS)
        result[: len(values)] = values
        return result

    def __call__(self, ask: Ask, *parameters: float) -> float:
        """The compiled answer, whatever it is: no limit is kept here."""
        from headrace.kernels.price import call_strategy

        out = np.empty(1)
        asks = np.array([astuple(ask)[: len(FIELDS)]], np.float64)
        landscape = np.array(ask.prices, np.float64), np.array([ask.wins], np.float64)
        call_strategy(self.address, asks, self.row(parameters)[None], *landscape, out)
        return float(out[0])


def load_strategies(specs: Sequence[str]) -> dict[str, Strategy]:
    """Strategies by name; raises as `load_strategy` does, and for a name that comes twice."""
    found: dict[str, Strategy] = {}
    for spec in specs:
        made = load_strategy(spec)
        if made.name in found:
            raise StrategyError("bidding.strategies", spec, f"another name than that of {found[made.name].path}")
        found[made.name] = made
    return found


def load_strategy(spec: str) -> Strategy:
    """Read, check and compile ``PATH.py:FUNCTION``; nothing of the file is run.

    Raises StrategyError.
    """
    path, _, name = spec.rpartition(":")
    if not path or not name.isidentifier():
        raise StrategyError("strategy", spec, "PATH.py:FUNCTION")
    try:
        content = Path(path).read_bytes()
        source = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise StrategyError(f"{path} cannot be read: {said}") from None
    if len(content) > MAX_BYTES:
        raise StrategyError(path, f"{len(content)} bytes", f"at most {MAX_BYTES}")
    return _compiled(parse_strategy(source, name, path), path, hashlib.sha256(content).hexdigest()[:16])


def _compiled(parsed: Parsed, path: str, digest: str) -> Strategy:
    # heavy, and not needed to check a function
    from numba import carray, cfunc, types
    from numba.core.errors import NumbaError

    from headrace.kernels.price import win_rate_at

    start = time.perf_counter()
    names: dict[str, Any] = {f"_{name}": getattr(math, name) for name in MATH}
    # those of math would make whole numbers, which overflow
    names |= {"_ceil": np.ceil, "_floor": np.floor, "_carray": carray, "_win_rate_at": win_rate_at}
    exec(compile(parsed.tree, path, "exec"), names)
    pointer = types.CPointer(types.float64)
    signature = types.float64(pointer, pointer, pointer, pointer, types.intp)
    try:
        # NumPy's rules: what has no value is NaN or infinite, and nothing is raised
        code = cfunc(signature, nopython=True, error_model="numpy")(names[parsed.name])
    except NumbaError as error:
        raise StrategyError(f"{path}: {parsed.name} cannot be compiled: {error}") from None
    seconds = time.perf_counter() - start
    shades = "shaded_cpm" in parsed.fields
    return Strategy(
        name=parsed.name,
        path=path,
        digest=digest,
        parameters=parsed.parameters,
        shades=shades,
        address=code.address,
        compile_seconds=seconds,
        call_ns=_call_ns(code.address, parsed.parameters),
        _code=code,
    )


def _call_ns(address: int, parameters: Mapping[str, float]) -> float:
    """CPU nanoseconds of one call, the least of a few runs over plausible candidates."""
    from headrace.kernels.price import call_strategy

    rng = np.random.default_rng(0)
    asks = rng.uniform(0.0, 1e7, (_TRIALS, len(FIELDS)))
    asks[:, [1, 6, 7, 8]] /= 1e7
    prices = np.geomspace(1e3, 1e8, 121)
    table, wins, out = np.zeros((1, MAX_PARAMETERS)), np.linspace(0.0, 1.0, 121)[None], np.empty(_TRIALS)
    table[0, : len(parameters)] = list(parameters.values())
    spent = []
    for _ in range(3):
        start = time.thread_time_ns()
        call_strategy(address, asks, table, prices, wins, out)
        spent.append(time.thread_time_ns() - start)
    return min(spent[1:]) / _TRIALS
