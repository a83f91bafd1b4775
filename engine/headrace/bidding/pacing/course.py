"""The pacer's course over one board: what it knows of line items and campaigns, and how that becomes terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headrace.bidding.board import FOREVER_MS, NO_LIMIT, Board
from headrace.bidding.pacing.delay import Delay
from headrace.bidding.pacing.drift import Drift
from headrace.bidding.pacing.experience import (
    COST,
    COST_BID,
    DUE_COST,
    DUE_WINS,
    DUE_WORTH,
    HELD,
    LONG,
    MASS,
    MATCHED,
    N_BID,
    SHORT,
    WINS,
    WINS_BID,
    WORTH,
    Experience,
    moved,
    ratio,
)
from headrace.bidding.pacing.forecast import Forecast
from headrace.bidding.pacing.goals import DAY_MS, EVEN_OUT_MS, Counted, Goals, Market
from headrace.bidding.pacing.plans import HORIZON_MS, Plans
from headrace.bidding.pacing.progress import Kept, kept_of, put_back
from headrace.bidding.pacing.solution import Report, Since, empty_tally
from headrace.bidding.pacing.traffic import Traffic, local_day
from headrace.bidding.pacing.tree import Tree, keys_of
from headrace.bidding.settings import BiddingConfig
from headrace.kernels.duals import SHORT_MS, Interval
from headrace.kernels.goals import Wishes
from headrace.kernels.pace import (
    N_STEPS,
    STEPS_PER_OCTAVE,
    TOP_STEPS,
    Needs,
    solve_steps,
    tabulate_spend,
    tabulate_worth,
    value_place,
)
from headrace.kernels.price import Terms
from headrace.ledger.ledger import Ledger
from headrace.types import Bool, Float64, Int64

NANOS_PER_MICRO = 1000
MAX_AFFORDABLE = 10**15
"""Micros beyond which what is left does not bound one bid."""
LINES_AT_ONCE = 1024
WELL_KNOWN = 0.99
"""How much of what is known of a line item must be its own for it to go without what is known of its neighbours."""
STRANGE = 4.0
"""Deviations from the forecast at which traffic of a line item is taken to have changed its level."""


class Course:
    """State and solution for one board. Only one thread may call it; ``tally`` is filled by others under the lock.

    terms, report : of the last solution; replaced in whole, never changed.
    """

    def __init__(self, board: Board, config: BiddingConfig) -> None:
        m, n = board.n_lines, len(board.nodes.accounts)
        self.board = board
        self.now_ms = 0
        self.tally = empty_tally(m)
        self.keys = keys_of(board)
        self.line_of = {account: line for line, account in enumerate(board.nodes.accounts[:m].tolist())}
        self.experience, self.drift = Experience(m), Drift(n)
        self.goals = Goals(board, config.actions == "reported", Delay(config.action_delay_ms))
        self.plans, self.promised = Plans(n), Plans(m)
        self._tree = Tree(board)
        self._least_step = np.concatenate([least := self.goals.least_step, self._tree.campaigns(least, np.minimum)])
        self._config = config
        self._edited = True
        self._came_from = np.zeros(0, np.int64)
        self._passed = np.zeros(n)
        self._spent: Float64 = np.zeros((2, n))
        self._spendable = np.zeros(n, np.int64)
        self._pace = np.full((2, n), np.inf)
        self._lasts_ms = (0, 0)
        self._day_ends_ms = np.zeros(n, np.int64)
        self._cap_place = np.array([value_place(float(cap)) for cap in board.max_bid_cpm], np.float64)
        self.terms = self._make_terms(np.ones(m), np.zeros(m, np.int64), np.full(m, MAX_AFFORDABLE))
        self.report = self._make_report(solved=False)

    def for_board(self, board: Board) -> Course:
        """What was learned here, for another board; values counted since are taken along by `follow_on`."""
        position = {key: i for i, key in enumerate(self.keys)}
        result = Course(board, self._config)
        nodes = np.array([position.get(key, -1) for key in result.keys], np.int64)
        lines = nodes[: board.n_lines]
        result.now_ms = self.now_ms
        kept = lines >= 0
        result.tally.values[kept] = self.tally.values[lines[kept]]
        result.experience = self.experience.rearranged(lines)
        result.goals = self.goals.for_board(board, lines)
        result.drift, result.plans = self.drift.rearranged(nodes), self.plans.rearranged(nodes)
        result.promised = self.promised.rearranged(lines)
        result._spent, result._day_ends_ms = moved(self._spent, nodes), moved(self._day_ends_ms, nodes)
        result._came_from = lines
        return result

    def take_counts(self, course: Course) -> None:
        """What bids counted on the course that this one was made of, since its last solution."""
        for ours, theirs in zip(self.tally[1:], course.tally[1:], strict=True):
            ours += moved(theirs, self._came_from)

    def progress(self) -> Kept:
        """What promises, goals and reported purchases have come to; not while another thread solves."""
        return kept_of(self.goals, self.keys, self._day_ends_ms)

    def restore(self, kept: Kept, now_ms: int) -> None:
        """Go on from what was kept; where nothing was, predicted purchases are counted from this moment on."""
        put_back(kept, self.goals, self.keys, self._day_ends_ms)
        self.goals.since_ms = self.goals.since_ms or now_ms

    def win_share(self) -> Float64:
        """(m,) share of bids that win, of late."""
        sums = self.experience.sums[LONG]
        return np.asarray(np.divide(sums[WINS_BID], sums[N_BID], out=np.zeros_like(sums[N_BID]), where=sums[N_BID] > 0))

    def learn_actions(self, actions: Sequence[Counted]) -> None:
        """See `Goals.report`."""
        for action in actions:
            self.goals.report(self.line_of.get(action.account, -1), action)

    def solve(
        self, now_ms: int, seen: Since, ledger: Ledger, forecast: Forecast, values: Callable[[slice], Float64]
    ) -> None:
        """Replace terms and report by those for a moment, ms since 1970 UTC.

        values : copies of rows of ``tally.values``.
        """
        if not self._lasts_ms[0] <= now_ms < self._lasts_ms[1]:
            self._start_day(now_ms, forecast.shares)
        then_ms = self.now_ms or now_ms
        elapsed = max(now_ms - then_ms, 0) if not seen.gone else 0
        self._pass_time(then_ms, elapsed, now_ms, seen, ledger)
        strange = self._strange(forecast.error)
        left = self._left(now_ms, ledger)
        self._renew_plans(now_ms, left, bool(seen.gone or now_ms < then_ms))
        pace, mass = self._paces(now_ms, left)
        self._steer(elapsed, seen, strange)
        multiplier, premium_cpm = self._solve(now_ms, seen, values, forecast.error, (pace, mass))
        self._pace = np.divide(pace, mass, out=np.full_like(pace, np.inf), where=np.isfinite(pace) & (mass > 0.0))
        self.terms = self._make_terms(multiplier, premium_cpm, self._spendable[: self.board.n_lines])
        self.now_ms, self._edited = now_ms, False
        self.report = self._make_report(solved=True)

    def relearn_profile(self, now_ms: int, profile: Float64) -> None:
        """As `refresh_profile`, and take what was measured by the last profile as measured by this one."""
        before = self._traffic
        self.refresh_profile(now_ms, profile)
        spans = [round(half_life / np.log(2.0)) for half_life in (self._config.half_life_ms, SHORT_MS)]
        new, old = (
            np.stack([traffic.since(now_ms - span, now_ms, len(self.keys)) for span in spans])
            for traffic in (self._traffic, before)
        )
        grown = np.divide(new, old, out=np.ones_like(old), where=(old > 0.0) & (new > 0.0))
        self.experience.sums[:, MASS] *= grown[:, : self.board.n_lines]
        self._pace /= grown[SHORT]

    def refresh_profile(self, now_ms: int, profile: Float64) -> None:
        """Look ahead by another profile of the week from now on."""
        self._traffic = Traffic(profile, self.board, now_ms)

    def _start_day(self, now_ms: int, profile: Float64) -> None:
        nodes = self.board.nodes
        days = [local_day(zone, now_ms) for zone in self.board.zones]
        starts, ends = (np.array([day[i] for day in days], np.int64) for i in range(2))
        self._lasts_ms = int(starts.max(initial=now_ms - DAY_MS)), int(ends.min(initial=now_ms + DAY_MS))
        over = (self._day_ends_ms > 0) & (now_ms >= self._day_ends_ms)
        self.goals.new_day(over[: self.board.n_lines])
        self._day_ends_ms = ends[nodes.zone]
        self._ends_ms = np.stack([np.minimum(self._day_ends_ms, nodes.flight_end_ms), nodes.flight_end_ms])
        self.refresh_profile(now_ms, profile)

    def _pass_time(self, then_ms: int, elapsed: int, now_ms: int, seen: Since, ledger: Ledger) -> None:
        """Add what happened."""
        nodes, m = self.board.nodes, self.board.n_lines
        self._spendable = ledger.spendable(nodes.accounts, now_ms)
        spent = np.stack([ledger.spent_today(nodes.accounts, now_ms), ledger.spent(nodes.accounts)])
        before: Float64 = self._spent
        self._spent = np.asarray(spent * float(NANOS_PER_MICRO), np.float64)
        cost = np.maximum(self._spent[1, :m] - before[1, :m], 0.0) if self.now_ms else np.zeros(m)
        self._passed = self._traffic.since(then_ms, then_ms + elapsed, len(nodes.accounts))
        real = np.stack([cost, *seen.won])
        for delay in seen.delays:
            self.experience.heard_after(delay)
        self.experience.add(elapsed, self._config.half_life_ms, seen.counts, real, self._passed[:m])
        self.goals.add(elapsed, self.goals.delay.mean_ms(now_ms), real)
        self.plans.pass_time(self._traffic, then_ms, now_ms)
        if len(self.goals.promised):
            self.promised.pass_time(self._traffic, then_ms, now_ms)

    def _strange(self, error: float) -> Bool:
        """(N,) whose traffic of late lies outside what the longer memory foretold; that memory begins anew."""
        m, sums = self.board.n_lines, self.experience.sums
        came, mass = sums[SHORT, MATCHED], sums[SHORT, MASS]
        foretold = self.experience.rate() * mass
        both = [self._tree.nodes(each) for each in (came, foretold)]
        deviation = np.sqrt(both[1] + 1.0 + (error * both[1]) ** 2)
        strange: Bool = np.abs(both[0] - both[1]) > STRANGE * deviation
        self.experience.restart(strange[:m] | strange[m:][self.board.campaign_of])
        return strange

    def _left(self, now_ms: int, ledger: Ledger) -> Float64:
        """Nanos left of each node's own limits, (2, N); infinite where there is none or the flight has no end.

        Of what is reserved only the part counts as gone that is expected to be spent: most of it comes back.
        """
        nodes, sums = self.board.nodes, self.experience.sums[LONG]
        limits = np.stack([nodes.daily_micros, nodes.lifetime_micros])
        whole = np.maximum(limits * float(NANOS_PER_MICRO) - self._spent, 0.0)
        free = np.minimum(self._spendable * float(NANOS_PER_MICRO), whole)
        gone = np.minimum(ratio(self._tree.nodes(sums[COST_BID]), self._tree.nodes(sums[HELD])), 1.0)
        balance = ledger.spendable(nodes.advertisers, now_ms) * float(NANOS_PER_MICRO)
        room = np.minimum(free + (1.0 - gone) * (whole - free), balance)
        paced = (limits != NO_LIMIT) & (self._ends_ms < FOREVER_MS)
        return np.where(paced, room, np.inf)

    def _renew_plans(self, now_ms: int, left: Float64, anew: bool) -> None:
        nodes, m = self.board.nodes, self.board.n_lines
        start = np.maximum(now_ms, nodes.flight_start_ms)
        edited = self.plans.edited(left, self._spent[1]) if self._edited else np.zeros_like(left, bool)
        before = self.plans.start_ms
        self.plans.renew(start, self._ends_ms, left, self._spent[1], edited | anew)
        self.drift.restart((self.plans.start_ms != before).any(axis=0) | edited.any(axis=0))
        if not len(self.goals.promised):
            return
        due, won = self.goals.left(), self.goals.won[1]
        edited = self.promised.edited(due, won) if self._edited else np.zeros_like(due, bool)
        self.promised.renew(start[:m], self._ends_ms[:, :m], due, won, edited | anew)

    def _paces(self, now_ms: int, left: Float64) -> tuple[Float64, Float64]:
        """Nanos that may be used over the traffic left, and that traffic, weeks; (2, N) both.

        A plan that is behind may use ``max_catch_up`` times what it wants to be left at this time.
        """
        nodes = self.board.nodes
        now = np.maximum(now_ms, nodes.flight_start_ms)
        ends = np.minimum(self._ends_ms, now_ms + HORIZON_MS)
        mass = np.stack([self._traffic.between(now, ends[h]) for h in range(2)])
        return self._hurried(self.plans, left, nodes.curve), mass

    def _hurried(self, plans: Plans, left: Float64, curve: Float64) -> Float64:
        capped = np.minimum(left, self._config.max_catch_up * plans.rest(curve))
        return np.where(np.isinf(curve), np.inf, np.where(np.isinf(curve), 1.0, curve) * capped)

    def _steer(self, elapsed: int, seen: Since, strange: Bool) -> None:
        experience, planned = self.experience, np.isfinite(self._pace)
        target = np.where(planned, np.where(planned, self._pace, 0.0) * self._passed, np.inf).min(axis=0)
        spend = seen.counts[COST_BID] * experience.real(COST, DUE_COST, SHORT)
        wins, costs = (self._tree.nodes(experience.sums[LONG, row]) for row in (WINS_BID, COST_BID))
        self.drift.update(
            Interval(
                elapsed_ms=float(elapsed),
                spend=self._tree.nodes(spend),
                target=target,
                lump=np.divide(costs, wins, out=np.zeros_like(costs), where=wins > 0.0),
                least=self._least_step,
                strange=strange,
            )
        )
        began, m = self.drift.began, self.board.n_lines
        experience.restart(began[:m] | began[m:][self.board.campaign_of])

    def _solve(
        self,
        now_ms: int,
        seen: Since,
        values: Callable[[slice], Float64],
        error: float,
        paces: tuple[Float64, Float64],
    ) -> tuple[Float64, Int64]:
        """Multipliers and premiums, (m,) both."""
        board, experience, goals = self.board, self.experience, self.goals
        m, k, (pace, mass) = board.n_lines, len(board.campaigns), paces
        rate, share = experience.level(error), experience.share()
        young, known = self._young()
        if len(young):
            rate[young] += (1.0 - known[young]) * self._tree.others(rate, known, young)
        premium_cpm = self._premiums(seen.wins, values, mass[:, :m] * rate * share)
        spend, worth = self._tabulate(seen, values, premium_cpm)
        for table in (spend, worth) if len(young) else ():
            usual = self._tree.others(table, known, young)
            table[young] += (1.0 - known[young])[:, None] * np.where(usual > 0.0, usual - table[young], 0.0)
        cost_ratio = share * experience.real(COST, DUE_COST)
        market = Market(
            spend=spend * cost_ratio[:, None],
            worth=worth * (share * experience.real(WORTH, DUE_WORTH))[:, None] if goals.lines.any() else worth,
            window=self._window(now_ms) * rate,
            n_wins=experience.sums[LONG, WINS],
        )
        goal_own, goal_common = goals.steps(market)
        own, common = np.empty(m), np.empty(k)
        needs = Needs(
            traffic=mass[:, :m] * rate * cost_ratio,
            left=pace[:, :m].copy(),
            least_step=goals.least_step,
            campaign_indptr=board.campaign_indptr,
            campaign_left=pace[:, m:].copy(),
        )
        solve_steps(spend, needs, own, common)
        steps = self.drift.follow(np.concatenate([own, np.maximum(common, self._least_step[m:])]))
        step = np.maximum(steps[:m], goal_own)
        step = np.maximum(step, np.maximum(steps[m:], goal_common)[board.campaign_of])
        multiplier = np.where(step < N_STEPS, 2.0 ** ((TOP_STEPS - step) / STEPS_PER_OCTAVE), 0.0)
        return multiplier, premium_cpm

    def _young(self) -> tuple[Int64, Float64]:
        """Line items of which little is known yet, to be taken as like others of their campaign; how much is, (m,)."""
        known = self.experience.known()
        few = np.diff(self.board.campaign_indptr)[self.board.campaign_of] > 1
        return np.flatnonzero((known < WELL_KNOWN) & few), known

    def _tabulate(self, seen: Since, values: Callable[[slice], Float64], premium_cpm: Int64) -> tuple[Float64, Float64]:
        m = self.board.n_lines
        spend, worth = np.empty((m, N_STEPS + 1)), np.zeros((m, N_STEPS + 1))
        for start in range(0, m, LINES_AT_ONCE):
            lines = slice(start, min(start + LINES_AT_ONCE, m))
            part = values(lines)
            tabulate_spend(part, self._cap_place[lines], premium_cpm[lines], seen.costs, spend[lines])
            with_goals = np.flatnonzero(self.goals.lines[lines])
            if len(with_goals):
                some, found = start + with_goals, np.empty((len(with_goals), N_STEPS + 1))
                tabulate_worth(part[with_goals], self._cap_place[some], premium_cpm[some], seen.wins, found)
                worth[some] = found
        return spend, worth

    def _window(self, now_ms: int) -> Float64:
        """(m,) weeks of traffic over which a balance is evened out."""
        m = self.board.n_lines
        now = np.full(m, now_ms)
        return self._traffic.between(now, np.minimum(now + EVEN_OUT_MS, self._ends_ms[1, :m]), slice(m))

    def _premiums(self, wins: Float64, values: Callable[[slice], Float64], traffic: Float64) -> Int64:
        promised, board = self.goals.promised, self.board
        if not len(promised):
            return np.zeros(board.n_lines, np.int64)
        expected = (traffic * self.experience.real(WINS, DUE_WINS))[:, promised]
        left = self.goals.left()
        due = self._hurried(self.promised, left, board.nodes.curve[: board.n_lines])[:, promised]
        due = np.where(np.isfinite(left[:, promised]), due, 0.0)  # infinite as fast as possible
        rate = np.where(due > 0.0, np.divide(due, expected, out=np.ones_like(due), where=expected > 0.0), 0.0)
        wishes = Wishes(
            values=np.concatenate([values(slice(line, line + 1)) for line in promised.tolist()]),
            multiplier=self.terms.multiplier[promised],
            cap_cpm=board.max_bid_cpm[promised].astype(np.float64),
            penalty_cpm=board.promises.penalty_cpm[promised].astype(np.float64),
            rate=rate.max(axis=0),
        )
        return self.goals.premiums(wishes, wins)

    def _make_terms(self, multiplier: Float64, premium_cpm: Int64, spendable: Int64) -> Terms:
        board = self.board
        affordable = np.clip(spendable, 0, MAX_AFFORDABLE) * NANOS_PER_MICRO
        return Terms(
            board.worth_micros,
            board.max_bid_cpm,
            affordable,
            multiplier,
            spendable <= 0,
            premium_cpm,
            *self.plans.shares_left(self._spent[1], board.campaign_of),
        )

    def _make_report(self, *, solved: bool) -> Report:
        board, m = self.board, self.board.n_lines
        planned = self.plans.wanted(board.nodes.curve)
        nanos = np.minimum(planned[m:], self._tree.nodes(planned[:m])[m:])
        active = np.where(self.terms.exhausted, 0.0, self.terms.multiplier)
        return Report(
            planned=np.where(np.isfinite(nanos) & solved, nanos / NANOS_PER_MICRO, np.nan),
            multiplier=self._tree.campaigns(active, np.maximum),
            dual=self.drift.dual[:m] | self.drift.dual[m:][board.campaign_of],
            won=self.goals.won.copy(),
            worth=self.goals.worth * self.goals.calibration()[1],
            solved=solved,
        )
