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

from headrace.config import Config
from headrace.errors import ConfigError
from headrace.front import check_door
from headrace.security.access import asked_access
from headrace.service.dispatch import Gates
from headrace.service.server import Server
from headrace.service.tenants import Tenants

_log = logging.getLogger("headrace")


def run(config: Config, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP swaps to each store's current artifact.

    say : gets one line, once calls are answered.

    Raises ConfigError for an address, door or keys file that cannot be, ArtifactError for an artifact that cannot be
    served.
    """
    check_listen(config)
    check_door(config.server.door)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # it reports each instruction set that it does not find
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    for line in exposures(config):
        _log.warning(line)
    with contextlib.ExitStack() as stack:
        access = stack.enter_context(asked_access(config))
        tenants = stack.enter_context(Tenants(config))
        signals = stack.enter_context(_signals())
        server = Server(tenants.methods(), config, Gates(access=access))
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


def check_listen(config: Config) -> None:
    """Raise ConfigError when the address is no HOST:PORT, or reaches beyond this machine and is not safe to.

    Safe is an encrypted connection on which every call needs a key or certificate; ``insecure`` waives both.
    """
    server = config.server
    host, colon, port = server.listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError("server.listen", server.listen, "HOST:PORT")
    missing = "" if server.insecure or _is_loopback(host) else "; ".join(exposures(config))
    if missing:
        hint = f"{missing}. Set tls.certificate and security.keys, or say --insecure if the network is trusted"
        raise ConfigError("server.listen", server.listen, "a loopback address", hint)


def exposures(config: Config) -> list[str]:
    """What is open on an address beyond this machine; nothing on a loopback one."""
    if _is_loopback(config.server.listen.rpartition(":")[0]):
        return []
    found = []
    if not config.tls.certificate:
        found.append("the connection is not encrypted: keys and data can be read on the way")
    if not config.security.keys:
        found.append("no key is asked for: whoever reaches the port may do everything")
    return found


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
