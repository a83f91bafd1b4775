"""Notices of the simulated exchanges: late, lost, twice, held back."""

from __future__ import annotations

from headrace.ledger.ledger import NoticeType
from headrace.simulate.market import draw_auctions
from headrace.simulate.post import PostOffice

WIN, BILLING, LOSS = NoticeType.WIN, NoticeType.BILLING, NoticeType.LOSS
N = 2000


def send(small, rules, outages=(), minutes=60):
    def change(values):
        values["traffic"]["requests_per_day"] = 12_000
        values["exchanges"][0]["notices"] = rules
        values["outages"] = list(outages)

    plan = small.plan(change)
    office = PostOffice(plan, draw_auctions(plan))
    start = plan.scenario.start_ms
    for row in range(N):
        office.post(row, start, f"t{row}", row % 2 == 0, 700, 600)
    return start, office, office.arrived(start + minutes * 60_000)


def test_at_once_a_win_is_told_then_billed_and_a_loss_is_told(small):
    _, office, mail = send(small, {}, minutes=0)
    assert mail.types.tolist() == [WIN, BILLING, LOSS] * (N // 2)
    assert mail.prices_cpm.tolist()[:3] == [700, 700, -1]
    assert set(mail.minimum_cpm.tolist()) == {-1}
    assert office.n_lost == 0
    assert office.last_ms == 0
    assert len(office.arrived(2**60)) == 0


def test_delays_are_exponential_and_a_bill_follows_its_win(small):
    start, office, first = send(small, {"delay_ms": 1000, "billing_delay_ms": 5000}, minutes=0)
    assert len(first) < 10
    assert office.last_ms > start + 5000
    at = dict.fromkeys(zip(first.types.tolist(), first.tokens, strict=True), 0)
    for second in range(120):
        mail = office.arrived(start + 1000 * second)
        for kind, token in zip(mail.types.tolist(), mail.tokens, strict=True):
            at[kind, token] = second
    assert len(at) == N + N // 2
    losses = [second for (kind, _), second in at.items() if kind == LOSS]
    assert 0.4 < sum(second <= 1 for second in losses) / len(losses) < 0.8
    assert all(at[BILLING, token] >= second for (kind, token), second in at.items() if kind == WIN)


def test_some_are_lost_and_some_come_twice(small):
    _, office, mail = send(small, {"wins_lost": 0.2, "bills_lost": 0.1, "losses_lost": 1.0, "twice": 0.5})
    counts = {kind: mail.types.tolist().count(kind) for kind in (WIN, BILLING, LOSS)}
    assert counts[LOSS] == 0
    assert counts[WIN] < counts[BILLING] < N // 2 * 2
    assert abs(counts[WIN] - 0.8 * 1.5 * N / 2) < 100
    assert N / 2 + 200 < office.n_lost < N / 2 + 400


def test_the_minimum_to_win_is_told_where_the_exchange_tells_it(small):
    _, _, mail = send(small, {"minimum_to_win": True})
    assert set(mail.minimum_cpm.tolist()) == {600}


def test_what_falls_into_an_outage_comes_after_it(small):
    outages = [{"at_hour": 0, "hours": 0.5, "kind": "notices", "exchange": "open"}]
    start, office, mail = send(small, {"delay_ms": 1000}, outages, minutes=29)
    assert len(mail) == 0
    assert len(office.arrived(start + 30 * 60_000)) == N + N // 2
    _, _, mail = send(small, {"delay_ms": 1000}, [{"at_hour": 0, "hours": 0.5, "kind": "server"}], minutes=29)
    assert len(mail) == 0
