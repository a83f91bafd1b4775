"""One tenant's numbers: recommendations, bids, money, pacing, log, store and artifact."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headrace.artifacts import Artifact
from headrace.authority.held import HeldLedger
from headrace.authority.holder import Holder
from headrace.bidding.actions import ActionOutcome, Actions
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.pricing.snapshot import Snapshot
from headrace.decisions.recorder import DecisionRecorder
from headrace.events.log import EventLog
from headrace.ledger.ledger import AccountState, Ledger, NoticeOutcome
from headrace.recommend.recommender import Recommender
from headrace.telemetry.page import Family, Page
from headrace.v1 import bidder_pb2, recommender_pb2

_T = ("tenant",)
_MONEY = ("tenant", "currency")
_CAMPAIGN = ("tenant", "currency", "advertiser", "campaign")

RECOMMENDATIONS = Family("headrace_recommendations", "counter", "Slates answered, by tier.", ("tenant", "tier"))
SLATES_DROPPED = Family("headrace_slates_dropped", "counter", "Slates shown but not stored.", _T)
BIDS = Family("headrace_bids", "counter", "Impressions that were bid on.", _T)
NO_BIDS = Family("headrace_no_bids", "counter", "Impressions that were not bid on, by reason.", ("tenant", "reason"))
BID_MICROS = Family("headrace_bid_micros", "counter", "Cost of all bids if each won at its own price, micros.", _MONEY)
NOTICES = Family("headrace_notices", "counter", "Notices, by what became of them.", ("tenant", "outcome"))
ACTIONS = Family(
    "headrace_actions", "counter", "Reported purchases, by what became of the report.", ("tenant", "outcome")
)
RECORDED = Family("headrace_decisions_recorded", "counter", "Impressions whose decision was recorded.", _T)
UNRECORDED = Family(
    "headrace_decisions_dropped", "counter", "Decisions and outcomes that found no room or no disk to be recorded.", _T
)
UNWRITTEN = Family("headrace_decisions_waiting", "gauge", "Impressions whose record is not written yet.", _T)

EXPLORED = Family(
    "headrace_explored_bids", "counter", "Bids that were drawn at random to learn and judge win rates.", _MONEY
)
GIVEN_UP = Family(
    "headrace_explored_given_up_micros", "counter", "Surplus expected that drawn bids gave up, micros.", _MONEY
)
_BAND = ("tenant", "from_rate")
JUDGED = Family(
    "headrace_explored_outcomes",
    "counter",
    "Drawn bids whose outcome is known, by band of the predicted win rate.",
    _BAND,
)
WINS = Family("headrace_explored_wins", "counter", "Drawn bids that won, by band of the predicted win rate.", _BAND)
FORETOLD = Family(
    "headrace_explored_expected_wins",
    "counter",
    "Wins that were predicted for them, by band of the predicted win rate.",
    _BAND,
)
SHIFTS = Family(
    "headrace_price_shifts", "counter", "Rows of the win-rate model whose prices were found to have moved.", _T
)
UNFOLLOWED = Family(
    "headrace_price_notices_unfollowed",
    "counter",
    "Wins and losses told of bids that were not followed, or not any more: prices learn nothing of them.",
    _T,
)
UNUSABLE = Family(
    "headrace_price_snapshots_refused", "counter", "Snapshots of learned prices that were torn or another's.", _T
)
PRICE_ROWS = Family("headrace_price_rows", "gauge", "Rows of the win-rate model: exchanges, placements, floors.", _T)

_STRATEGY = ("tenant", "strategy")
STRATEGY = Family(
    "headrace_strategy_info",
    "gauge",
    "1 for each user-written strategy, with the digest of its file.",
    (*_STRATEGY, "digest"),
)
STRATEGY_ANSWERS = Family(
    "headrace_strategy_answers",
    "counter",
    "Candidates that a strategy was asked for: a price, one that was cut, or a wrong answer.",
    (*_STRATEGY, "answer"),
)
STRATEGY_MICROS = Family(
    "headrace_strategy_bid_micros",
    "counter",
    "Cost of a strategy's bids if each won at its own price, micros.",
    _STRATEGY,
)
STRATEGY_STOPPED = Family(
    "headrace_strategy_stopped",
    "gauge",
    "1 while a strategy rests (spend: until the next minute) or is switched off (wrong: until the next start), else 0.",
    (*_STRATEGY, "reason"),
)

OWNED = Family("headrace_ledger_owned", "gauge", "1 where this process owns the ledger, else 0.", _T)
FENCED = Family("headrace_ledger_fenced", "gauge", "1 while bidding is fenced off, else 0.", _T)
BUDGET = Family("headrace_ledger_budget_in_force_micros", "gauge", "Budgets of all advertisers, micros.", _MONEY)
OVERSPENT = Family(
    "headrace_ledger_overspent_accounts", "gauge", "Accounts that committed more than their budget in force.", _T
)
AMOUNTS = {
    "billed_micros": "Billed, micros.",
    "won_micros": "Won and not yet billed, micros.",
    "reserved_micros": "Reserved by bids that were not answered for yet, micros.",
    "lease_unused_micros": "Leased and not reserved, micros.",
    "late_micros": "Billed after the reservation had expired, micros; kept apart.",
    "disputed_micros": "Billed above the reservation or at no known price, micros; kept apart.",
    "stranded_micros": "Reserved longer ago than notices are taken, micros.",
}
LEDGER = {name: Family(f"headrace_ledger_{name}", "gauge", meaning, _MONEY) for name, meaning in AMOUNTS.items()}

REACHABLE = Family("headrace_authority_reachable", "gauge", "1 while the authority answers, else 0.", _T)
REFUSED = Family("headrace_authority_refused", "gauge", "1 where the authority takes no more calls, else 0.", _T)
ALLOTTED = Family(
    "headrace_authority_allotted_micros", "gauge", "Allotted to this process, what it spent of it included.", _T
)
UNUSED = Family("headrace_authority_unused_micros", "gauge", "Allotted to this process and not used, micros.", _T)
RENEWALS = Family("headrace_authority_call_duration_seconds", "histogram", "One renewal, seconds.", _T)
UNANSWERED = Family("headrace_authority_failed_calls", "counter", "Steps in which the authority did not answer.", _T)
AUTHORITY = (REACHABLE, REFUSED, ALLOTTED, UNUSED, RENEWALS, UNANSWERED)

CAMPAIGNS = Family("headrace_campaigns", "gauge", "Campaigns there are; the first of them by id have metrics.", _T)
CAMPAIGN_BUDGET = Family(
    "headrace_campaign_budget_in_force_micros", "gauge", "The campaign's budget in force, micros.", _CAMPAIGN
)
CAMPAIGN_SPENT = Family("headrace_campaign_spent_micros", "gauge", "Billed and won, micros.", _CAMPAIGN)
CAMPAIGN_PLANNED = Family(
    "headrace_campaign_planned_micros", "gauge", "What the even plan wants spent by now, micros.", _CAMPAIGN
)
PACING_ERROR = Family(
    "headrace_campaign_pacing_error_ratio", "gauge", "Spent over planned, less 1; above 0 is too fast.", _CAMPAIGN
)
MULTIPLIER = Family(
    "headrace_campaign_pacing_multiplier", "gauge", "The highest multiplier of its line items.", _CAMPAIGN
)
STEERED = Family(
    "headrace_campaign_pacing_dual",
    "gauge",
    "1 while dual updates steer it or one of its line items: the forecast does not hold; else 0.",
    _CAMPAIGN,
)

SEQUENCE = Family("headrace_event_sequence", "gauge", "Sequence of the last event of the log.", _T)
LAG = Family("headrace_event_lag", "gauge", "Events of the log that recommendations do not show yet.", _T)
COMMIT = Family("headrace_store_commit_duration_seconds", "histogram", "One group commit, seconds.", _T)
FAILED = Family("headrace_store_failed_commits", "counter", "Group commits that failed.", _T)
WAITING = Family("headrace_store_waiting", "gauge", "Writes that wait for their commit.", _T)
BREAKER = Family("headrace_store_breaker_open", "gauge", "1 while the disk fails and writes are refused, else 0.", _T)
FREE = Family("headrace_store_free_bytes", "gauge", "Free space on the data folder's device, bytes.", _T)
SIZE = Family("headrace_store_size_bytes", "gauge", "The database and its write-ahead log, bytes.", _T)

ARTIFACT = Family("headrace_artifact_info", "gauge", "1 for the artifact that answers.", ("tenant", "version"))
TRAINED = Family(
    "headrace_artifact_trained_until_timestamp_seconds", "gauge", "The last event trained on, Unix seconds.", _T
)
AGE = Family("headrace_artifact_age_seconds", "gauge", "Time since the last event trained on, seconds.", _T)
SWAPS = Family("headrace_artifact_swaps", "counter", "Artifacts swapped in since the start.", _T)

FAMILIES = (
    *(RECOMMENDATIONS, SLATES_DROPPED, BIDS, NO_BIDS, BID_MICROS, NOTICES, ACTIONS, OWNED, FENCED, BUDGET, OVERSPENT),
    *(RECORDED, UNRECORDED, UNWRITTEN),
    *(EXPLORED, GIVEN_UP, JUDGED, WINS, FORETOLD, SHIFTS, UNFOLLOWED, UNUSABLE, PRICE_ROWS),
    *(STRATEGY, STRATEGY_ANSWERS, STRATEGY_MICROS, STRATEGY_STOPPED),
    *LEDGER.values(),
    *AUTHORITY,
    *(CAMPAIGNS, CAMPAIGN_BUDGET, CAMPAIGN_SPENT, CAMPAIGN_PLANNED, PACING_ERROR, MULTIPLIER, STEERED),
    *(SEQUENCE, LAG, COMMIT, FAILED, WAITING, BREAKER, FREE, SIZE, ARTIFACT, TRAINED, AGE, SWAPS),
)

_TIERS = {value: name.removeprefix("TIER_").lower() for name, value in recommender_pb2.Tier.items() if value}
_NO_BID = {
    value: name.removeprefix("NO_BID_REASON_").lower() for name, value in bidder_pb2.NoBidReason.items() if value
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What one tenant's numbers are read from.

    artifact : the one that answers now. n_swaps : how many have been swapped in. clock_ms : ms since 1970 UTC.
    decisions : what keeps the records of bids.   actions : what takes in reported purchases.
    snapshot : what keeps learned prices.
    """

    recommender: Recommender
    bidding: BiddingEngine
    ledger: Ledger
    log: EventLog
    artifact: Callable[[], Artifact]
    n_swaps: Callable[[], int]
    clock_ms: Callable[[], int]
    decisions: DecisionRecorder
    actions: Actions
    snapshot: Snapshot


