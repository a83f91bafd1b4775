"""What a server listens on and shows of itself: the port, and its certificate."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import HeadraceError, PermissionDeniedError, UnauthenticatedError
from headrace.front.settings import TlsConfig
from headrace.operations.finding import Finding, fail, ok, warn

SOON_S = 30 * 86_400
EXPIRED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""

Ask = Callable[[str], str]
"""What a server at an address says; raises HeadraceError where nobody answers, or it refuses."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How running servers are asked.

    health : what gRPC health says. version : the version of the artifact, by an API key; None: there is no key.
    """

    health: Ask
    version: Ask | None = None


def port(listen: str, ask: Ask | None = None) -> Finding:
    """Whether a server could listen there, or one does, which ``ask`` tells."""
    subject = f"port {listen}"
    try:
        _bind(listen, socket.SO_REUSEADDR)
    except (OSError, ValueError) as error:
        try:
            if ask is not None:
                return ok(subject, f"a server is there and says {ask(listen)}")
        except HeadraceError:
            pass  # it may speak TLS for another name
        if _is_shared(listen):
            return ok(subject, "free beside the process that is there, which shares it as servers do")
        return fail(subject, _reason(error), "choose another address, or stop what uses it (ss -ltnp shows it)")
    return ok(subject, "free")


def metrics_port(listen: str) -> Finding:
    """Whether metrics can be had there now; a server that finds the address in use waits for it."""
    subject = f"metrics at {listen}"
    try:
        _bind(listen, socket.SO_REUSEADDR)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            advice = "where that is no server which is to be replaced, stop it (ss -ltnp shows it): it is waited for"
            return warn(subject, "another process has it", advice)
        return fail(subject, _reason(error), "choose an address that this machine has")
    return ok(subject, "free")


def _bind(listen: str, option: int) -> None:
    host, _, number = listen.rpartition(":")
    family, kind, protocol, _, address = socket.getaddrinfo(
        host.strip("[]") or None, int(number), type=socket.SOCK_STREAM
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, option, 1)
        probe.bind(address)


def _is_shared(listen: str) -> bool:
    try:
        _bind(listen, socket.SO_REUSEPORT)
    except (OSError, ValueError):
        return False
    return True


def _reason(error: OSError | ValueError) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)


def server(at: str, ask: Ask) -> Finding:
    """Whether a server answers, and serves."""
    try:
        status = ask(at)
    except HeadraceError as error:
        return fail(f"server {at}", str(error), "start it, or look at its log")
    if status != "SERVING":
        return fail(f"server {at}", status, "it starts, drains, or another process owns the ledger: look at its log")
    return ok(f"server {at}", status)


def key(at: str, version: Ask) -> Finding:
    """Whether a server knows the key with which it is asked, and which artifact it says that it serves."""
    subject = f"key at {at}"
    try:
        return ok(subject, f"in force; artifact {version(at)} is served")
    except PermissionDeniedError as error:
        return ok(subject, f"in force, but no operator's: {error}")
    except UnauthenticatedError as error:
        return fail(
            subject, str(error), "headrace keys list says which keys are in force, headrace keys create makes one"
        )
    except HeadraceError as error:
        return fail(subject, str(error), "start the server, look at its log, or name a tenant that it serves")


def exposure(host: str, tls: TlsConfig, keys: str) -> Finding:
    """Whether what leaves the machine is encrypted and every caller known."""
    if host in ("localhost", "127.0.0.1", "[::1]") or host.startswith("127."):
        return ok("exposure", "this machine alone")
    missing = [name for name, value in (("tls.certificate", tls.certificate), ("security.keys", keys)) if not value]
    if missing:
        return fail("exposure", f"{host} without {' and '.join(missing)}", "set both, or listen on 127.0.0.1")
    return ok("exposure", f"{host}, encrypted, keys asked for")


def certificate(tls: TlsConfig, now: Callable[[], float] = time.time) -> Finding:
    """Whether the certificate and its key make a handshake, and until when."""
    subject = "certificate"
    try:
        until = _handshake(Path(tls.certificate), Path(tls.key))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == EXPIRED:
            return fail(subject, f"{tls.certificate} has expired", "renew it: no client connects")
        return fail(subject, f"{tls.certificate}: {error.verify_message}", "check the certificate's dates and purpose")
    except (OSError, ssl.SSLError) as error:
        return fail(
            subject, f"{tls.certificate} with {tls.key}: {error}", "give the PEM files of one certificate and its key"
        )
    left_s = until - now()
    found = f"{tls.certificate}, {left_s / 86_400:.0f} days left"
    if left_s < SOON_S:
        return warn(subject, found, "renew it")
    return ok(subject, found)


def _handshake(chain: Path, key: Path) -> float:
    """When a certificate ends, s since 1970: a client that trusts it meets a server that has it, in memory."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(chain, key)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    # else only a certificate of an authority could be trusted
    asking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    asking.load_verify_locations(chain)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    found = client.getpeercert()
    assert found is not None
    return float(ssl.cert_time_to_seconds(str(found["notAfter"])))
