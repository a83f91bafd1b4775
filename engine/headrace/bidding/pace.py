"""Pacing by solving again and again: the largest multipliers that the budget left allows over the traffic left.

Expected spend as a function of the multiplier is tabulated from the price landscape and the recent values of a line
item, and corrected, within bounds, by what bids really cost. Nothing is integrated, so nothing winds up; after a cut
or a pause the next solution starts from what is left. Time is the requests' own, so a replay paces the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.bidding.board import FOREVER_MS, NO_LIMIT, Board
from headrace.bidding.landscape import Landscape
from headrace.bidding.ledger import Ledger
from headrace.bidding.predict import BidModel
from headrace.bidding.settings import BiddingConfig
from headrace.bidding.traffic import WEEK_MS, Traffic, local_day
from headrace.kernels.pace import (
    N_STEPS,
    N_VALUE_BINS,
    Needs,
    Seen,
    Tally,
    observe,
    solve_multipliers,
    tabulate_spend,
    value_bin,
)
from headrace.kernels.price import Terms
from headrace.types import Float64, Int64

NANOS_PER_MICRO = 1000
MAX_AFFORDABLE = 10**15
"""Micros beyond which what is left does not bound one bid."""
PRIOR_WEEKS = 30_000 / WEEK_MS
"""Traffic seen is taken as if half a minute of average traffic had passed unseen before it."""
PRIOR_BIDS = 16.0
"""Bids at their expected cost that are taken as seen before the first real one."""
PRIOR_MATCHES = 4.0
COST_BOUNDS = (0.25, 4.0)
"""Within these the landscape's costs are corrected by the real ones."""
LEAST_SHARE = 0.01
"""A line item is taken to win at least this share of the impressions that it matches from its neighbours."""
MOVED = 0.01
"""A plan starts anew when an edit moved what is left by more than this share."""


@dataclass(slots=True)
class Books:
    """What the pacer remembers of m line items and N = m + k nodes (line items, then campaigns); money in nanos.

    mass : (m,) decayed weeks of traffic over which the tally was taken.   cost : (m,) decayed real spend.
    spent : (2, N) last seen spend of today and of all time.
    Plans, (2, N), row 0 to the end of the day, row 1 to the end of the flight: ``plan_ms`` start, ``plan_end_ms``,
    ``plan_left`` what was left at the start, ``plan_spent`` all that had been spent by then. A start of 0 is no plan.
    """

    tally: Tally
    mass: Float64
    cost: Float64
    spent: Float64
    plan_ms: Int64
    plan_end_ms: Int64
    plan_left: Float64
    plan_spent: Float64

    @classmethod
    def empty(cls, n_lines: int, n_nodes: int) -> Books:
        return cls(
            tally=Tally(np.zeros((n_lines, N_VALUE_BINS)), *(np.zeros(n_lines) for _ in range(4))),
            mass=np.zeros(n_lines),
            cost=np.zeros(n_lines),
            spent=np.zeros((2, n_nodes)),
            plan_ms=np.zeros((2, n_nodes), np.int64),
            plan_end_ms=np.zeros((2, n_nodes), np.int64),
            plan_left=np.zeros((2, n_nodes)),
            plan_spent=np.zeros((2, n_nodes)),
        )

    def rearranged(self, lines: Int64, nodes: Int64) -> Books:
        """The same for another order: entry i comes from position lines[i] or nodes[i], -1 starts empty."""
        result = Books.empty(len(lines), len(nodes))
        old, new = np.maximum(lines, 0)[lines >= 0], lines >= 0
        for target, source in zip(result.tally, self.tally, strict=True):
            target[new] = source[old]
        result.mass[new], result.cost[new] = self.mass[old], self.cost[old]
        old, new = nodes[nodes >= 0], nodes >= 0
        for name in ("spent", "plan_ms", "plan_end_ms", "plan_left", "plan_spent"):
            getattr(result, name)[:, new] = getattr(self, name)[:, old]
        return result


