"""The files of TLS: read and checked before a door opens, and again when they change."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from headrace.errors import ConfigError
from headrace.front.settings import TlsConfig

_CHAIN = "a PEM file of the server's certificate chain"
_KEY = "a PEM file of the certificate's private key, without a password"
_AUTHORITIES = "a PEM file of the authorities that sign clients' certificates"

_log = logging.getLogger("headrace.front")


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM: the server's chain, its key, and the authorities that clients are verified against; None when none are."""

    chain: bytes
    key: bytes
    client_ca: bytes | None


def read_certificates(tls: TlsConfig) -> Certificates | None:
    """What the settings name; None without TLS. Raises ConfigError that names the setting at fault."""
    if not tls.certificate:
        for name, value in (("key", tls.key), ("client_ca", tls.client_ca), ("require_client_certificate", "")):
            if value or (name == "require_client_certificate" and tls.require_client_certificate):
                raise ConfigError(
                    "tls.certificate", "", _CHAIN, f"tls.{name} is set, so the connection must be encrypted"
                )
        return None
    if not tls.key:
        raise ConfigError("tls.key", "", _KEY, "tls.certificate is set")
    if tls.require_client_certificate and not tls.client_ca:
        raise ConfigError("tls.client_ca", "", _AUTHORITIES, "tls.require_client_certificate is set")
    chain = _read("certificate", tls.certificate, _CHAIN)
    key = _read("key", tls.key, _KEY)
    client_ca = _read("client_ca", tls.client_ca, _AUTHORITIES) if tls.client_ca else None
    _check_authorities("certificate", tls.certificate, _CHAIN)
    if client_ca is not None:
        _check_authorities("client_ca", tls.client_ca, _AUTHORITIES)
    try:
        # the empty password: a key that needs one must fail, not ask at the terminal
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, OSError) as error:
        raise ConfigError("tls.key", tls.key, _KEY, str(error)) from error
    return Certificates(chain, key, client_ca)


def stamp(tls: TlsConfig) -> tuple[tuple[int, int], ...]:
    """What changes when a file does: when it was written and how long it is; zeros for one that is not there."""
    return tuple(_stamp(Path(name)) for name in (tls.certificate, tls.key, tls.client_ca) if name)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size


def _read(name: str, path: str, expected: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"tls.{name}", path, expected, error.strerror or "it cannot be read") from error


def _check_authorities(name: str, path: str, expected: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"tls.{name}", path, expected, "it holds no certificate") from error


def server_credentials(tls: TlsConfig, first: Certificates) -> grpc.ServerCredentials:
    """grpcio's credentials; files that changed are read again in the next handshake, and kept out when they are bad.

    Raises ConfigError where clients may choose whether to show a certificate: grpcio asks for one always or never.
    """
    if tls.client_ca and not tls.require_client_certificate:
        hint = "or leave tls.client_ca out; the native door lets clients choose"
        raise ConfigError("tls.require_client_certificate", False, "true through the grpcio door", hint)
    seen = stamp(tls)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        now = stamp(tls)
        if now == seen:
            return None
        seen = now
        try:
            certificates = read_certificates(tls)
        except ConfigError as error:
            _log.warning("the changed certificates are not used: %s", error)
            return None
        return None if certificates is None else _configuration(certificates)

    return grpc.dynamic_ssl_server_credentials(_configuration(first), changed, tls.require_client_certificate)


def _configuration(certificates: Certificates) -> grpc.ServerCertificateConfiguration:
    pair = (certificates.key, certificates.chain)
    return grpc.ssl_server_certificate_configuration([pair], certificates.client_ca)


def identities(context: Any) -> tuple[str, ...]:
    """Names in the caller's verified certificate: alternative names, then the common name; none without one."""
    about = context.auth_context()
    names = (*about.get("x509_subject_alternative_name", ()), *about.get("x509_common_name", ()))
    return tuple(name.decode("utf-8", "replace") for name in names)
