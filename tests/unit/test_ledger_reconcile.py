"""An exchange's bill file held against the ledger: every class by hand, applying, and applying again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from headrace.audit.bills import read_bills
from headrace.audit.reconcile import Claim
from headrace.audit.settle import ServerSettler, StoreSettler, carry_out
from headrace.audit.span import Span, hold_against
from headrace.cli import app
from headrace.errors import DataError, InvalidRequestError
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.journal import set_meta
from headrace.ledger.ledger import NoticeOutcome
from headrace.v1 import bidder_pb2, campaigns_pb2

WIN, BILL, LOSS = 1, 2, 3
HOUR = 3_600_000
EVER = Span(0, 2**60)


@pytest.fixture
def desk(tmp_path: Path, desks: Any) -> Iterator[Any]:
    made = desks.Desk(tmp_path, database="headrace.db").fill()
    yield made
    made.close()


def bill_file(desk: Any, rows: list[tuple[object, ...]], header: str = "token,price_cpm_micros") -> Path:
    path = desk.folder / "bills.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def held_against(desk: Any, path: Path, **options: Any) -> tuple[Any, list[Any]]:
    desk.ledger.flush()
    asked = {"exchange": "x", "tokens": None, "span": EVER, "complete": False} | options
    return hold_against(desk.folder, path, **asked)


def classes(result: Any) -> dict[str, int]:
    return dict(result.rows)


def every_class(desk: Any) -> Path:
    """One bid of each class, the file's name."""
    equal, differs, unbilled, won, above, lost, ours = desk.reserve(*[5_000] * 7)
    elsewhere = desk.reserve(5_000, exchange="y")[0]
    for token in (equal, differs, ours):
        desk.notify(BILL, token, 4_000)
    desk.notify(WIN, won, 3_000)
    desk.notify(LOSS, lost)
    flipped = equal[:40] + ("A" if equal[40] != "A" else "B") + equal[41:]
    rows = [(equal, 4_000), (differs, 4_001), (unbilled, 2_000), (won, 3_500), (above, 5_001), (lost, 1_000)]
    rows += [(equal, 4_000), (flipped, 1), ("", 1), (unbilled, "nan"), (elsewhere, 1)]
    return bill_file(desk, rows)


EXPECTED = {
    "equal": 1,
    "price_differs": 1,
    "missing_in_ours": 2,
    "above_reservation": 1,
    "released_before": 1,
    "duplicate": 1,
    "forged": 1,
    "malformed": 2,
    "other_exchange": 1,
    "missing_in_theirs": 1,
}


def test_every_row_has_its_class(desk: Any) -> None:
    result, claims = held_against(desk, every_class(desk))
    assert classes(result) == EXPECTED
    assert result.micros["missing_in_ours"] == 2 + 4
    assert [kind for kind, _ in claims] == ["missing_in_ours", "missing_in_ours", "released_before"]
    assert result.differs()


def test_applied_once_it_settles_and_applied_again_it_changes_nothing(desk: Any) -> None:
    path = every_class(desk)
    settler = StoreSettler(desk.ledger, "ann", "bill of May")
    assert carry_out(settler, held_against(desk, path)[1]) == {"ACCEPTED": 2, "LATE": 1}
    line = desk.line()
    assert (line.billed_micros, line.won_micros, line.late_micros) == (18, 0, 1)  # 3 x 4 and 5.5, rounded up once
    audited = desk.store.read("SELECT who, why FROM ledger_audit WHERE action = 'close'")
    assert audited == [("ann", "bill of May")] * 2
    result, claims = held_against(desk, path)
    assert claims == []
    settled = {kind: n for kind, n in EXPECTED.items() if kind not in ("missing_in_ours", "released_before")}
    assert classes(result) == settled | {"equal": 3, "late": 1}
    assert desk.line() == line


def test_a_complete_file_releases_what_was_stranded(desk: Any) -> None:
    stranded, claimed = desk.reserve(5_000, 5_000)
    other = desk.reserve(5_000, exchange="y")[0]
    desk.now += HOUR
    late = desk.reserve(5_000)[0]
    path = bill_file(desk, [(claimed, 5_000)])
    span = Span(desk.now - 2 * HOUR, desk.now - 1)
    result, claims = held_against(desk, path, span=span, complete=True)
    assert classes(result) == {"missing_in_ours": 1, "unclaimed": 1}
    assert carry_out(StoreSettler(desk.ledger, "ann", "complete"), claims) == {"ACCEPTED": 2}
    line = desk.line()
    assert (line.billed_micros, line.reserved_micros) == (5, 10)
    assert desk.notify(BILL, stranded, 5_000) == NoticeOutcome.LATE
    assert [desk.notify(BILL, token, 5_000) for token in (other, late)] == [NoticeOutcome.ACCEPTED] * 2
    assert held_against(desk, path, span=span, complete=True)[1] == []


