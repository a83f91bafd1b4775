"""Each exchange has a number of its own in the journal: no bid is taken for another exchange's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.audit.settle import StoreSettler, carry_out
from headrace.audit.span import Span, hold_against
from headrace.audit.trail import open_store
from headrace.errors import StoreError
from headrace.events.migrations import LATEST
from headrace.ledger import exchanges
from headrace.ledger.exchanges import Exchanges, number_exchanges, number_of, read_numbers
from headrace.ledger.ledger import NoticeOutcome
from headrace.ledger.tokens import exchange_hash, exchange_tag

BILL, LOSS = 2, 3
EVER = Span(0, 2**60)


@pytest.fixture
def desk(tmp_path: Path, desks: Any) -> Iterator[Any]:
    made = desks.Desk(tmp_path, database="headrace.db").fill()
    yield made
    made.close()


def tag(name: str) -> int:
    return int(exchange_tag(np.array([exchange_hash(name)], np.uint64))[0])


def two_of_one_tag() -> tuple[str, str]:
    seen: dict[int, str] = {}
    for at in count():
        name = f"exchange{at}"
        if (other := seen.setdefault(tag(name), name)) != name:
            return other, name
    raise AssertionError


ONE, OTHER = two_of_one_tag()


def reconciled(desk: Any, exchange: str, tokens: list[str]) -> tuple[dict[str, int], list[Any]]:
    path = desk.folder / "bills.csv"
    path.write_text("token,price_cpm_micros\n" + "".join(f"{token},4000\n" for token in tokens))
    desk.ledger.flush()
    result, claims = hold_against(desk.folder, path, exchange, None, EVER, complete=True)
    return dict(result.rows), claims


@pytest.mark.parametrize("restart", [None, True, False])
def test_a_complete_file_closes_no_bid_of_an_exchange_with_the_same_tag(desk: Any, restart: bool | None) -> None:
    mine = desk.reserve(5_000, exchange=ONE)[0]
    theirs, billed = desk.reserve(5_000, 5_000, exchange=OTHER)
    if restart is not None:
        desk.restart(drain=restart)
    assert desk.notify(BILL, billed, 4_000) == NoticeOutcome.ACCEPTED
    rows, claims = reconciled(desk, ONE, [])
    assert rows == {"unclaimed": 1}
    assert carry_out(StoreSettler(desk.ledger, "ann", "May"), claims) == {"ACCEPTED": 1}
    assert desk.notify(BILL, mine, 4_000) == NoticeOutcome.LATE
    assert desk.notify(BILL, theirs, 4_000) == NoticeOutcome.ACCEPTED
    assert reconciled(desk, OTHER, [theirs])[0] == {"equal": 1, "missing_in_theirs": 1}


def test_a_number_is_for_good_and_others_know_it(desk: Any) -> None:
    desk.reserve(5_000, exchange=OTHER)
    desk.reserve(5_000, exchange=ONE)
    numbers = read_numbers(desk.store.read)
    assert numbers == {OTHER: tag(OTHER), ONE: tag(ONE) % exchanges.LAST_NUMBER + 1}
    desk.restart()
    desk.reserve(5_000, exchange="third")
    assert numbers.items() < read_numbers(desk.store.read).items()


def test_names_beyond_the_most_have_no_number_and_are_bid_for(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "MAX_EXCHANGES", 1)
    desk.reserve(5_000, exchange=ONE)
    other = desk.reserve(5_000, exchange=OTHER)[0]
    assert list(read_numbers(desk.store.read)) == [ONE]
    assert reconciled(desk, ONE, [])[0] == {"unclaimed": 1}
    assert reconciled(desk, OTHER, [])[0] == {}
    assert desk.notify(BILL, other, 4_000) == NoticeOutcome.ACCEPTED


def test_numbers_by_hash() -> None:
    known = Exchanges({ONE: 7, "x": tag(ONE)})
    hashes = np.array([exchange_hash(name) for name in (ONE, "x", OTHER, "y")] + [0], np.uint64)
    assert known.tags(hashes).tolist() == [7, tag(ONE), 0, tag("y"), 0]
    assert Exchanges({}).tags(hashes).tolist() == [tag(ONE), tag("x"), tag(OTHER), tag("y"), 0]
    assert number_of({"x": tag(ONE)}, OTHER) == -1
    assert number_of({}, OTHER) == tag(OTHER)


def test_the_last_number_is_followed_by_the_first(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "_tag", lambda name: exchanges.LAST_NUMBER)
    numbers = desk.store.write(lambda link: number_exchanges(link, ["a", "b"]))
    assert numbers == {"a": exchanges.LAST_NUMBER, "b": 1}


def test_a_store_of_an_older_version_is_audited_and_one_of_a_later_refused_by_name(desk: Any) -> None:
    desk.reserve(5_000)
    desk.close()
    path = desk.folder / "headrace.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE ledger_exchanges")
        connection.execute("PRAGMA user_version = 2")
        with open_store(path) as trail:
            assert read_numbers(trail.query) == {}
        connection.execute(f"PRAGMA user_version = {LATEST + 1}")
    with pytest.raises(StoreError, match="written by a later version of headrace"), open_store(path):
        pass
