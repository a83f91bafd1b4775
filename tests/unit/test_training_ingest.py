"""`headrace-train ingest`: what becomes an event, and what is told of the rest."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import ConfigError, DataError
from headrace.events.columns import TrainingColumns
from headrace_training.ingest import Ingester, Summary, open_log
from headrace_training.mapping import Mapping, read_mapping

HEADER = "user_id,item_id,timestamp,event_type,quantity,price,channel\n"
ROW = "ann,tea,2024-03-01T10:00:00Z,purchase,2,4.50,shop\n"
NOON_MS = 1_709_287_200_000


class Desk:
    """A folder with a log, and files to ingest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = open_log(folder / "log", create=True)

    def file(self, text: str, name: str = "events.csv") -> Path:
        path = self.folder / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    def ingest(self, text: str, name: str = "events.csv", **options: Any) -> Summary:
        keys = ("strict", "rejects")
        mapping = read_mapping(None, {key: value for key, value in options.items() if key not in keys})
        rest = {key: value for key, value in options.items() if key in keys}
        return Ingester(self.log, mapping, **rest).run([self.file(text, name)])

    def events(self) -> TrainingColumns:
        return self.log.read_columns()


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    desk = Desk(tmp_path)
    yield desk
    desk.log.store.close()


def accounted(summary: Summary) -> int:
    return (
        summary.accepted
        + summary.duplicates
        + summary.missing_user
        + summary.dropped_returns
        + summary.dropped_types
        + sum(summary.rejected.values())
    )


def test_a_row_becomes_an_event(desk: Desk) -> None:
    summary = desk.ingest(HEADER + ROW)
    assert (summary.rows, summary.accepted) == (1, 1)
    events = desk.events()
    assert events.user_names == ["ann"]
    assert events.item_ids == ["tea"]
    assert events.times_ms.tolist() == [NOON_MS]
    assert events.types.tolist() == [3]
    assert events.quantities.tolist() == [2.0]
    assert events.prices_micros.tolist() == [4_500_000]


@pytest.mark.parametrize("name", ["events.csv.gz", "events.tsv", "again.csv"])
def test_the_same_file_again_adds_nothing_and_says_how_many(desk: Desk, name: str) -> None:
    text = HEADER + ROW + ROW.replace("tea", "cup")
    desk.ingest(text)
    delimiter = "\t" if name.endswith("tsv") else ","
    again = desk.ingest(text.replace(",", delimiter), name)
    assert (again.accepted, again.duplicates) == (0, 2)
    assert len(desk.events().times_ms) == 2


def test_event_ids_of_the_file_decide_what_is_a_duplicate(desk: Desk) -> None:
    text = HEADER.replace("\n", ",event_id\n") + ROW.replace("\n", ",e1\n") + ROW.replace("\n", ",e2\n")
    assert desk.ingest(text).accepted == 2
    assert desk.ingest(text).duplicates == 2


def test_rows_alike_in_every_column_are_one_event(desk: Desk) -> None:
    summary = desk.ingest(HEADER + ROW + ROW)
    assert (summary.accepted, summary.duplicates) == (1, 1)


def test_negative_quantities_are_returns(desk: Desk) -> None:
    summary = desk.ingest(HEADER + ROW.replace(",2,", ",-2,"))
    assert (summary.accepted, summary.returns) == (1, 1)
    events = desk.events()
    assert events.types.tolist() == [4]
    assert events.quantities.tolist() == [2.0]


def test_negative_quantities_can_be_dropped_or_be_an_error(desk: Desk) -> None:
    text = HEADER + ROW + ROW.replace(",2,", ",-2,")
    dropped = desk.ingest(text, returns="drop")
    assert (dropped.accepted, dropped.dropped_returns) == (1, 1)
    with pytest.raises(DataError, match="row 2: the quantity is negative"):
        desk.ingest(text, returns="error")


def test_missing_users_are_counted_or_an_error(desk: Desk) -> None:
    text = HEADER + ROW + ROW.replace("ann", "") + ROW.replace("ann", "  ")
    summary = desk.ingest(text)
    assert (summary.accepted, summary.missing_user) == (1, 2)
    with pytest.raises(DataError, match="row 2: the user id is empty"):
        desk.ingest(text, missing_user="error")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ROW.replace("2024-03-01T10:00:00Z", "yesterday"), "time"),
        (ROW.replace("2024-03-01T10:00:00Z", ""), "time"),
        (ROW.replace("2024-03-01T10:00:00Z", "1969-03-01"), "time"),
        (ROW.replace("2024-03-01T10:00:00Z", "nan"), "time"),
        (ROW.replace(",2,", ",nan,"), "quantity"),
        (ROW.replace(",2,", ",inf,"), "quantity"),
        (ROW.replace(",2,", ",two,"), "quantity"),
        (ROW.replace(",2,", ",0,"), "quantity is zero"),
        (ROW.replace("4.50", "-4.50"), "price"),
        (ROW.replace("4.50", "inf"), "price"),
        (ROW.replace("4.50", "NaN"), "price"),
        (ROW.replace("tea", ""), "item id is empty"),
        (ROW.replace("tea", "t" * 257), "longer than 256"),
        (ROW.replace("ann", "a" * 257), "longer than 256"),
        (ROW.replace("shop", "s" * 65), "channel"),
        (ROW.replace("purchase", "abduction"), "event type"),
        ("ann,tea\n", "fields"),
    ],
)
def test_rows_that_are_no_events_are_counted_with_their_reason(
    desk: Desk, tmp_path: Path, row: str, reason: str
) -> None:
    rejects = tmp_path / "rejects.csv"
    summary = desk.ingest(HEADER + ROW + row + ROW.replace("tea", "cup"), rejects=rejects)
    assert summary.accepted == 2
    assert sum(summary.rejected.values()) == 1
    assert accounted(summary) == summary.rows == 3
    assert reason in next(iter(summary.rejected))
    with rejects.open(newline="") as handle:
        _, rejected = csv.reader(handle)
    assert rejected[1] == "2"
    with pytest.raises(DataError, match="row 2"):
        desk.ingest(HEADER + ROW + row, strict=True)