def write_parts(page: Page, tenant: str, parts: Parts, max_campaigns: int) -> None:
    """Add one tenant's numbers to a page; at most so many campaigns by name."""
    _write_decisions(page, tenant, parts)
    _write_prices(page, tenant, parts.bidding)
    page.add(UNUSABLE, (tenant,), parts.snapshot.n_refused)
    _write_strategies(page, tenant, parts.bidding)
    page.add(OWNED, (tenant,), parts.ledger.owned)
    page.add(FENCED, (tenant,), parts.ledger.fenced)
    if parts.ledger.owned:  # beside the owner they would be counted twice
        accounts = parts.ledger.own_accounts()
        _write_money(page, tenant, parts.ledger, accounts)
        _write_campaigns(page, tenant, parts.bidding, {each.account_id: each for each in accounts}, max_campaigns)
    if isinstance(parts.ledger, HeldLedger):
        _write_authority(page, tenant, parts.ledger.holder)
    _write_store(page, tenant, parts)
    _write_artifact(page, tenant, parts)


def _write_decisions(page: Page, tenant: str, parts: Parts) -> None:
    for tier, n in zip(_TIERS.values(), parts.recommender.tiers.totals()[list(_TIERS)].tolist(), strict=True):
        page.add(RECOMMENDATIONS, (tenant, tier), n)
    page.add(SLATES_DROPPED, (tenant,), parts.recommender.slates.n_dropped)
    counts = parts.bidding.counts
    reasons = counts.reasons.totals()
    page.add(BIDS, (tenant,), int(reasons[0]))
    for reason, n in zip(_NO_BID.values(), reasons[list(_NO_BID)].tolist(), strict=True):
        page.add(NO_BIDS, (tenant, reason), n)
    for currency, micros in counts.offered_micros().items():
        page.add(BID_MICROS, (tenant, currency), micros)
    page.add(RECORDED, (tenant,), parts.decisions.n_recorded)
    page.add(UNRECORDED, (tenant,), parts.decisions.n_dropped)
    page.add(UNWRITTEN, (tenant,), parts.decisions.n_waiting)
    outcomes = parts.ledger.outcomes.totals()
    for outcome in NoticeOutcome:
        page.add(NOTICES, (tenant, outcome.name.lower()), int(outcomes[outcome]))
    reports = parts.actions.outcomes.totals()
    for report in ActionOutcome:
        page.add(ACTIONS, (tenant, report.name.lower()), int(reports[report]))


