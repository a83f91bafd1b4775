"""What is known of items beside who took them: attributes and words, from a file."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from headrace.errors import DataError
from headrace_training.datasets import Pairs
from headrace_training.tables import Table, open_bytes

N_COLUMNS = 1 << 18
"""Attributes and words are hashed into so many columns."""

ID_COLUMNS = ("item_id", "item")
WORD = re.compile(r"\w+")
SHORT = 3
"""A value of so many words is an attribute as a whole, too."""

MAX_WORDS = 200
"""Words of one value that count."""


@dataclass(frozen=True)
class ItemTable:
    """Items and what is said of each: texts of the form "column=value", or one a word of longer texts."""

    item_ids: list[str]
    features: list[list[str]]

    def matrix(self, item_ids: Sequence[str]) -> sp.csr_matrix:
        """Rows of the given items by TF-IDF over all items of the table, of length 1, or empty where nothing is known.

        Returns (len(item_ids), n_columns) float32 CSR; columns are those that at least two items have.
        """
        place = {name: row for row, name in enumerate(self.item_ids)}
        hashes = [[zlib.crc32(text.encode()) % N_COLUMNS for text in texts] for texts in self.features]
        rows = np.repeat(np.arange(len(hashes)), [len(row) for row in hashes])
        columns = np.array([column for row in hashes for column in row], dtype=np.int64)
        counts = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(hashes), N_COLUMNS))
        counts.sum_duplicates()
        frequency = np.bincount(counts.indices, minlength=N_COLUMNS)
        shared = np.flatnonzero(frequency >= 2)
        counts = counts[:, shared]
        counts.data = 1.0 + np.log(counts.data)
        counts = (counts @ sp.diags(np.log1p(len(hashes) / frequency[shared]))).tocsr()
        lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
        unit = sp.diags(np.where(lengths > 0, 1.0 / np.maximum(lengths, 1e-30), 0.0)) @ counts
        known = np.array([place.get(name, -1) for name in item_ids], dtype=np.int64)
        there = np.flatnonzero(known >= 0)
        picked = sp.csr_matrix((np.ones(len(there)), (there, known[there])), shape=(len(known), len(hashes)))
        return (picked @ unit).tocsr().astype(np.float32)


def read_items(path: Path) -> ItemTable:
    """Read a .csv, .tsv, .parquet or .jsonl file with a column ``item_id``, or a .json of {item: [attribute, …]}.

    Numbers and short texts are attributes as they are; lists are several; longer texts are taken word by word. A later
    line of an item adds to an earlier one. Raises DataError naming the file, and the line where there is one.
    """
    found: dict[str, list[str]] = {}
    for number, values in _rows(path):
        name = next((values[column] for column in ID_COLUMNS if values.get(column) not in (None, "")), None)
        if name is None:
            raise DataError(f"{path}, row {number}: the item id is empty", expected="a column item_id")
        texts = found.setdefault(str(name), [])
        for column, value in values.items():
            if column not in ID_COLUMNS:
                texts.extend(_features(column, value))
    if not found:
        raise DataError(f"{path} holds no item", expected="rows with item_id and attributes")
    return ItemTable(list(found), list(found.values()))


def add_items(pairs: Pairs, path: Path | None) -> tuple[Pairs, dict[str, int], sp.csr_matrix | None]:
    """The pairs with the items of a file in their catalogue, what a report says of them, and the items' attributes.

    Without a file the pairs as they are, nothing and None.
    """
    if path is None:
        return pairs, {}, None
    table = read_items(path)
    taken = set(pairs.item_ids)
    new = [name for name in table.item_ids if name not in taken]
    pairs = replace(pairs, item_ids=pairs.item_ids + new)
    attributes = table.matrix(pairs.item_ids)
    known = int((np.diff(attributes.indptr) > 0).sum())
    return pairs, {"described_items": known, "new_items": len(new), "attributes": int(attributes.shape[1])}, attributes


def _features(column: str, value: Any) -> Iterator[str]:
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return
    if isinstance(value, list | tuple):
        for part in value:
            yield from _features(column, part)
        return
    text = str(value).strip().lower()
    words = WORD.findall(text)[:MAX_WORDS]
    if len(words) <= SHORT:
        yield f"{column}={text}"
    if len(words) > 1:
        yield from (f"{column}:{word}" for word in words)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    name = path.name.removesuffix(".gz")
    if name.endswith(".json"):
        yield from _json_rows(path)
    elif name.endswith(".jsonl"):
        yield from _json_lines(path)
    elif name.endswith(".parquet"):
        yield from _parquet_rows(path)
    else:
        yield from _table_rows(path)


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_bytes(path) as handle:
        found = _parse(path, 1, handle.read())
    for number, (name, value) in enumerate(found.items(), start=1):
        yield number, {"item_id": name, "attribute": value}


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_bytes(path) as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                yield number, _parse(path, number, line)


def _parse(path: Path, number: int, text: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}, line {number}: {error}", expected="JSON") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}, line {number}", got=type(found).__name__, expected="a JSON object")
    return found


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        rows: Iterable[Mapping[str, Any]] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is no Parquet file: {error}", hint="check the path, or get the file again") from error
    yield from enumerate(rows, start=1)


def _table_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    table = Table.open(path)
    for numbers, batch in table.batches(table.columns):
        yield from zip(numbers, batch.to_pylist(), strict=True)
    if table.malformed:
        number, reason = table.malformed[0]
        raise DataError(f"{path}, row {number}: {reason}", hint="quote values that hold the separator")
