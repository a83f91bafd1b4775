"""Ledgers that spend one budget together, over both authorities: nobody who bids waits for one that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from headrace.ledger.ledger import NoticeOutcome, NoticeType, Reason


@contextmanager
def hanging(process: Any) -> Iterator[None]:
    """Within: a step of the process waits for its authority, which had not been reached before."""
    process.gate.away = True
    process.step()
    process.gate.away = False
    process.gate.answers.clear()
    stepping = threading.Thread(target=process.step)
    stepping.start()
    assert process.gate.hanging.wait(10)
    try:
        yield
    finally:
        process.gate.answers.set()
        stepping.join()


def promptly(call: Callable[[], Any]) -> Any:
    """What a call returns that must not wait for the authority."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(5)
    assert found, "it waits for the authority"
    return found[0]


def test_bids_and_reports_go_on_while_the_authority_hangs(world: Any) -> None:
    (one,) = world.funded(100_000, "one")
    token = one.win(10)
    number = np.array([one.ledger.account_number("a/c/x")], np.int32)
    with hanging(one):
        assert promptly(lambda: one.bid(10))[0] is not None
        while promptly(lambda: one.bid(500))[0] is not None:
            pass
        assert one.reasons.tolist() == [Reason.AUTHORITY]  # there is more that it cannot ask for
        assert promptly(lambda: one.ledger.spendable(number, world.now_ms))[0] > 0
        assert promptly(lambda: one.ledger.holder.money())[0] > 0
        assert len(promptly(lambda: one.ledger.accounts())) == 4
        assert promptly(lambda: one.tell(NoticeType.BILLING, token, 10)) == NoticeOutcome.ACCEPTED
    world.step()
    world.check()


def test_a_notice_of_an_unknown_key_waits_for_a_hanging_authority_no_longer_than_for_one_that_answers(
    world: Any,
) -> None:
    one, two = world.funded(1000, "one", "two")
    (three,) = world.start("three")
    token = three.win(1)
    one.ledger.holder.start()
    try:
        assert one.tell(NoticeType.WIN, token, 1) == NoticeOutcome.ACCEPTED
        two.gate.answers.clear()
        two.ledger.holder.start()
        assert two.gate.hanging.wait(10)
        outcome = promptly(lambda: two.tell(NoticeType.WIN, token, 1))
        assert outcome in (NoticeOutcome.ACCEPTED, NoticeOutcome.FORGED)  # as it knew the key already, or not
    finally:
        two.gate.answers.set()
        for process in (one, two):
            process.ledger.holder.stop()
