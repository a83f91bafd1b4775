"""An exchange's bill file as columns, batch by batch: CSV (gzip, too) or Parquet of any length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from headrace.audit.times import time_ms
from headrace.errors import DataError, InvalidRequestError, reason_of

BATCH_ROWS = 65_536
TOKEN, BID_ID = "token", "bid_id"
PRICE_MICROS, PRICE = "price_cpm_micros", "price"
TIME_MS, TIME = "time_ms", "time"
CURRENCY = "currency"
_DECIMAL = re.compile(r"\d{1,12}(\.\d+)?")


@dataclass(frozen=True, slots=True)
class BillRows:
    """n rows of a bill file.

    first_row : number of the first, the header not counted.
    tokens : empty where the row has none.   prices : CPM micros; -1 where the row has none that is a price.
    times_ms : 0 where the row has none.   currencies : empty where the row names none.
    """

    first_row: int
    tokens: list[str]
    prices: list[int]
    times_ms: list[int]
    currencies: list[str]


def read_bills(path: Path, tokens: Mapping[str, str]) -> Iterator[BillRows]:
    """Read a file in batches.

    A row names its bid by `token`, or by `bid_id`, the last 16 signs of it; says its price as `price_cpm_micros` or as
    `price`, decimal units of currency per thousand impressions; it may have `time_ms` or `time` (ISO 8601), `currency`.

    tokens : bid id to token; needed where the file has no tokens.

    Raises DataError when the file cannot be read or has not these columns.
    """
    try:
        first_row = 1
        for batch in _batches(path):
            yield _rows(batch, first_row, tokens)
            first_row += len(batch)
    except (OSError, pa.ArrowException) as error:
        hint = "a CSV file with a header, or Parquet"
        raise DataError(f"{path} cannot be read: {reason_of(error)}", hint=hint) from error


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".parquet":
        with parquet.ParquetFile(path) as file:
            _check(path, file.schema_arrow.names)
            yield from file.iter_batches(BATCH_ROWS)
        return
    with pa.input_stream(str(path), compression="detect") as head:
        names = head.read(65_536).partition(b"\n")[0].decode("utf-8-sig", "replace").strip().split(",")
    names = [name.strip().strip('"') for name in names]
    _check(path, names)
    texts = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
    with pa.input_stream(str(path), compression="detect") as stream:
        yield from csv.open_csv(stream, csv.ReadOptions(block_size=8 << 20), convert_options=texts)


def _check(path: Path, names: list[str]) -> None:
    for wanted in ((TOKEN, BID_ID), (PRICE_MICROS, PRICE)):
        if not set(wanted) & set(names):
            raise DataError(f"{path}", names, f"a column {wanted[0]} or {wanted[1]}", "rename the column")


def _rows(batch: pa.RecordBatch, first_row: int, known: Mapping[str, str]) -> BillRows:
    names, n = batch.schema.names, len(batch)

    def column(name: str) -> list[Any]:
        if name not in names:
            return [None] * n
        found: list[Any] = batch.column(batch.schema.get_field_index(name)).to_pylist()
        return found

    if TOKEN in names:
        tokens = [text or "" for text in column(TOKEN)]
    else:
        tokens = [known.get(text or "", "") for text in column(BID_ID)]
    prices = [_micros(text, 0) for text in column(PRICE_MICROS)] if PRICE_MICROS in names else []
    prices = prices or [_micros(text, 6) for text in column(PRICE)]
    times = [_whole(value) for value in column(TIME_MS)] if TIME_MS in names else [_moment(v) for v in column(TIME)]
    return BillRows(first_row, tokens, prices, times, [text or "" for text in column(CURRENCY)])


def _micros(value: object, digits: int) -> int:
    """A decimal with ``digits`` more digits as an integer, rounded up; -1 where it is none: NaN, negative, a word."""
    text = str(value).strip()
    if isinstance(value, float) and value == value and abs(value) < 1e12:  # Parquet may hold doubles
        text = f"{value:.9f}"
    if not _DECIMAL.fullmatch(text):
        return -1
    whole, _, fraction = text.partition(".")
    kept, rest = fraction[:digits], fraction[digits:]
    return int(whole + kept.ljust(digits, "0")) + bool(rest.strip("0"))


def _whole(value: object) -> int:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def _moment(value: object) -> int:
    """Any moment that the file's own type or ISO 8601 can say; 0 where there is none."""
    if value is None:
        return 0
    try:
        return time_ms(TIME, str(value))
    except InvalidRequestError:
        return 0


def read_tokens(path: Path | None) -> dict[str, str]:
    """Bid ids to tokens, from a text file with one token a line. Raises DataError."""
    if path is None:
        return {}
    try:
        tokens = path.read_text("ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {reason_of(error)}", hint="one token a line") from error
    return {token[-16:]: token for token in tokens}
