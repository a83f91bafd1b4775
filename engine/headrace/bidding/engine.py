"""How a batch of bid requests is decided: match, predict, price, pace, reserve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headrace.bidding.board import QUARTER_MS, Board
from headrace.bidding.counts import BidCounts
from headrace.bidding.ledger import Ledger, Reason
from headrace.bidding.match import Matches, ask, match
from headrace.bidding.pace import Pacer
from headrace.bidding.predict import BidModel, PersonReader, Predictor, resolve_items, shown
from headrace.bidding.requests import (
    BID,
    BRAKE,
    BUDGET,
    CURRENCY,
    FENCED,
    INSUFFICIENT_TIME,
    JOURNAL_UNAVAILABLE,
    LEDGER_NOT_OWNER,
    NO_MATCH,
    BidRequests,
    Decisions,
    PlainWords,
)
from headrace.bidding.settings import BiddingConfig
from headrace.kernels.match import Targets
from headrace.kernels.pace import Seen, value_bin
from headrace.kernels.predict import Candidates
from headrace.kernels.price import Auctions, Offers, Terms, price_auctions, value_offers
from headrace.types import Bool, Float64, Int8, Int32, Int64

_REASONS = np.full(max(Reason) + 1, BUDGET, np.int8)
"""No-bid reason for each of the ledger's; a bid above the operator's maximum is a brake, too."""
_REASONS[[Reason.OK, Reason.BRAKE, Reason.MAX_BID]] = BID, BRAKE, BRAKE
_REASONS[[Reason.JOURNAL_UNAVAILABLE, Reason.NOT_OWNER, Reason.FENCED]] = JOURNAL_UNAVAILABLE, LEDGER_NOT_OWNER, FENCED


@dataclass(frozen=True, slots=True)
class View:
    """What one decision is made from; replaced in whole."""

    board: Board
    model: BidModel
    people: PersonReader
    find_item: Callable[[str], int]
    items: Int32


class BiddingEngine:
    """Decides bids over one board of campaigns, one artifact and one ledger.

    people : reads persons for the artifact's factors.
    find_item : item id to the row that `people` and the model know it by; -1 when nobody knows it.
    monotonic : the clock of deadlines.

    Attribute ``counts`` counts what was decided.

    Thread-safe: decisions read snapshots; what the pacer learns and solves goes through one lock.
    """

    def __init__(
        self,
        ledger: Ledger,
        board: Board,
        model: BidModel,
        people: PersonReader,
        find_item: Callable[[str], int],
        config: BiddingConfig,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._config = config
        self._monotonic = monotonic
        self.counts = BidCounts()
        self._lock = threading.Lock()
        self._predictor = Predictor()
        self._view = View(board, model, people, find_item, resolve_items(board.promoted_ids, find_item))
        self._pacer = Pacer(ledger, config, board, model)

    @property
    def artifact_version(self) -> str:
        return self._view.model.version

    def set_board(self, board: Board) -> None:
        """Decide over another board from now on; what was learned of line items that stay is kept."""
        view = self._view
        self._swap(
            View(board, view.model, view.people, view.find_item, resolve_items(board.promoted_ids, view.find_item))
        )

    def set_model(self, model: BidModel, people: PersonReader, find_item: Callable[[str], int]) -> None:
        """Decide with another artifact from now on; calls in flight finish with the one that they began with."""
        board = self._view.board
        self._swap(View(board, model, people, find_item, resolve_items(board.promoted_ids, find_item)))

    def refresh_items(self) -> None:
        """Look again for promoted items that nobody knew; to be called at least every second."""
        view = self._view
        unknown = np.flatnonzero(view.items < 0)
        found = resolve_items([view.board.promoted_ids[i] for i in unknown.tolist()], view.find_item)
        if (found >= 0).any():
            items = view.items.copy()
            items[unknown] = found
            with self._lock:
                if view is self._view:
                    self._view = replace(view, items=items)

    def warm(self, now_ms: int) -> None:
        """Compile or load every kernel of the bidding path; counts and reserves nothing."""
        nobody = BidRequests(
            names=[""],
            words=PlainWords([""], [()], [()], [""]),
            exchanges=[""],
            deadlines=np.zeros(1),
            time_ms=np.array([now_ms], np.int64),
            first_price=np.zeros(1, bool),
            request=np.zeros(0, np.int32),
            floor_cpm=np.zeros(0, np.int64),
        )
        view = self._view
        matches = self._match(view.board, nobody)
        offers, _ = self._predict(view, nobody, matches)
        draft = self._price(view, self._pacer.terms, nobody, offers)
        self._observe(view, nobody, offers, draft)
        Pacer(self._ledger, self._config, view.board, view.model).solve(now_ms)
        value_bin(1.0)  # by itself only with the first campaign or the first silent bid, under the lock

    def planned_micros(self, campaign_id: str) -> int:
        """See `Pacer.planned_micros`; 0 for a campaign that is not on the board."""
        with self._lock:
            row = self._pacer.campaign_row(campaign_id)
            return self._pacer.planned_micros(row) if row >= 0 else 0

    def multiplier(self, campaign_id: str) -> float:
        """The campaign's present pacing multiplier; 0 for one that is not on the board."""
        with self._lock:
            row = self._pacer.campaign_row(campaign_id)
            return self._pacer.campaign_multiplier(row) if row >= 0 else 0.0

    def plans(self) -> tuple[Board, Float64, Float64]:
        """The board, and what `Pacer.plans` says of its campaigns."""
        with self._lock:
            return self._view.board, *self._pacer.plans()

    def learn(self, types: Sequence[int], tokens: Sequence[str], prices_cpm: Sequence[int | None]) -> None:
        """Take in accepted notices: what our bids met with tells what impressions cost."""
        with self._lock:
            self._pacer.landscape.heard(types, tokens, prices_cpm)

    def bid(self, requests: BidRequests) -> Decisions:
        """Decide a batch; money is reserved last, and given back for a request whose deadline passed meanwhile."""
        with self._lock:
            self._pacer.advance(int(requests.time_ms.max()))
            view, terms = self._view, self._pacer.terms
        if not self._ledger.owned:
            n = len(requests.request)
            return self._counted(_nothing(view, np.full(n, LEDGER_NOT_OWNER, np.int8), [None] * n))
        matches = self._match(view.board, requests)
        offers, positions = self._predict(view, requests, matches)
        draft = self._price(view, terms, requests, offers)
        unmatched = offers.indptr[1:] == offers.indptr[:-1]
        if unmatched.any():
            draft.close(unmatched[requests.request], _why_unmatched(matches)[requests.request])
        if (late := self._late(requests)) is not None:
            draft.close(late, np.int8(INSUFFICIENT_TIME))
        try:
            self._reserve(view.board, requests, offers, draft)
            self._observe(view, requests, offers, draft)
            if (late := self._late(requests)) is not None:
                self._withdraw(late, draft)
            return self._counted(_decide(view, offers, positions, draft))
        except BaseException:
            self.take_back(draft.tokens)
            raise

    def take_back(self, tokens: Sequence[str | None]) -> None:
        """Return the money of bids that never leave the process."""
        taken = [token for token in tokens if token is not None]
        self._ledger.release_reservations(taken)
        with self._lock:
            self._pacer.landscape.withdraw(taken)

    def _counted(self, decisions: Decisions) -> Decisions:
        self.counts.add(decisions.board, decisions.reasons, decisions.lines, decisions.bid_cpm)
        return decisions

    def _swap(self, view: View) -> None:
        with self._lock:
            self._view = view
            self._pacer.adopt(view.board, view.model)

    def _match(self, board: Board, requests: BidRequests) -> Matches:
        hour_bits, hour_rows = board.hours.rows(requests.time_ms)
        asked = ask(board, requests, hour_rows)
        targets = Targets(
            any_bits=board.any_bits,
            term_bits=board.term_bits,
            hour_bits=hour_bits,
            currency_bits=board.currency_bits,
            flight_start_ms=board.nodes.flight_start_ms,
            flight_end_ms=board.nodes.flight_end_ms,
            paused=board.paused,
        )
        return match(board, targets, asked)

    def _predict(self, view: View, requests: BidRequests, matches: Matches) -> tuple[Offers, Int32]:
        persons = view.people.read(requests.names, int(requests.time_ms.max()))
        candidates = Candidates(matches.indptr, matches.lines, view.board.promoted_indptr, view.items)
        probability, positions = self._predictor.predict(view.model.model, persons, candidates, requests.time_ms)
        return shown(Offers(matches.indptr, matches.lines, probability), positions)

    def _price(self, view: View, terms: Terms, requests: BidRequests, offers: Offers) -> Draft:
        value_cpm = np.empty(len(offers.lines), np.int64)
        value_offers(terms, offers, value_cpm)
        n = len(requests.request)
        ranked = np.empty((n, self._config.max_tries), np.int32)
        bids = np.empty((n, self._config.max_tries), np.int64)
        rows = [view.model.exchanges.get(exchange, 0) for exchange in requests.exchanges]
        auctions = Auctions(
            request=requests.request,
            floor_cpm=requests.floor_cpm,
            first_price=requests.first_price[requests.request],
            market_row=np.array(rows, np.int32)[requests.request],
        )
        price_auctions(view.model.market, terms, offers, value_cpm, auctions, ranked, bids)
        return Draft.of(value_cpm, ranked, bids)

    def _late(self, requests: BidRequests) -> Bool | None:
        """Impressions whose deadline has passed, (i,) bool; None when there are none."""
        now = self._monotonic()
        if now <= requests.deadlines.min():
            return None
        late = requests.deadlines < now
        return late[requests.request]

    def _reserve(self, board: Board, requests: BidRequests, offers: Offers, draft: Draft) -> None:
        """Take money for each impression's best candidate, or for the next one when that is refused."""
        for attempt in range(self._config.max_tries):
            rows = draft.waiting(attempt)
            if not len(rows):
                return
            refused = [self._try(board, requests, offers, draft, part, attempt) for part in _by_quarter(requests, rows)]
            if not any(refused):
                return

    def _try(
        self, board: Board, requests: BidRequests, offers: Offers, draft: Draft, rows: Int64, attempt: int
    ) -> bool:
        """Whether any of the rows was refused."""
        winner, bids = draft.ranked[rows, attempt], draft.bids[rows, attempt]
        of_request = requests.request[rows]
        tokens, refusals = self._ledger.reserve(
            board.nodes.accounts[offers.lines[winner]],
            bids,
            [requests.exchanges[r] for r in of_request.tolist()],
            int(requests.time_ms[of_request].max()),
        )
        reasons = _REASONS[refusals]
        draft.settle(rows, attempt, winner, bids, tokens, reasons)
        return bool(reasons.any())

    def _observe(self, view: View, requests: BidRequests, offers: Offers, draft: Draft) -> None:
        seen = Seen(
            indptr=offers.indptr,
            lines=offers.lines,
            value_cpm=draft.value_cpm,
            request=requests.request,
            first_price=requests.first_price[requests.request],
            winner=draft.winner,
        )
        with self._lock:
            if view is self._view:
                self._pacer.observe(seen)
                self._pacer.landscape.placed(
                    draft.tokens, draft.bid_cpm.tolist(), seen.first_price.tolist(), int(requests.time_ms.max())
                )

    def _withdraw(self, late: Bool, draft: Draft) -> None:
        rows = np.flatnonzero(late & (draft.winner >= 0))
        if len(rows):
            self.take_back([draft.tokens[row] for row in rows.tolist()])
            draft.close(late, np.int8(INSUFFICIENT_TIME))


