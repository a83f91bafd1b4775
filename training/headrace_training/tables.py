"""CSV and Parquet files as a stream of record batches; CSV values stay text until somebody converts them."""

from __future__ import annotations

import bisect
import csv
import difflib
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from headrace.errors import DataError

BATCH_ROWS = 131_072
BLOCK_BYTES = 16 << 20
PLAIN = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_null,
)
"""What a column of a Parquet file may hold."""
TABLE_SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}


def table_suffix(path: Path) -> str:
    """``.csv``, ``.tsv`` or ``.parquet`` when the name says that the file is a table, else ""."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    return suffix if suffix in TABLE_SUFFIXES else ""


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked when it ends in ``.gz``; DataError when it cannot be opened."""
    try:
        handle = io.BufferedReader(gzip.GzipFile(path, "rb") if path.suffix == ".gz" else io.FileIO(path))
        # a peek tells an unreadable or wrongly named file at once, and by its name
        handle.peek(1)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}", hint="check the path and the file") from error
    return handle


def read_words(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that is not blank; bytes split at ASCII blanks only, an id may hold any other.

    ``.gz`` is unpacked. Raises DataError naming file and line.
    """
    number = 0
    with open_bytes(path) as handle:
        try:
            for number, line in enumerate(handle, 1):
                words = [word.decode() for word in line.split()]
                if words:
                    yield number, words
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: {error}", hint="save the file as UTF-8") from error
        except (OSError, EOFError) as error:
            raise DataError(
                f"{path}, after line {number}: {error}", hint="the file is damaged; get it again"
            ) from error


@dataclass
class Table:
    """One file's rows in batches; row numbers are those of the file, the first row after the header being 1.

    malformed : numbers of the rows that had too few or too many fields, filled while reading.
    """

    path: Path
    columns: list[str]
    delimiter: str = ","
    malformed: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Table:
        """Read the header; DataError when the file is absent, empty or no table."""
        suffix = table_suffix(path)
        if not suffix:
            raise DataError(f"{path}", got=path.suffix, expected="a .csv, .tsv or .parquet file (CSV may be .gz)")
        if suffix == ".parquet":
            try:
                return cls(path, list(pq.read_schema(path).names))
            except FileNotFoundError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{path} is no Parquet file: {error}", hint="get the file again") from error
        with open_bytes(path) as handle:
            try:
                header = handle.readline().decode("utf-8-sig")
            except (UnicodeDecodeError, OSError, EOFError) as error:
                raise DataError(f"{path}, line 1: {error}", hint="save the file as UTF-8") from error
        if not header.strip():
            raise DataError(f"{path} is empty", hint="the first line must name the columns")
        names = [name.strip() for name in next(csv.reader([header], delimiter=TABLE_SUFFIXES[suffix]))]
        return cls(path, names, TABLE_SUFFIXES[suffix])

    def require(self, wanted: Sequence[str], hint: str) -> None:
        """Raise DataError for the first wanted column that the file has not, with the names that come near."""
        for name in wanted:
            if name not in self.columns:
                near = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.4)
                known = f"its columns are {', '.join(self.columns)}" + (f" (near: {', '.join(near)})" if near else "")
                raise DataError(f"{self.path} has no column {name!r}; {known}", hint=hint)
            if self.columns.count(name) > 1:
                raise DataError(f"{self.path} has the column {name!r} twice", hint="rename or drop one of the two")

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[list[int] | range, pa.RecordBatch]]:
        """Row numbers and values of the given columns, batch by batch."""
        wanted = list(dict.fromkeys(columns))
        first = 1
        for batch in self._parquet(wanted) if self.path.suffix.lower() == ".parquet" else self._csv(wanted):
            skipped = [number for number, _ in self.malformed if number >= first]
            numbers = _numbers(first, batch.num_rows, skipped)
            first = (numbers[-1] + 1) if batch.num_rows else first
            yield numbers, batch

    def _parquet(self, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                    yield pa.record_batch([self._plain(batch.column(name), name) for name in wanted], names=wanted)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.path} cannot be read: {error}", hint="the file is damaged; get it again") from error

    def _plain(self, column: pa.Array, name: str) -> pa.Array:
        """The column, bytes as text; DataError for what is no id, number or time, such as lists."""
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if any(holds(kind) for holds in PLAIN):
            return column
        what = f"{self.path}: column {name!r} holds {kind}"
        try:
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                return column.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise DataError(f"{what} that is no UTF-8", hint="store ids as text") from error
        raise DataError(what, hint="ids are text or numbers, times text, numbers or timestamps: convert it")

    def _csv(self, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        def keep_out(row: pa_csv.InvalidRow) -> str:
            # Arrow counts the header as row 1
            number = (row.number or 0) - 1
            bisect.insort(self.malformed, (number, f"{row.actual_columns} fields instead of {row.expected_columns}"))
            return "skip"

        try:
            with open_bytes(self.path) as handle:
                reader = pa_csv.open_csv(
                    handle,
                    pa_csv.ReadOptions(
                        use_threads=False, block_size=BLOCK_BYTES, column_names=self.columns, skip_rows=1
                    ),
                    pa_csv.ParseOptions(
                        delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=keep_out
                    ),
                    pa_csv.ConvertOptions(
                        column_types=dict.fromkeys(wanted, pa.string()),
                        include_columns=wanted,
                        strings_can_be_null=True,
                        quoted_strings_can_be_null=False,
                        null_values=[""],
                    ),
                )
                yield from reader
        except (OSError, EOFError, pa.ArrowException) as error:
            if "Empty CSV file" in str(error):
                return
            raise DataError(
                f"{self.path} cannot be read: {error}", hint="save it as UTF-8 with one row a line"
            ) from error


def _numbers(first: int, n_rows: int, skipped: list[int]) -> list[int] | range:
    numbers: list[int] = []
    number = first
    gone = set(skipped)
    if not gone:
        return range(first, first + n_rows)
    while len(numbers) < n_rows:
        if number not in gone:
            numbers.append(number)
        number += 1
    return numbers
