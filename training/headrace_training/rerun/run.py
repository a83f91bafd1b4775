"""The bidding engine itself over recorded auctions, under other settings and against given prices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headrace.bidding.board import Board, build_board
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.predict import BidModel, Strangers
from headrace.bidding.requests import BidRequests
from headrace.bidding.strategies.strategy import load_strategies
from headrace.decisions.batch import RecordedModel
from headrace.decisions.catalog import RecordedBoard
from headrace.decisions.reading import each_candidate
from headrace.kernels.predict import Candidates, Model, Persons, Table
from headrace.kernels.price import Offers
from headrace.types import Bool, Float64, Int32, Int64
from headrace.v1 import bidder_pb2 as pb
from headrace_training.rerun.parameters import Parameters
from headrace_training.rerun.purse import Purse
from headrace_training.rerun.traffic import Traffic

BATCH = 64
BATCH_MS = 5000
_NOTHING = Model(
    item_factors=np.zeros((1, 1), np.float32),
    popularity=np.zeros(1, np.float32),
    frequency=np.zeros(1, np.float32),
    weights=np.zeros(6, np.float32),
    bias=0.0,
    calib_x=np.zeros(1),
    calib_y=np.zeros(1),
)


@dataclass(frozen=True)
class Played:
    """What became of n auctions.

    won : (n,) bool.   line : (n,) int32 of the board then, -1 without a bid.   bid_cpm : (n,) int64.
    spend_micros, value_micros : (n,) float64; value is probability times worth as recorded, without any premium.
    """

    won: Bool
    line: Int32
    bid_cpm: Int64
    spend_micros: Float64
    value_micros: Float64


class _Words:
    """Recorded words of requests, in the numbers of the board that they were recorded with."""

    def __init__(self, traffic: Traffic, rows: Int64) -> None:
        self._traffic, self._rows = traffic, rows

    def terms(self, board: Board) -> tuple[Int32, Int32, Int32]:
        """See `headrace.bidding.requests.Words`."""
        auctions = self._traffic.recording.auctions[self._rows]
        counts = auctions["n_terms"].astype(np.int64)
        sizes, start = counts.sum(axis=1), auctions["term_start"].astype(np.int64)
        before = np.cumsum(sizes) - sizes
        at = np.arange(sizes.sum()) + np.repeat(start - before, sizes)
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts.reshape(-1))])
        terms = self._traffic.recording.terms[at].astype(np.int32)
        return indptr.astype(np.int32), terms, auctions["currency"].astype(np.int32)


class _Recorded:
    """A predictor that answers what was recorded of the batch at hand."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self.rows: Int64 = np.zeros(0, np.int64)

    def offers(
        self, model: Model, table: Table, persons: Persons, candidates: Candidates, time_ms: Int64
    ) -> tuple[Offers, Int32]:
        """See `headrace.bidding.predict.Predictor`; who was no recorded candidate has nothing to show."""
        recording = self._traffic.recording
        owner, at = each_candidate(recording.auctions[self.rows])
        rows = recording.candidates[at]
        n_lines = len(candidates.item_indptr)
        asked = np.repeat(np.arange(len(candidates.indptr) - 1), np.diff(candidates.indptr)) * n_lines
        known, asked = owner * n_lines + rows["line"], asked + candidates.lines
        place = np.minimum(np.searchsorted(known, asked), max(len(known) - 1, 0))
        there = known[place] == asked if len(known) else np.zeros(len(asked), np.bool_)
        n_kept = np.concatenate(([0], np.cumsum(there)))
        found = rows[place[there]]
        offers = Offers(n_kept[candidates.indptr], candidates.lines[there], np.ascontiguousarray(found["probability"]))
        return offers, np.ascontiguousarray(found["position"])