@dataclass(slots=True)
class Draft:
    """Answers to i impressions in the making.

    value_cpm : (c,) int64 of the offers.   ranked, bids : (i, t) of `price_auctions`.
    winner, bid_cpm, reasons : (i,) position among the offers or -1, bid, reason.   tokens : None without a bid.
    """

    value_cpm: Int64
    ranked: Int32
    bids: Int64
    winner: Int32
    bid_cpm: Int64
    reasons: Int8
    tokens: list[str | None]

    @classmethod
    def of(cls, value_cpm: Int64, ranked: Int32, bids: Int64) -> Draft:
        """Nothing reserved yet; where nobody is ranked the reason is the kernel's."""
        n = len(ranked)
        reasons = np.where(ranked[:, 0] < 0, -bids[:, 0], BID).astype(np.int8)
        winner, bid_cpm = np.full(n, -1, np.int32), np.zeros(n, np.int64)
        return cls(value_cpm, ranked, bids, winner, bid_cpm, reasons, [None] * n)

    def close(self, rows: Bool, reason: Int8 | np.int8) -> None:
        """No bid for these impressions, (i,) bool, for one reason or one each."""
        self.reasons = np.where(rows, reason, self.reasons)
        self.winner[rows] = -1
        self.bid_cpm[rows] = 0
        self.ranked[rows] = -1
        for row in np.flatnonzero(rows).tolist():
            self.tokens[row] = None

    def waiting(self, attempt: int) -> Int64:
        """Impressions that have a candidate for this attempt and nothing reserved, (w,) int64."""
        reasons = self.reasons
        refused = (reasons == BUDGET) | (reasons == BRAKE) if attempt else reasons == BID
        rows: Int64 = np.flatnonzero(refused & (self.ranked[:, attempt] >= 0))
        return rows

    def settle(
        self, rows: Int64, attempt: int, winner: Int32, bids: Int64, tokens: Sequence[str | None], reasons: Int8
    ) -> None:
        """Take in the ledger's answer for the candidates of one attempt."""
        won = reasons == BID
        self.winner[rows[won]] = winner[won]
        self.bid_cpm[rows[won]] = bids[won]
        # the best candidate's reason is the one to tell
        told = slice(None) if attempt == 0 else won
        self.reasons[rows[told]] = reasons[told]
        for row, token in zip(rows.tolist(), tokens, strict=True):
            self.tokens[row] = token


