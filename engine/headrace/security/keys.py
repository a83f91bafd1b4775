"""The keys file: who may call, by the hash of an API key or the name in a client certificate.

A key reads ``hr_<id>_<secret>``; the secret is 256 random bits. The file holds the SHA-256 of the whole key. A slow,
salted hash protects passwords, which can be guessed; 2^256 secrets cannot, however fast the hash is, and no two keys
are the same, so that a salt would tell nothing apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import string
import tomllib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headrace.errors import ConfigError, NotFoundError
from headrace.security.roles import Role

MAX_NOTE_BYTES = 256
MAX_RATE = 1e9
HASH_PREFIX = "sha256:"

_ID_LETTERS = string.ascii_lowercase + string.digits
_ID_LENGTH = 10
_SECRET_LETTERS = string.ascii_letters + string.digits
# 62^43 > 2^256
_SECRET_LENGTH = 43
_TENANT = re.compile(r"[a-z][a-z0-9_]{0,31}")

_Time = Annotated[datetime, Meta(tz=True)]
_Tenant = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9_]{0,31})?$")]
_Rate = Annotated[float, Meta(ge=0, le=MAX_RATE)]
_Note = Annotated[str, Meta(max_length=MAX_NOTE_BYTES)]


class Credential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What keys and certificates have in common.

    tenant : empty where there is one tenant only, and for an admin of all of them.
    expires : from then on it is refused; None: never. Wall-clock time.
    rate_per_second : requests that its owner may make, 0: any number; None: what the server's settings say.
    burst : requests that its owner may make at once, None: those of one second; only beside a rate of its own.
    """

    role: Role
    tenant: _Tenant = ""
    expires: _Time | None = None
    disabled: bool = False
    rate_per_second: _Rate | None = None
    burst: _Rate | None = None
    note: _Note = ""

    @property
    def name(self) -> str:
        """What logs, limits and the audit call its owner."""
        raise NotImplementedError


class Key(Credential, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key, without its secret."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9]{1,32}$")]
    hash: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
    created: _Time

    @property
    def name(self) -> str:
        return self.id