def test_a_complete_file_releases_nothing_that_it_names_without_a_price_of_ours(desk: Any) -> None:
    tokens = desk.reserve(5_000, 6_000, 7_000)
    rows = [(tokens[0], "nan", desk.now, ""), (tokens[1], 6_000, desk.now, "EUR"), (tokens[2], 10**13, desk.now, "")]
    path = bill_file(desk, rows, "token,price_cpm_micros,time_ms,currency")
    result, claims = held_against(desk, path, complete=True)
    assert "unclaimed" not in classes(result)
    assert claims == []


def test_known_singly_again_after_a_kill_and_a_restart(desk: Any) -> None:
    tokens = desk.reserve(*[5_000] * 3)
    for drain in (False, True):
        desk.restart(drain=drain)
        result, claims = held_against(desk, bill_file(desk, [(tokens[0], 1_000)]), complete=True)
        assert classes(result) == {"missing_in_ours": 1, "unclaimed": 2}
        assert len(claims) == 3


def test_released_by_time_is_told_as_late(desk: Any) -> None:
    desk.ledger.set_account("adv/camp", mode=LedgerMode.EXPIRE, expire_after_ms=1_000)
    token = desk.reserve(5_000)[0]
    desk.now += 2_000
    desk.ledger.tick(desk.now)
    result, claims = held_against(desk, bill_file(desk, [(token, 5_000)]))
    assert classes(result) == {"released_before": 1}
    assert carry_out(StoreSettler(desk.ledger, "ann", "x"), claims) == {"LATE": 1}
    assert desk.line().late_micros == 5


def test_a_bill_in_another_currency_and_one_at_a_frozen_rate(desk: Any) -> None:
    number = np.array([desk.ledger.account_number("adv/camp/line")], np.int32)
    converted, _ = desk.ledger.reserve(
        number, np.array([2_000], np.int64), ["x"], desk.now, np.array([500_000], np.int64)
    )
    desk.notify(BILL, converted[0], 4_000)
    plain = desk.reserve(1_000)[0]
    path = bill_file(desk, [(converted[0], 4_000, "EUR"), (plain, 1_000, "EUR")], "token,price_cpm_micros,currency")
    assert classes(held_against(desk, path)[0]) == {"equal": 1, "other_currency": 1}
    currency = desk.ledger.currency("adv")
    path = bill_file(desk, [(converted[0], 2_000, currency)], "token,price_cpm_micros,currency")
    assert classes(held_against(desk, path)[0])["other_currency"] == 1  # converted already: not once more


def test_a_bid_of_another_process_is_left_to_its_own_folder(desk: Any) -> None:
    token = desk.reserve(5_000)[0]
    path = bill_file(desk, [(token, 5_000)])
    with_others = {"1": ["0123456789abcdef", 1]}
    desk.store.write(lambda link: set_meta(link, "authority_keys", json.dumps(with_others)))
    result, claims = held_against(desk, path)
    assert (classes(result), claims, result.differs()) == ({"other_process": 1}, [], False)


