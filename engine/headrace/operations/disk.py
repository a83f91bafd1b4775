"""The files of a server: its data folder, its artifact, its secrets, and how fast its disk keeps a promise."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median

from headrace.artifacts import Artifact, open_artifact
from headrace.errors import HeadraceError
from headrace.events.migrations import LATEST, version_of
from headrace.events.store import DATABASE
from headrace.operations.finding import Finding, fail, ok, warn

SLOW_FSYNC_S = 0.010
ABSURD_FSYNC_S = 20e-6
"""No disk is faster: what answers sooner has not written anything."""

N_FSYNCS = 20
LITTLE_SPACE, NO_SPACE = 1 << 30, 100 << 20
OTHERS = 0o077


def data_folder(data: Path, free: Callable[[Path], int] | None = None) -> Iterator[Finding]:
    """Whether the data folder can be written to and has room."""
    subject = f"data folder {data}"
    nearest = next(place for place in (data, *data.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield fail(
            subject, f"{nearest} cannot be written to", "name another folder, or give the service user the right"
        )
        return
    space = (free or _free)(nearest)
    found = f"{space / 1e9:.1f} GB free" + ("" if data.exists() else "; made at the first start")
    if space < NO_SPACE:
        yield fail(subject, found, "free space: a full disk stops bidding and events")
    elif space < LITTLE_SPACE:
        yield warn(subject, found, "free space soon: a full disk stops bidding and events")
    else:
        yield ok(subject, found)


def fsync(data: Path, measure: Callable[[Path], float] | None = None) -> Finding:
    """How long the disk takes to keep some bytes for good; every event, notice and lease waits for it."""
    nearest = next(place for place in (data, *data.absolute().parents) if place.is_dir())
    try:
        took = (measure or _fsync_s)(nearest)
    except OSError as error:
        return fail("fsync", f"{nearest}: {error.strerror}", "name a folder that can be written to")
    found = f"{took * 1000:.2f} ms"
    if took > SLOW_FSYNC_S:
        return warn("fsync", found, "events and notices wait for it: use a local SSD, not a network disk")
    if took < ABSURD_FSYNC_S:
        advice = (
            "the disk does not keep what it confirms (tmpfs, eatmydata, a lying cache): a power loss would lose money"
        )
        return warn("fsync", found, advice)
    return ok("fsync", found)


def database(data: Path) -> Iterator[Finding]:
    """Whether the database can be read by this version, and whether its ledger may bid."""
    file = data / DATABASE
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield _version(version_of(connection), data)
            reason = _fence(connection)
    except sqlite3.Error as error:
        yield fail("database", f"{file}: {error}", "headrace restore --from a backup")
        return
    if reason:
        yield warn("fence", f"no bids: {reason}", "reconcile, then headrace fence --lift --reason …")


def private_file(subject: str, file: Path, allowed: int = 0) -> Finding:
    """Whether a secret is there and closed to others. allowed : bits of the mode that others may have."""
    try:
        mode = file.stat().st_mode & 0o777
    except OSError as error:
        return fail(subject, f"{file}: {error.strerror}", "put it there, or correct the configuration")
    if mode & OTHERS & ~allowed:
        return fail(subject, f"{file} is open to others: mode {mode:04o}", f"chmod 600 {file}")
    if not os.access(file, os.R_OK):
        return fail(subject, f"{file} cannot be read", "run as the service user, or give that user the file")
    return ok(subject, f"{file}, mode {mode:04o}")


def artifact(store: Path) -> tuple[Finding, Artifact | None]:
    """Whether the artifact that would be served is there and sound; every byte is read."""
    try:
        found = open_artifact(store)
    except (HeadraceError, OSError) as error:
        return fail("artifact", str(error), "headrace-train publish or rollback"), None
    return ok("artifact", f"{found.version}, {found.manifest.n_items} items, every checksum right"), found


def newest_ms(data: Path) -> int:
    """Time of the newest event in a data folder; 0 where there is none."""
    try:
        with closing(sqlite3.connect(f"{(data / DATABASE).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT time_ms FROM events ORDER BY sequence DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return 0
    return int(row[0]) if row else 0


def _version(version: int, data: Path) -> Finding:
    found = f"schema version {version}"
    if version > LATEST:
        return fail("database", found, f"written by a later headrace: start that one, or migrate --to {LATEST} with it")
    if version < LATEST:
        return warn("database", found, f"migrated to {LATEST} at the next start, after a copy in {data}")
    return ok("database", found)


def _fence(connection: sqlite3.Connection) -> str:
    try:
        row = connection.execute("SELECT value FROM ledger_meta WHERE key = 'fenced'").fetchone()
    except sqlite3.OperationalError:  # no ledger yet
        return ""
    return str(row[0]) if row else ""


def _free(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


def _fsync_s(folder: Path) -> float:
    """Median seconds of a write of 4 KiB with its fsync."""
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(N_FSYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - began)
    return median(took)
