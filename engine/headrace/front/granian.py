"""Granian, embedded: its server on a thread of ours, with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from headrace.errors import ConfigError
from headrace.front.settings import HttpConfig, TlsConfig

BACKLOG = 1024
START_TIMEOUT_S = 10.0
QUIET_S = 1.0


class Listener:
    """Accepts HTTP/1.1 and calls ``serve(scope, proto)`` of RSGI for each request, on the loop's thread.

    loop : the event loop; set once started.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, serve: Callable[[Any, Any], Awaitable[None]], config: HttpConfig, tls: TlsConfig) -> None:
        self._serve = serve
        self._config = config
        self._tls = tls
        self._server: Any = None
        self._error: BaseException | None = None
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-http")

    def start(self) -> str:
        """Bind and accept; returns ``host:port``. Raises ConfigError when the address cannot be had."""
        host, _, port = self._config.listen.rpartition(":")
        with _reserved(self._config.listen, host.strip("[]"), int(port)) as bound:
            self._host, self._port = host.strip("[]"), bound
            self._thread.start()
            self._up.wait()
            end = time.monotonic() + START_TIMEOUT_S
            while not self._accepts():
                if self._error is not None or time.monotonic() > end:
                    raise ConfigError("http.listen", self._config.listen, "an address to serve on") from self._error
        return f"{host}:{bound}"

    def _accepts(self) -> bool:
        try:
            socket.create_connection((self._host, self._port), 1).close()
        except OSError:
            return False
        return True

    def stop(self, grace_s: float, busy: Callable[[], bool], abandon: Callable[[], None]) -> None:
        """Accept no more and wait for the requests in flight; after ``grace_s`` seconds ``abandon`` must end them.

        busy : whether there are any; connections that never brought a whole request are not waited for.
        """
        started = time.monotonic()
        self._soon(self._server.stop)
        while self._thread.is_alive() and (waited := time.monotonic() - started) < grace_s:
            if waited > QUIET_S and not busy():
                break
            self._thread.join(0.02)
        for action in (abandon, self._cut):
            self._soon(action)
            self._thread.join(QUIET_S)

    def _soon(self, action: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self.loop.call_soon_threadsafe(action)

    def _cut(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._up.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._server = Server(
            self._serve,
            address=self._host,
            port=self._port,
            interface=Interfaces.RSGI,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=self._config.max_connections,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(self._config.idle_timeout_s * 1000),
                max_buffer_size=self._config.max_header_bytes,
            ),
            log_enabled=False,
            ssl_cert=Path(self._tls.certificate) if self._tls.certificate else None,
            ssl_key=Path(self._tls.key) if self._tls.key else None,
            ssl_protocol_min=SSLProtocols.tls12,
            ssl_ca=Path(self._tls.client_ca) if self._tls.client_ca else None,
            ssl_client_verify=self._tls.require_client_certificate,
        )
        self._up.set()
        await self._server.serve()


@contextlib.contextmanager
def _reserved(listen: str, host: str, port: int) -> Any:
    """Within: the port is ours, and known where the system was to choose it; only others that share ports may bind."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder.bind((host, port))
        except OSError as error:
            expected = "an address that this machine has and no other program uses"
            raise ConfigError("http.listen", listen, expected) from error
        yield holder.getsockname()[1]
