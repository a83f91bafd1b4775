"""What auctions of a segment refer to by number: boards, models and words, as frames and back."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from headrace.bidding.board import Board
from headrace.decisions.batch import RecordedModel
from headrace.decisions.layout import Kind, frame
from headrace.kernels.price import Market
from headrace.types import Float64, Int64
from headrace.v1 import campaigns_pb2

MAX_WORDS = 65_536
"""Exchanges and placements of a segment that are told apart; senders may make up as many as they like."""

CURVES_MS = 60_000
"""For so long an older curve of a row of the market stands for it where no bid was shaded with it."""

_LENGTH = struct.Struct("<I")


class _BoardHead(msgspec.Struct, frozen=True):
    version: int
    max_bid_cpm: list[int]
    worth_micros: list[int]
    vocabularies: list[dict[str, int]]
    currencies: dict[str, int]
    sizes: list[int]


class _CurvesHead(msgspec.Struct, frozen=True):
    time_ms: int
    rows: list[int]


class _ModelHead(msgspec.Struct, frozen=True):
    version: str
    exchanges: dict[str, int]
    n_edges: int
    n_rows: int


@dataclass(frozen=True)
class RecordedBoard:
    """The campaigns as they were, in the order of the line items' numbers.

    campaigns : the messages.   max_bid_cpm, worth_micros : (m,) int64 in force for each line item.
    vocabularies : per dimension (country, category, segment) the number of a word.   currencies : rows by name.
    """

    version: int
    campaigns: list[Any]
    max_bid_cpm: Int64
    worth_micros: Int64
    vocabularies: list[dict[str, int]]
    currencies: dict[str, int]

    @cached_property
    def lines(self) -> list[tuple[Any, Any]]:
        """Campaign and line item of each number."""
        return [(campaign, line) for campaign in self.campaigns for line in campaign.line_items]


def board_bytes(board: Board) -> bytes:
    """The payload of a frame of a board."""
    campaigns = [campaign.SerializeToString() for campaign in board.campaigns]
    head = _BoardHead(
        version=board.version,
        max_bid_cpm=board.max_bid_cpm.tolist(),
        worth_micros=board.worth_micros.tolist(),
        vocabularies=list(board.vocabularies),
        currencies=board.currencies,
        sizes=[len(raw) for raw in campaigns],
    )
    return _with_head(head, b"".join(campaigns))


def board_of(payload: bytes) -> RecordedBoard:
    """The board of such a payload."""
    head, body = _read_head(payload, _BoardHead)
    ends = np.cumsum(head.sizes).tolist()
    campaigns = [
        campaigns_pb2.Campaign.FromString(body[end - size : end]) for size, end in zip(head.sizes, ends, strict=True)
    ]
    caps, worth = np.array(head.max_bid_cpm, np.int64), np.array(head.worth_micros, np.int64)
    return RecordedBoard(head.version, campaigns, caps, worth, head.vocabularies, head.currencies)


def model_bytes(model: RecordedModel) -> bytes:
    """The payload of a frame of a model."""
    market = model.market
    head = _ModelHead(model.version, model.exchanges, len(market.edges_cpm), len(market.win_rate))
    arrays = (market.edges_cpm, market.win_rate, model.profile)
    return _with_head(head, b"".join(np.ascontiguousarray(each, "<f8").tobytes() for each in arrays))


def model_of(payload: bytes) -> RecordedModel:
    """The model of such a payload."""
    head, body = _read_head(payload, _ModelHead)
    numbers = np.frombuffer(body, "<f8").astype(np.float64)
    n = head.n_edges
    table = n + n * head.n_rows
    market = Market(numbers[:n], numbers[n:table].reshape(head.n_rows, n))
    return RecordedModel(head.version, market, head.exchanges, numbers[table:])


def curves_bytes(time_ms: int, curves: Mapping[int, Float64]) -> bytes:
    """The payload of a frame of win rates by row that replace those of the model before it, from a time on."""
    rates = np.stack(list(curves.values())).astype("<f8")
    return _with_head(_CurvesHead(time_ms, list(curves)), rates.tobytes())


def curves_of(payload: bytes) -> tuple[int, dict[int, Float64]]:
    """Time and win rates by row of such a payload."""
    head, body = _read_head(payload, _CurvesHead)
    rates = np.frombuffer(body, "<f8").reshape(len(head.rows), -1).astype(np.float64)
    return head.time_ms, dict(zip(head.rows, rates, strict=True))


class Numbers:
    """Numbers of one segment's boards, models and words; what is new is written before it is referred to."""

    def __init__(self) -> None:
        self._boards: list[Board] = []
        self._model: RecordedModel | None = None
        self._n_models = 0
        self._curves: dict[int, tuple[int, Float64]] = {}
        self._words: dict[str, int] = {"": 0}

    def board(self, board: Board) -> tuple[int, bytes]:
        """The board's number, and the frame to write first."""
        number = _place(self._boards, board)
        return (number, b"") if number >= 0 else (len(self._boards) - 1, frame(Kind.BOARD, board_bytes(board)))

    def model(
        self, model: RecordedModel, time_ms: int, rows: Sequence[int], priced: Collection[int]
    ) -> tuple[int, bytes]:
        """The model's number, and the frame to write first: the whole model, or what it has learned of some rows since.

        rows : of the market, that auctions refer to.   priced : those of them that bids were shaded with; they are
            exact, others follow within `CURVES_MS`.
        """
        market, last = model.market, self._model
        if last is None or last.version != model.version or len(last.market.edges_cpm) != len(market.edges_cpm):
            self._model, self._n_models = model, self._n_models + 1
            self._curves = {row: (time_ms, rates) for row, rates in enumerate(market.win_rate.copy())}
            return self._n_models - 1, frame(Kind.MODEL, model_bytes(model))
        changed = [row for row in rows if self._is_new(row, market.win_rate[row], time_ms, priced)]
        new = {row: market.win_rate[row].copy() for row in changed}
        if not new:
            return self._n_models - 1, b""
        self._n_models += 1
        self._curves.update({row: (time_ms, rates) for row, rates in new.items()})
        return self._n_models - 1, frame(Kind.CURVES, curves_bytes(time_ms, new))

    def _is_new(self, row: int, rates: Float64, time_ms: int, priced: Collection[int]) -> bool:
        written_ms, known = self._curves.get(row, (-CURVES_MS, None))
        if row not in priced and time_ms < written_ms + CURVES_MS:
            return False
        return known is None or not np.array_equal(known, rates)

    def words(self, words: Sequence[str]) -> tuple[list[int], bytes]:
        """The number of each word, 0 for the empty one and those beyond the limit, and the frames to write first."""
        known, new = self._words, []
        for word in words:
            if word not in known and len(known) < MAX_WORDS:
                known[word] = len(known)
                new.append(frame(Kind.WORD, word.encode()))
        return [known.get(word, 0) for word in words], b"".join(new)


def _place(known: list[Any], thing: Any) -> int:
    """Where a thing is in a list, by identity, the latest first; -1 and at its end from now on where it is new."""
    for number in range(len(known) - 1, -1, -1):
        if known[number] is thing:
            return number
    known.append(thing)
    return -1


def _with_head(head: msgspec.Struct, body: bytes) -> bytes:
    raw = msgspec.json.encode(head)
    return _LENGTH.pack(len(raw)) + raw + body


def _read_head(payload: bytes, kind: Any) -> tuple[Any, bytes]:
    (length,) = _LENGTH.unpack_from(payload)
    end = _LENGTH.size + length
    return msgspec.json.decode(payload[_LENGTH.size : end], type=kind), payload[end:]