def write_gzip(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


FORMS: dict[str, Callable[[Path, str], Path]] = {
    "gzip": lambda folder, token: write_gzip(
        folder / "b.csv.gz", f"price,time,token\n0.0041,2027-01-15T08:00:00Z,{token}\n"
    ),
    "bid ids": lambda folder, token: write_gzip(folder / "b.csv.gz", f'bid_id,price\n"{token[-16:]}",0.0041\n'),
    "parquet": lambda folder, token: write_parquet(
        folder / "b.parquet", {"token": [token], "price": [0.0041], "time_ms": [1]}
    ),
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_files_in_any_form(desk: Any, form: str) -> None:
    token = desk.reserve(5_000)[0]
    desk.notify(BILL, token, 4_100)
    path = FORMS[form](desk.folder, token)
    known = desk.folder / "tokens"
    known.write_text(token + "\n")
    assert classes(held_against(desk, path, tokens=known)[0]) == {"equal": 1}


@pytest.mark.parametrize(
    ("text", "micros"),
    [("0", 0), ("1.5", 1_500_000), ("0.0000001", 1), ("NaN", -1), ("-1", -1), ("", -1), ("1e3", -1), ("inf", -1)],
)
def test_prices_that_are_none(tmp_path: Path, text: str, micros: int) -> None:
    path = tmp_path / "bills.csv"
    path.write_text(f"token,price\nabc,{text}\n")
    assert next(read_bills(path, {})).prices == [micros]


def test_files_that_cannot_be_read(desk: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a column token or bid_id"):
        held_against(desk, bill_file(desk, [(1, 2)], "what,price"))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet")
    for path in (broken, tmp_path / "absent.csv"):
        with pytest.raises(DataError, match="cannot be read") as said:
            held_against(desk, path)
        assert "rrno" not in str(said.value)
    with pytest.raises(DataError, match=r"absent cannot be read: No such file or directory; one token a line"):
        held_against(desk, bill_file(desk, []), tokens=tmp_path / "absent")
    with pytest.raises(InvalidRequestError, match="--from"):
        held_against(desk, bill_file(desk, []), span=Span(None, None), complete=True)


def test_a_damaged_journal_settles_nothing(desk: Any) -> None:
    desk.reserve(5_000)
    desk.ledger.flush()
    desk.store.write(lambda link: link.execute("UPDATE ledger_journal SET time_ms = time_ms + 1 WHERE sequence = 2"))
    with pytest.raises(DataError, match="damaged"):
        held_against(desk, bill_file(desk, []))


def test_the_command_settles_the_store_of_a_stopped_server(desk: Any) -> None:
    token = desk.reserve(5_000)[0]
    path = bill_file(desk, [(token, 4_000)])
    desk.ledger.flush()
    run = CliRunner().invoke
    asked = ["ledger", "reconcile", "--bills", str(path), "--data", str(desk.folder), "--exchange", "x"]
    settle = [*asked, "--apply", "--why", "May", "--who", "ann"]
    assert run(app, [*asked, "--apply"]).exit_code != 0
    assert "a server owns this ledger" in str(run(app, settle).exception)
    desk.ledger.close()
    first = run(app, [*settle, "--json"])
    assert first.exit_code == 1
    assert json.loads(first.stdout)["applied"] == {"ACCEPTED": 1}
    again = run(app, settle)
    assert again.exit_code == 0
    assert "settled: nothing" in again.stdout
    desk.restart()
    assert desk.line().billed_micros == 4


class Server:
    """A client's two calls, kept."""

    def __init__(self) -> None:
        self.closed: list[tuple[str, str, int | None]] = []

    def close_reservation(self, token: str, *, reason: str, price_cpm_micros: int | None) -> Any:
        self.closed.append((token, reason, price_cpm_micros))
        return campaigns_pb2.CloseReservationResponse(outcome=bidder_pb2.NOTICE_OUTCOME_ACCEPTED)

    def notify(self, notices: list[Any]) -> Any:
        assert [notice.price_cpm_micros for notice in notices] == [7]
        return bidder_pb2.NotifyResponse(outcomes=[bidder_pb2.NOTICE_OUTCOME_LATE])


def test_through_a_server() -> None:
    server = Server()
    claims = [("missing_in_ours", Claim("a", 5)), ("unclaimed", Claim("b", -1)), ("released_before", Claim("c", 7))]
    assert carry_out(ServerSettler(server, "ann", "May"), claims) == {"ACCEPTED": 2, "LATE": 1}  # type: ignore[arg-type]
    assert sorted(server.closed) == [("a", "May (ann)", 5), ("b", "May (ann)", None)]


def test_many_are_closed_in_one_commit_each_with_its_audit(desk: Any) -> None:
    tokens = desk.reserve(*[5_000] * 30)
    path = bill_file(desk, [(token, 4_000) for token in tokens[:20]])
    claims = held_against(desk, path, complete=True)[1]
    desk.ledger.flush()
    before = desk.store.read("SELECT max(sequence) FROM ledger_journal")[0][0]
    assert carry_out(StoreSettler(desk.ledger, "ann", "May"), claims) == {"ACCEPTED": 30}
    assert desk.store.read("SELECT max(sequence) FROM ledger_journal")[0][0] <= before + 2
    rows = desk.store.read("SELECT subject, after FROM ledger_audit WHERE action = 'close'")
    assert len({subject for subject, _ in rows}) == 30
    assert sorted(after for _, after in rows) == ["CLOSE_BILLED 4000"] * 20 + ["CLOSE_LOST None"] * 10


def test_killed_in_the_middle_the_same_file_settles_the_rest(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.audit.settle.AT_ONCE", 4)
    tokens = desk.reserve(*[5_000] * 10)
    path = bill_file(desk, [(token, 4_000) for token in tokens])

    class Killed(StoreSettler):
        n = 0

        def close(self, claims: list[Claim]) -> list[NoticeOutcome]:
            self.n += 1
            if self.n > 2:
                raise KeyboardInterrupt
            return super().close(claims)

    with pytest.raises(KeyboardInterrupt):
        carry_out(Killed(desk.ledger, "ann", "May"), held_against(desk, path)[1])
    desk.restart(drain=False)
    assert desk.line().billed_micros == 8 * 4
    assert carry_out(StoreSettler(desk.ledger, "ann", "May"), held_against(desk, path)[1]) == {"ACCEPTED": 2}
    assert desk.line().billed_micros == 10 * 4
    assert held_against(desk, path)[1] == []


def test_what_a_person_reads_is_short_and_says_what_a_row_has(desk: Any) -> None:
    token = desk.reserve(5_000)[0]
    path = bill_file(desk, [(token, "nan")] * 30)
    desk.ledger.flush()
    asked = ["ledger", "reconcile", "--bills", str(path), "--data", str(desk.folder), "--exchange"]
    said = CliRunner().invoke(app, [*asked, "x"]).stdout
    assert f"malformed: row 1: {token} without a price" in said
    assert "malformed: and 25 more; --json names the first 20" in said
    assert len(said.splitlines()) == 8
    assert "--exchange" in str(CliRunner().invoke(app, [*asked, ""]).exception)
