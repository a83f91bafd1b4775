"""The serving process: signals, start, stop."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator

from headrace.config import Config, ServerConfig
from headrace.errors import ConfigError
from headrace.front import check_door
from headrace.service.server import Server
from headrace.service.tenants import Tenants

_log = logging.getLogger("headrace")


def run(config: Config, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP swaps to each store's current artifact.

    say : gets one line, once calls are answered.

    Raises ConfigError for an address or door that cannot be, ArtifactError for an artifact that cannot be served.
    """
    check_listen(config.server)
    check_door(config.server.door)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # it reports each instruction set that it does not find
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    with contextlib.ExitStack() as stack:
        tenants = stack.enter_context(Tenants(config))
        signals = stack.enter_context(_signals())
        server = Server(tenants.methods(), config)
        address = server.start()
        stack.callback(server.drain)
        stack.enter_context(tenants.following(server.set_serving))
        say(f"headrace serves {tenants.versions()} on {address}")
        for number in signals:
            if number != signal.SIGHUP:
                break
            threading.Thread(target=tenants.reload, name="headrace-reload").start()
        # a second signal ends the process at once; the books survive that
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _log.info("draining")


@contextlib.contextmanager
def _signals() -> Iterator[Iterator[int]]:
    """Signals as they come, whichever thread the system gives them to: each one's number arrives on a socket."""
    read, write = socket.socketpair()
    write.setblocking(False)
    with read, write:
        before = signal.set_wakeup_fd(write.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        try:
            yield (read.recv(1)[0] for _ in itertools.count())
        finally:
            signal.set_wakeup_fd(before)


def check_listen(server: ServerConfig) -> None:
    """Raise ConfigError when the address is no HOST:PORT, or reaches beyond this machine and nobody said it may."""
    host, colon, port = server.listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError("server.listen", server.listen, "HOST:PORT")
    if not (server.insecure or _is_loopback(host)):
        hint = "the connection is not encrypted: keep it on this machine, or say --insecure if the network is trusted"
        raise ConfigError("server.listen", server.listen, "a loopback address", hint)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
