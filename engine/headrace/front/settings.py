"""What can be set of the doors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorConfig:
    """The transport, whichever it is."""

    # Largest request, bytes; a larger one is refused with RESOURCE_EXHAUSTED.
    max_message_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 4 << 20
    # Calls taken and not yet answered; one more is refused at once with UNAVAILABLE.
    max_in_flight: Annotated[int, Meta(ge=1, le=1 << 20)] = 1024
    # Messages of one stream that were read and not yet answered; then the stream is read no further.
    max_stream_messages: Annotated[int, Meta(ge=1, le=1 << 16)] = 256
    # Calls that one connection may have open; the client keeps more of them back.
    max_concurrent_streams: Annotated[int, Meta(ge=1, le=1 << 20)] = 1024
    # Largest headers of a call, bytes; larger ones are refused with RESOURCE_EXHAUSTED.
    max_metadata_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 16 << 10
    # Bytes of memory for what is on its way in, on all connections of the native door; beyond it callers are cut off.
    max_buffer_bytes: Annotated[int, Meta(ge=16 << 20, le=1 << 40)] = 1 << 30
    # Answers above so many bytes go out with gzip, to clients that take it; 0: none does.
    compress_above_bytes: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    # Seconds of silence on a connection before the server asks whether the peer is alive.
    keepalive_s: Annotated[float, Meta(ge=1, le=86_400)] = 60.0
    # Seconds that the peer has for its answer before the connection is closed.
    keepalive_timeout_s: Annotated[float, Meta(ge=1, le=3600)] = 20.0
    # Tell whoever asks which methods and messages there are (gRPC reflection); this and health never need a key.
    reflection: bool = True
    # Seconds that a client must leave between two pings on a quiet connection.
    min_ping_interval_s: Annotated[float, Meta(ge=0.001, le=86_400)] = 10.0
    # Pings that come sooner before the connection is closed.
    max_ping_strikes: Annotated[int, Meta(ge=1, le=1 << 20)] = 2
    # Seconds after which a connection is told to go, so that clients spread over new servers; 0: never.
    max_connection_age_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """Encryption of the doors; without a certificate there is none. All files are PEM."""

    # File of the server's certificate chain; empty: no TLS.
    certificate: str = ""
    # File of its private key.
    key: str = ""
    # File of the authorities that clients' certificates are verified against; empty: clients need none.
    client_ca: str = ""
    # Refuse connections without a valid client certificate (mutual TLS).
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """OpenRTB over HTTP."""

    # HOST:PORT to accept HTTP/1.1 on; empty: no HTTP; port 0 lets the system choose one.
    listen: str = ""
    # Where exchanges reach this server, for notice URLs, such as https://bid.example.com; empty: http://<listen>.
    public_url: str = ""
    # Connections served at once; more wait to be accepted.
    max_connections: Annotated[int, Meta(ge=1, le=1 << 20)] = 4096
    # Bytes of one request's line and headers.
    max_header_bytes: Annotated[int, Meta(ge=8192, le=1 << 20)] = 16_384
    # Seconds within which a connection must bring its next request's headers, idle time included.
    idle_timeout_s: Annotated[float, Meta(ge=0.1, le=3600)] = 60.0
    # Seconds within which a request's body must follow its headers.
    body_timeout_s: Annotated[float, Meta(ge=0.1, le=3600)] = 5.0
    # Milliseconds for a bid when the request names no tmax, and at most when it does.
    tmax_ms: Annotated[int, Meta(ge=1, le=60_000)] = 1_000
    # Milliseconds of tmax that are left to the network.
    network_ms: Annotated[int, Meta(ge=0, le=10_000)] = 20
    # Answer no-bids with 200 and a body that has nbr, rather than with 204.
    explain_no_bid: bool = False
    # Threads that answer requests; 0 means one for each core that the process may use.
    workers: Annotated[int, Meta(ge=0, le=256)] = 0
