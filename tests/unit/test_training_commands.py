"""`headrace-train` on bad input: exit code 2, one line that says what to do, nothing half-done."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.artifacts import ArtifactStore

HEADER = "user_id,item_id,timestamp\n"
GOOD = HEADER + "ann,tea,2024-03-01\nann,cup,2024-03-02\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(headrace_train: Any, *arguments: str, code: int = 2) -> str:
    ended, out, err = headrace_train(*arguments)
    assert (ended, out) == (code, "")
    assert "Traceback" not in err
    line: str = err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


BAD_FILES = {
    "empty": (b"", "is empty"),
    "binary garbage": (b"\x89\xff\x00\xfe" * 50, "save the file as UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "save the file as UTF-8"),
    "Latin-1 below the header": (HEADER.encode() + b"ann,caf\xe9,2024-03-01\n", "UTF-8"),
    "another separator": (GOOD.replace(",", ";").encode(), "no column 'user_id'; its columns are user_id;item_id"),
    "a column twice": (b"user_id,item_id,timestamp,item_id\nann,tea,2024-03-01,cup\n", "'item_id' twice"),
    "no time that can be read": (HEADER.encode() + b"ann,tea,soon\n" * 3, "none of the 3 rows"),
    "only times to come": (HEADER.encode() + b"ann,tea,9999-01-01\n", "more than a day ahead"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_table_of_events(headrace_train: Any, folder: Path, name: str) -> None:
    raw, message = BAD_FILES[name]
    (folder / "bad.csv").write_bytes(raw)
    assert message in refused(headrace_train, "ingest", "bad.csv", "--log", "log", "--json")


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("user_id", pa.array([[1]]), "'user_id' holds list"),
        ("item_id", pa.array([{"a": 1}]), "'item_id' holds struct"),
        ("user_id", pa.array([b"\xff\xfe"]), "'user_id' holds binary that is no UTF-8"),
        ("timestamp", pa.array([dt.time(1)]), "'timestamp' holds time64"),
        ("timestamp", pa.array([True]), "'timestamp' holds bool"),
        ("quantity", pa.array([True]), "'quantity' holds bool"),
    ],
)
def test_a_parquet_column_of_another_kind(headrace_train: Any, name: str, column: pa.Array, message: str) -> None:
    columns = {"user_id": ["ann"], "item_id": [b"tea"], "timestamp": [1.7e9]}
    pq.write_table(pa.table(columns), "good.parquet")
    assert headrace_train("ingest", "good.parquet", "--log", "good")[0] == 0
    pq.write_table(pa.table(columns | {name: column}), "bad.parquet")
    assert message in refused(headrace_train, "ingest", "bad.parquet", "--log", "log")


@pytest.mark.parametrize("file", ["absent.csv", "cut.parquet", "bad.csv.gz"])
def test_no_log_is_made_for_a_file_that_cannot_be_read(headrace_train: Any, folder: Path, file: str) -> None:
    (folder / "good.csv").write_text(GOOD)
    pq.write_table(pa.table({"user_id": np.arange(5000)}), folder / "whole.parquet")
    (folder / "cut.parquet").write_bytes((folder / "whole.parquet").read_bytes()[:2000])
    (folder / "bad.csv.gz").write_bytes(gzip.compress(GOOD.encode())[:9])
    message = refused(headrace_train, "ingest", "good.csv", file, "--log", "log")
    assert file in message
    assert "PosixPath" not in message
    assert not (folder / "log").exists()


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--returns", "return, error or drop"),
        ("--time-unit", "auto, s, ms or us"),
        ("--missing-user", "drop or error"),
    ],
)
def test_a_word_that_an_option_does_not_know_is_answered_with_those_it_knows(
    headrace_train: Any, folder: Path, option: str, expected: str
) -> None:
    (folder / "good.csv").write_text(GOOD)
    message = refused(headrace_train, "ingest", "good.csv", "--log", "log", option, "quux")
    assert f"{option}: got 'quux', expected {expected}" in message
    assert not (folder / "log").exists()


def test_folders_that_cannot_be_made(headrace_train: Any, folder: Path) -> None:
    (folder / "good.csv").write_text(GOOD)
    assert "good.csv" in refused(headrace_train, "ingest", "good.csv", "--log", "good.csv")
    assert "no/x.csv" in refused(headrace_train, "ingest", "good.csv", "--log", "log", "--rejects", "no/x.csv")
    assert not (folder / "log").exists()
    assert headrace_train("ingest", "good.csv", "--log", "log")[0] == 0
    assert "good.csv" in refused(headrace_train, "fit", "--log", "log", "--store", "good.csv")


def test_rejected_rows_are_mentioned_beside_the_summary(headrace_train: Any, folder: Path) -> None:
    (folder / "mixed.csv").write_text(GOOD + "ann,pot,soon\n")
    code, out, err = headrace_train("ingest", "mixed.csv", "--log", "log", "--json")
    assert code == 0
    assert json.loads(out)["accepted"] == 2
    assert "warning: 1 of 3 rows rejected" in err
    assert "--rejects" in err


def test_a_time_within_a_day_ahead_is_taken(headrace_train: Any, folder: Path) -> None:
    (folder / "soon.csv").write_text(HEADER + f"ann,tea,{int(time.time()) + 3600}\n")
    code, out, _ = headrace_train("ingest", "soon.csv", "--log", "log", "--json")
    assert code == 0
    assert json.loads(out)["accepted"] == 1


def test_quoted_names_of_columns_may_hold_the_separator(headrace_train: Any, folder: Path) -> None:
    (folder / "quoted.csv").write_text('"size, cm","user_id",item_id,timestamp\n3,ann,"te""a",2024-03-01\n')
    code, out, _ = headrace_train("ingest", "quoted.csv", "--log", "log", "--json")
    assert code == 0
    assert json.loads(out)["accepted"] == 1


@pytest.mark.parametrize("version", ["../evil", ".hidden", "taken"])
def test_fit_refuses_a_version_before_it_learns(headrace_train: Any, folder: Path, version: str) -> None:
    (folder / "good.csv").write_text(GOOD)
    assert headrace_train("ingest", "good.csv", "--log", "log")[0] == 0
    (folder / "store" / "versions" / "taken").mkdir(parents=True)
    message = refused(headrace_train, "fit", "--log", "log", "--store", "store", "--version", version)
    assert "version" in message
    assert "too small" not in message


@pytest.mark.parametrize("tolerance", ["-0.1", "nan", "1.5"])
def test_a_tolerance_is_a_share(headrace_train: Any, folder: Path, tolerance: str) -> None:
    (folder / "store" / "versions" / "v1").mkdir(parents=True)
    message = refused(headrace_train, "publish", "--store", "store", "v1", "--tolerance", tolerance)
    assert "tolerance" in message
    assert "from 0 to 1" in message


@pytest.mark.parametrize("version", ["../v1", "a/v1", "..", "versions/v1"])
def test_publish_takes_names_and_no_paths(headrace_train: Any, folder: Path, version: str) -> None:
    (folder / "store" / "versions" / "v1").mkdir(parents=True)
    message = refused(headrace_train, "publish", "--store", "store", version)
    assert "no version" in message
    assert "v1" in message
    assert ArtifactStore(folder / "store").current() is None


def test_what_the_system_refuses_is_one_line(
    headrace_train: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    (folder / "store" / "versions").mkdir(parents=True)
    monkeypatch.setattr(ArtifactStore, "versions", lambda _: (_ for _ in ()).throw(PermissionError(13, "denied", "x")))
    message = refused(headrace_train, "list", "--store", "store", code=1)
    assert "x: denied" in message
