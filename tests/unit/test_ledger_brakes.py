"""The kill switch, the maximum bid, the spend-rate breaker and the fence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.errors import InvalidRequestError, NotFoundError
from headrace.ledger.ledger import Ledger, LedgerConfig, Reason

WIN, BILL, LOSS = 1, 2, 3


def test_brakes_hold_over_a_restart(desk: Any) -> None:
    for exchange, advertiser in (("x", ""), ("", "adv"), ("", "")):
        desk.ledger.brake(exchange, advertiser, True, "runaway", "ann")
        assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
        assert desk.try_reserve(1_000, exchange="y")[1] == [Reason.OK if exchange else Reason.BRAKE]
        desk.restart()
        assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
        desk.ledger.brake(exchange, advertiser, False, "over", "ann")
        desk.reserve(1_000)
    with pytest.raises(NotFoundError):
        desk.ledger.brake("", "nobody", True, "typo")
    with pytest.raises(InvalidRequestError):
        desk.ledger.brake("x", "adv", True, "both")


def test_a_brake_of_another_process_is_seen_at_the_next_tick(desk: Any) -> None:
    desk.reserve(1_000)
    other = Ledger(desk.folder, desk.store, clock_ms=lambda: desk.now)
    other.brake("", "adv", True, "from beside", "bob")
    desk.now += 200
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]


def test_maximum_bid_and_spend_rate(desks: Any, tmp_path: Path) -> None:
    desk = desks.Desk(tmp_path, LedgerConfig(max_bid_cpm_micros=10_000, max_micros_per_minute=25)).fill()
    assert desk.try_reserve(10_001, 10_000)[1] == [Reason.MAX_BID, Reason.OK]
    tokens = desk.reserve(*[10_000] * 3)
    for token in tokens[:2]:
        desk.notify(BILL, token, 10_000)
    desk.reserve(1_000)
    desk.notify(WIN, tokens[2], 10_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
    desk.restart(drain=False)
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
    desk.ledger.brake("", "adv", False, "checked", "ann")
    desk.now += 60_000
    desk.reserve(1_000)
    desk.close()


def test_the_fence_stays_until_taken_away(desk: Any) -> None:
    desk.ledger.fence("restored", "ann")
    desk.restart()
    assert desk.try_reserve(1_000)[1] == [Reason.FENCED]
    desk.ledger.unfence("ann", "reconciled with the exchange's bill")
    desk.reserve(1_000)