def _by_quarter(requests: BidRequests, rows: Int64) -> list[Int64]:
    """Impressions to reserve for in one call: all of them, unless a budget day may end between them."""
    first, last = int(requests.time_ms.min()) // QUARTER_MS, int(requests.time_ms.max()) // QUARTER_MS
    if first == last:
        return [rows]
    quarters = (requests.time_ms // QUARTER_MS)[requests.request[rows]]
    return [rows[quarters == quarter] for quarter in np.unique(quarters)]


def _why_unmatched(matches: Matches) -> Int8:
    """Reason of each request without an offer: somebody may not spend, lacks the currency, else NO_MATCH; (n,) int8."""
    fit, payable = matches.counts[:, 0], matches.counts[:, 1]
    other = np.where(fit > payable, CURRENCY, NO_MATCH)
    reasons: Int8 = np.where(payable > np.diff(matches.indptr), BUDGET, other).astype(np.int8)
    return reasons


def _nothing(view: View, reasons: Int8, tokens: list[str | None]) -> Decisions:
    n = len(reasons)
    return Decisions(
        board=view.board,
        artifact_version=view.model.version,
        reasons=reasons,
        tokens=tokens,
        bid_cpm=np.zeros(n, np.int64),
        lines=np.full(n, -1, np.int32),
        positions=np.full(n, -1, np.int32),
        value_cpm=np.zeros(n, np.int64),
        probability=np.zeros(n),
    )


def _decide(view: View, offers: Offers, positions: Int32, draft: Draft) -> Decisions:
    decisions = _nothing(view, draft.reasons, draft.tokens)
    bid = np.flatnonzero(draft.winner >= 0)
    winner = draft.winner[bid]
    decisions.bid_cpm[bid] = draft.bid_cpm[bid]
    decisions.lines[bid] = offers.lines[winner]
    decisions.positions[bid] = positions[winner]
    decisions.value_cpm[bid] = draft.value_cpm[winner]
    decisions.probability[bid] = offers.probability[winner]
    return decisions