def test_row_numbers_stay_right_after_malformed_rows(desk: Desk, tmp_path: Path) -> None:
    rejects = tmp_path / "rejects.csv"
    bad_time = ROW.replace("2024-03-01T10:00:00Z", "never")
    summary = desk.ingest(HEADER + "x\n" + ROW + "y,z\n" + bad_time, rejects=rejects)
    assert accounted(summary) == summary.rows == 4
    with rejects.open(newline="") as handle:
        rows = list(csv.reader(handle))[1:]
    assert sorted(row[1] for row in rows) == ["1", "3", "4"]


def test_unknown_columns_are_named_with_what_comes_near(desk: Desk) -> None:
    with pytest.raises(DataError, match=r"'user_id'.*near: userid.*--user-column"):
        desk.ingest(HEADER.replace("user_id", "userid") + ROW)
    with pytest.raises(DataError, match="'cost'"):
        desk.ingest(HEADER + ROW, price_column="cost")


def test_optional_columns_may_be_absent(desk: Desk) -> None:
    summary = desk.ingest("user_id,item_id,timestamp\nann,tea,1709287200\n")
    assert summary.accepted == 1
    events = desk.events()
    assert events.times_ms.tolist() == [NOON_MS]
    assert (events.types.tolist(), events.quantities.tolist()) == ([3], [1.0])


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("2024-03-01 10:00:00", {}),
        ("2024-03-01 11:00:00+01:00", {}),
        ("2024-03-01 11:00:00", {"timezone": "Europe/Berlin"}),
        ("01/03/2024 10:00", {"time_format": "%d/%m/%Y %H:%M"}),
        ("1709287200", {}),
        ("1709287200000", {}),
        ("1709287200000000", {"time_unit": "us"}),
    ],
)
def test_times_in_many_forms(desk: Desk, cell: str, options: dict[str, str]) -> None:
    desk.ingest(HEADER + ROW.replace("2024-03-01T10:00:00Z", cell), **options)
    assert desk.events().times_ms.tolist() == [NOON_MS]


def test_a_toml_mapping_with_flags_on_top(desk: Desk, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(
        'default_channel = "web"\n[columns]\nuser = "who"\nitem = "sku"\ntime = "at"\ntype = "what"\n'
        '[event_types]\nBUY = "purchase"\nlook = "view"\nping = ""\n'
    )
    settings = read_mapping(mapping, {"item_column": "article", "timezone": None})
    text = "who,article,at,what\nann,tea,2024-03-01,BUY\nann,cup,2024-03-01,look\nann,cup,2024-03-01,ping\n"
    summary = Ingester(desk.log, settings).run([desk.file(text)])
    assert (summary.accepted, summary.dropped_types) == (2, 1)
    assert desk.events().types.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1\n", "colour"),
        ("[columns]\nusr = 'x'\n", "usr"),
        ("returns = 'maybe'\n", "maybe"),
        ("[event_types]\nBUY = 'steal'\n", "steal"),
        ("default_type = ''\n", "default_type"),
        ("= 3\n", "cannot be read"),
    ],
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_mapping(path, {})


def test_an_unknown_timezone_is_refused(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="timezone"):
        desk.ingest(HEADER + ROW, timezone="Mars/Olympus")


def test_empty_and_absent_files_are_refused_before_anything_is_stored(desk: Desk, tmp_path: Path) -> None:
    good, empty = desk.file(HEADER + ROW), desk.file("", "empty.csv")
    for bad in (empty, tmp_path / "absent.csv", desk.file("x", "data.txt")):
        with pytest.raises(DataError):
            Ingester(desk.log, Mapping()).run([good, bad])
    assert len(desk.events().times_ms) == 0


def test_a_file_with_a_header_only_is_zero_rows(desk: Desk) -> None:
    assert desk.ingest(HEADER).rows == 0


def test_parquet_with_gaps_in_a_number_column(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    table = {
        "user_id": pa.array([17850.0, None], pa.float64()),
        "item_id": ["85123A", "71053"],
        "timestamp": pa.array([np.datetime64("2024-03-01T10:00:00", "us")] * 2, pa.timestamp("us")),
        "quantity": pa.array([6, 1], pa.int64()),
    }
    pq.write_table(pa.table(table), path)
    summary = Ingester(desk.log, Mapping()).run([path])
    assert (summary.accepted, summary.missing_user) == (1, 1)
    assert desk.events().user_names == ["17850"]
    assert desk.events().times_ms.tolist() == [NOON_MS]


def test_a_log_is_not_made_by_reading_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no event log"):
        open_log(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
