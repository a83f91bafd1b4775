"""gRPC's own settings, by the names that both of its libraries know."""

from __future__ import annotations

from headrace.front.settings import DoorConfig

_IDENTITY, _GZIP = 1 << 0, 1 << 2
_LOW = 1


def transport_options(config: DoorConfig) -> list[tuple[str, int]]:
    """What both doors ask of gRPC's core."""
    options = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        ("grpc.max_metadata_size", config.max_metadata_bytes),
        # a new version of the server may bind the same port while the old one drains
        ("grpc.so_reuseport", 1),
        # connections without calls, too: a peer that vanished would keep its own for ever
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(config.keepalive_timeout_s * 1000)),
        # newer versions of the core wait a minute for an answer to a ping, unless told
        ("grpc.http2.ping_timeout_ms", int(config.keepalive_timeout_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", int(config.min_ping_interval_s * 1000)),
        ("grpc.http2.max_ping_strikes", config.max_ping_strikes),
        # the doors inflate, with a bound; gRPC would without
        ("grpc.per_message_decompression", 0),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY | _GZIP),
    ]
    if config.compress_above_bytes:
        # each small answer is marked not to be compressed
        options.append(("grpc.default_compression_level", _LOW))
    if config.max_connection_age_s:
        options.append(("grpc.max_connection_age_ms", int(config.max_connection_age_s * 1000)))
    return options