class Certificate(Credential, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name that a client certificate carries: a subject alternative name, or the common name."""

    subject: Annotated[str, Meta(min_length=1, max_length=1024)]

    @property
    def name(self) -> str:
        return self.subject


class Keyring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a keys file holds."""

    keys: tuple[Key, ...] = ()
    certificates: tuple[Certificate, ...] = ()

    def credentials(self) -> tuple[Credential, ...]:
        """Keys and certificates, in the order of the file."""
        return (*self.keys, *self.certificates)


def digest_of(key: str) -> bytes:
    """The SHA-256 of a key as its owner presents it."""
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def read_keyring(file: Path) -> Keyring:
    """What a keys file holds. Raises ConfigError where it is absent, malformed, or open to others."""
    try:
        with file.open("rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            text = handle.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the keys file {file} cannot be read: {error}") from error
    # whoever may write it makes keys; a group may read it, as secrets that are mounted into containers need
    if mode & 0o027:
        raise ConfigError(f"mode of {file}", f"{mode & 0o777:04o}", "0600, or 0640", f"chmod 600 {file}")
    return _parse(text, file)


def create_key(
    file: Path,
    role: Role,
    *,
    tenant: str = "",
    expires_days: float | None = None,
    note: str = "",
    rate: tuple[float | None, float | None] = (None, None),
    now: datetime,
) -> tuple[Key, str]:
    """Add a new key to the file, which is created when absent; returns it and the key itself, which is kept nowhere.

    rate : its rate_per_second and burst.

    Raises ConfigError for a file that cannot be used and a tenant, note, time or rate that cannot be.
    """
    if tenant and not _TENANT.fullmatch(tenant):
        raise ConfigError("tenant", tenant, "the name of a [tenants.NAME] section")
    if len(note.encode()) > MAX_NOTE_BYTES or not note.isprintable():
        raise ConfigError("note", note, f"at most {MAX_NOTE_BYTES} bytes of printable text")
    _check_rate(*rate)
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    whole = f"hr_{key_id}_" + "".join(secrets.choice(_SECRET_LETTERS) for _ in range(_SECRET_LENGTH))
    now = now.replace(microsecond=0)
    key = Key(
        id=key_id,
        hash=HASH_PREFIX + digest_of(whole).hex(),
        role=role,
        tenant=tenant,
        created=now,
        expires=_later(now, expires_days),
        rate_per_second=rate[0],
        burst=rate[1],
        note=note,
    )
    with _editing(file):
        text = _text_of(file) if file.exists() else ""
        _replace(file, f"{text.rstrip()}\n\n{_block(key)}".lstrip())
    return key, whole


def revoke(file: Path, name: str) -> None:
    """Disable a key, by its id, or a certificate, by its subject. Raises NotFoundError, ConfigError."""
    with _editing(file):
        before = read_keyring(file)
        found = next((one for one in before.credentials() if one.name == name), None)
        if found is None:
            raise NotFoundError("key", name, f"one of those in {file}", "headrace keys list names them")
        if found.disabled:
            return
        field = "id" if isinstance(found, Key) else "subject"
        # the line that names it stands once; whatever a person wrote around it stays
        line = re.compile(rf"""^{field}\s*=\s*["']{re.escape(name)}["'].*$""", re.MULTILINE)
        text, n = line.subn(lambda match: f"{match[0]}\ndisabled = true", _text_of(file))
        if n != 1:
            raise ConfigError(f"{file} is not laid out as expected", hint=f"write disabled = true beside {name}")
        _replace(file, text)


def _later(now: datetime, days: float | None) -> datetime | None:
    if days is None:
        return None
    if not 0 < days <= 36_500:
        raise ConfigError("expires", days, "days, above 0 and at most 36500", "leave it out for a key without end")
    return (now + timedelta(days=days)).replace(microsecond=0)


def _parse(text: str, file: Path) -> Keyring:
    try:
        keyring = msgspec.convert(tomllib.loads(text), Keyring)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"the keys file {file} is malformed: {error}") from error
    names: set[str] = set()
    for one in keyring.credentials():
        if one.name in names:
            raise ConfigError(f"{one.name} in the keys file {file}", "two entries", "one", "names are used once")
        names.add(one.name)
        _check_rate(one.rate_per_second, one.burst, f" of {one.name} in the keys file {file}")
    return keyring


def _check_rate(rate: float | None, burst: float | None, whose: str = "") -> None:
    for name, value in (("rate_per_second", rate), ("burst", burst)):
        if value is not None and not 0 <= value <= MAX_RATE:
            raise ConfigError(f"{name}{whose}", value, f"0 to {MAX_RATE:g}")
    if burst is not None and not rate:
        raise ConfigError(f"burst{whose}", burst, "a burst beside a rate", "say rate_per_second, too")


def _text_of(file: Path) -> str:
    read_keyring(file)
    return file.read_text("utf-8")


def _block(key: Key) -> str:
    lines = ["[[keys]]"]
    for name in ("id", "hash", "role", "tenant", "created", "expires", "rate_per_second", "burst", "note"):
        value: Any = getattr(key, name)
        if isinstance(value, datetime):
            lines.append(f"{name} = {value.isoformat()}")
        elif isinstance(value, float):
            lines.append(f"{name} = {value}")
        elif value:
            # a JSON text is a TOML text
            lines.append(f"{name} = {msgspec.json.encode(str(value)).decode()}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _editing(file: Path) -> Iterator[None]:
    """Within: nobody else edits a keys file of this folder."""
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)
    finally:
        os.close(folder)


def _replace(file: Path, text: str) -> None:
    """Write the file in one step, once its text is known to be a keys file."""
    _parse(text, file)
    new = file.with_name(f"{file.name}.new")
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        os.fchmod(handle.fileno(), mode)
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    new.replace(file)