def _write_prices(page: Page, tenant: str, bidding: BiddingEngine) -> None:
    landscape = bidding.pacer.landscape
    explored = bidding.counts.explored()
    for currency in bidding.counts.offered_micros():
        n, micros = explored.get(currency, (0, 0))
        page.add(EXPLORED, (tenant, currency), n)
        page.add(GIVEN_UP, (tenant, currency), micros)
    for band in landscape.exploration.bands():
        of = tenant, str(band.low)
        page.add(JUDGED, of, band.n)
        page.add(WINS, of, band.wins)
        page.add(FORETOLD, of, band.expected)
    page.add(SHIFTS, (tenant,), landscape.n_alarms)
    page.add(UNFOLLOWED, (tenant,), landscape.n_strange)
    page.add(PRICE_ROWS, (tenant,), len(landscape.prices.rows))


def _write_strategies(page: Page, tenant: str, bidding: BiddingEngine) -> None:
    for state in bidding.strategies():
        name = state.strategy.name
        page.add(STRATEGY, (tenant, name, state.strategy.digest), 1)
        for answer, n in (("price", state.asked - state.wrong - state.cut), ("cut", state.cut), ("wrong", state.wrong)):
            page.add(STRATEGY_ANSWERS, (tenant, name, answer), n)
        page.add(STRATEGY_MICROS, (tenant, name), state.bid_micros)
        page.add(STRATEGY_STOPPED, (tenant, name, "spend"), state.held)
        page.add(STRATEGY_STOPPED, (tenant, name, "wrong"), state.off)


