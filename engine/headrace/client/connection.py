"""How a client reaches a server: encrypted or not, as whom, about which tenant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from headrace.errors import ConfigError

SYSTEM_CA = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What stands behind every call of a client.

    api_key : sent with every call; without TLS anyone on the way can read it.
    tenant : which tenant the calls are about, for callers who may reach several.
    ca : PEM file of the authorities that vouch for the server; "system" takes this machine's; empty: no TLS.
    certificate : PEM file of the client's own certificate, for mutual TLS.
    certificate_key : PEM file of its private key; left out where the file of the certificate holds it too.
    """

    api_key: str = field(default="", repr=False)
    tenant: str = ""
    ca: str | Path = ""
    certificate: str | Path = ""
    certificate_key: str | Path = ""

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What a secure channel needs; None for one that is not encrypted. Raises ConfigError."""
        if not self.ca:
            if self.certificate or self.certificate_key:
                hint = f'"{SYSTEM_CA}" takes this machine\'s'
                raise ConfigError("ca", "", "the authorities that vouch for the server", hint)
            return None
        return grpc.ssl_channel_credentials(
            root_certificates=None if self.ca == SYSTEM_CA else _read(self.ca),
            private_key=_read(self.certificate_key or self.certificate) if self.certificate else None,
            certificate_chain=_read(self.certificate) if self.certificate else None,
        )

    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """What goes with every call. Raises ConfigError for texts that no metadata can hold."""
        pairs = [("authorization", f"Bearer {self.api_key}")] if self.api_key else []
        pairs += [("headrace-tenant", self.tenant)] if self.tenant else []
        for name, value in pairs:
            if not value.isascii() or not value.isprintable():
                # not the value itself: it may be the key
                raise ConfigError(f"{name} holds what cannot be sent", hint="look for a line end or a stray character")
        return tuple(pairs) or None


def _read(file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
