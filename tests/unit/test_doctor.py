"""The doctor: each thing that can be wrong is found, named, and comes with what to do."""

from __future__ import annotations

import json
import socket
import sqlite3
import ssl
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from headrace import cli
from headrace.artifacts import ArtifactStore
from headrace.config import load_config
from headrace.errors import HeadraceError, PermissionDeniedError, UnauthenticatedError, UnavailableError
from headrace.events.migrations import LATEST
from headrace.events.store import DATABASE, Store
from headrace.front.settings import TlsConfig
from headrace.ledger.tokens import TokenKeys
from headrace.operations import disk, machine, network
from headrace.operations.doctor import examine, json_of, text_of
from headrace.operations.finding import Finding, Level
from headrace.operations.network import Asking
from headrace.service.process import warn_of_certificate


def nobody(_: str) -> str:
    raise UnavailableError("nobody answers")


def levels(findings: Iterator[Finding]) -> list[Level]:
    return [finding.level for finding in findings]


def settings(**sections: dict[str, object]):  # type: ignore[no-untyped-def]
    return load_config(flags=sections, environment={})


def test_a_port_is_free_a_server_s_or_somebody_else_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        taken = network.port(listen, nobody)
        assert (taken.level, taken.found) == (Level.FAIL, "Address already in use")
        assert network.port(listen, lambda _: "SERVING").found == "a server is there and says SERVING"
    assert network.port(listen, nobody) == Finding(Level.OK, f"port {listen}", "free")
    assert network.port("192.0.2.1:1", nobody).level == Level.FAIL


def test_a_port_that_a_server_shares_whom_nobody_can_ask() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as running:
        found = network.port(f"127.0.0.1:{running.getsockname()[1]}", nobody)
        assert (found.level, found.found.split(",")[0]) == (Level.OK, "free beside the process that is there")


def test_the_address_of_the_metrics_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        assert network.metrics_port(listen).level == Level.WARN
    assert network.metrics_port(listen) == Finding(Level.OK, f"metrics at {listen}", "free")
    assert network.metrics_port("192.0.2.1:1").level == Level.FAIL


