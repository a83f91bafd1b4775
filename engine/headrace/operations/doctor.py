"""``headrace doctor``: looks at everything that a server needs and says what to do about what is not right."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace import kernels
from headrace.compiled import kept
from headrace.config import Config, each_tenant
from headrace.errors import HeadraceError
from headrace.ledger.tokens import TokenKeys
from headrace.operations import disk, machine, network
from headrace.operations.authority import authority
from headrace.operations.finding import Finding, Level, fail, ok
from headrace.security.keys import read_keyring

LEDGER_KEYS = "ledger.keys"
GROUP_READS = 0o040
"""As secrets that are mounted into containers need."""


def examine(config: Config, asking: network.Asking, at: str = "") -> Iterator[Finding]:
    """Every finding, the worst not first but in the order in which a server would meet it.

    asking : how servers are asked. at : a running server to ask; empty: none.
    """
    yield from machine.libraries()
    yield from machine.compiled()
    yield machine.kernels(*kept(Path(next(iter(kernels.__path__)))))
    yield machine.processor()
    yield machine.open_files()
    yield machine.time_zones()
    yield machine.synchronization()
    yield from machine.strategies(config.bidding.strategies)
    newest_ms = 0
    for its in each_tenant(config).values():
        data = Path(its.server.data)
        newest_ms = max(newest_ms, disk.newest_ms(data))
        yield from _data(data)
        if its.authority.url:
            yield authority(its.authority)
        if its.server.artifact:
            finding, artifact = disk.artifact(Path(its.server.artifact))
            yield finding
            if artifact is not None:
                newest_ms = max(newest_ms, artifact.manifest.trained_until_ms)
                yield machine.memory(sum(file.stat().st_size for file in artifact.path.iterdir()))
    yield from machine.clock(newest_ms)
    yield from _network(config, asking.health)
    if at:
        yield network.server(at, asking.health)
        if asking.version is not None:
            yield network.key(at, asking.version)


def _data(data: Path) -> Iterator[Finding]:
    yield from disk.data_folder(data)
    yield disk.fsync(data)
    yield from disk.database(data)
    if (data / LEDGER_KEYS).exists():
        private = disk.private_file("ledger keys", data / LEDGER_KEYS)
        yield private if private.level != Level.OK else _ledger_keys(data / LEDGER_KEYS)


def _ledger_keys(file: Path) -> Finding:
    try:
        TokenKeys(file)
    except HeadraceError as error:
        return fail("ledger keys", str(error), "restore the file from a backup")
    return ok("ledger keys", f"{file}, mode 0600")


def _network(config: Config, ask: network.Ask) -> Iterator[Finding]:
    listens = [config.server.listen, config.http.listen, config.telemetry.metrics_listen]
    yield network.port(listens[0], ask)
    if listens[1]:
        yield network.port(listens[1])
    if listens[2]:
        yield network.metrics_port(listens[2])
    for host in dict.fromkeys(listen.rpartition(":")[0] for listen in listens if listen):
        yield network.exposure(host, config.tls, config.security.keys)
    if config.tls.certificate:
        yield network.certificate(config.tls)
        yield disk.private_file("certificate's key", Path(config.tls.key), GROUP_READS)
    if config.security.keys:
        yield _api_keys(Path(config.security.keys))


def _api_keys(file: Path) -> Finding:
    try:
        keyring = read_keyring(file)
    except HeadraceError as error:
        return fail("API keys", str(error), "headrace keys makes and lists them")
    return ok("API keys", f"{len(keyring.credentials())} keys and certificates in {file}")


def text_of(findings: Sequence[Finding]) -> str:
    """One line a finding, and what to do under those that need it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<4}  {finding.subject}: {finding.found}")
        if finding.advice:
            lines.append(f"      {finding.advice}")
    return "\n".join(lines)


def json_of(findings: Sequence[Finding]) -> str:
    """A JSON list of objects with level, subject, found and advice."""
    return json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1, ensure_ascii=False)
