"""The address of the metrics: TLS, certificates of clients, and requests that are none."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from headrace.config import load_config
from headrace.errors import ConfigError, PermissionDeniedError, StoreError
from headrace.front import Call
from headrace.front.settings import TlsConfig
from headrace.service.process import check_listen
from headrace.telemetry.listener import METHOD, MetricsListener, Scrape

Listen = Callable[..., MetricsListener]


@pytest.fixture
def calls() -> list[Call]:
    """What was asked."""
    return []


@pytest.fixture
def listen(calls: list[Call]) -> Iterator[Listen]:
    """Starts listeners whose page is empty, or what ``scrape`` makes."""
    with contextlib.ExitStack() as stack:

        def start(tls: TlsConfig | None = None, scrape: Scrape | None = None) -> MetricsListener:
            def page(call: Call) -> bytes:
                calls.append(call)
                return scrape(call) if scrape else b""

            return stack.enter_context(contextlib.closing(MetricsListener("127.0.0.1:0", tls or TlsConfig(), page)))

        yield start


def get(listener: MetricsListener, path: str = METHOD, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    kind = http.client.HTTPSConnection if context else http.client.HTTPConnection
    options = {"context": context} if context else {}
    with contextlib.closing(kind(listener.address, timeout=10, **options)) as connection:
        connection.request("GET", path, headers={"X-Api-Key": "k"})
        response = connection.getresponse()
        return response.status, response.read()


def test_a_scrape_is_a_call_with_its_headers(listen: Listen, calls: list[Call]) -> None:
    assert get(listen()) == (200, b"")
    (call,) = calls
    assert (call.method, call.peer, call.metadata["x-api-key"], call.identities) == (METHOD, "127.0.0.1", "k", ())


@pytest.mark.parametrize(("path", "status"), [("/", 404), ("/metrics/", 404), ("/metrics?name=x", 200)])
def test_there_is_one_path(listen: Listen, path: str, status: int) -> None:
    assert get(listen(), path)[0] == status


@pytest.mark.parametrize(("error", "status"), [(PermissionDeniedError("no"), 403), (StoreError("closed"), 503)])
def test_an_error_is_a_status_and_a_line(listen: Listen, error: Exception, status: int) -> None:
    def fail(call: Call) -> bytes:
        raise error

    assert get(listen(scrape=fail)) == (status, f"{error}\n".encode())


def test_certificates_of_clients_are_verified_and_named(
    listen: Listen, calls: list[Call], certificates: ModuleType, tmp_path: Path
) -> None:
    authority, stranger = certificates.Authority(tmp_path), certificates.Authority(tmp_path, "stranger")
    file = authority.issue("server", sans=[certificates.LOOPBACK])
    tls = TlsConfig(
        certificate=str(file), key=str(file), client_ca=str(authority.file), require_client_certificate=True
    )
    listener = listen(tls)

    def context(client: Path | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(authority.file))
        if client:
            made.load_cert_chain(client)
        return made

    san = certificates.x509.DNSName("prometheus.internal")
    assert get(listener, context=context(authority.issue("scraper", sans=[san])))[0] == 200
    assert calls[0].identities == ("prometheus.internal", "scraper")
    for bad in (None, authority.issue("expired", days=-1), stranger.issue("forged")):
        with pytest.raises(OSError):  # noqa: PT011 - whichever way the handshake ends
            get(listener, context=context(bad))
    with contextlib.suppress(OSError):
        get(listener)
    with socket.create_connection(listener.address.split(":")) as plain:  # type: ignore[arg-type]
        plain.sendall(b"\x16\x03\x01 no handshake")
        plain.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert not plain.recv(100).startswith(b"HTTP")
    assert len(calls) == 1
    assert get(listener, context=context(authority.issue("again")))[0] == 200


def test_renewed_certificates_are_used_without_a_restart(
    listen: Listen, certificates: ModuleType, tmp_path: Path
) -> None:
    old, new = certificates.Authority(tmp_path, "old"), certificates.Authority(tmp_path, "new")
    file = old.issue("server", sans=[certificates.LOOPBACK])
    listener = listen(TlsConfig(certificate=str(file), key=str(file)))
    trusts_old, trusts_new = (ssl.create_default_context(cafile=str(one.file)) for one in (old, new))
    assert get(listener, context=trusts_old)[0] == 200
    file.write_text("garbage")
    assert get(listener, context=trusts_old)[0] == 200
    new.issue("next", sans=[certificates.LOOPBACK]).replace(file)
    assert get(listener, context=trusts_new)[0] == 200
    with pytest.raises(ssl.SSLError):
        get(listener, context=trusts_old)


def test_a_certificate_that_cannot_be_read_is_refused(listen: Listen, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls\.certificate"):
        listen(TlsConfig(certificate=str(tmp_path / "none.pem"), key=str(tmp_path / "none.pem")))


def test_an_address_in_use_is_had_as_soon_as_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    old = MetricsListener("127.0.0.1:0", TlsConfig(), lambda call: b"old")
    with contextlib.closing(MetricsListener(old.address, TlsConfig(), lambda call: b"new")) as new:
        assert f"another process has telemetry.metrics_listen {old.address}" in caplog.text
        assert get(new) == (200, b"old")
        old.close()
        deadline = time.monotonic() + 10
        while caplog.messages.count(f"metrics on {old.address}") < 2:
            assert time.monotonic() < deadline
        assert get(new) == (200, b"new")


def test_a_listener_that_waits_for_its_address_can_be_closed(listen: Listen) -> None:
    MetricsListener(listen().address, TlsConfig(), lambda call: b"").close()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.metrics_listen: got '192\.0\.2\.1:0'"):
        MetricsListener("192.0.2.1:0", TlsConfig(), lambda call: b"")


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "9464", "127.0.0.1:http", "example.com:9464"])
def test_metrics_stay_on_this_machine_without_tls_and_keys(address: str) -> None:
    config = load_config(flags={"telemetry": {"metrics_listen": address}}, environment={})
    with pytest.raises(ConfigError, match=r"telemetry\.metrics_listen"):
        check_listen(config, "telemetry.metrics_listen")
