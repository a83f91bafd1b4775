"""The file of open reservations, read anew (native/include/headrace/reservations.hpp), beside the journal."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headrace.audit.auditor import Audit
from headrace.audit.layout import Kind, Record
from headrace.audit.trail import StoreTrail
from headrace.types import UInt64

RESERVATIONS = "ledger.reservations"
_HEADER = struct.Struct("<8sqQQQqq")
_MAGIC = b"HRRESV01"
_SLOT = np.dtype([("lease", "<i8"), ("cpm", "<i8"), ("issued_ms", "<i8"), ("serial", "<u8"), ("checksum", "<u8")])
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Slots:
    """What a file of open reservations says.

    wrong : why it is not to be trusted, in words; empty where it is.
    sequence : the newest journal row that its owner knew to be committed.
    """

    wrong: str = ""
    epoch: int = 0
    ledger: int = 0
    sequence: int = 0
    records: list[Record] = field(default_factory=list)


def read_slots(folder: Path) -> Slots:
    """The reservations of a data folder; read it before its journal, which is ahead of it then."""
    try:
        content = (folder / RESERVATIONS).read_bytes()
    except OSError:
        return Slots(f"{RESERVATIONS} is not there")
    if len(content) < _HEADER.size:
        return Slots(f"{RESERVATIONS} is torn: {len(content)} bytes")
    magic, epoch, ledger, boot, checksum, sequence, _ = _HEADER.unpack_from(content)
    said = np.array([epoch, ledger, boot], np.uint64)
    if magic != _MAGIC or checksum != _mixed(0x48524C46, *said.reshape(3, 1))[0]:
        return Slots(f"{RESERVATIONS} is torn: its head is not what was written")
    table = np.frombuffer(content, _SLOT, (len(content) - _HEADER.size) // _SLOT.itemsize, _HEADER.size)
    table = table[table["lease"] > 0]
    columns = [table[name].astype(np.uint64) for name in ("lease", "cpm", "issued_ms", "serial")]
    torn = int((_mixed(0x48524C45, *columns) != table["checksum"]).sum())
    if torn:
        return Slots(f"{RESERVATIONS} is torn: {torn} of its {len(table)} reservations are not what was written")
    records = [
        Record(Kind.OPEN, 0, serial >> 32 & 0xFFFF, -1, lease, serial & 0xFFFFFFFF, 0, cpm, 0, issued_ms)
        for lease, cpm, issued_ms, serial, _ in table.tolist()
    ]
    return Slots("", epoch, ledger, sequence, records)


def adopt(found: Audit, trail: StoreTrail, slots: Slots) -> None:
    """Know open reservations singly where the file is this ledger's; else note why not.

    A file that knows of journal rows that are not there is a difference: the store was cut or put back.
    """
    if slots.wrong:
        found.notes.append(f"{slots.wrong}: what open leases hold counts as reserved")
        return
    meta = dict(trail.query("SELECT key, value FROM ledger_meta WHERE key IN ('epoch', 'ledger_id')"))
    if str(slots.ledger) != meta.get("ledger_id"):
        found.notes.append(f"{RESERVATIONS} is another ledger's: what open leases hold counts as reserved")
        return
    if slots.sequence > found.sequence:
        found.note(
            f"{RESERVATIONS} knows of row {slots.sequence}, and the journal ends at {found.sequence}: "
            "rows were removed, or the store is older"
        )
    if str(slots.epoch) != meta.get("epoch"):
        found.notes.append(f"{RESERVATIONS} is an earlier owner's: what open leases hold counts as reserved")
        return
    found.recount.adopt(slots.records)


def _mixed(seed: int, *columns: UInt64) -> UInt64:
    mixed = np.full(len(columns[0]), seed, np.uint64)
    for column in columns:
        mixed = (mixed ^ column) * _FACTOR
        mixed ^= mixed >> np.uint64(29)
    return mixed
