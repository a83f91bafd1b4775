"""The serving process: signals, start, stop."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import itertools
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from headrace import kernels
from headrace.allocator import keep_level
from headrace.compiled import kept
from headrace.config import Config, ServerConfig
from headrace.errors import ConfigError, HeadraceError
from headrace.front import check_door
from headrace.front.settings import TlsConfig
from headrace.operations.finding import Level
from headrace.operations.live import LiveSettings
from headrace.operations.network import certificate
from headrace.security.access import asked_access
from headrace.service import operations
from headrace.service.dispatch import Gates
from headrace.service.http import HttpServer, public_url
from headrace.service.monitor import Monitor
from headrace.service.server import Server, make_admission
from headrace.service.tenants import Tenants
from headrace.telemetry.logs import configure_logs, set_level

SWITCH_S = 0.0005
"""Seconds that a thread may keep the interpreter while others wait for it; what follows the log and stores slates has
milliseconds to do at once."""

ADDRESSES = ("server.listen", "http.listen", "telemetry.metrics_listen")

_log = logging.getLogger("headrace")


def run(config: Config, read: Callable[[], Config], say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP takes over changed settings and each store's current artifact.

    read : reads the configuration anew, as it was read for ``config``. say : gets one line, once calls are answered.

    Raises ConfigError for an address, door or keys file that cannot be, ArtifactError for an artifact that cannot be
    served.
    """
    keep_level()  # before there are threads that answer
    listening = [key for key in ADDRESSES if _address(config, key)]
    for key in listening:
        check_listen(config, key)
    door = check_door(config.server.door)
    check_port(config.server)
    configure_logs(config.telemetry.log_format, config.telemetry.log_level)
    for key in listening:
        for line in exposures(config, key):
            _log.warning("%s is open beyond this machine: %s", key, line)
    if not kept(Path(next(iter(kernels.__path__))))[1]:
        _log.info("compiling kernels for the first time, about 30 s; headrace warm does it ahead")
    with contextlib.ExitStack() as stack:
        live = LiveSettings(config, read)
        access = stack.enter_context(asked_access(config))
        tenants = stack.enter_context(Tenants(config))
        signals = stack.enter_context(_signals())
        methods = tenants.methods()
        methods.setdefault("", []).extend(operations.methods(live.reload))
        monitor = stack.enter_context(Monitor(config, tenants.parts()))
        admission = make_admission(config.admission)
        gates = Gates(access=access, admission=admission, observer=monitor.observer)
        server = Server(methods, config, gates)
        tenants.follow_settings(live)
        live.register("server", server.configure)
        live.register("admission", admission.configure)
        live.register("telemetry", lambda telemetry: set_level(telemetry.log_level))
        doors = {door: server.stats}
        http = HttpServer(tenants.http_methods(public_url(config)), config, gates) if config.http.listen else None
        if http is not None:
            live.register("server", http.configure)
            doors["http"] = http.stats
        monitor.serve(access, doors)
        stack.enter_context(prompt_threads())
        address = server.start()
        warn_of_certificate(config.tls)
        stack.callback(server.drain)
        stack.enter_context(tenants.following(server.set_serving))
        if http is not None:
            _log.info("OpenRTB over HTTP on %s", http.start())
            stack.callback(http.drain)
        say(f"headrace serves {tenants.versions()} on {address}")
        for number in signals:
            if number != signal.SIGHUP:
                break
            threading.Thread(target=_reload, args=(live, tenants), name="headrace-reload").start()
        # a second signal ends the process at once; the books survive that
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _log.info("draining")


@contextlib.contextmanager
def prompt_threads() -> Iterator[None]:
    """Within: threads that answer soon get their turn, whatever the others do in Python."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what was made to serve stays: no search for garbage passes over it any more
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


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


def _reload(live: LiveSettings, tenants: Tenants) -> None:
    try:
        reloaded = live.reload()
    except HeadraceError as error:
        _log.error("the old settings stay: %s", error)
    else:
        if reloaded.changed:
            _log.info("changed settings: %s", ", ".join(reloaded.changed))
        if reloaded.waiting:
            _log.warning("settings that wait for a restart: %s", ", ".join(reloaded.waiting))
    tenants.reload()


def check_listen(config: Config, key: str = "server.listen") -> None:
    """Raise ConfigError when the address is no HOST:PORT, or reaches beyond this machine and is not safe to.

    Safe is an encrypted connection on which every call needs a key or certificate; ``insecure`` waives both.
    """
    listen = _address(config, key)
    host, colon, port = listen.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not in_brackets) or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(key, listen, "HOST:PORT, a port up to 65535, an IPv6 address in brackets such as [::1]:50051")
    missing = "" if config.server.insecure or _is_loopback(host) else "; ".join(exposures(config, key))
    if missing:
        hint = f"{missing}. Set tls.certificate and security.keys, or say --insecure if the network is trusted"
        raise ConfigError(key, listen, "a loopback address", hint)


def warn_of_certificate(tls: TlsConfig) -> None:
    """Log what the doors do not see but every client refuses, such as a certificate that has expired."""
    if not tls.certificate:
        return
    found = certificate(tls)
    if found.level == Level.FAIL:
        _log.warning("tls.certificate: %s; %s", found.found, found.advice)


def _address(config: Config, key: str) -> str:
    section, _, name = key.partition(".")
    return str(getattr(getattr(config, section), name))


def exposures(config: Config, key: str = "server.listen") -> list[str]:
    """What is open on an address beyond this machine; nothing on a loopback one."""
    if _is_loopback(_address(config, key).rpartition(":")[0]):
        return []
    found = []
    if not config.tls.certificate:
        found.append("the connection is not encrypted: keys and data can be read on the way")
    if not config.security.keys:
        found.append("no key is asked for: whoever reaches the port may do everything")
    return found


def check_port(server: ServerConfig) -> None:
    """Raise ConfigError, before anything is built, when another program has the port or the machine no such address.

    A server that drains on the same port is no hindrance.
    """
    host, _, port = server.listen.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        expected = "an address that this machine has and no other program uses"
        raise ConfigError("server.listen", server.listen, expected, str(error.strerror or error)) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
