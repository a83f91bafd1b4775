"""An auditor trusts nobody: whatever is changed in a journal, its tables, its files or its export is named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest
from typer.testing import CliRunner

from headrace.audit.anchors import read_anchors
from headrace.audit.auditor import Audit, audit
from headrace.audit.certificate import EARLIER, as_dict, certify, text_of
from headrace.audit.export import export
from headrace.audit.layout import ALL_DAYS, RECORD, Kind, Record, State, read_records
from headrace.audit.merge import merge
from headrace.audit.slots import adopt, read_slots
from headrace.audit.stated import compare_engine
from headrace.audit.tables import compare_tables
from headrace.audit.trail import ExportTrail, open_store
from headrace.cli import app
from headrace.errors import DataError
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.journal import chained
from headrace.ledger.ledger import LedgerConfig

WIN, BILL, LOSS = 1, 2, 3
DAY = 86_400_000
LINE = "adv/camp/line"


@pytest.fixture
def desk(tmp_path: Path, desks: Any) -> Iterator[Any]:
    """A ledger with a bill, a win, a loss, a dispute, what time released and its late bill."""
    made = desks.Desk(tmp_path / "live", LedgerConfig(snapshot_records=10**6), database="headrace.db").fill()
    billed, won, lost, disputed = made.reserve(*[5_000] * 4)
    made.notify(BILL, billed, 4_000)
    made.notify(WIN, won, 3_000)
    made.notify(LOSS, lost)
    made.notify(BILL, disputed, 6_000)
    made.ledger.set_account("adv/camp", mode=LedgerMode.EXPIRE, expire_after_ms=1_000)
    late = made.reserve(5_000)[0]
    made.now += 2_000
    made.ledger.tick(made.now)
    made.notify(BILL, late, 5_000)
    made.reserve(5_000)
    made.ledger.flush()
    yield made
    made.close()


def looked_at(folder: Path, anchors: dict[int, str] | None = None) -> Audit:
    slots = read_slots(folder)
    with open_store(folder / "headrace.db") as trail:
        found = audit(trail, anchors)
        compare_engine(found, trail, 1_800_000_000_000)
        compare_tables(found, trail)
        adopt(found, trail, slots)
    return found


Rows = list[tuple[int, int, list[Record]]]


def lie(desk: Any, change: Callable[[Rows], object]) -> Path:
    """A copy of the folder whose journal somebody changed who knows how its chain is made."""
    folder = desk.folder.parent / "lie"
    shutil.copytree(desk.folder, folder)
    with sqlite3.connect(folder / "headrace.db") as link:
        rows = link.execute("SELECT sequence, time_ms, records FROM ledger_journal ORDER BY sequence").fetchall()
        read: Rows = [(sequence, time_ms, list(read_records(blob))) for sequence, time_ms, blob in rows]
        change(read)
        link.execute("DELETE FROM ledger_journal")
        link.execute("DELETE FROM ledger_chain")
        digest = bytes(32)
        for sequence, time_ms, records in read:
            blob = b"".join(RECORD.pack(*record) for record in records)
            digest = chained(digest, sequence, time_ms, blob)
            link.execute("INSERT INTO ledger_journal VALUES (?, ?, ?)", (sequence, time_ms, blob))
            link.execute("INSERT INTO ledger_chain VALUES (?, ?)", (sequence, digest))
    link.close()
    return folder


def edit(kind: Kind, state: State | None, change: Callable[[Record], list[Record]]) -> Callable[[Rows], None]:
    """Change the first record of a kind and state."""

    def job(rows: Rows) -> None:
        for _, _, records in rows:
            for at, record in enumerate(records):
                if record.kind == kind and state in (None, record.state):
                    records[at : at + 1] = change(record)
                    return
        raise AssertionError

    return job


def swap(rows: Rows) -> None:
    """The settlement of a won token comes before the win."""
    places = [(row, at) for row, (_, _, records) in enumerate(rows) for at, one in enumerate(records) if one.kind == 3]
    (a, i), (b, j) = places[0], places[-1]
    rows[a][2][i], rows[b][2][j] = rows[b][2][j], rows[a][2][i]


SETTLED = Kind.SETTLE
LIES: dict[str, tuple[Callable[[Rows], object], str]] = {
    "a row is gone": (lambda rows: rows.pop(3), "are missing"),
    "a grant is gone": (edit(Kind.GRANT, None, lambda record: []), "was never granted|does not read"),
    "a grant stands twice": (edit(Kind.GRANT, None, lambda record: [record] * 2), "is granted twice"),
    "a grant of less than nothing": (
        edit(Kind.GRANT, None, lambda record: [record, record._replace(a=-100, lease=record.lease + 1)]),
        "is granted -100",
    ),
    "a grant to nobody": (edit(Kind.GRANT, None, lambda record: [record._replace(account=9)]), "no line item"),
    "a grant to a campaign": (edit(Kind.GRANT, None, lambda record: [record._replace(account=1)]), "no line item"),
    "settled twice": (edit(SETTLED, State.BILLED, lambda record: [record] * 2), "turns from 4 to 4"),
    "billed and lost": (
        edit(SETTLED, State.BILLED, lambda record: [record, record._replace(state=State.LOST)]),
        "turns from 4 to 5",
    ),
    "billed above the bid": (
        edit(SETTLED, State.BILLED, lambda record: [record._replace(b=record.a + 1)]),
        "beyond what it reserved",
    ),
    "billed at less than nothing": (
        edit(SETTLED, State.BILLED, lambda record: [record._replace(b=-5)]),
        "beyond what it reserved",
    ),
    "a bill of a lease that nobody granted": (
        edit(SETTLED, State.BILLED, lambda record: [record._replace(lease=7)]),
        "beyond what it reserved",
    ),
    "a bill on another line": (
        edit(SETTLED, State.BILLED, lambda record: [record._replace(account=1)]),
        "another account or day",
    ),
    "a bill on another day": (
        edit(SETTLED, State.BILLED, lambda record: [record._replace(day=record.day - 1)]),
        "another account or day",
    ),
    "released at more than was reserved": (
        edit(SETTLED, State.WON, lambda record: [record, record._replace(state=State.LOST, a=record.a * 9)]),
        "ends as 45000, and reserved 5000",
    ),
    "more given back than there is": (
        edit(Kind.LIMITS, None, lambda record: [record, Record(Kind.CLOSE, 0, 0, 2, 5, 0, 0, 10, 0, 0)]),
        "was never granted|gives back",
    ),
    "a lease's money said anew": (
        edit(SETTLED, State.BILLED, lambda record: [Record(Kind.MONEY, 0, 0, -1, record.lease, 0, 0, 0, 1, 0), record]),
        "only snapshots have",
    ),
    "a kind that nobody knows": (edit(Kind.LIMITS, None, lambda record: [record._replace(kind=77)]), "is not known"),
    "a limit below what is spent": (edit(Kind.LIMITS, None, lambda record: [record._replace(a=1)]), "OVER"),
    "the order": (swap, "turns from 7 to 6"),
}


def names(found: Audit) -> str:
    over = [account.account_id for account in found.accounts if found.recount.limits.over(account.number)]
    return " / ".join([*found.differences, *(f"OVER {name}" for name in over)])


def test_an_honest_folder_has_no_difference_and_no_note(desk: Any) -> None:
    found = looked_at(desk.folder)
    assert (found.differences, found.notes) == ([], [])
    assert names(looked_at(lie(desk, lambda rows: None))) == ""


@pytest.mark.parametrize("what", sorted(LIES))
def test_a_lie_is_named_though_its_chain_was_made_anew(desk: Any, what: str) -> None:
    change, expected = LIES[what]
    said = names(looked_at(lie(desk, change)))
    assert said, "nothing was found"
    assert any(part in said for part in expected.split("|")), said


def test_a_price_changed_within_what_can_be_is_named_by_what_was_said_before(desk: Any, tmp_path: Path) -> None:
    before = looked_at(desk.folder)
    anchors = {before.sequence: before.digest}
    folder = lie(desk, edit(SETTLED, State.BILLED, lambda record: [record._replace(b=record.b - 1)]))
    assert names(looked_at(folder)) == ""
    assert "is not the one of before" in names(looked_at(folder, anchors))
    desk.reserve(5_000)
    desk.ledger.flush()
    assert names(looked_at(desk.folder, anchors)) == ""


def test_an_older_store_in_the_place_of_the_present_one_is_named(desk: Any) -> None:
    older = desk.folder.parent / "older"
    shutil.copytree(desk.folder, older)
    desk.ledger.fund("more", "adv", 5)
    desk.ledger.tick(desk.now)
    desk.reserve(500_000, 500_000)
    desk.ledger.flush()
    before = looked_at(desk.folder)
    assert before.differences == []
    shutil.copy(desk.folder / "ledger.reservations", older)
    assert "the store is older" in names(looked_at(older))
    (older / "ledger.reservations").unlink()
    found = looked_at(older, {before.sequence: before.digest})
    assert f"row {before.sequence} was there before" in names(found)
    assert "is not there" in found.notes[0]


TABLES = {
    "a chain taken away": ("DELETE FROM ledger_chain", "outside the chain"),
    "a link taken away": ("DELETE FROM ledger_chain WHERE sequence = 3", "outside the chain"),
    "a time": ("UPDATE ledger_journal SET time_ms = time_ms + 1 WHERE sequence = 3", "its digest differs"),
    "a deposit": ("UPDATE ledger_funds SET amount_micros = amount_micros + 1", "deposits come to 1000001"),
    "a deposit taken away": ("DELETE FROM ledger_funds", "deposits come to 0"),
    "a limit": ("UPDATE ledger_accounts SET daily_micros = 7 WHERE account_number = 1", "adv/camp, daily_micros: is 7"),
    "a line taken away": ("DELETE FROM ledger_accounts WHERE account_number = 2", "no line item"),
    "a late bill": ("DELETE FROM ledger_reconciliation WHERE outcome = 3", "1 late bills in the journal, 0"),
    "a row of the audit": (
        "DROP TRIGGER ledger_audit_no_delete; DELETE FROM ledger_audit WHERE audit_id = 2",
        "rows 2 to 2 of the audit are missing",
    ),
    "a sum in the audit": (
        "DROP TRIGGER ledger_audit_no_update; UPDATE ledger_audit SET before = '3' WHERE action = 'fund'",
        "the balance of adv was 0, not 3",
    ),
    "an account that no audit knows": (
        "INSERT INTO ledger_accounts SELECT 9, 'b', -1, currency, time_zone, mode, expire_after_ms, lifetime_micros, "
        "daily_micros, flight_start_ms, flight_end_ms, version FROM ledger_accounts WHERE account_number = 0",
        "b: its audit says nothing of it",
    ),
}


@pytest.mark.parametrize("what", sorted(TABLES))
def test_a_change_of_a_table_is_named_in_the_store_and_in_an_export(desk: Any, what: str) -> None:
    statement, expected = TABLES[what]
    folder = lie(desk, lambda rows: None)
    with sqlite3.connect(folder / "headrace.db") as link:
        link.executescript(statement)
    link.close()
    found = looked_at(folder)
    assert expected in names(found)
    with open_store(folder / "headrace.db") as trail:
        export(trail, folder / "out")
    exported = ExportTrail(folder / "out")
    found = audit(exported)
    compare_tables(found, exported)
    assert expected in names(found)


@pytest.mark.parametrize(("cut", "expected"), [(30, "30 bytes"), (None, "not what was written")])
def test_a_torn_file_of_reservations_is_noted(desk: Any, cut: int | None, expected: str) -> None:
    folder = lie(desk, lambda rows: None)
    path = folder / "ledger.reservations"
    content = bytearray(path.read_bytes())
    at = next(at for at in range(56, len(content), 40) if any(content[at : at + 8]))
    content[at + 8] ^= 1
    path.write_bytes(content[:cut])
    found = looked_at(folder)
    assert (found.differences, found.recount.known_singly) == ([], False)
    assert expected in found.notes[0]
    said = CliRunner().invoke(app, ["ledger", "audit", "--data", str(folder)])
    assert (said.exit_code, f"NOTE {found.notes[0]}" in said.stdout) == (0, True)
    assert f"NOTE {found.notes[0]}" in text_of(certify(found, {}, "", 0))


def test_lies_about_an_export(desk: Any, tmp_path: Path) -> None:
    to = tmp_path / "out"
    for _ in range(2):
        desk.notify(LOSS, desk.reserve(5_000)[0])
        with open_store(desk.store.path) as trail:
            export(trail, to)
    manifest = json.loads((to / "manifest.json").read_text())
    one, two = manifest["journal"]
    honest = {path.name: path.read_bytes() for path in to.iterdir()}

    def said(**change: Any) -> str:
        (to / "manifest.json").write_text(json.dumps(manifest | change))
        return names(audit(ExportTrail(to)))

    assert said() == ""
    assert "stands after row" in said(journal=[one, two, one])
    assert "stands after row" in said(journal=[two, one])
    assert "are missing" in said(journal=[two])
    assert "the journal ends before row 12" in said(journal=[one])
    table = parquet.read_table(to / one)
    parquet.write_table(table.slice(0, len(table) - 1), to / one)
    assert said()
    (to / one).write_bytes(honest[two])
    assert said()
    (to / one).write_bytes(honest[one][:-20])
    with pytest.raises(DataError, match=f"{one}.* cannot be read"):
        said()
    (to / one).write_bytes(honest[one])
    (to / "accounts.parquet").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"accounts\.parquet cannot be read"):
        said()
    for wrong in ({"format": 99}, {"journal": None, "format": 1}):
        (to / "accounts.parquet").write_bytes(honest["accounts.parquet"])
        with pytest.raises(DataError, match=r"export format|no export"):
            said(**wrong)


def test_a_journal_without_its_last_row_is_named_and_not_exported(desk: Any, tmp_path: Path) -> None:
    last = "(SELECT max(sequence) FROM ledger_journal)"
    desk.store.write(lambda link: link.execute(f"DELETE FROM ledger_journal WHERE sequence = {last}"))
    assert "the journal ends before row" in names(looked_at(desk.folder))
    with open_store(desk.store.path) as trail, pytest.raises(DataError, match="the journal ends before row"):
        export(trail, tmp_path / "out")


def test_a_torn_row_is_named_by_the_export(desk: Any, tmp_path: Path) -> None:
    desk.store.write(lambda link: link.execute("UPDATE ledger_journal SET records = x'6300' WHERE sequence = 3"))
    with open_store(desk.store.path) as trail, pytest.raises(DataError, match="journal row 3 is torn"):
        export(trail, tmp_path / "out")


def test_anchors_are_read_from_audits_and_certificates(desk: Any, tmp_path: Path) -> None:
    run = CliRunner().invoke
    folder = str(desk.folder)
    said = tmp_path / "said.json"
    for command in ("audit", "certificate"):
        said.write_text(run(app, ["ledger", command, "--data", folder, "--json"]).stdout)
        again = run(app, ["ledger", command, "--data", folder, "--against", str(said)])
        assert again.exit_code == 0, again.stdout
    found = looked_at(desk.folder)
    one = certify(found, {}, "7", 0)
    other = certify(found, {}, "8", 0)
    said.write_text(json.dumps(as_dict(merge([one, other]))))
    assert read_anchors([said], "8") == {found.sequence: found.digest}
    for text, match in (
        ("[", "no audit"),
        ("{}", "no audit"),
        ('{"sequence": 3, "digest": ""}', "no digest"),
        (said.read_text(), "nothing of ledger 9"),
    ):
        said.write_text(text)
        with pytest.raises(DataError, match=match):
            read_anchors([said], "9")
    with pytest.raises(DataError, match="No such file"):
        read_anchors([tmp_path / "absent"], "9")


def test_data_and_journal_are_not_read_together(desk: Any, tmp_path: Path) -> None:
    for command in ("audit", "certificate"):
        asked = ["ledger", command, "--data", str(desk.folder), "--journal", str(tmp_path)]
        assert "one of --data and --journal" in str(CliRunner().invoke(app, asked).exception)


def test_the_head_of_a_certificate_is_the_sum_of_its_days(desk: Any) -> None:
    for _ in range(12):
        tokens = desk.reserve(*[2_500] * 12)
        desk.ledger.notify([BILL] * 4, tokens[:4], [2_001] * 4, desk.now)
        desk.ledger.notify([LOSS] * 8, tokens[4:], [None] * 8, desk.now)
        desk.now += 8 * DAY
        desk.ledger.tick(desk.now)
        desk.ledger._condense(desk.now).result()
    desk.reserve(7_000, 7_000)
    desk.ledger.flush()
    found = looked_at(desk.folder)
    assert found.opening_sequence > 0
    found.recount.base[2, ALL_DAYS] += 77  # as of days that the ledger forgot
    made = certify(found, {}, "", 0)
    for entry in (*made.accounts, *merge([made, made]).accounts):
        assert entry.days[0].day == EARLIER
        for name in ("spent_micros", "reserved_micros", "lease_unused_micros"):
            assert sum(getattr(day, name) for day in entry.days) == getattr(entry, name) > 0, name
    lines = text_of(made).splitlines()
    head, day = next(line for line in lines if line.startswith("adv/camp")), lines[-2]
    assert "  earlier: spent 77 no daily limit, reserved 0, unused 0, over 0" in lines
    assert f"reserved: {made.accounts[1].reserved_micros} micros" in head
    assert f"unused: {made.accounts[1].lease_unused_micros} micros" in head
    assert f"unused {made.accounts[1].days[-1].lease_unused_micros}" in day
