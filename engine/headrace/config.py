"""Configuration: one frozen dataclass a component, read from one TOML file.

What is said later wins: default < file < environment (``HEADRACE_<SECTION>_<KEY>``) < command-line flag. An unknown key
is an error that names the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from headrace.bidding.recovery import LedgerConfig
from headrace.bidding.settings import BiddingConfig
from headrace.errors import ConfigError
from headrace.front.settings import DoorConfig, TlsConfig

ENVIRONMENT_PREFIX = "HEADRACE"

Settings = Mapping[str, Mapping[str, object]]
"""Section -> key -> value, as a file or the flags give them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The process: where it listens, what it loads, where it keeps its data."""

    # Artifact store: the folder that `headrace-train publish` writes to.
    artifact: str = ""
    # Folder of the embedded database and the ledger; created when absent. Processes that serve one shop share it.
    data: str = "headrace-data"
    # HOST:PORT to accept gRPC on; port 0 lets the system choose one.
    listen: str = "127.0.0.1:50051"
    # Accept an address other than loopback although the connection is not encrypted.
    insecure: bool = False
    # Which transport takes the calls: "grpcio", "native", or "auto" for the fastest that is built.
    door: Literal["auto", "native", "grpcio"] = "auto"
    # What time it is: the machine's, or, to replay a past day, the latest time that a bid request named.
    clock: Literal["system", "requests"] = "system"
    # Threads that answer calls; 0 means one for each core that the process may use.
    workers: Annotated[int, Meta(ge=0, le=256)] = 0
    # Threads that wait for the disk (events, campaigns, notices), so that reads and bids never do.
    durable_workers: Annotated[int, Meta(ge=1, le=256)] = 8
    # Calls that one worker takes at once, at most.
    batch_limit: Annotated[int, Meta(ge=1, le=4096)] = 64
    # Seconds that a stopping server gives to the calls in flight.
    drain_grace_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    # Milliseconds between two attempts to become the owner of the ledger.
    ledger_retry_ms: Annotated[int, Meta(ge=1, le=60_000)] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set; each field is a section of the file."""

    server: ServerConfig = field(default_factory=ServerConfig)
    door: DoorConfig = field(default_factory=DoorConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    bidding: BiddingConfig = field(default_factory=BiddingConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)


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
    classes = _section_classes()
    return Config(**{name: classes[name](**values) for name, values in sections.items()})


def known_keys() -> Iterator[tuple[str, str, object]]:
    """Every (section, key, default) there is, in the order of the classes."""
    for name, section in _section_classes().items():
        for entry in dataclasses.fields(section):
            yield name, entry.name, entry.default


def _section_classes() -> dict[str, Any]:
    return get_type_hints(Config)


def _read_file(file: Path) -> Settings:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the configuration file {file} cannot be read: {error}") from error


def _read_environment(environment: Mapping[str, str]) -> Settings:
    settings: dict[str, dict[str, object]] = {}
    for section in _section_classes():
        prefix = f"{ENVIRONMENT_PREFIX}_{section.upper()}_"
        for name, value in environment.items():
            if name.startswith(prefix):
                settings.setdefault(section, {})[name.removeprefix(prefix).lower()] = value
    return settings


def _flatten(settings: Settings, source: str) -> Iterator[tuple[str, str, object]]:
    classes = _section_classes()
    for section, values in settings.items():
        if section not in classes:
            raise _unknown("section", section, list(classes), source)
        if not isinstance(values, Mapping):
            raise ConfigError(f"{section} in {source}", values, "a section", f"write [{section}] on a line of its own")
        known = [entry.name for entry in dataclasses.fields(classes[section])]
        for key, value in values.items():
            if key not in known:
                raise _unknown("key", key, known, source, f"{section}.")
            yield section, key, value


def _unknown(kind: str, name: str, known: list[str], source: str, prefix: str = "") -> ConfigError:
    near = difflib.get_close_matches(name, known, n=2)
    names = [prefix + key for key in near or known]
    hint = f"did you mean {' or '.join(names)}?" if near else f"known: {', '.join(names)}"
    return ConfigError(f"unknown {kind} {prefix}{name} in {source}", hint=hint)


def _checked(section: str, key: str, value: object, source: str, strict: bool) -> object:
    wanted = get_type_hints(_section_classes()[section], include_extras=True)[key]
    try:
        return msgspec.convert(value, wanted, strict=strict)
    except msgspec.ValidationError as error:
        choices = get_args(wanted) if get_origin(wanted) is Literal else ()
        expected = str(error).split(" - ")[0].removeprefix("Expected ").split(", got")[0]
        raise ConfigError(f"{section}.{key} in {source}", value, " or ".join(choices) or expected) from error