def _write_authority(page: Page, tenant: str, holder: Holder) -> None:
    allotted, unused = holder.money()
    page.add(REACHABLE, (tenant,), holder.reachable)
    page.add(REFUSED, (tenant,), bool(holder.refused))
    page.add(ALLOTTED, (tenant,), allotted)
    page.add(UNUSED, (tenant,), unused)
    page.add_histogram(RENEWALS, (tenant,), holder.calls)
    page.add(UNANSWERED, (tenant,), holder.n_failed)


def _write_money(page: Page, tenant: str, ledger: Ledger, accounts: list[AccountState]) -> None:
    totals: dict[str, dict[str, int]] = {}
    for account in accounts:
        if "/" not in account.account_id:  # an advertiser's amounts hold those of its campaigns
            of = totals.setdefault(ledger.currency(account.account_id) or "", dict.fromkeys(AMOUNTS, 0) | {"budget": 0})
            of["budget"] += account.budget_in_force_micros
            for name in AMOUNTS:
                of[name] += getattr(account, name)
    for currency, of in sorted(totals.items()):
        page.add(BUDGET, (tenant, currency), of["budget"])
        for name, family in LEDGER.items():
            page.add(family, (tenant, currency), of[name])
    n_over = sum(account.committed_micros > account.budget_in_force_micros for account in accounts)
    page.add(OVERSPENT, (tenant,), n_over)


def _write_campaigns(
    page: Page, tenant: str, bidding: BiddingEngine, accounts: Mapping[str, AccountState], limit: int
) -> None:
    board, planned, multipliers = bidding.plans()
    now, _, report = bidding.pacing()
    steered = {now.campaigns[row].campaign_id for row in now.campaign_of[report.dual].tolist()}
    page.add(CAMPAIGNS, (tenant,), len(board.campaigns))
    order = sorted(range(len(board.campaigns)), key=lambda row: board.campaigns[row].campaign_id)
    for row in order[:limit]:
        campaign = board.campaigns[row]
        labels = (tenant, campaign.currency, campaign.advertiser_id, campaign.campaign_id)
        page.add(MULTIPLIER, labels, float(multipliers[row]))
        page.add(STEERED, labels, campaign.campaign_id in steered)
        account = accounts.get(f"{campaign.advertiser_id}/{campaign.campaign_id}")
        if account is None:
            continue
        spent = account.billed_micros + account.won_micros
        page.add(CAMPAIGN_BUDGET, labels, account.budget_in_force_micros)
        page.add(CAMPAIGN_SPENT, labels, spent)
        if planned[row] > 0:  # not so where there is no plan, or nothing is planned yet
            page.add(CAMPAIGN_PLANNED, labels, float(planned[row]))
            page.add(PACING_ERROR, labels, spent / float(planned[row]) - 1.0)


def _write_store(page: Page, tenant: str, parts: Parts) -> None:
    store = parts.log.store
    seen = parts.recommender.model.users.sequence  # read first: the log only grows
    last = parts.log.sequence()
    page.add(SEQUENCE, (tenant,), last)
    page.add(LAG, (tenant,), max(last - seen, 0))
    page.add_histogram(COMMIT, (tenant,), store.commits)
    page.add(FAILED, (tenant,), store.n_failed)
    page.add(WAITING, (tenant,), store.n_waiting)
    page.add(BREAKER, (tenant,), store.breaker.state != "closed")
    page.add(FREE, (tenant,), shutil.disk_usage(store.path.parent).free)
    files = (store.path, store.path.with_name(store.path.name + "-wal"))
    page.add(SIZE, (tenant,), sum(file.stat().st_size for file in files if file.exists()))


def _write_artifact(page: Page, tenant: str, parts: Parts) -> None:
    artifact = parts.artifact()
    trained_ms = artifact.manifest.trained_until_ms
    page.add(ARTIFACT, (tenant, artifact.version), 1)
    page.add(TRAINED, (tenant,), trained_ms / 1000)
    page.add(AGE, (tenant,), (parts.clock_ms() - trained_ms) / 1000)
    page.add(SWAPS, (tenant,), parts.n_swaps())