class Pacer:
    """Multipliers of all line items. Not thread-safe: the engine calls it under its lock.

    ``terms`` is replaced in whole, never changed; the hot path reads it without the lock.
    """

    def __init__(self, ledger: Ledger, config: BiddingConfig, board: Board, model: BidModel) -> None:
        self._ledger = ledger
        self._config = config
        self._now_ms = 0
        self._n_seen = 0
        self._keys: list[tuple[str, str]] = []
        self._kinds = np.zeros(2)
        self._books = Books.empty(0, 0)
        self._model: BidModel | None = None
        self.adopt(board, model)

    def adopt(self, board: Board, model: BidModel) -> None:
        """Take over a new board or model; what was learned of line items that stay is kept."""
        keys = _keys(board)
        if keys != self._keys:
            position = {key: i for i, key in enumerate(self._keys)}
            nodes = np.array([position.get(key, -1) for key in keys], np.int64)
            self._books = self._books.rearranged(nodes[: board.n_lines], nodes)
        if model is not self._model:
            self.landscape = Landscape(model.market)
        self._board, self._model, self._keys = board, model, keys
        self._cap_bin = np.array([value_bin(float(cap)) for cap in board.max_bid_cpm], np.int32)
        self._dirty = True
        self._day_end_ms = 0
        ones = np.ones(board.n_lines)
        self.terms = self._make_terms(ones, np.full(board.n_lines, MAX_AFFORDABLE), (ones, ones))
        if self._now_ms:
            self.solve(self._now_ms)

    def campaign_row(self, campaign_id: str) -> int:
        """The campaign's row on the board, -1 when it is not there."""
        ids = [campaign.campaign_id for campaign in self._board.campaigns]
        return ids.index(campaign_id) if campaign_id in ids else -1

    def observe(self, seen: Seen, n_first: int) -> None:
        """Count a priced batch; n_first : how many of its auctions are first-price."""
        terms = self.terms
        observe(seen, terms.multiplier, terms.max_bid_cpm, self.landscape.costs, self._books.tally)
        self._kinds[0] += len(seen.request) - n_first
        self._kinds[1] += n_first
        self._n_seen += len(seen.request)

    def advance(self, now_ms: int) -> None:
        """Solve again if enough time of the requests, or enough of them, went by since the last solution."""
        elapsed = now_ms - self._now_ms
        if (
            self._dirty
            or elapsed >= self._config.solve_every_ms
            or self._n_seen >= self._config.solve_every_impressions
        ):
            self.solve(max(now_ms, self._now_ms))

    def solve(self, now_ms: int) -> None:
        """Replace the multipliers by those for a moment, ms since 1970 UTC; never earlier than the last one's."""
        board, books = self._board, self._books
        if now_ms >= self._day_end_ms:
            self._start_day(now_ms)
        self.landscape.forget_before(now_ms)
        spendable = self._read_money(now_ms)
        left = self._left(spendable)
        self._make_plans(now_ms, left)
        shares = self._shares_left(now_ms, left)
        left = np.minimum(left, self._catch_up(now_ms))
        traffic = self._expect(now_ms)
        m = board.n_lines
        spend = np.empty((m, N_STEPS + 1))
        tabulate_spend(books.tally.values, self._cap_bin, self._costs(), spend)
        multiplier = np.empty(m)
        even = board.even[board.campaign_of]
        needs = Needs(
            traffic=traffic,
            left=np.where(even, left[:, :m], np.inf),
            campaign_indptr=board.campaign_indptr,
            campaign_left=np.where(board.even, left[:, m:], np.inf),
        )
        solve_multipliers(spend, needs, multiplier)
        self.terms = self._make_terms(multiplier, spendable[:m], shares)
        self._now_ms, self._n_seen, self._dirty = now_ms, 0, False

    def planned_micros(self, campaign: int) -> int:
        """What the campaign's plan wants spent by the last request, micros in all; 0 before the first request.

        The plan spends what was left at its start (of the day, of the flight, or at the last edit that moved it) in
        step with expected traffic; as fast as possible means all at once. With several limits the tightest counts.
        """
        if not self._now_ms:
            return 0
        board = self._board
        planned = self._planned()
        own = float(planned[board.n_lines + campaign])
        lines = float(np.sum(planned[board.campaign_indptr[campaign] : board.campaign_indptr[campaign + 1]]))
        wanted = min(own, lines)
        return int(wanted / NANOS_PER_MICRO) if np.isfinite(wanted) else 0

    def plans(self) -> tuple[Float64, Float64]:
        """Of each campaign: micros that its plan wants spent by now, NaN without a plan, and its multiplier; (k,) both.

        As `planned_micros` and `campaign_multiplier` say it of one.
        """
        board, terms = self._board, self.terms
        multiplier = self._by_campaign(np.maximum, np.where(terms.exhausted, 0.0, terms.multiplier))
        if not self._now_ms:
            return np.full(len(multiplier), np.nan), multiplier
        nodes = self._planned()
        nanos = np.minimum(nodes[board.n_lines :], self._by_campaign(np.add, nodes[: board.n_lines]))
        return np.where(np.isfinite(nanos) & board.even, nanos / NANOS_PER_MICRO, np.nan), multiplier

    def _by_campaign(self, how: np.ufunc, of_lines: Float64) -> Float64:
        """Line items' values brought together, (k,); 0 for a campaign without line items."""
        starts = self._board.campaign_indptr
        some = np.diff(starts) > 0
        result = np.zeros(len(some))
        if some.any():
            result[some] = how.reduceat(of_lines, starts[:-1][some])
        return result

    def campaign_multiplier(self, campaign: int) -> float:
        """The highest multiplier among the campaign's line items."""
        board, terms = self._board, self.terms
        lines = slice(board.campaign_indptr[campaign], board.campaign_indptr[campaign + 1])
        active = np.where(terms.exhausted[lines], 0.0, terms.multiplier[lines])
        return float(np.max(active, initial=0.0))

    def _make_terms(self, multiplier: Float64, spendable: Int64, shares: tuple[Float64, Float64]) -> Terms:
        board = self._board
        affordable = np.clip(spendable, 0, MAX_AFFORDABLE) * NANOS_PER_MICRO
        return Terms(
            board.worth_micros,
            board.max_bid_cpm,
            affordable,
            multiplier,
            spendable <= 0,
            np.zeros(len(multiplier), np.int64),
            *shares,
        )

    def _start_day(self, now_ms: int) -> None:
        nodes = self._board.nodes
        days = [local_day(zone, now_ms) for zone in self._board.zones]
        ends = np.array([end for _, end in days], np.int64)
        assert self._model is not None
        self._traffic = Traffic(self._model.profile, self._board, now_ms)
        self._ends_ms = np.stack([np.minimum(ends[nodes.zone], nodes.flight_end_ms), nodes.flight_end_ms])
        self._day_end_ms = int(ends.min(initial=now_ms + 86_400_000))

    def _read_money(self, now_ms: int) -> Int64:
        """Age what is remembered to a moment, add real spend; returns what may be spent of each node, micros."""
        books, nodes, m = self._books, self._board.nodes, self._board.n_lines
        spendable = self._ledger.spendable(nodes.accounts, now_ms)
        today = self._ledger.spent_today(nodes.accounts, now_ms)
        spent = np.stack([today, self._ledger.spent(nodes.accounts)]) * float(NANOS_PER_MICRO)
        if self._now_ms:
            decay = 0.5 ** ((now_ms - self._now_ms) / self._config.half_life_ms)
            for kept in (*books.tally, self._kinds):
                kept *= decay
            since = np.full(len(nodes.accounts), self._now_ms)
            books.mass = books.mass * decay + self._traffic.between(since, np.full_like(since, now_ms))[:m]
            books.cost = books.cost * decay + np.maximum(spent[1, :m] - books.spent[1, :m], 0.0)
        books.spent = spent.astype(np.float64, copy=False)
        return spendable

    def _costs(self) -> Float64:
        """Expected cost by bin of the paced value over the recent mix of second- and first-price auctions, (120,)."""
        kinds = self._kinds if self._kinds.sum() > 0.0 else np.array([1.0, 0.0])
        costs: Float64 = kinds @ self.landscape.costs / kinds.sum()
        return costs

    def _left(self, spendable: Int64) -> Float64:
        """Nanos left of each node's own limits, (2, N); infinite where there is none or the flight has no end."""
        nodes = self._board.nodes
        limits = np.stack([nodes.daily_micros, nodes.lifetime_micros])
        room = np.minimum(limits * float(NANOS_PER_MICRO) - self._books.spent, spendable * float(NANOS_PER_MICRO))
        paced = (limits != NO_LIMIT) & (self._ends_ms < FOREVER_MS)
        return np.where(paced, np.maximum(room, 0.0), np.inf)

    def _make_plans(self, now_ms: int, left: Float64) -> None:
        books = self._books
        expected = books.plan_left - (books.spent[1] - books.plan_spent)
        over = (books.plan_ms == 0) | (books.plan_end_ms != self._ends_ms)
        if self._dirty:
            with np.errstate(invalid="ignore"):
                over |= ~(np.abs(left - expected) <= MOVED * books.plan_left)
            over |= np.isfinite(left) != np.isfinite(books.plan_left)
        start = np.maximum(now_ms, self._board.nodes.flight_start_ms)
        books.plan_ms = np.where(over, start, books.plan_ms)
        books.plan_end_ms = np.where(over, self._ends_ms, books.plan_end_ms)
        books.plan_left = np.where(over, left, books.plan_left)
        books.plan_spent = np.where(over, books.spent[1], books.plan_spent)

    def _catch_up(self, now_ms: int) -> Float64:
        """The most that may be left for each node's pace to stay within max_catch_up times the plan's, nanos."""
        books = self._books
        rest = self._share_left(now_ms)
        planned = np.isfinite(books.plan_left)
        return np.where(planned, self._config.max_catch_up * np.where(planned, books.plan_left, 0.0) * rest, np.inf)

    def _share_left(self, now_ms: int) -> Float64:
        """Share of each plan's traffic that is still to come, (2, N)."""
        books = self._books
        rows = []
        for h in range(2):
            end = np.minimum(books.plan_end_ms[h], now_ms + 1000 * WEEK_MS)
            whole = self._traffic.between(books.plan_ms[h], end)
            rest = self._traffic.between(np.maximum(books.plan_ms[h], now_ms), end)
            rows.append(np.divide(rest, whole, out=np.zeros_like(rest), where=whole > 0.0))
        return np.stack(rows)

    def _shares_left(self, now_ms: int, left: Float64) -> tuple[Float64, Float64]:
        """Shares of budget and of traffic that each line item's scarcest plan still has, (m,) both; 1 without a plan.

        A line item goes by its own plans and its campaign's; left : (2, N) nanos of `_left`.
        """
        plan_left = self._books.plan_left
        planned = np.isfinite(plan_left) & (plan_left > 0.0)
        budget = np.minimum(np.divide(left, plan_left, out=np.ones_like(left), where=planned), 1.0)
        time = np.where(planned, self._share_left(now_ms), 1.0)
        nodes = np.stack([np.arange(self._board.n_lines), self._board.n_lines + self._board.campaign_of])
        scarcest = np.argmin(np.where(planned, budget - time, 1.0)[:, nodes].reshape(4, -1), axis=0)[None]
        of_line = [np.take_along_axis(share[:, nodes].reshape(4, -1), scarcest, axis=0)[0] for share in (budget, time)]
        return of_line[0], of_line[1]

    def _planned(self) -> Float64:
        """Nanos that each node's plans want spent by now, the tightest of both; infinite without a plan."""
        books, board = self._books, self._board
        done = 1.0 - self._share_left(self._now_ms)
        even = np.concatenate([board.even[board.campaign_of], board.even])
        wanted = np.where(even, done, 1.0) * np.where(np.isfinite(books.plan_left), books.plan_left, 0.0)
        planned = np.where(np.isfinite(books.plan_left), books.plan_spent + wanted, np.inf)
        result: Float64 = planned.min(axis=0)
        return result

    def _expect(self, now_ms: int) -> Float64:
        """Impressions each line item will match until its horizons, corrected for real costs, (2, m)."""
        books, m = self._books, self._board.n_lines
        tally = books.tally
        rate = tally.matched / (books.mass + PRIOR_WEEKS)
        now = np.maximum(now_ms, self._board.nodes.flight_start_ms)
        ends = np.minimum(self._ends_ms, now_ms + 1000 * WEEK_MS)
        mass = np.stack([self._traffic.between(now, ends[h])[:m] for h in range(2)])
        result: Float64 = mass * rate * self._correction()
        return result

    def _correction(self) -> Float64:
        """Real cost of a matched impression over its expected cost, (m,): share bid on, times real over expected."""
        books, tally = self._books, self._books.tally
        each = _ratio(tally.cost_matched, tally.matched)
        share = _ratio(tally.cost_bid + PRIOR_MATCHES * each, tally.cost_matched + PRIOR_MATCHES * each)
        prior = PRIOR_BIDS * _ratio(tally.cost_bid, tally.n_bid)
        real = _ratio(books.cost + prior, tally.cost_bid + prior)
        result: Float64 = np.clip(share, LEAST_SHARE, 1.0) * np.clip(real, *COST_BOUNDS)
        return result


def _ratio(top: Float64, bottom: Float64) -> Float64:
    """top / bottom, 1 where the bottom is not positive."""
    return np.divide(top, bottom, out=np.ones_like(top), where=bottom > 0.0)


def _keys(board: Board) -> list[tuple[str, str]]:
    lines = [
        (board.campaigns[owner].campaign_id, line.line_item_id)
        for owner, line in zip(board.campaign_of, board.line_items, strict=True)
    ]
    return lines + [(campaign.campaign_id, "") for campaign in board.campaigns]
