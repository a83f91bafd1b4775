"""Lets calls through by the key or the client certificate that they carry."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from headrace.config import Config
from headrace.errors import ConfigError, PermissionDeniedError, UnauthenticatedError
from headrace.front import Call
from headrace.security.keys import HASH_PREFIX, Credential, Keyring, digest_of, read_keyring
from headrace.security.roles import GRANTS, OPEN, PROCESS, Role
from headrace.service.access import TENANT, Access, OpenAccess, Principal

REFRESH_S = 1.0

_MAX_KEY_LENGTH = 256
_REFUSAL = "the call carries no key or certificate that is known and in force"
_HINT = "send metadata authorization: Bearer KEY"

_log = logging.getLogger("headrace.security")


@dataclass(frozen=True, slots=True)
class _Entry:
    principal: Principal
    methods: frozenset[str]
    ends_s: float
    digest: bytes


class KeyedAccess:
    """Knows callers by a keys file.

    file : see :mod:`headrace.security.keys`.
    tenants : names of those that the process serves; just the empty one where there is one tenant only.
    clock : seconds since 1970; when a key expires is a matter of wall-clock time.

    A key comes as ``authorization: Bearer KEY`` or as ``x-api-key: KEY``. Where there is one it alone counts; else the
    names of the caller's certificate do, and the first that the file knows. An admin without a tenant says which one a
    call is about in the metadata ``headrace-tenant``.

    Raises ConfigError for a file that cannot be used.
    """

    def __init__(self, file: Path, tenants: Collection[str] = ("",), clock: Callable[[], float] = time.time) -> None:
        self._file = Path(file)
        self._tenants = frozenset(tenants)
        self._clock = clock
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._seen = self._stamp()
        self._keys, self._certificates = self._read()

    def admit(self, call: Call) -> Principal:
        """Who makes the call. Raises UnauthenticatedError, PermissionDeniedError."""
        metadata, method = call.metadata, call.method
        if method in OPEN:
            return Principal("anyone", metadata.get(TENANT, ""), rate_per_second=0.0)
        presented = metadata.get("authorization") or metadata.get("x-api-key")
        entry = self._by_key(presented) if presented else self._by_certificate(call.identities)
        if entry is None or self._clock() >= entry.ends_s:
            self._tell(entry)
            raise UnauthenticatedError(_REFUSAL, hint=_HINT)
        principal = entry.principal
        if method not in entry.methods:
            raise PermissionDeniedError(f"the role {principal.role} does not include {method}")
        tenant = metadata.get(TENANT)
        if not tenant or tenant == principal.tenant:
            return principal
        if principal.tenant or principal.role != Role.ADMIN:
            raise PermissionDeniedError("the caller belongs to another tenant")
        return Principal(principal.name, tenant, principal.role, principal.rate_per_second, principal.burst)

    def reload(self) -> bool:
        """Read the file again; a file that cannot be used leaves the old keys in force, is logged, and is False."""
        with self._lock:
            self._seen = self._stamp()
            try:
                self._keys, self._certificates = self._read()
            except ConfigError as error:
                _log.error("the old keys stay in force: %s", error)
                return False
            self._told.clear()
        _log.info("%d keys and %d certificates may call", len(self._keys), len(self._certificates))
        return True

    def refresh(self) -> None:
        """Read the file again if it is another than before."""
        if self._stamp() != self._seen:
            self.reload()

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Within: a changed file is in force a second later."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(REFRESH_S):
                self.refresh()

        follower = threading.Thread(target=follow, name="headrace-keys")
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()

    def _by_key(self, presented: str) -> _Entry | None:
        if presented[:7].lower() == "bearer ":
            presented = presented[7:]
        # the id is no secret: how long it takes to find none tells nothing worth knowing
        parts = presented.split("_", 2)
        entry = self._keys.get(parts[1]) if len(parts) == 3 and len(presented) <= _MAX_KEY_LENGTH else None
        if entry is None or not compare_digest(digest_of(presented), entry.digest):
            return None
        return entry

    def _by_certificate(self, identities: tuple[str, ...]) -> _Entry | None:
        for name in identities:
            entry = self._certificates.get(name)
            if entry is not None:
                return entry
        return None

    def _tell(self, entry: _Entry | None) -> None:
        """Say once of each key that it was used although it is over: its owner is told nothing that helps."""
        if entry is not None and entry.principal.name not in self._told:
            self._told.add(entry.principal.name)
            _log.warning("%s has expired or is disabled, and was used", entry.principal.name)

    def _read(self) -> tuple[dict[str, _Entry], dict[str, _Entry]]:
        keyring = read_keyring(self._file)
        self._check_tenants(keyring)
        return (
            {key.id: _entry(key, bytes.fromhex(key.hash.removeprefix(HASH_PREFIX))) for key in keyring.keys},
            {certificate.subject: _entry(certificate) for certificate in keyring.certificates},
        )

    def _check_tenants(self, keyring: Keyring) -> None:
        for one in keyring.credentials():
            if one.tenant not in self._tenants and not (one.role == Role.ADMIN and not one.tenant):
                known = " or ".join(sorted(self._tenants)) or "none, as there is one tenant only"
                raise ConfigError(f"tenant of {one.name} in {self._file}", one.tenant, known)

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


@contextlib.contextmanager
def asked_access(config: Config) -> Iterator[Access]:
    """Within: what the settings ask for, by a keys file that is followed, or open to all where none is named.

    Raises ConfigError.
    """
    if not config.security.keys:
        yield OpenAccess(several=bool(config.tenants))
        return
    access = KeyedAccess(Path(config.security.keys), config.tenants or ("",))
    with access.following():
        yield access


def _entry(one: Credential, digest: bytes = b"") -> _Entry:
    never = -math.inf if one.disabled else math.inf
    ends_s = one.expires.timestamp() if one.expires and not one.disabled else never
    methods = GRANTS[one.role] - PROCESS if one.tenant else GRANTS[one.role]
    principal = Principal(one.name, one.tenant, one.role, one.rate_per_second, one.burst or 0.0)
    return _Entry(principal, methods, ends_s, digest)
