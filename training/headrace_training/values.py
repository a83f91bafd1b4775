"""Columns of a file turned into ids, times and numbers, with a mask of the rows where that fails."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.errors import ConfigError
from headrace.types import Bool, Float64, Int64

MS_PER = {"s": 1000.0, "ms": 1.0, "us": 0.001}
LARGEST_SECONDS = 1e11
"""A bare number above this is taken for milliseconds: as seconds it would lie beyond the year 5000."""


def text_column(column: pa.Array) -> list[str | None]:
    """Ids as text, None where blank; whole floats lose their ".0", since pandas makes floats of integers with gaps."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        return [_whole(value) for value in column.to_pylist()]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = pc.cast(column, pa.string())
    return [value if value and value.strip() else None for value in column.to_pylist()]


def _whole(value: float | None) -> str | None:
    if value is None or math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() else repr(value)


def number_column(column: pa.Array, default: float) -> tuple[Float64, Bool]:
    """Numbers as float64 and where they are not finite numbers; an empty cell is the default."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        values = np.array([_number(value, default) for value in column.to_pylist()], dtype=np.float64)
    elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        values = pc.fill_null(pc.cast(column, pa.float64(), safe=False), default).to_numpy(zero_copy_only=False)
    else:
        values = np.full(len(column), np.nan)
    return values, ~np.isfinite(values)


def _number(value: str | None, default: float) -> float:
    if value is None or not value.strip():
        return default
    try:
        return float(value)
    except ValueError:
        return math.nan


class TimeParser:
    """Turns a column into ms since 1970 UTC.

    time_format : of strptime, "" for ISO 8601 and bare numbers.
    time_unit   : "s", "ms" or "us" of bare numbers, "auto" to tell seconds from milliseconds by size.
    timezone    : of times that do not name their own; ConfigError when there is no such zone.
    """

    def __init__(self, time_format: str = "", time_unit: str = "auto", timezone: str = "UTC") -> None:
        if time_unit not in (*MS_PER, "auto"):
            raise ConfigError("time unit", got=time_unit, expected="auto, s, ms or us")
        try:
            self.zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigError("timezone", got=timezone, expected="a name such as Europe/Berlin or UTC") from error
        self.time_format = time_format
        self.time_unit = time_unit

    def parse(self, column: pa.Array) -> tuple[Int64, Bool]:
        """Times as int64 ms and the mask of rows that are none, or not after 1970."""
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            times = self._timestamps(column)
        elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            times = self._epoch(column)
        else:
            times = self._texts(column)
        return times, times <= 0

    def _timestamps(self, column: pa.Array) -> Int64:
        if not pa.types.is_timestamp(column.type) or column.type.tz is None:
            column = pc.cast(column, pa.timestamp("ms"), safe=False)
            column = pc.assume_timezone(column, self.zone.key, ambiguous="earliest", nonexistent="latest")
        column = pc.cast(pc.cast(column, pa.timestamp("ms", "UTC"), safe=False), pa.int64())
        return np.asarray(pc.fill_null(column, 0).to_numpy(zero_copy_only=False), dtype=np.int64)

    def _epoch(self, column: pa.Array) -> Int64:
        values = pc.fill_null(pc.cast(column, pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False)
        values = np.where(np.isfinite(values), values, 0.0)
        if self.time_unit == "auto":
            factors = np.where(np.abs(values) > LARGEST_SECONDS, 1.0, 1000.0)
        else:
            factors = np.full(len(values), MS_PER[self.time_unit])
        return np.asarray(np.clip(np.rint(values * factors), -1, 2**62), dtype=np.int64)

    def _texts(self, column: pa.Array) -> Int64:
        if not self.time_format:
            try:
                return self._timestamps(pc.cast(column, pa.timestamp("ms")))
            except pa.ArrowInvalid:
                pass  # a zone, a bare number or something wrong in one of them: look at each
        return np.array([self._text(value) for value in text_column(column)], dtype=np.int64)

    def _text(self, value: str | None) -> int:
        if value is None:
            return 0
        value = value.strip()
        try:
            moment = dt.datetime.strptime(value, self.time_format) if self.time_format else _iso(value)
        except (ValueError, OverflowError):
            return 0
        if moment is None:
            return int(self._epoch(pa.array([float(value)]))[0])
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self.zone)
        return round(moment.timestamp() * 1000)


def _iso(value: str) -> dt.datetime | None:
    """The moment of an ISO text, None for a bare number; ValueError for anything else."""
    try:
        number = float(value)
    except ValueError:
        return dt.datetime.fromisoformat(value)
    if not math.isfinite(number):
        raise ValueError(value)
    # eight digits are a date to ISO 8601 and a moment of 1970 to nobody
    return dt.datetime.fromisoformat(value) if len(value) == 8 and value.isdigit() else None


def parse_moment(text: str, what: str) -> int:
    """One moment from a command line, UTC unless it says otherwise, as ms; ConfigError when it is none."""
    times, bad = TimeParser().parse(pa.array([text], type=pa.string()))
    if bad[0]:
        raise ConfigError(what, got=text, expected="a time such as 2017-10-01 or 2017-10-01T08:00:00Z")
    return int(times[0])


def first_bad(mask: Bool, numbers: Any) -> int | None:
    """The row number of the first marked row, None when there is none."""
    return int(numbers[int(mask.argmax())]) if mask.any() else None
