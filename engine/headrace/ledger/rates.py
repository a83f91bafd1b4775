"""Rates of exchange: a dated file that operators replace, read anew when it changes, and refused once it is stale."""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from headrace.errors import ConfigError
from headrace.ledger.notices import MAX_RATE_MICROS
from headrace.ledger.tokens import SAME_CURRENCY

LOOK_EVERY_MS = 1_000
WARN_EVERY_MS = 60_000
AHEAD_MS = 300_000
"""How far ahead of the present a table's date may lie."""

_PAIR = re.compile(r"[A-Z]{6}")
_DECIMAL = re.compile(r"\d{1,7}(\.\d{1,12})?")
_log = logging.getLogger("headrace.rates")


@dataclass(frozen=True, slots=True)
class RateTable:
    """What one unit of the first currency is worth in the second, micros, as of a moment."""

    as_of_ms: int
    micros: Mapping[tuple[str, str], int]


def read_rates(path: Path) -> RateTable:
    """Read a TOML file: ``as_of``, a moment with its zone, and ``[rates]`` with entries like ``EURUSD = "1.0843"``.

    The other way round follows where it is not given, rounded up. Raises ConfigError.
    """
    hint = 'as_of = 2026-05-01T06:00:00Z, then [rates] and lines like EURUSD = "1.0843"'
    try:
        stored = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"bidding.rates_file {path}: {error}", hint=hint) from error
    as_of, rates = stored.get("as_of"), stored.get("rates")
    if not isinstance(as_of, datetime) or as_of.tzinfo is None or not isinstance(rates, dict):
        raise ConfigError(f"bidding.rates_file {path}", sorted(stored), "as_of and [rates]", hint)
    micros: dict[tuple[str, str], int] = {}
    for pair, text in rates.items():
        rate = _micros(text)
        if not _PAIR.fullmatch(pair) or not 1 <= rate <= MAX_RATE_MICROS:
            raise ConfigError(f"bidding.rates_file {path}: {pair}", text, "a decimal above zero, in quotes", hint)
        micros[pair[:3], pair[3:]] = rate
    for (one, other), rate in list(micros.items()):
        micros.setdefault((other, one), -(-(SAME_CURRENCY**2) // rate))
    return RateTable(round(as_of.astimezone(UTC).timestamp() * 1000), micros)


def _micros(text: object) -> int:
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        return 0
    whole, _, fraction = text.partition(".")
    return int(whole + fraction[:6].ljust(6, "0")) + bool(fraction[6:].strip("0"))


class Rates:
    """The rates in force.

    path : the file; None: there are none.   max_age_ms : how old it may be.

    Raises ConfigError when the file cannot be used at the start; a later one that cannot be used is logged and left.
    """

    def __init__(self, path: Path | None, max_age_ms: int) -> None:
        self._path, self._max_age_ms = path, max_age_ms
        self._looked_ms = self._warned_ms = 0
        self._stamp = _stamp(path)
        self._table = RateTable(0, {}) if path is None else read_rates(path)

    @property
    def any(self) -> bool:
        """Whether there is a file of rates at all."""
        return self._path is not None

    def rate(self, of: str, in_: str, now_ms: int) -> int:
        """Micros of one currency for one unit of another; 0 where the table has none or is stale."""
        self._look(now_ms)
        age_ms = now_ms - self._table.as_of_ms
        rate = self._table.micros.get((of, in_), 0)
        if rate and not -AHEAD_MS <= age_ms <= self._max_age_ms:
            self._warn(now_ms, age_ms)
            return 0
        return rate

    def _look(self, now_ms: int) -> None:
        if self._path is None or abs(now_ms - self._looked_ms) < LOOK_EVERY_MS:
            return
        self._looked_ms = now_ms
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._table = read_rates(self._path)
        except ConfigError as error:
            _log.error("the rates of before stay until they are stale: %s", error)

    def _warn(self, now_ms: int, age_ms: int) -> None:
        if abs(now_ms - self._warned_ms) >= WARN_EVERY_MS:
            self._warned_ms = now_ms
            _log.warning("no bids in other currencies: the rates are %d s old, %s", age_ms // 1000, self._path)


def _stamp(path: Path | None) -> tuple[int, int]:
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return 0, 0
    return (status.st_ino, status.st_mtime_ns) if status is not None else (0, 0)
