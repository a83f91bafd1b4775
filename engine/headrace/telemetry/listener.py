"""The address that Prometheus scrapes: ``GET /metrics``, with the other doors' keys and certificates."""

from __future__ import annotations

import errno
import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from headrace.errors import ConfigError, HeadraceError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from headrace.front import Call
from headrace.front.certificates import stamp
from headrace.front.settings import TlsConfig
from headrace.telemetry.page import CONTENT_TYPE

METHOD = "/metrics"
TIMEOUT_S = 10.0
"""For a scraper to send its request and to take the answer."""
MAX_CONNECTIONS = 32
RETRY_S = 0.25
"""Between two attempts to have an address that another process has."""

Scrape = Callable[[Call], bytes]
"""The page for a call of METHOD; raises UnauthenticatedError, PermissionDeniedError, NotFoundError."""

_log = logging.getLogger("headrace.telemetry")

_STATUS = {
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    PermissionDeniedError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
}


class MetricsListener:
    """Serves pages on a thread of its own.

    listen : HOST:PORT; port 0 lets the system choose. While another process has it, such as the one that this one is
        to replace, it is waited for: two behind one address would show Prometheus counters that jump.
    tls : as the other doors have it; without a certificate nothing is encrypted.
    scrape : makes the page, or refuses the caller.

    Raises ConfigError when the address is not this machine's or the certificate cannot be used.
    """

    def __init__(self, listen: str, tls: TlsConfig, scrape: Scrape) -> None:
        host, _, port = listen.rpartition(":")
        handler = type("Handler", (_Handler,), {"scrape": staticmethod(scrape)})
        self._server = _Server((host.strip("[]"), int(port)), handler, _Encryption(tls))
        try:
            self._bound = self._bind()
        except OSError as error:
            self._server.server_close()
            expected = "an address that this machine has"
            raise ConfigError("telemetry.metrics_listen", listen, expected, str(error.strerror or error)) from error
        if not self._bound:
            _log.warning("another process has telemetry.metrics_listen %s: no metrics until it is free", listen)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="headrace-scrapes", daemon=True)
        self._thread.start()

    def _bind(self) -> bool:
        try:
            self._server.server_bind()
            self._server.server_activate()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        _log.info("metrics on %s", self.address)
        return True

    def _serve(self) -> None:
        while not self._closing.is_set():
            if self._bound:
                self._server.handle_request()
            else:
                self._closing.wait(RETRY_S)
                self._bound = self._bind()

    @property
    def address(self) -> str:
        """The address, ``host:port``, as bound once it is."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def close(self) -> None:
        """Take no more requests."""
        self._closing.set()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    timeout = 0.1  # s that handle_request waits, at most

    def __init__(self, address: tuple[str, int], handler: Any, encryption: _Encryption) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._encryption = encryption
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, handler, bind_and_activate=False)

    def server_bind(self) -> None:
        # not the HTTP server's, which looks the host's name up
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            request.settimeout(TIMEOUT_S)
            context = self._encryption.context()
            if context is not None:  # here and not at accept: a slow handshake holds up nobody else
                request = context.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError:
            self.shutdown_request(request)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.warning("a scrape from %s failed", client_address[0], exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    scrape: Scrape
    server_version = "headrace"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != METHOD:
            self._answer(HTTPStatus.NOT_FOUND, b"metrics are at /metrics\n", "text/plain")
            return
        now = time.monotonic()
        metadata = {name.lower(): value for name, value in self.headers.items()}
        host = str(self.client_address[0])
        call = Call(METHOD, b"", math.inf, host, metadata, None, now, identities_of(self.connection))
        try:
            body = self.scrape(call)
        except HeadraceError as error:
            status = _STATUS.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE)
            self._answer(status, f"{error}\n".encode(), "text/plain; charset=utf-8")
            return
        self._answer(HTTPStatus.OK, body, CONTENT_TYPE)

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def identities_of(connection: Any) -> tuple[str, ...]:
    """Names in the peer's verified certificate: subject alternative names, then the common name."""
    certificate: Any = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if not certificate:
        return ()
    names = [value for _, value in certificate.get("subjectAltName", ())]
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return (*names, *common)


class _Encryption:
    """The certificates of a listener; files that changed are read again, and kept out when they are bad."""

    def __init__(self, tls: TlsConfig) -> None:
        self._tls = tls
        self._seen = stamp(tls)
        self._context = _context(tls)

    def context(self) -> ssl.SSLContext | None:
        """For the next handshake; None without TLS."""
        now = stamp(self._tls)
        if now != self._seen:
            self._seen = now
            try:
                self._context = _context(self._tls)
            except ConfigError as error:
                _log.warning("the changed certificates are not used: %s", error)
        return self._context


def _context(tls: TlsConfig) -> ssl.SSLContext | None:
    if not tls.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_OPTIONAL
    except OSError as error:
        raise ConfigError("tls.certificate", tls.certificate, "PEM files that can be read", str(error)) from error
    return context
