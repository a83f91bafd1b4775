"""What is known of a campaign before its log is replayed: the price level, and what a history or a file says more."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import DataError
from headrace.types import Float64
from headrace_training.replay.log import AuctionLog
from headrace_training.tables import open_bytes

MAX_BID = 300
"""The highest bid that may win, CPM units."""


@dataclass(frozen=True)
class Info:
    """A campaign's training days.

    cpm : mean market price, exact.   click_rate : clicks an impression, NaN where the file does not say.
    price_counts : (301,) float64, auctions by market price, prices above 300 at 300; all 0 where the file says nothing.
    """

    cpm: Fraction
    click_rate: float
    price_counts: Float64


def read_info(path: Path) -> Info:
    """Read ``{"cost_train": …, "imp_train": …}`` and, optionally, ``clk_train`` and ``price_counter_train``.

    ``price_counter_train[p]`` is how many impressions had the market price p. Raises DataError naming file and key.
    """
    found = _json(path)
    cost, n = _whole(path, found, "cost_train"), _whole(path, found, "imp_train")
    if not cost or not n:
        raise DataError(f"{path}: cost_train and imp_train", got=(cost, n), expected="whole numbers above 0")
    rate = _whole(path, found, "clk_train") / n if "clk_train" in found else float("nan")
    return Info(Fraction(cost, n), rate, _counts(path, found.get("price_counter_train", [])))


def history_info(history: AuctionLog, path: Path) -> Info:
    """The same of a history; DataError when all its prices are 0."""
    total = int(history.prices.sum(dtype=np.int64))
    if not total:
        raise DataError(f"{path}: mean market_price", got=0, expected="above 0", hint="no budget follows from it")
    counts = np.bincount(np.minimum(history.prices, MAX_BID), minlength=MAX_BID + 1).astype(np.float64)
    return Info(Fraction(total, len(history)), float(history.values.mean()), counts)


def _json(path: Path) -> dict[str, Any]:
    with open_bytes(path) as handle:
        try:
            content = handle.read()
            # campaign files are shipped packed with and without a name that says so
            text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            found = json.loads(text)
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{path} is no JSON: {error}", hint="give the campaign's JSON file") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}", got=type(found).__name__, expected="a JSON object")
    return found


def _whole(path: Path, found: dict[str, Any], key: str) -> int:
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{path}: {key}", got=value, expected="a whole number of zero or more")
    return value


def _counts(path: Path, given: Any) -> Float64:
    if not isinstance(given, list) or not all(type(count) is int and count >= 0 for count in given):
        raise DataError(f"{path}: price_counter_train", got=given, expected="a list of whole numbers of zero or more")
    counts = np.zeros(max(MAX_BID + 1, len(given)))
    counts[: len(given)] = given
    counts[MAX_BID] = counts[MAX_BID:].sum()
    return counts[: MAX_BID + 1].copy()
