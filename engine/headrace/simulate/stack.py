"""The real bidder of a scenario: store, ledger, campaigns and engine as a server wires them, in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from headrace.bidding.actions import Actions
from headrace.bidding.campaigns import CampaignStore
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.pacing import progress
from headrace.bidding.predict import BidModel
from headrace.bidding.settings import BiddingConfig
from headrace.bidding.strategies.sandbox import wrong_answers
from headrace.bidding.strategies.strategy import load_strategies
from headrace.errors import ConfigError
from headrace.events.store import DATABASE, Store
from headrace.ledger.ledger import AccountState, Ledger, LedgerConfig, NoticeOutcome
from headrace.simulate.loading import Plan
from headrace.simulate.people import Visitors
from headrace.simulate.post import Mail
from headrace.simulate.scenario import Edit
from headrace.types import Int8, Int64
from headrace.v1 import campaigns_pb2 as pb

UNLIMITED_MICROS = 10**15
WHO = "scenario"


class Stack:
    """Opens and closes as a server does at its start and at SIGTERM; the folder keeps what must survive.

    clock_ms : the market's time, which is the ledger's, too.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        model: BidModel,
        visitors: Visitors,
        clock_ms: Callable[[], int],
        bidding: BiddingConfig,
        ledger: LedgerConfig,
    ) -> None:
        self.folder = folder
        self._plan, self._model, self._visitors = plan, model, visitors
        reports = plan.scenario.purchase_delay_hours is not None
        self._clock_ms, self._bidding = clock_ms, replace(bidding, actions="reported") if reports else bidding
        self._ledger = replace(ledger, max_bid_cpm_micros=ledger.max_bid_cpm_micros or bidding.max_bid_cpm_micros)
        self._strategies = load_strategies(bidding.strategies)
        _check_strategies(plan, list(self._strategies))
        self._given_up = 0
        self._answers = np.zeros((len(self._strategies), 2), np.int64)
        self.open()

    def open(self) -> None:
        """Recover the books and bid on; the first time, deposit the money and create the campaigns."""
        self.store = Store(self.folder / DATABASE)
        self.ledger = Ledger(self.folder, self.store, clock_ms=self._clock_ms, config=self._ledger)
        if not self.ledger.try_acquire():
            raise AssertionError("the ledger of a fresh folder has no other owner")
        self.campaigns = CampaignStore(
            self.store,
            self.ledger,
            max_bid_cpm=self._bidding.max_bid_cpm_micros,
            clock_ms=self._clock_ms,
            strategies=self._strategies,
        )
        for campaign in self._plan.campaigns:
            advertiser = campaign.advertiser_id
            amount = self._plan.scenario.deposits.get(advertiser, UNLIMITED_MICROS)
            if amount:
                self.campaigns.fund(f"deposit of {advertiser}", advertiser, amount, campaign.currency, WHO)
        if not self.campaigns.board.campaigns:
            for campaign in self._plan.campaigns:
                self.campaigns.create(campaign, WHO)
        find = {item: row for row, item in enumerate(_item_ids(self._plan))}
        self.engine = BiddingEngine(
            self.ledger,
            self.campaigns.board,
            self._model,
            self._visitors,
            lambda item_id: find.get(item_id, -1),
            self._bidding,
            monotonic=lambda: 0.0,
            strategies=self._strategies,
        )
        self.campaigns.subscribe(self.engine.set_board)
        self.engine.pacer.restore(progress.load(self.store), self._clock_ms())
        self.actions = Actions(self.store, self.ledger, self.engine.pacer, self._bidding, self._clock_ms)
        self.actions.feed()

    def close(self) -> None:
        """Keep the progress of goals, return leases, record what is open, let go of the files."""
        if self.ledger.owned:
            progress.save(self.store, self.engine.pacer.progress())
            self._given_up += _given_up(self.engine)
            self._answers += _answers(self.engine)
        self.ledger.release()
        self.store.close()

    def edit(self, edit: Edit) -> None:
        """Change a campaign as somebody would through the service."""
        campaign = pb.Campaign()
        campaign.CopyFrom(self.campaigns.get(edit.campaign_id))
        if edit.daily_micros is not None:
            campaign.limits.daily_micros = edit.daily_micros
        if edit.lifetime_micros is not None:
            campaign.limits.lifetime_micros = edit.lifetime_micros
        if edit.paused is not None:
            campaign.paused = edit.paused
        self.campaigns.update(campaign, WHO)

    def hear(self, mail: Mail, now_ms: int) -> Int8:
        """Settle notices and learn from the accepted ones, as the service does; returns n outcomes."""
        outcomes = self.ledger.notify(mail.types, mail.tokens, mail.prices_cpm, now_ms)
        good = np.flatnonzero(outcomes == NoticeOutcome.ACCEPTED).tolist()
        tokens = [mail.tokens[row] for row in good]
        self.engine.learn(
            mail.types[good].tolist(), tokens, _known(mail.prices_cpm[good]), _known(mail.minimum_cpm[good])
        )
        return outcomes

    def given_up(self) -> int:
        """Micros of expected surplus that bids drawn at random gave up, over all starts."""
        return self._given_up + _given_up(self.engine)

    def warnings(self) -> list[str]:
        """What strategies answered that was no price, over all starts."""
        answers = self._answers + _answers(self.engine)
        told = zip(self._strategies, answers.tolist(), strict=True)
        return [line for name, (asked, wrong) in told for line in wrong_answers(name, asked, wrong)]

    def accounts(self) -> dict[str, AccountState]:
        """Every node of the money tree by its account id."""
        return {state.account_id: state for state in self.ledger.accounts()}


def _check_strategies(plan: Plan, known: list[str]) -> None:
    for (row, number), key in zip(plan.lines, plan.keys, strict=True):
        name = plan.campaigns[row].line_items[number].strategy
        if name and name not in known:
            hint = "give --config FILE, a server's file whose [bidding] strategies names it (docs/strategies.md)"
            raise ConfigError(
                f'campaigns: strategy of "{key}"', name, ", ".join(known) or "none without --config", hint
            )


def _given_up(engine: BiddingEngine) -> int:
    return sum(micros for _, micros in engine.counts.explored().values())


def _answers(engine: BiddingEngine) -> Int64:
    """How often each strategy was asked, and answered no price."""
    return np.array([(state.asked, state.wrong) for state in engine.strategies()], np.int64).reshape(-1, 2)


def _known(amounts: Int64) -> list[int | None]:
    return [None if amount < 0 else amount for amount in amounts.tolist()]


def _item_ids(plan: Plan) -> list[str]:
    return [plan.campaigns[i].line_items[j].item_ids[0] for i, j in plan.lines]