def test_every_address_is_looked_at(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config = settings(
            server={"data": str(tmp_path), "listen": "127.0.0.1:0"},
            http={"listen": taken},
            telemetry={"metrics_listen": "0.0.0.0:0"},
        )
        found = {finding.subject: finding.level for finding in examine(config, network.Asking(nobody))}
        wrong = [finding.found for finding in examine(config, network.Asking(nobody)) if finding.subject == "exposure"]
    assert (found[f"port {taken}"], found["metrics at 0.0.0.0:0"]) == (Level.FAIL, Level.OK)
    assert wrong == ["this machine alone", "0.0.0.0 without tls.certificate and security.keys"]


def test_a_server_that_does_not_serve() -> None:
    assert network.server("x:1", lambda _: "SERVING").level == Level.OK
    assert network.server("x:1", lambda _: "NOT_SERVING").level == Level.FAIL
    assert "nobody answers" in network.server("x:1", nobody).found


@pytest.mark.parametrize(
    ("error", "level", "said"),
    [
        (None, Level.OK, "artifact v1 is served"),
        (PermissionDeniedError("the role storefront does not include it"), Level.OK, "no operator's"),
        (UnauthenticatedError("no key that is known"), Level.FAIL, "no key that is known"),
        (UnavailableError("nobody answers"), Level.FAIL, "nobody answers"),
    ],
)
def test_a_key_that_a_server_knows_or_does_not(error: HeadraceError | None, level: Level, said: str) -> None:
    def version(_: str) -> str:
        if error is not None:
            raise error
        return "v1"

    finding = network.key("shop:1", version)
    assert finding.level == level
    assert said in finding.found
    assert bool(finding.advice) == (level == Level.FAIL)


def test_beyond_this_machine_without_tls_or_keys() -> None:
    tls = TlsConfig(certificate="c", key="k")
    assert network.exposure("127.0.0.1", TlsConfig(), "").level == Level.OK
    assert "tls.certificate and security.keys" in network.exposure("0.0.0.0", TlsConfig(), "").found
    assert "security.keys" in network.exposure("0.0.0.0", tls, "").found
    assert network.exposure("0.0.0.0", tls, "keys").level == Level.OK


def make_certificate(folder: Path, days: int) -> TlsConfig:
    chain, key = folder / f"chain{days}.pem", folder / f"key{days}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=localhost", "-days", str(days), "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return TlsConfig(certificate=str(chain), key=str(key))


def test_certificates_that_end_soon_do_not_fit_or_are_none(tmp_path: Path) -> None:
    long, short = make_certificate(tmp_path, 90), make_certificate(tmp_path, 10)
    assert network.certificate(long).level == Level.OK
    soon = network.certificate(short)
    assert (soon.level, soon.advice) == (Level.WARN, "renew it")
    mixed = TlsConfig(certificate=long.certificate, key=short.key)
    for wrong in (mixed, TlsConfig(certificate=str(tmp_path / "none"), key=long.key)):
        assert network.certificate(wrong).level == Level.FAIL
    (tmp_path / "no.pem").write_text("no certificate")
    assert network.certificate(TlsConfig(certificate=str(tmp_path / "no.pem"), key=long.key)).level == Level.FAIL


def test_a_certificate_that_has_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def expired(*_: object) -> float:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_code, error.verify_message = network.EXPIRED, "certificate has expired"
        raise error

    monkeypatch.setattr(network, "_handshake", expired)
    found = network.certificate(TlsConfig(certificate="c", key="k"))
    assert (found.level, found.found) == (Level.FAIL, "c has expired")


def test_a_starting_server_warns_of_a_certificate_that_has_expired(
    tmp_path: Path, certificates: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    authority = certificates.Authority(tmp_path)
    for days, said in ((-1, ["tls.certificate: {} has expired; renew it: no client connects"]), (1, [])):
        file = str(authority.issue("localhost", days=days))
        caplog.clear()
        warn_of_certificate(TlsConfig(certificate=file, key=file))
        assert caplog.messages == [line.format(file) for line in said]
    warn_of_certificate(TlsConfig())


def test_data_folders_that_cannot_be_written_or_are_full(tmp_path: Path) -> None:
    assert levels(disk.data_folder(tmp_path / "new", lambda _: 10**12)) == [Level.OK]
    assert levels(disk.data_folder(tmp_path, lambda _: 500 << 20)) == [Level.WARN]
    assert levels(disk.data_folder(tmp_path, lambda _: 1 << 20)) == [Level.FAIL]
    (tmp_path / "file").write_text("")
    assert levels(disk.data_folder(tmp_path / "file" / "data")) == [Level.FAIL]


def test_a_disk_that_is_slow_and_one_that_lies(tmp_path: Path) -> None:
    assert disk.fsync(tmp_path, lambda _: 0.001).level == Level.OK
    assert "local SSD" in disk.fsync(tmp_path, lambda _: 0.05).advice
    assert "does not keep what it confirms" in disk.fsync(tmp_path, lambda _: 5e-6).advice
    assert disk.fsync(tmp_path).found.endswith(" ms")


def test_databases_of_other_versions_damaged_and_fenced(tmp_path: Path) -> None:
    assert levels(disk.database(tmp_path)) == []
    Store(tmp_path / DATABASE).close()
    assert levels(disk.database(tmp_path)) == [Level.OK]
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection, connection:
        connection.execute("CREATE TABLE ledger_meta (key TEXT, value TEXT)")
        connection.execute("INSERT INTO ledger_meta VALUES ('fenced', 'restored')")
    found = list(disk.database(tmp_path))
    assert [finding.level for finding in found] == [Level.OK, Level.WARN]
    assert found[1].found == "no bids: restored"
    for version, level in ((1, Level.WARN), (LATEST + 1, Level.FAIL)):
        with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        assert levels(disk.database(tmp_path))[0] == level
    (tmp_path / DATABASE).write_bytes(b"no database at all" * 1000)
    assert levels(disk.database(tmp_path)) == [Level.FAIL]


def test_secrets_that_are_open_to_others_or_gone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    assert disk.private_file("secret", file).level == Level.FAIL
    file.write_text("s")
    for mode, allowed, level in ((0o600, 0, Level.OK), (0o644, 0, Level.FAIL), (0o640, 0o040, Level.OK)):
        file.chmod(mode)
        assert disk.private_file("secret", file, allowed).level == level


def test_artifacts_that_are_gone_or_damaged(tmp_path: Path, factories: ModuleType) -> None:
    assert disk.artifact(tmp_path)[0].level == Level.FAIL
    store = ArtifactStore(tmp_path)
    factories.write_artifact(store, "v1")
    store.publish("v1")
    assert disk.artifact(tmp_path)[0].level == Level.OK
    file = tmp_path / "versions" / "v1" / "gram.npy"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    found, artifact = disk.artifact(tmp_path)
    assert (found.level, artifact) == (Level.FAIL, None)
    assert "gram.npy" in found.found


def test_clocks_that_jump_are_late_or_undisciplined() -> None:
    def found(newest_ms: int, wall: list[float]) -> list[Level]:
        times = iter(wall)
        monotonic = iter([0.0, 0.1])
        return levels(machine.clock(newest_ms, lambda: next(times), lambda: next(monotonic), lambda _: None))

    assert found(0, [1e9, 1e9 + 0.1, 1e9, 1e9]) == [Level.OK]
    assert found(0, [1e9, 1e9 + 3.0, 1e9, 1e9]) == [Level.WARN, Level.OK]
    assert found(int(2e12), [1e9, 1e9 + 0.1, 1e9, 1e9]) == [Level.FAIL]
    assert machine.synchronization(lambda: 0).level == Level.OK
    assert machine.synchronization(lambda: machine.UNSYNCHRONIZED).level == Level.WARN
    assert machine.synchronization(lambda: -1).found == "not known here"
    assert machine.synchronization().level in Level


def test_no_time_zones_few_files_little_memory_and_an_old_processor(tmp_path: Path) -> None:
    def missing(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    assert machine.time_zones().level == Level.OK
    assert machine.time_zones(missing).level == Level.FAIL
    assert [machine.open_files(n).level for n in (1024, 65_536, -1)] == [Level.WARN, Level.OK, Level.OK]
    assert machine.memory(1 << 30, 1 << 30).level == Level.WARN
    assert machine.memory(1 << 30, 8 << 30).level == Level.OK
    assert machine.memory(0).level in Level
    old = tmp_path / "cpuinfo"
    old.write_text("flags : sse sse2\n")
    assert machine.processor(old).level == Level.WARN
    old.write_text("flags : avx2\n")
    assert machine.processor(old).level == Level.OK


def test_libraries_out_of_range_and_parts_that_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._off(Requirement("numpy>=1")) == ""
    assert machine._off(Requirement("numpy<1")).startswith("numpy<1 wanted, ")
    assert machine._off(Requirement("no-such-thing")) == "no-such-thing is missing"
    assert machine._off(Requirement('no-such-thing; extra == "demo"')) == ""
    assert levels(machine.libraries("no-such-thing")) == [Level.WARN]
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda _: ["numpy<1"])
    assert levels(machine.libraries()) == [Level.FAIL]
    assert levels(machine.compiled(lambda _: None)) == [Level.FAIL, Level.WARN]
    assert levels(machine.compiled(lambda _: True)) == [Level.OK, Level.OK]
    kinds = [machine.kernels("", 0), machine.kernels("/cache", 0), machine.kernels("/cache", 9)]
    assert [finding.level for finding in kinds] == [Level.WARN, Level.WARN, Level.OK]


def test_all_of_it_on_a_folder_with_open_keys(tmp_path: Path, factories: ModuleType) -> None:
    data, store = tmp_path / "data", ArtifactStore(tmp_path / "artifacts")
    factories.write_artifact(store, "v1")
    store.publish("v1")
    Store(data / DATABASE).close()
    TokenKeys(data / "ledger.keys")
    config = settings(server={"data": str(data), "artifact": str(store.root), "listen": "127.0.0.1:0"})
    good = list(examine(config, Asking(nobody)))
    assert [finding for finding in good if finding.level == Level.FAIL] == []
    (data / "ledger.keys").chmod(0o644)
    bad = list(examine(config, Asking(nobody), "127.0.0.1:1"))
    assert {finding.subject for finding in bad if finding.level == Level.FAIL} == {"ledger keys", "server 127.0.0.1:1"}
    (data / "ledger.keys").chmod(0o600)
    (data / "ledger.keys").write_text("{}")
    config = settings(
        server={"data": str(data), "listen": "127.0.0.1:0"}, security={"keys": str(tmp_path / "none")},
        tls={"certificate": str(tmp_path / "c"), "key": str(tmp_path / "k")},
    )  # fmt: skip
    bad = list(examine(config, Asking(nobody)))
    failed = {finding.subject for finding in bad if finding.level == Level.FAIL}
    assert failed == {"ledger keys", "API keys", "certificate", "certificate's key"}
    assert text_of(bad).count("\nfail") == 4
    assert {entry["level"] for entry in json.loads(json_of(bad))} >= {"ok", "fail"}


def test_the_command_s_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def check(_: str, connection: object) -> str:
        raise HeadraceError("nobody")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_SERVER_LISTEN", "127.0.0.1:0")
    monkeypatch.setattr("headrace.client.health.check", check)
    for arguments, code in (([], 0), (["--at", "127.0.0.1:1", "--json"], 1)):
        monkeypatch.setattr(sys, "argv", ["headrace", "doctor", *arguments])
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        assert leaving.value.code == code
    said = capsys.readouterr().out
    assert said.startswith("ok    libraries: ")
    assert '"level": "fail"' in said


def test_strategies_compile_or_the_line_that_keeps_them_from_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("@strategy\ndef mine(ask, share=0.5):\n    return ask.value_cpm * share\n")
    (found,) = machine.strategies([f"{file}:mine"])
    assert (found.level, found.subject) == (Level.OK, "strategy")
    assert "ns a call" in found.found
    file.write_text("@strategy\ndef mine(ask):\n    while True:\n        pass\n")
    (found,) = machine.strategies([f"{file}:mine"])
    assert found.level == Level.FAIL
    assert "mine.py, line 3: a while loop" in found.found
