"""The auditor recomputes every balance from the journal, and sees what was changed in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.audit.auditor import Audit, audit, balances, days
from headrace.audit.certificate import certify, text_of
from headrace.audit.export import export
from headrace.audit.layout import ceil_micros
from headrace.audit.merge import merge
from headrace.audit.slots import adopt, read_slots
from headrace.audit.stated import compare_engine
from headrace.audit.tables import compare_tables
from headrace.audit.trail import ExportTrail, open_store
from headrace.cli import app
from headrace.errors import DataError, NotFoundError
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.ledger import LedgerConfig

WIN, BILL, LOSS = 1, 2, 3
DAY = 86_400_000
LINE = "adv/camp/line"


@pytest.fixture
def desk(tmp_path: Path, desks: Any) -> Iterator[Any]:
    made = desks.Desk(tmp_path, LedgerConfig(snapshot_records=40), database="headrace.db").fill()
    yield made
    made.close()


def audited(desk: Any) -> Audit:
    desk.ledger.flush()
    with open_store(desk.store.path) as trail:
        found = audit(trail)
        compare_engine(found, trail, desk.now)
        compare_tables(found, trail)
        adopt(found, trail, read_slots(desk.folder))
    return found


def trade(desk: Any, n: int = 30) -> list[str]:
    """A third billed, a third won, a sixth lost; the rest is returned."""
    tokens = desk.reserve(*[2_500] * n)
    third = n // 3
    desk.ledger.notify([BILL] * third, tokens[:third], [2_001] * third, desk.now)
    desk.ledger.notify([WIN] * third, tokens[third : 2 * third], [1_500] * third, desk.now)
    desk.ledger.notify(
        [LOSS] * (third // 2), tokens[2 * third : 2 * third + third // 2], [None] * (third // 2), desk.now
    )
    return tokens[2 * third + third // 2 :]


def test_recomputes_every_amount_and_finds_no_difference(desk: Any) -> None:
    left = trade(desk)
    desk.notify(BILL, left[0], 9_000)
    found = audited(desk)
    assert found.differences == []
    line = balances(found, 0)[2]
    assert line.billed == ceil_micros(10 * 2_001)
    assert (line.won, line.reserved, line.disputed) == (20, 10 + 5 * 3, 9)
    assert line.lease_unused == desk.line().lease_unused_micros
    assert balances(found, 0)[0] == line
    assert days(found)[0][desk.now // DAY].billed == line.billed
    assert found.recount.limits.over(0) == 0


def test_the_condensed_journal_is_proved_from_its_oldest_snapshot(desk: Any) -> None:
    for _ in range(12):
        left = trade(desk, 12)
        desk.ledger.notify([LOSS] * len(left), left, [None] * len(left), desk.now)
        desk.now += 8 * DAY
        desk.ledger.tick(desk.now)
        desk.ledger.flush()
    first, last = desk.store.read("SELECT min(sequence), max(sequence) FROM ledger_journal")[0]
    assert 1 < first < last
    found = audited(desk)
    assert (found.opening_sequence, found.differences) == (first, [])
    assert found.n_snapshots >= 2
    assert balances(found, 0)[2].billed == 12 * ceil_micros(4 * 2_001)


def rewrite(desk: Any, change: Callable[[bytearray], None], row: int = 0) -> None:
    def job(connection) -> None:
        rows = connection.execute("SELECT sequence, records FROM ledger_journal ORDER BY sequence").fetchall()
        records = bytearray(rows[row][1])
        change(records)
        connection.execute("UPDATE ledger_journal SET records = ? WHERE sequence = ?", (bytes(records), rows[row][0]))

    desk.store.write(job)


def test_one_changed_micro_is_seen(desk: Any) -> None:
    trade(desk)
    desk.ledger._condense(desk.now).result()
    settled = desk.store.read("SELECT count(*) FROM ledger_journal")[0][0] - 3

    def cheaper(records: bytearray) -> None:
        records[32] ^= 0x40  # the price of a settlement

    rewrite(desk, cheaper, settled)
    found = audited(desk)
    assert any("its digest differs" in text for text in found.differences)
    assert any("snapshot" in text for text in found.differences)


def test_a_missing_row_and_a_row_of_nonsense_are_seen(desk: Any) -> None:
    trade(desk)
    trade(desk)
    desk.ledger.flush()
    desk.store.write(lambda link: link.execute("DELETE FROM ledger_journal WHERE sequence = 3"))
    desk.store.write(lambda link: link.execute("INSERT INTO ledger_journal VALUES (9999, 0, x'6300')"))
    with open_store(desk.store.path) as trail:
        found = audit(trail)
    assert any("rows 3 to 3 are missing" in text for text in found.differences)
    assert any("no whole number of records" in text for text in found.differences)


def test_a_grant_beyond_the_budget_is_over(desk: Any) -> None:
    desk.reserve(2_500)
    desk.ledger.flush()

    def larger(records: bytearray) -> None:
        at = next(i for i in range(0, len(records), 48) if records[i] == 1)
        records[at + 24 : at + 32] = (1_000_007).to_bytes(8, "little")

    granted = next(
        row
        for row, (blob,) in enumerate(desk.store.read("SELECT records FROM ledger_journal ORDER BY sequence"))
        if 1 in blob[::48]
    )
    rewrite(desk, larger, granted)
    with open_store(desk.store.path) as trail:
        found = audit(trail)
    assert found.recount.limits.over(0) == 7


def test_a_cut_below_what_is_committed_is_not_over(desk: Any) -> None:
    desk.reserve(*[100_000] * 5)
    desk.ledger.set_account(LINE, lifetime_micros=200)
    found = audited(desk)
    assert found.differences == []
    assert found.recount.limits.over(2) == 0
    assert found.recount.limits.life[2].in_force == 500


def test_the_certificate_says_over_late_and_stranded(desk: Any) -> None:
    left = trade(desk)
    desk.ledger.set_account("adv/camp", daily_micros=900_000, mode=LedgerMode.EXPIRE, expire_after_ms=1_000)
    desk.now += 2_000
    desk.ledger.tick(desk.now)
    desk.notify(BILL, left[0], 2_000)
    found = audited(desk)
    made = certify(found, {2: 1}, "7", desk.now - DAY)
    campaign = made.accounts[1]
    assert (campaign.over_micros, campaign.late_bills, campaign.late_micros) == (0, 1, 2)
    assert (campaign.bound.released_micros, campaign.bound.bound_micros, campaign.bound.inside) == (15, 3, True)
    assert campaign.days[0].limit_micros == 900_000
    text = text_of(made)
    assert "adv/camp (USD, expire): over: 0 micros; late: 1 bills, 2 micros; stranded: 0 micros" in text
    assert made.sources[0].digest in text
    with pytest.raises(NotFoundError):
        certify(found, {}, "7", 0, "nobody")


def test_certificates_of_several_ledgers_add_up(desk: Any) -> None:
    desk.ledger.set_account("adv/camp", daily_micros=60)
    desk.reserve(*[10_000] * 4)
    one = certify(audited(desk), {2: 1}, "7", 0)
    both = merge([one, one])
    alone, whole = one.accounts[1], both.accounts[1]
    assert whole.reserved_micros == 2 * alone.reserved_micros == 80
    assert (whole.late_bills, len(both.sources)) == (2, 2)
    assert (alone.over_micros, alone.days[0].over_micros) == (0, 0)
    day = whole.days[0]
    held = day.reserved_micros + day.lease_unused_micros
    assert day.over_micros == held - 60 > 0, "together they hold more than the day's"


def test_commands_agree_and_exit_1_on_a_difference(desk: Any) -> None:
    trade(desk)
    desk.ledger.flush()
    run = CliRunner().invoke
    folder = str(desk.folder)
    beside = run(app, ["ledger", "audit", "--data", folder, "--json"])
    assert beside.exit_code == 0
    assert json.loads(beside.stdout)["differences"] == []
    made = run(app, ["ledger", "certificate", "--data", folder, "--campaign", "adv/camp"])
    assert made.exit_code == 0
    assert "over: 0 micros" in made.stdout
    rewrite(desk, lambda records: records.__setitem__(24, records[24] ^ 1))
    assert run(app, ["ledger", "audit", "--data", folder]).exit_code == 1
    assert run(app, ["ledger", "certificate", "--data", folder, "--json"]).exit_code == 1
    with pytest.raises(DataError, match="is not there"), open_store(desk.folder / "nothing.db"):
        pass


def test_the_export_goes_on_where_it_ended_and_proves_the_same(desk: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    to = tmp_path / "out"
    digests = []
    for _ in range(3):
        trade(desk)
        desk.ledger.flush()
        with open_store(desk.store.path) as trail:
            export(trail, to)
        digests.append(audit(ExportTrail(to)).digest)
    (to / "journal-000000000099-000000000100.parquet").write_bytes(b"left by a run that was cut off")
    with open_store(desk.store.path) as trail:
        export(trail, to)
    assert len(list(to.glob("journal-*.parquet"))) == 3
    found, direct = audit(ExportTrail(to)), audited(desk)
    assert found.differences == []
    assert (found.sequence, found.digest) == (direct.sequence, direct.digest)
    assert digests[-1] == direct.digest
    assert balances(found, 0)[0].billed == balances(direct, 0)[0].billed
    records = parquet.read_table(to / f"journal-000000000001-{found_end(to):012d}.parquet")
    assert {"sequence", "kind", "lease", "a", "b", "digest"} <= set(records.column_names)
    assert str(records["a"].type) == "int64"
    assert parquet.read_table(to / "funds.parquet")["amount_micros"].to_pylist() == [1_000_000]


def found_end(to: Path) -> int:
    return int(sorted(to.glob("journal-*.parquet"))[0].stem.rpartition("-")[2])


def test_an_export_that_fell_behind_says_so(desk: Any, tmp_path: Path) -> None:
    trade(desk)
    desk.ledger.flush()
    with open_store(desk.store.path) as trail:
        export(trail, tmp_path / "out")
    for _ in range(12):
        desk.now += 20 * DAY
        left = trade(desk, 12)
        desk.ledger.notify([LOSS] * len(left), left, [None] * len(left), desk.now)
        desk.ledger.tick(desk.now)
    desk.ledger.flush()
    with open_store(desk.store.path) as trail, pytest.raises(DataError, match="are gone from the store"):
        export(trail, tmp_path / "out")
    with open_store(desk.store.path) as trail:
        export(trail, tmp_path / "anew")
    found = audit(ExportTrail(tmp_path / "anew"))
    assert found.opening_sequence > 0
    assert found.differences == []
    assert found.digest == audited(desk).digest


def test_every_column_of_an_export_is_in_the_docs() -> None:
    from headrace.audit.export import RECORDS, TABLES, _columns_of

    text = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text("utf-8")
    names = {name for query in TABLES.values() for name in _columns_of(query)} | set(RECORDS.names or ())
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    assert [name for name in TABLES if f"| `{name}` |" not in text] == []


def test_segments_are_written_and_read_in_blocks_that_may_end_within_a_row(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        trade(desk)
    desk.ledger.flush()
    monkeypatch.setattr("headrace.audit.export.BLOCK_RECORDS", 7)
    monkeypatch.setattr("headrace.audit.export.SEGMENT_RECORDS", 40)
    with open_store(desk.store.path) as trail:
        manifest = export(trail, tmp_path / "out")
    assert len(manifest["journal"]) > 1
    found = audit(ExportTrail(tmp_path / "out"))
    assert (found.differences, found.digest) == ([], audited(desk).digest)
