"""External ids beside dense indices, in arrays that can stay on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from headrace.errors import InvalidRequestError
from headrace.types import Int32, Int64

UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]


def id_hash(name: str) -> int:
    """64 bits that place an id in :class:`IdTable`; a part of the artifact format (BLAKE2b, 8 bytes, little-endian)."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


class IdTable:
    """The n ids of dense indices 0 … n-1, found by hash without a dictionary of n strings.

    offsets : (n+1,) int64. Id i is ``blob[offsets[i]:offsets[i+1]]`` in UTF-8.
    blob    : (n_bytes,) uint8.
    hashes  : (n,) uint64, ascending: :func:`id_hash` of the ids.
    order   : (n,) int32. The index of the id that belongs to each hash.
    """

    __slots__ = ("_at", "_text", "blob", "hashes", "offsets", "order")

    def __init__(self, offsets: Int64, blob: UInt8, hashes: UInt64, order: Int32) -> None:
        self.offsets = offsets
        self.blob = blob
        self.hashes = hashes
        self.order = order
        # one element or a slice of a view costs a third of what NumPy's do
        self._at, self._text = np.ascontiguousarray(offsets).data, np.ascontiguousarray(blob).data

    @classmethod
    def build(cls, ids: Sequence[str]) -> IdTable:
        """The table of the given ids in their order; InvalidRequestError on an empty or repeated id."""
        encoded = [name.encode() for name in ids]
        lengths = np.fromiter((len(name) for name in encoded), dtype=np.int64, count=len(encoded))
        if len(lengths) and not lengths.min():
            raise InvalidRequestError(
                f"id number {int(lengths.argmin())}",
                got="",
                expected="at least one byte",
                hint="drop rows without an id",
            )
        if len(set(encoded)) != len(encoded):
            seen: set[str] = set()
            twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InvalidRequestError("ids", got=twice, expected="each id once", hint="give every id one index")
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        hashes = np.fromiter(map(id_hash, ids), dtype=np.uint64, count=len(encoded))
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        return cls(offsets, np.frombuffer(b"".join(encoded), dtype=np.uint8), hashes[order], order)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def id(self, idx: int) -> str:
        """The id of a dense index; IndexError beyond the table."""
        if not 0 <= idx < len(self):
            raise IndexError(idx)
        return str(self._text[self._at[idx] : self._at[idx + 1]], "utf-8")

    def ids(self, indices: Iterable[int]) -> list[str]:
        """The ids of many dense indices, in their order."""
        return [self.id(int(idx)) for idx in indices]

    def find(self, name: str) -> int:
        """The dense index of an id, or -1 when the table has no such id."""
        wanted = name.encode()
        key = np.uint64(int.from_bytes(hashlib.blake2b(wanted, digest_size=8).digest(), "little"))
        position = int(self.hashes.searchsorted(key))
        while position < len(self.order) and self.hashes[position] == key:
            idx = int(self.order[position])
            if self._text[self._at[idx] : self._at[idx + 1]] == wanted:
                return idx
            position += 1
        return -1

    def find_many(self, names: Sequence[str]) -> Int32:
        """The dense index of each id, -1 where there is none; (len(names),) int32."""
        return np.fromiter(map(self.find, names), dtype=np.int32, count=len(names))
