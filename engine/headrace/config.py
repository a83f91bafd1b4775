"""Configuration: one frozen dataclass a component, read from one TOML file.

What is said later wins: default < file < environment (``HEADRACE_<SECTION>_<KEY>``) < command-line flag. An unknown key
is an error that names the nearest known one. A tenant is a section of its own, ``[tenants.<name>]`` in the file and
``HEADRACE_TENANTS_<NAME>_<KEY>`` in the environment.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from headrace.authority.settings import AuthorityConfig
from headrace.bidding.settings import BiddingConfig
from headrace.decisions.settings import DecisionsConfig
from headrace.errors import ConfigError, nearest
from headrace.front.settings import DoorConfig, HttpConfig, TlsConfig
from headrace.ledger.recovery import LedgerConfig
from headrace.service.settings import AdmissionConfig, SecurityConfig, TelemetryConfig

ENVIRONMENT_PREFIX = "HEADRACE"
TENANTS = "tenants"

_TENANT_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")

Settings = Mapping[str, Mapping[str, object]]
"""Section -> key -> value, as a file or the flags give them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The process: where it listens, what it loads, where it keeps its data."""

    LIVE: ClassVar[frozenset[str]] = frozenset({"artifact", "drain_grace_s", "ledger_retry_ms"})
    """Keys that change without a restart."""

    # Artifact store: the folder that `headrace-train publish` writes to.
    artifact: str = ""
    # Folder of the embedded database and the ledger; created when absent. Processes that serve one shop share it.
    data: str = "headrace-data"
    # HOST:PORT to accept gRPC on; port 0 lets the system choose one.
    listen: str = "127.0.0.1:50051"
    # Accept an address other than loopback although the connection is not encrypted, or no key is asked for.
    insecure: bool = False
    # Which transport takes the calls: "grpcio", "native", or "auto" for the fastest that is built.
    door: Literal["auto", "native", "grpcio"] = "auto"
    # What time it is: the machine's, or, to replay a past day, the latest time that a bid request named.
    clock: Literal["system", "requests"] = "system"
    # Threads that answer calls; 0 means one for each core that the process may use.
    workers: Annotated[int, Meta(ge=0, le=256)] = 0
    # Threads that wait for the disk (events, campaigns, notices), so that reads and bids never do.
    durable_workers: Annotated[int, Meta(ge=1, le=256)] = 8
    # Calls of one method that are answered together, at most.
    batch_limit: Annotated[int, Meta(ge=1, le=4096)] = 64
    # Days for which the slates that were shown are kept, some 300 bytes each; older ones give way to new; 0: for ever.
    slate_days: Annotated[float, Meta(ge=0, le=3650)] = 7.0
    # Seconds that a stopping server gives to the calls in flight.
    drain_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    # Milliseconds between two attempts to become the owner of the ledger.
    ledger_retry_ms: Annotated[int, Meta(ge=1, le=60_000)] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantConfig:
    """One shop of several in a process; nothing is shared with the others but the process."""

    # Artifact store of this tenant.
    artifact: str
    # Folder of its database and its ledger; no other tenant's.
    data: str
    # Its own authority, as authority.url; empty: its ledger is on its own.
    authority: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set; each field is a section of the file, and each tenant one."""

    server: ServerConfig = field(default_factory=ServerConfig)
    door: DoorConfig = field(default_factory=DoorConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    bidding: BiddingConfig = field(default_factory=BiddingConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    authority: AuthorityConfig = field(default_factory=AuthorityConfig)
    decisions: DecisionsConfig = field(default_factory=DecisionsConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    # By name; none: the one tenant "" of server.artifact and server.data.
    tenants: Mapping[str, TenantConfig] = field(default_factory=dict)


def load_config(
    file: Path | None = None, flags: Settings | None = None, environment: Mapping[str, str] | None = None
) -> Config:
    """The configuration of a process.

    file : a TOML file, or none.
    flags : values given on the command line; they win.
    environment : the process's own when left out.

    Raises ConfigError for a file that cannot be read, an unknown key, and a value of the wrong type or out of range.
    """
    layers = [
        (str(file), _read_file(file) if file else {}, True),
        ("the environment", _read_environment(os.environ if environment is None else environment), False),
        ("the command line", flags or {}, True),
    ]
    sections: dict[str, dict[str, object]] = {}
    for source, settings, strict in layers:
        for section, key, value in _flatten(settings, source):
            sections.setdefault(section, {})[key] = _checked(section, key, value, source, strict)
    made = {name: _class_of(name)(**values) for name, values in sections.items() if not _tenant(name)}
    tenants = {tenant: _whole(tenant, sections[name]) for name in sections if (tenant := _tenant(name))}
    config = Config(**made, tenants=tenants)
    _check_tenants(config)
    return config


def each_tenant(config: Config) -> dict[str, Config]:
    """The configuration of every tenant, as if it were the only one; under the empty name where there is just one."""
    if not config.tenants:
        return {"": config}
    return {
        name: dataclasses.replace(
            config,
            server=dataclasses.replace(config.server, artifact=tenant.artifact, data=tenant.data),
            authority=dataclasses.replace(config.authority, url=tenant.authority),
            tenants={},
        )
        for name, tenant in config.tenants.items()
    }


def sections_of(config: Config) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Every section with its values, each tenant's among them, as a file would hold them."""
    for name in section_classes():
        yield name, dataclasses.asdict(getattr(config, name))
    for name, tenant in config.tenants.items():
        yield f"{TENANTS}.{name}", dataclasses.asdict(tenant)


def known_keys() -> Iterator[tuple[str, str, object]]:
    """Every (section, key, default) there is, in the order of the classes."""
    for name, section in section_classes().items():
        for entry in dataclasses.fields(section):
            yield name, entry.name, entry.default


def live_keys(section: str) -> frozenset[str]:
    """Keys of a section that a running server takes over; the others wait for a restart."""
    keys: frozenset[str] = getattr(section_classes()[section], "LIVE", frozenset())
    return keys


def section_classes() -> dict[str, Any]:
    """The class of every section that there is one of."""
    return {name: section for name, section in get_type_hints(Config).items() if name != TENANTS}


def _tenant(section: str) -> str:
    return section.removeprefix(f"{TENANTS}.") if section.startswith(f"{TENANTS}.") else ""


def _class_of(section: str) -> Any:
    return TenantConfig if _tenant(section) else section_classes()[section]


def _whole(tenant: str, values: Mapping[str, Any]) -> TenantConfig:
    for entry in dataclasses.fields(TenantConfig):
        if entry.default is dataclasses.MISSING and not values.get(entry.name):
            raise ConfigError(f"{TENANTS}.{tenant}.{entry.name}", "", "a folder", "each tenant has its own")
    return TenantConfig(**values)


def _check_tenants(config: Config) -> None:
    """Raise ConfigError where two tenants would write to one folder, or a setting for one tenant would go unheard."""
    folders: dict[Path, str] = {}
    for name, tenant in config.tenants.items():
        folder = Path(tenant.data).resolve()
        for other, taken in folders.items():
            if folder.is_relative_to(other) or other.is_relative_to(folder):
                expected = f"a folder apart from that of {TENANTS}.{taken}"
                raise ConfigError(f"{TENANTS}.{name}.data", tenant.data, expected, "tenants share no data")
        folders[folder] = name
    urls = [tenant.authority for tenant in config.tenants.values() if tenant.authority]
    if len(urls) > len(set(urls)):
        raise ConfigError(f"{TENANTS}.*.authority", urls, "another database for each", "tenants share no money")
    if config.tenants and config.authority.url:
        raise ConfigError("authority.url", config.authority.url, "nothing where there are tenants", "say it for each")
    for key in ("artifact", "data") if config.tenants else ():
        if getattr(config.server, key) != getattr(ServerConfig(), key):
            hint = f"say it for each tenant: [{TENANTS}.{next(iter(config.tenants))}]"
            raise ConfigError(f"server.{key}", getattr(config.server, key), "nothing where there are tenants", hint)


def _read_file(file: Path) -> Settings:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"the configuration file {file} cannot be read: {reason}") from error


def _read_environment(environment: Mapping[str, str]) -> Settings:
    settings: dict[str, dict[str, object]] = {}
    for section in section_classes():
        prefix = f"{ENVIRONMENT_PREFIX}_{section.upper()}_"
        for name, value in environment.items():
            if name.startswith(prefix):
                settings.setdefault(section, {})[name.removeprefix(prefix).lower()] = value
    tenants: dict[str, dict[str, object]] = {}
    prefix = f"{ENVIRONMENT_PREFIX}_{TENANTS.upper()}_"
    for name, value in environment.items():
        if name.startswith(prefix):
            tenant, _, key = name.removeprefix(prefix).lower().rpartition("_")
            tenants.setdefault(tenant, {})[key] = value
    return {**settings, TENANTS: tenants}


def _flatten(settings: Settings, source: str) -> Iterator[tuple[str, str, object]]:
    known = [*section_classes(), TENANTS]
    for section, values in settings.items():
        if section not in known:
            raise _unknown("section", section, known, source)
        if section != TENANTS:
            yield from _entries(section, values, source)
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(f"{TENANTS} in {source}", values, "sections", f"write [{TENANTS}.NAME] for each tenant")
        for tenant, its in values.items():
            if not _TENANT_NAME.fullmatch(tenant):
                expected = "a small letter and then at most 31 of a-z, 0-9 and _"
                raise ConfigError(f"the name of a tenant in {source}", tenant, expected)
            yield from _entries(f"{TENANTS}.{tenant}", its, source)


def _entries(section: str, values: object, source: str) -> Iterator[tuple[str, str, object]]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section} in {source}", values, "a section", f"write [{section}] on a line of its own")
    known = [entry.name for entry in dataclasses.fields(_class_of(section))]
    for key, value in values.items():
        if key not in known:
            raise _unknown("key", key, known, source, f"{section}.")
        yield section, key, value


def _unknown(kind: str, name: str, known: list[str], source: str, prefix: str = "") -> ConfigError:
    return ConfigError(f"unknown {kind} {prefix}{name} in {source}", hint=nearest(name, known, prefix))


def _checked(section: str, key: str, value: object, source: str, strict: bool) -> object:
    wanted = get_type_hints(_class_of(section), include_extras=True)[key]
    try:
        return msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        choices = get_args(wanted) if get_origin(wanted) is Literal else ()
        expected = str(error).split(" - ")[0].removeprefix("Expected ").split(", got")[0]
        raise ConfigError(f"{section}.{key} in {source}", value, " or ".join(choices) or expected) from error
