"""Backups of a data folder: a consistent copy of the database and the ledger's keys, in a folder of their own.

A backup holds ``headrace.db``, ``ledger.keys``, ``manifest.json`` and ``manifest.sha256``. Never the file of open
reservations: it is worth nothing in another life of the ledger.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from headrace import __version__, durable
from headrace.durable import PRIVATE
from headrace.errors import AlreadyExistsError, ConfigError, DataError, NotFoundError
from headrace.events.migrations import check_version, version_of
from headrace.events.store import DATABASE, translate
from headrace.operations.folders import checksum, new_folder

FORMAT_VERSION = 1
KEYS = "ledger.keys"
MANIFEST = "manifest.json"
MANIFEST_CHECKSUM = "manifest.sha256"

_NAME = re.compile(r"headrace-\d{8}T\d{6}\.\d{6}Z")


class BackupFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and SHA-256 of one file."""

    n_bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup says of itself; a sequence of -1 is one that the database does not have."""

    format_version: int = FORMAT_VERSION
    headrace_version: str
    schema_version: int
    created_ms: int
    event_sequence: int
    """The last event of the log in it."""
    ledger_sequence: int
    """The last row of the ledger's journal in it."""
    ledger_epoch: int
    files: dict[str, BackupFile]


def back_up(data: Path, target: Path, *, overwrite: bool = False) -> BackupManifest:
    """Copy a data folder, served or not, to a new folder; it is verified before it gets its name.

    overwrite : replace the backup that is there.

    Raises NotFoundError where there is no database, AlreadyExistsError, DataError for a copy that is not sound,
    ConfigError, StoreFullError.
    """
    source = data / DATABASE
    if not source.is_file():
        raise NotFoundError("data", str(data), f"a folder with a {DATABASE}", "name the folder that the server serves")
    # anything but a backup or an empty folder is never removed
    if target.exists() and not (_is_empty(target) or (overwrite and (target / MANIFEST).exists())):
        raise AlreadyExistsError(f"{target} exists already", hint="name another folder; --overwrite replaces a backup")
    with new_folder(target) as draft:
        _copy_database(source, draft / DATABASE)
        # after the database: keys are only ever added, so these verify whatever it knows of
        if (data / KEYS).exists():
            durable.write_private(draft / KEYS, (data / KEYS).read_bytes())
        manifest = _describe(draft)
        raw = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        durable.write_private(draft / MANIFEST, raw)
        durable.write_private(draft / MANIFEST_CHECKSUM, hashlib.sha256(raw).hexdigest().encode() + b"\n")
        verify(draft)
        replaced = draft.with_name(f"{draft.name}-replaced")
        if target.exists():
            target.rename(replaced)
    shutil.rmtree(replaced, ignore_errors=True)
    return manifest


def back_up_and_keep(data: Path, root: Path, keep: int) -> Path:
    """Make a backup named after the present moment in ``root`` and remove all but the newest ``keep``; its folder."""
    if keep < 1:
        raise ConfigError("--keep", keep, "at least 1")
    target = root / datetime.now(UTC).strftime("headrace-%Y%m%dT%H%M%S.%fZ")
    back_up(data, target)
    for old in sorted(path for path in root.iterdir() if _NAME.fullmatch(path.name))[:-keep]:
        shutil.rmtree(old)
    return target


def verify(backup: Path) -> BackupManifest:
    """Read every byte of a backup and let SQLite check the database's pages; returns its manifest.

    Raises NotFoundError where there is no backup, DataError naming the file that is off, StoreError (later version).
    """
    manifest = _read_manifest(backup)
    for name, expected in manifest.files.items():
        file = backup / name
        try:
            found = BackupFile(file.stat().st_size, checksum(file))
        except OSError as error:
            raise DataError(f"{file}: {error.strerror}", hint="use another backup") from error
        if found != expected:
            raise DataError(f"{file} is not as it was written: its checksum is off", hint="use another backup")
    check_version(manifest.schema_version, backup / DATABASE)
    # immutable: looking must leave no files beside it
    with closing(sqlite3.connect(f"{(backup / DATABASE).absolute().as_uri()}?immutable=1", uri=True)) as connection:
        try:
            said = connection.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.Error as error:
            raise DataError(f"{backup / DATABASE}: {error}", hint="use another backup") from error
    if said != [("ok",)]:
        raise DataError(f"{backup / DATABASE} is damaged: {said[0][0]}", hint="use another backup")
    return manifest


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _copy_database(source: Path, copy: Path) -> None:
    copy.touch(mode=PRIVATE)
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)) as reader,
            closing(sqlite3.connect(copy, isolation_level=None)) as writer,
        ):
            # in one step: a writer between two steps would make SQLite begin anew. Readers hold up nobody.
            reader.backup(writer)
            # one file, without a log beside it
            writer.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.Error as error:
        raise translate(error, source) from error
    durable.sync(copy)


def _describe(draft: Path) -> BackupManifest:
    files = {
        file.name: BackupFile(file.stat().st_size, checksum(file)) for file in sorted(draft.iterdir()) if file.is_file()
    }
    with closing(sqlite3.connect(f"{(draft / DATABASE).absolute().as_uri()}?immutable=1", uri=True)) as connection:
        return BackupManifest(
            headrace_version=__version__,
            schema_version=version_of(connection),
            created_ms=time.time_ns() // 1_000_000,
            event_sequence=_number(connection, "SELECT coalesce(max(sequence), 0) FROM events"),
            ledger_sequence=_number(connection, "SELECT coalesce(max(sequence), 0) FROM ledger_journal"),
            ledger_epoch=_number(connection, "SELECT value FROM ledger_meta WHERE key = 'epoch'"),
            files=files,
        )


def _number(connection: sqlite3.Connection, query: str) -> int:
    try:
        row = connection.execute(query).fetchone()
    except sqlite3.OperationalError:  # a database without events, or without a ledger, has not the table
        return -1
    return int(row[0]) if row else -1


def _read_manifest(backup: Path) -> BackupManifest:
    try:
        raw = (backup / MANIFEST).read_bytes()
        expected = (backup / MANIFEST_CHECKSUM).read_text("ascii").strip()
    except FileNotFoundError as error:
        raise NotFoundError("backup", str(backup), "a folder that headrace backup made") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{backup}: {error}", hint="use another backup") from error
    if hashlib.sha256(raw).hexdigest() != expected:
        raise DataError(f"{backup / MANIFEST}: its checksum is off", hint="use another backup")
    try:
        manifest = msgspec.json.decode(raw, type=BackupManifest)
    except msgspec.DecodeError as error:
        raise DataError(f"{backup / MANIFEST}: {error}", hint="restore it with the version that wrote it") from error
    if manifest.format_version > FORMAT_VERSION or DATABASE not in manifest.files:
        raise DataError(
            f"{backup / MANIFEST}: format version",
            manifest.format_version,
            f"at most {FORMAT_VERSION}, with a database",
        )
    return manifest
