"""One suite over both authorities: many at once conserve every micro."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
from contextlib import closing
from typing import Any

import pytest

from headrace.authority import operators
from headrace.authority.authority import Authority, Claim, Report
from headrace.authority.grants import KEEP_ALL, Change
from headrace.authority.settings import AuthorityConfig

TODAY = 20_833
LEAVES = ("a/c/x", "a/c/y", "a/d/z")


def test_threads_allot_what_there_is_and_no_more(rig: Any) -> None:
    rig.funded(100_000)
    x, y = rig.number("a/c/x"), rig.number("a/c/y")
    got: list[int] = []

    def spend(name: str) -> None:
        speaker = rig.holder(rig.open(), name)
        empty = 0
        for turn in itertools.count():
            granted = speaker.ask((x, y)[turn % 2], 7, 500)
            empty = 0 if granted else empty + 1
            if empty == 2:
                break
        got.append(sum(speaker.has.values()))

    threads = [threading.Thread(target=spend, args=(f"h{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 100_000 - 7 < sum(got) <= 100_000
    assert rig.total("a") == sum(got)


def _spend_alone(url: str, name: str, account: int, queue: Any) -> None:
    with closing(Authority(AuthorityConfig(url=url, timeout_ms=60_000))) as authority:
        epoch, has, had = authority.register(name, "", 1, []).epoch, 0, -1
        for number in itertools.count(1):
            if has == had:
                break
            change, had = Change(account, TODAY, KEEP_ALL, 0, 1, 900), has
            has = authority.renew(Claim(name, epoch, number), [change], Report(1, 60)).allotted[0]
        queue.put(has)


def test_processes_make_the_tables_and_allot_what_there_is(rig: Any) -> None:
    """Four processes start on a database that has no tables yet, make them at once, then spend one budget."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    racing = [context.Process(target=_make_tables, args=(rig.config.url,)) for _ in range(3)]
    for process in racing:
        process.start()
    for process in racing:
        process.join()
        assert process.exitcode == 0
    rig.funded(50_000)
    accounts = [rig.number(leaf) for leaf in LEAVES]
    spending = [
        context.Process(target=_spend_alone, args=(rig.config.url, f"h{i}", accounts[i % 3], queue)) for i in range(4)
    ]
    for process in spending:
        process.start()
    assert sum(queue.get(timeout=240) for _ in spending) == 50_000
    for process in spending:
        process.join()
    assert rig.total("a") == 50_000


def _make_tables(url: str) -> None:
    authority = Authority(AuthorityConfig(url=url, timeout_ms=60_000))
    operators.fund(authority, "deposit", "a", 50_000, "USD", "ann")
    authority.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_conserve_every_micro(rig: Any, seed: int) -> None:
    """Holders ask, spend, give back, lose replies, restart and are fenced while limits move; each sum is exact."""
    rng = random.Random(seed)
    authority = rig.funded(50_000)
    accounts = [rig.number(leaf) for leaf in LEAVES]
    speakers = {f"h{i}": rig.holder(authority, f"h{i}") for i in range(3)}
    used: dict[tuple[str, int, int], int] = {}
    limits = {"a": 50_000}
    for _ in range(120):
        name = rng.choice(sorted(speakers))
        speaker, account, day = speakers[name], rng.choice(accounts), TODAY + rng.randrange(2)
        has, spent = speaker.has.get((account, day), 0), used.get((name, account, day), 0)
        what = rng.random()
        if what < 0.75:
            spent = rng.randint(spent, has)
            keep = rng.choice((KEEP_ALL, rng.randint(spent, has)))
            change = Change(account, day, keep, spent, rng.choice((0, 1, 50)), rng.randrange(3000))
            if rng.random() < 0.3:
                speaker.renew(change, sent=False)
            speaker.renew(change)
            used[name, account, day] = spent
        elif what < 0.85:
            mine = [(each, on, micros) for (who, each, on), micros in used.items() if who == name and micros]
            committed = [(LEAVES[accounts.index(each)], on, micros) for each, on, micros in mine]
            speakers[name] = again = rig.holder(authority, name, tuple(committed))
            assert again.has == {key: micros for key, micros in speaker.has.items() if micros}
        elif what < 0.95:
            rig.limit(authority, "a/c", lifetime_micros=rng.randrange(60_000))
        else:
            rig.now_ms += rng.randint(-5000, 5000)
        operators.check_books(authority)
        assert rig.total("a") == sum(sum(each.has.values()) for each in speakers.values()) <= limits["a"]
        assert all(node == "a/c" for node, _, _ in operators.over_limits(authority))
