"""Logs of auctions: what each line says, and lines that say nothing usable."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.errors import DataError
from headrace.types import Float64, Int8, Int32
from headrace_training.tables import read_words

LINE = "click market_price predicted_value [exchange]"
MAX_PRICE = 2**31 - 1
MAX_VALUE = 1e18
"""Sums over any log stay finite."""


@dataclass(frozen=True)
class AuctionLog:
    """Auctions in time order.

    clicks   : (n,) int8, 1 where the impression was clicked on, else 0.
    prices   : (n,) int32 >= 0, the market price, CPM units.
    values   : (n,) float64 >= 0, what an impression was predicted to be worth.
    exchange : (n,) int32, position in ``exchanges``.   exchanges : names in order of appearance.
    """

    clicks: Int8
    prices: Int32
    values: Float64
    exchange: Int32
    exchanges: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prices)

    def part(self, start: int, stop: int) -> AuctionLog:
        """Auctions start to stop - 1."""
        rows = slice(start, stop)
        return AuctionLog(self.clicks[rows], self.prices[rows], self.values[rows], self.exchange[rows], self.exchanges)


def read_log(path: Path, exchanges: Sequence[str] = ()) -> AuctionLog:
    """Read a log, a line an auction, words parted by white space; ``.gz`` is unpacked, blank lines are passed over.

    exchanges : names that have their positions already. A line that names none belongs to the exchange "".
    Raises DataError naming file and line.
    """
    clicks, prices, values, exchange = array("b"), array("i"), array("d"), array("i")
    places = {name: place for place, name in enumerate(exchanges)}
    for number, words in read_words(path):
        where = f"{path}, line {number}"
        if len(words) not in (3, 4):
            raise DataError(f"{where}: words", got=len(words), expected=f"'{LINE}'")
        clicks.append(_click(words[0], where))
        prices.append(_price(words[1], where))
        values.append(_value(words[2], where))
        exchange.append(places.setdefault(words[3] if len(words) == 4 else "", len(places)))
    if not prices:
        raise DataError(f"{path} holds no auction", hint=f"a line is '{LINE}'")
    return AuctionLog(
        np.array(clicks, dtype=np.int8),
        np.array(prices, dtype=np.int32),
        np.array(values, dtype=np.float64),
        np.array(exchange, dtype=np.int32),
        tuple(places),
    )


def _click(word: str, where: str) -> int:
    if word not in ("0", "1"):
        raise DataError(f"{where}: click", got=word, expected="0 or 1")
    return int(word)


def _price(word: str, where: str) -> int:
    # int() would also take 1_000, +5 and other scripts' digits
    price = int(word) if word.isascii() and word.isdigit() and len(word) <= len(str(MAX_PRICE)) else -1
    if not 0 <= price <= MAX_PRICE:
        raise DataError(f"{where}: market_price", got=word, expected=f"a whole number from 0 to {MAX_PRICE}")
    return price


def _value(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    # not a number fails both comparisons
    if not 0 <= value <= MAX_VALUE or "_" in word:
        raise DataError(f"{where}: predicted_value", got=word, expected=f"a number from 0 to {MAX_VALUE:g}")
    return value
