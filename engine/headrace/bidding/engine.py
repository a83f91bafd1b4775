"""How a batch of bid requests is decided: match, predict, price, pace, reserve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat

import numpy as np

from headrace.bidding.board import Board
from headrace.bidding.counts import BidCounts
from headrace.bidding.draft import Draft, undecided
from headrace.bidding.match import Matches, ask, match
from headrace.bidding.pacing.pace import Pacer, warm_kernels
from headrace.bidding.pacing.solution import Report
from headrace.bidding.predict import BidModel, Offerer, PersonReader, Predictor, lay_out, resolve_items
from headrace.bidding.pricing.exploration import explore
from headrace.bidding.pricing.landscape import warm_prices
from headrace.bidding.pricing.winrate import Key, Prices, floor_band
from headrace.bidding.requests import (
    AUTHORITY_UNREACHABLE,
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
from headrace.bidding.span import Span
from headrace.bidding.strategies.sandbox import Sandbox, StrategyState
from headrace.bidding.strategies.strategy import Strategy
from headrace.bidding.view import View
from headrace.decisions.batch import Decided, NoRecorder, RecordedModel, Recorder
from headrace.kernels.match import Asked, Targets
from headrace.kernels.pace import Seen
from headrace.kernels.predict import Candidates, Persons
from headrace.kernels.price import Auctions, Market, Offers, Strategies, Terms, price_auctions, value_offers
from headrace.ledger.ledger import Ledger, Reason
from headrace.types import Float64, Int32, UInt64

_REASONS = {
    **{int(reason): BUDGET for reason in Reason},
    Reason.OK: BID,
    Reason.BRAKE: BRAKE,
    Reason.MAX_BID: BRAKE,
    Reason.JOURNAL_UNAVAILABLE: JOURNAL_UNAVAILABLE,
    Reason.NOT_OWNER: LEDGER_NOT_OWNER,
    Reason.FENCED: FENCED,
    Reason.AUTHORITY: AUTHORITY_UNREACHABLE,
}
"""No-bid reason for each of the ledger's; a bid above the operator's maximum is a brake, too."""


class BiddingEngine:
    """Decides bids over one board of campaigns, one artifact and one ledger.

    people : reads persons for the artifact's factors.
    find_item : item id to the row that `people` and the model know it by; -1 when nobody knows it.
    monotonic : the clock of deadlines.   strategies : user-written ones, by the name that line items say.

    Attribute ``counts`` counts what was decided; ``pacer`` can solve aside and tells its progress.

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
        strategies: Mapping[str, Strategy] | None = None,
    ) -> None:
        self._ledger = ledger
        self._config = config
        self._monotonic = monotonic
        self.counts = BidCounts()
        self._lock = threading.Lock()
        self._predictor: Offerer = Predictor()
        self._recorder: Recorder = NoRecorder()
        self._view = View.of(board, model, people, find_item)
        self.pacer = Pacer(ledger, config, board, model, self._lock)
        self._sandbox = Sandbox(strategies or {}, config, board)
        self._recorded = RecordedModel(model.version, model.market, model.exchanges, model.profile)

    @property
    def artifact_version(self) -> str:
        return self._view.model.version

    def record(self, recorder: Recorder) -> None:
        """Tell a recorder of all decisions from now on."""
        self._recorder = recorder

    def predict_with(self, predictor: Offerer) -> None:
        """Take candidates and their probabilities from elsewhere than the model, from now on."""
        self._predictor = predictor

    def set_board(self, board: Board) -> None:
        """Decide over another board from now on; what was learned of line items that stay is kept."""
        view = self._view
        self._swap(View.of(board, view.model, view.people, view.find_item))

    def set_model(self, model: BidModel, people: PersonReader, find_item: Callable[[str], int]) -> None:
        """Decide with another artifact from now on; calls in flight finish with the one that they began with."""
        self._swap(View.of(self._view.board, model, people, find_item))

    def refresh_items(self) -> None:
        """Look again for promoted items that nobody knew; to be called at least every second."""
        view = self._view
        unknown = np.flatnonzero(view.items < 0)
        found = resolve_items([view.board.promoted_ids[i] for i in unknown.tolist()], view.find_item)
        if (found >= 0).any():
            items = view.items.copy()
            items[unknown] = found
            table = lay_out(view.model.model, items)
            with self._lock:
                if view is self._view:
                    self._view = replace(view, items=items, table=table)

    def warm(self, now_ms: int) -> None:
        """Compile or load every kernel of the bidding path; counts and reserves nothing."""
        nobody = BidRequests(
            names=[""],
            words=PlainWords([""], [()], [()], [""]),
            exchanges=[""],
            deadlines=np.zeros(1),
            time_ms=np.array([now_ms], np.int64),
            first_price=np.zeros(1, bool),
            seeds=np.zeros(1, np.uint64),
            request=np.zeros(0, np.int32),
            floor_cpm=np.zeros(0, np.int64),
            placements=[],
        )
        view = self._view
        _, matches = self._match(view.board, nobody)
        span = Span.of(nobody)
        offers, _, _ = self._predict(view, nobody, span, matches)
        with self._lock:
            rules = self._sandbox.begin(now_ms)
        prices = self.pacer.landscape.prices
        auctions = self._auctions(prices, nobody, [])
        draft = self._price(prices.market, self.pacer.terms, rules, offers, auctions, nobody.seeds)
        self._observe(view, span, offers, auctions, draft, rules)
        Pacer(self._ledger, self._config, view.board, view.model, threading.Lock()).solve(now_ms)
        warm_kernels()
        warm_prices()

    def planned_micros(self, campaign_id: str) -> int:
        """What the campaign's plan wants spent by now, see `Report`; 0 without a plan, a request, or the campaign."""
        return int(np.nan_to_num(self._of(campaign_id, self.pacer.report.planned)))

    def multiplier(self, campaign_id: str) -> float:
        """The campaign's present pacing multiplier; 0 for one that is not on the board."""
        return self._of(campaign_id, self.pacer.report.multiplier)

    def _of(self, campaign_id: str, values: Float64) -> float:
        row = self._view.board.rows.get(campaign_id, -1)
        return float(values[row]) if 0 <= row < len(values) else 0.0

    def plans(self) -> tuple[Board, Float64, Float64]:
        """Of each campaign: micros that its plan wants spent by now, NaN if it is not paced, and its multiplier."""
        board, _, report = self.pacing()
        return board, np.where(board.even, report.planned, np.nan), report.multiplier

    def pacing(self) -> tuple[Board, Terms, Report]:
        """The board, what its line items pay at present, and what the pacer's last solution says of it."""
        with self._lock:
            return self._view.board, self.pacer.terms, self.pacer.report

    def strategies(self) -> list[StrategyState]:
        """What became of every user-written strategy."""
        with self._lock:
            return self._sandbox.states()

    def learn(
        self,
        types: Sequence[int],
        tokens: Sequence[str],
        prices_cpm: Sequence[int | None],
        minimums_cpm: Sequence[int | None] | None = None,
    ) -> None:
        """Take in accepted notices: what our bids met with tells what impressions cost.

        minimums_cpm : lowest bids that would have won, None where not told.
        """
        minimums = minimums_cpm or [None] * len(tokens)
        self._recorder.heard(types, tokens, prices_cpm, minimums)
        with self._lock:
            self.pacer.heard(types, tokens)
            self.pacer.landscape.heard(types, tokens, prices_cpm, minimums)

    def bid(self, requests: BidRequests) -> Decisions:
        """Decide a batch; money is reserved last, and given back for a request whose deadline passed meanwhile."""
        span = Span.of(requests)
        self.pacer.advance(span.last_ms)
        with self._lock:
            view, terms, rules = self._view, self.pacer.terms, self._sandbox.begin(span.last_ms)
            prices, model = self.pacer.landscape.prices, self._priced_model()
        if not self._ledger.owned:
            nothing = undecided(view.board, view.model.version, len(requests.request), LEDGER_NOT_OWNER)
            return self._counted(nothing)
        asked, matches = self._match(view.board, requests)
        offers, positions, persons = self._predict(view, requests, span, matches)
        keys = _keys(view.board, asked, requests, span)
        auctions = self._auctions(prices, requests, keys)
        draft = self._price(prices.market, terms, rules, offers, auctions, requests.seeds)
        if any(draft.reasons):
            _explain(draft, span, matches, offers)
        self._close_late(draft, span, requests)
        try:
            self._reserve(view.board, requests, span, offers, draft)
            self._observe(view, span, offers, auctions, draft, rules)
            self._follow(view, keys, auctions, draft, span)
            self._close_late(draft, span, requests)
            decisions = self._counted(draft.decide(view.board, view.model.version, offers, positions))
            self.counts.add_explored(view.board, decisions.lines, draft.given_up)
            told = requests, view.board, model, terms, asked, matches, offers, positions, auctions, draft
            self._recorder.decided(Decided(*told, persons.subject_keys, persons.sequence))
            return decisions
        except BaseException:
            self.take_back(draft.tokens)
            raise

    def take_back(self, tokens: Sequence[str | None]) -> None:
        """Return the money of bids that never leave the process."""
        taken = [token for token in tokens if token is not None]
        if not taken:
            return
        self._ledger.release_reservations(taken)
        self._recorder.withdrawn(taken)
        with self._lock:
            self.pacer.withdraw(taken)

    def _counted(self, decisions: Decisions) -> Decisions:
        self.counts.add(decisions.board, decisions.reasons, decisions.lines, decisions.bid_cpm)
        return decisions

    def _swap(self, view: View) -> None:
        def install() -> None:
            if view.board is not self._view.board:
                self._sandbox.adopt(view.board)
            self._view = view

        self.pacer.adopt(view.board, view.model, install)

    def _match(self, board: Board, requests: BidRequests) -> tuple[Asked, Matches]:
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
        return asked, match(board, targets, asked)

    def _predict(
        self, view: View, requests: BidRequests, span: Span, matches: Matches
    ) -> tuple[Offers, Int32, Persons]:
        persons = view.people.read(requests.names, span.last_ms)
        candidates = Candidates(matches.indptr, matches.lines, view.board.promoted_indptr, view.items)
        offers = self._predictor.offers(view.model.model, view.table, persons, candidates, requests.time_ms)
        return *offers, persons

    def _auctions(self, prices: Prices, requests: BidRequests, keys: Sequence[Key]) -> Auctions:
        return Auctions(
            request=requests.request,
            floor_cpm=requests.floor_cpm,
            first_price=requests.first_price[requests.request],
            market_row=prices.rows_of(keys),
            paced_cpm=np.empty((len(keys), self._config.max_tries), np.int64),
        )

    def _price(
        self, market: Market, terms: Terms, rules: Strategies, offers: Offers, auctions: Auctions, seeds: UInt64
    ) -> Draft:
        value_cpm = np.empty(len(offers.lines), np.int64)
        value_offers(terms, offers, value_cpm)
        shape = auctions.paced_cpm.shape
        ranked, bids = np.empty(shape, np.int32), np.empty(shape, np.int64)
        price_auctions(market, terms, rules, offers, value_cpm, auctions, ranked, bids)
        share = self._config.explore_share
        given_up = explore(market, rules, offers.lines, auctions, seeds, share, ranked, bids)
        return Draft.of(value_cpm, ranked, bids, given_up)

    def _close_late(self, draft: Draft, span: Span, requests: BidRequests) -> None:
        """No bid where the deadline has passed; what was reserved there goes back."""
        now = self._monotonic()
        if now <= span.first_deadline:
            return
        deadlines = requests.deadlines.tolist()
        late = [row for row, request in enumerate(span.request) if deadlines[request] < now]
        self.take_back([draft.tokens[row] for row in late])
        for row in late:
            draft.close(row, INSUFFICIENT_TIME)

    def _reserve(self, board: Board, requests: BidRequests, span: Span, offers: Offers, draft: Draft) -> None:
        """Take money for each impression's best candidate, or for the next one when that is refused."""
        for attempt in range(self._config.max_tries):
            rows = draft.waiting(attempt)
            if not rows:
                return
            for part in span.by_quarter(rows):
                winner, bids = draft.candidates(part, attempt)
                requests_of = span.requests_of(part)
                tokens, refusals = self._ledger.reserve(
                    board.nodes.accounts[offers.lines[winner]],
                    bids,
                    [requests.exchanges[row] for row in requests_of],
                    max([span.time_ms[row] for row in requests_of]),
                    *([] if requests.rates is None else [requests.rates[requests_of]]),
                )
                codes = refusals.tolist()
                draft.settle(part, attempt, tokens, [_REASONS[code] for code in codes] if any(codes) else codes)

    def _observe(
        self, view: View, span: Span, offers: Offers, auctions: Auctions, draft: Draft, rules: Strategies
    ) -> None:
        seen = Seen(
            indptr=offers.indptr,
            lines=offers.lines,
            value_cpm=draft.value_cpm,
            request=auctions.request,
            first_price=auctions.first_price,
            winner=np.array(draft.winner, np.int32),
        )
        n_first, bid_on = sum(auctions.first_price.tolist()), seen.winner
        tokens = [token for token in draft.tokens if token is not None]
        if len(tokens) < len(bid_on):
            bid_on = bid_on[bid_on >= 0]
        lines, value_cpm = offers.lines[bid_on], draft.value_cpm[bid_on]
        with self._lock:
            if view is self._view:
                self.pacer.observe(seen, n_first)
                if tokens:
                    self.pacer.placed(tokens, lines, value_cpm, span.last_ms)
                self._sandbox.end(rules, offers.lines, draft.winner, draft.bid_cpm)

    def _follow(self, view: View, keys: Sequence[Key], auctions: Auctions, draft: Draft, span: Span) -> None:
        """Remember what was bid, to learn from what becomes of it."""
        explored = [row in draft.given_up for row in range(len(keys))]
        rows = zip(keys, draft.bid_cpm, auctions.first_price.tolist(), explored, repeat(span.last_ms))
        placed = {token: row for token, row in zip(draft.tokens, rows, strict=True) if token is not None}
        with self._lock:
            if view is self._view:
                self.pacer.landscape.placed(placed)

    def _priced_model(self) -> RecordedModel:
        """What the records keep of the model and the prices in force."""
        prices, model = self.pacer.landscape.prices, self._view.model
        if self._recorded.market is not prices.market or self._recorded.version != model.version:
            exchanges = {str(path[0]): row for path, row in prices.rows.items() if len(path) == 1}
            self._recorded = RecordedModel(model.version, prices.market, exchanges, model.profile)
        return self._recorded


def _keys(board: Board, asked: Asked, requests: BidRequests, span: Span) -> list[Key]:
    """What win rates are learned by, of each impression; a currency that no campaign has is the empty one."""
    currencies, exchanges = (*board.currencies, ""), requests.exchanges
    of_request = [currencies[row] for row in asked.currency_rows.tolist()]
    columns = zip(span.request, requests.placements, requests.floor_cpm.tolist(), strict=True)
    return [(exchanges[at], of_request[at], placement, floor_band(floor)) for at, placement, floor in columns]


def _explain(draft: Draft, span: Span, matches: Matches, offers: Offers) -> None:
    """Why there are no offers, where there are none: somebody may not spend, lacks the currency, else NO_MATCH."""
    for row, request in enumerate(span.request):
        if draft.reasons[row] == BID or offers.indptr[request] != offers.indptr[request + 1]:
            continue
        fit, payable = matches.counts[request].tolist()
        n_matched = int(matches.indptr[request + 1] - matches.indptr[request])
        other = CURRENCY if fit > payable else NO_MATCH
        draft.close(row, BUDGET if payable > n_matched else other)
