"""What exchanges tell us: notices that come late, twice or never, in the order in which they arrive."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from headrace.ledger.ledger import NoticeType
from headrace.simulate.loading import Plan
from headrace.simulate.market import FATES, Auctions, stream
from headrace.types import Float32, Int8, Int64


@dataclass(frozen=True, slots=True)
class Mail:
    """n notices that arrived, as columns; a price or lowest winning bid of -1 is not known."""

    types: Int8
    tokens: list[str]
    prices_cpm: Int64
    minimum_cpm: Int64
    rows: list[int]

    def __len__(self) -> int:
        return len(self.tokens)


class PostOffice:
    """Keeps notices until they arrive. What happens to an auction's notices was drawn with the auction."""

    def __init__(self, plan: Plan, auctions: Auctions) -> None:
        scenario = plan.scenario
        self._exchanges = [exchange.notices for exchange in scenario.exchanges]
        self._row = auctions.exchange
        n = len(auctions.time_ms)
        rng = stream(scenario, FATES)
        self._chance: Float32 = rng.random((n, 3), dtype=np.float32)
        self._delay: Float32 = rng.standard_exponential((n, 2), dtype=np.float32)
        self._held = [
            (scenario.moment(outage.at_hour), scenario.moment(outage.at_hour + outage.hours), outage.exchange)
            for outage in sorted(scenario.outages, key=lambda outage: outage.at_hour)
            if outage.kind != "exchange"
        ]
        self._names = [exchange.name for exchange in scenario.exchanges]
        self._waiting: list[tuple[int, int, NoticeType, str, int, int, int]] = []
        self._serial = 0
        self.n_lost = 0

    def post(self, row: int, time_ms: int, token: str, won: bool, price_cpm: int, minimum_cpm: int) -> None:
        """An auction was decided; its exchange tells of it, or does not.

        price_cpm : what a win pays.   minimum_cpm : the lowest bid that would have won.
        """
        exchange = int(self._row[row])
        rules = self._exchanges[exchange]
        first, second, twice = self._chance[row].tolist()
        told = minimum_cpm if rules.minimum_to_win else -1
        due = time_ms + int(rules.delay_ms * float(self._delay[row, 0]))
        bill_due = due + int(rules.billing_delay_ms * float(self._delay[row, 1]))
        if won:
            sent = [
                (due, NoticeType.WIN, price_cpm, first < rules.wins_lost),
                (bill_due, NoticeType.BILLING, price_cpm, second < rules.bills_lost),
            ]
        else:
            sent = [(due, NoticeType.LOSS, -1, first < rules.losses_lost)]
        for when, kind, price, lost in sent:
            if lost:
                self.n_lost += 1
                continue
            arrives = self._after_outages(when, exchange)
            for _ in range(1 + (twice < rules.twice)):
                heapq.heappush(self._waiting, (arrives, self._serial, kind, token, price, told, row))
                self._serial += 1

    def arrived(self, now_ms: int) -> Mail:
        """Everything that has arrived by a moment, oldest first; it is handed out once."""
        found = []
        while self._waiting and self._waiting[0][0] <= now_ms:
            found.append(heapq.heappop(self._waiting))
        return Mail(
            types=np.array([each[2] for each in found], np.int8),
            tokens=[each[3] for each in found],
            prices_cpm=np.array([each[4] for each in found], np.int64),
            minimum_cpm=np.array([each[5] for each in found], np.int64),
            rows=[each[6] for each in found],
        )

    @property
    def last_ms(self) -> int:
        """When the last notice arrives, 0 without any."""
        return max((each[0] for each in self._waiting), default=0)

    def _after_outages(self, when: int, exchange: int) -> int:
        for start, end, name in self._held:
            if start <= when < end and name in ("", self._names[exchange]):
                when = end
        return when