class Rerun:
    """Runs the traffic of a recording under parameters."""

    def __init__(self, traffic: Traffic, parameters: Parameters) -> None:
        self._traffic, self._parameters = traffic, parameters
        self._recording = traffic.recording
        most = max(int(board.max_bid_cpm.max(initial=1)) for board in self._recording.boards)
        self._config = parameters.config(most)
        self._strategies = load_strategies(self._config.strategies)

    def play(self, prices_cpm: Float64) -> Played:
        """Bid on every auction against prices, (n,) float64; whoever bids as much wins."""
        n = len(self._traffic.rows)
        won, line = np.zeros(n, np.bool_), np.full(n, -1, np.int32)
        bids, spend, value = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
        purse, predictor = Purse(), _Recorded(self._traffic)
        engine: BiddingEngine | None = None
        now_board = now_model = -1
        auctions, models = self._recording.auctions, self._recording.models
        for part in self._batches():
            rows = self._traffic.rows[part]
            board, model = int(auctions["board"][rows[0]]), int(auctions["model"][rows[0]])
            if engine is None:
                engine = self._engine(purse, predictor, board, model)
                self._open(purse, board)
            elif board != now_board:
                engine.set_board(self._board(purse, board))
            elif models[model].version != models[now_model].version:
                engine.set_model(_bid_model(models[model]), Strangers(1), _no_item)
            now_board, now_model = board, model
            predictor.rows = rows
            decisions = engine.bid(self._requests(part, rows))
            line[part], bids[part] = decisions.lines, decisions.bid_cpm
            won[part], spend[part] = self._settle(engine, purse, decisions.tokens, bids[part], prices_cpm[part], rows)
            worth = self._recording.boards[board].worth_micros
            value[part] = np.where(won[part], decisions.probability * worth[np.maximum(decisions.lines, 0)], 0.0)
        return Played(won, line, bids, spend, value)

    def _settle(
        self,
        engine: BiddingEngine,
        purse: Purse,
        tokens: list[str | None],
        bids: Int64,
        prices: Float64,
        rows: Int64,
    ) -> tuple[Bool, Float64]:
        """Who won, and what is paid, micros; the engine hears of it at once."""
        first = self._recording.auctions["first_price"][rows] == 1
        won = (bids > 0) & (bids >= prices)
        paid = np.where(won, np.where(first, bids, np.ceil(prices)), 0).astype(np.int64)
        placed = [(token, row) for row, token in enumerate(tokens) if token is not None]
        for token, row in placed:
            purse.settle(token, int(paid[row]))
        types = [pb.NOTICE_TYPE_BILLING if won[row] else pb.NOTICE_TYPE_LOSS for _, row in placed]
        told = [int(paid[row]) if won[row] else None for _, row in placed]
        engine.learn(types, [token for token, _ in placed], told)
        return won, paid / 1000.0

    def _batches(self) -> Iterator[slice]:
        """Stretches of auctions of one board and one artifact, short in time and number."""
        auctions, rows, time_ms = self._recording.auctions, self._traffic.rows, self._traffic.time_ms
        # what is learned of prices is learned anew here
        artifacts = np.unique([each.version for each in self._recording.models], return_inverse=True)[1]
        changes = np.flatnonzero(
            (np.diff(auctions["board"][rows]) != 0)
            | (np.diff(artifacts[auctions["model"][rows]]) != 0)
            | (np.diff(time_ms // BATCH_MS) != 0)
        )
        ends = np.append(changes + 1, len(rows))
        start = 0
        for end in ends.tolist():
            while start < end:
                yield slice(start, min(start + BATCH, end))
                start = min(start + BATCH, end)

    def _requests(self, part: slice, rows: Int64) -> BidRequests:
        recording, n = self._recording, len(rows)
        auctions = recording.auctions[rows]
        first = (auctions["first_price"] == 1) & self._parameters.shade
        return BidRequests(
            names=[""] * n,
            words=_Words(self._traffic, rows),
            exchanges=[recording.words[code] for code in auctions["exchange"].tolist()],
            deadlines=np.full(n, np.inf),
            time_ms=self._traffic.time_ms[part],
            first_price=first,
            seeds=np.ascontiguousarray(auctions["seed"]),
            request=np.arange(n, dtype=np.int32),
            floor_cpm=np.ascontiguousarray(auctions["floor_cpm"]),
            placements=[recording.words[code] for code in auctions["placement"].tolist()],
        )

    def _engine(self, purse: Purse, predictor: _Recorded, board: int, model: int) -> BiddingEngine:
        boards = self._board(purse, board)
        bid_model = _bid_model(self._recording.models[model])
        engine = BiddingEngine(
            purse,  # type: ignore[arg-type]
            boards,
            bid_model,
            Strangers(1),
            _no_item,
            self._config,
            strategies=self._strategies,
        )
        engine.predict_with(predictor)
        return engine

    def _open(self, purse: Purse, number: int) -> None:
        """Take from lifetime limits what must have been spent of them before the first auction."""
        recorded = self._recording.boards[number]
        rooms = self._first_rooms(number)
        at = 0
        for campaign in recorded.campaigns:
            of_lines = rooms[at : at + len(campaign.line_items)]
            at += len(of_lines)
            name = f"{campaign.advertiser_id}/{campaign.campaign_id}"
            named = [(name, campaign.limits, max(of_lines, default=-1))]
            for line, room in zip(campaign.line_items, of_lines, strict=True):
                if not line.limits.HasField("daily_micros"):
                    named.append((f"{name}/{line.line_item_id}", line.limits, room))
            for account_id, limits, room in named:
                if limits.HasField("lifetime_micros") and room >= 0 and not campaign.limits.HasField("daily_micros"):
                    purse.spend_before(account_id, max(limits.lifetime_micros - room, 0))

    def _first_rooms(self, number: int) -> list[int]:
        """What was left to spend of each line item when it was first a candidate, micros; -1 where it never was."""
        auctions = self._recording.auctions
        _, at = each_candidate(auctions[auctions["board"] == number])
        rows = self._recording.candidates[at]
        lines, first = np.unique(rows["line"], return_index=True)
        rooms = np.full(len(self._recording.boards[number].max_bid_cpm), -1, np.int64)
        rooms[lines] = rows["affordable_cpm"][first] // 1000
        return rooms.tolist()

    def _board(self, purse: Purse, number: int) -> Board:
        recorded: RecordedBoard = self._recording.boards[number]
        campaigns = self._parameters.apply(recorded.campaigns)
        purse.set_limits(campaigns)
        return build_board(recorded.version, campaigns, purse, self._config.max_bid_cpm_micros)  # type: ignore[arg-type]


def _bid_model(recorded: RecordedModel) -> BidModel:
    auctions = np.full(len(recorded.market.win_rate), np.inf)
    return BidModel(recorded.version, _NOTHING, recorded.market, recorded.exchanges, auctions, recorded.profile)


def _no_item(_item_id: str) -> int:
    return -1
