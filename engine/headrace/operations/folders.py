"""Files and folders that are there in whole or not at all, also after a power loss."""

from __future__ import annotations

import errno
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace import durable
from headrace.errors import ConfigError, PreconditionError, StoreFullError
from headrace.locks import OwnerLock

LOCK = "ledger.lock"


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Within: an empty private folder beside ``target``, which gets that name when all went well, else it goes away.

    Raises ConfigError where nothing can be written, StoreFullError when the device is full.
    """
    draft = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        yield draft
        durable.sync(draft)
        if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
            target.rmdir()
        draft.rename(target)
        durable.sync(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFullError(f"{target} cannot be written: {error.strerror}", hint="free space there") from error
        where = error.filename or target
        raise ConfigError(f"{target} cannot be made: {where}: {error.strerror}", hint="check permissions") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def checksum(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def stopped(data: Path) -> Iterator[None]:
    """Within: no server bids from the data folder. Raises PreconditionError while one does."""
    lock = OwnerLock(data / LOCK)
    if not lock.try_acquire():
        raise PreconditionError(f"a server is running on {data}", hint="stop it first")
    try:
        yield
    finally:
        lock.release()
