"""What can be set of the way from a door to the handlers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """Which calls there is time and room for."""

    LIVE: ClassVar[frozenset[str]] = frozenset(
        {"target_delay_ms", "interval_ms", "margin", "reply_ms", "turn_ms", "rate_per_second", "burst"}
    )
    """Keys that change without a restart."""

    # Milliseconds that calls may wait while the server keeps up; what waits longer in overload is cut, cheapest first.
    target_delay_ms: Annotated[float, Meta(gt=0, le=60_000)] = 30.0
    # Milliseconds for which calls must have waited longer than that before any is cut.
    interval_ms: Annotated[float, Meta(gt=0, le=60_000)] = 100.0
    # A call is let in when its deadline leaves so many times what its answer is expected to take.
    margin: Annotated[float, Meta(ge=1, le=100)] = 1.5
    # Milliseconds of a deadline that are kept for the way back to the caller.
    reply_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.5
    # Milliseconds of work that one worker takes at once, at most.
    turn_ms: Annotated[float, Meta(gt=0, le=60_000)] = 5.0
    # Calls that wait for the disk or for their turn at it; one more is refused with UNAVAILABLE.
    durable_queue: Annotated[int, Meta(ge=1, le=1 << 20)] = 512
    # Requests a second that each caller may make, a batch counting what it holds; 0: no limit. A key may have its own.
    rate_per_second: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    # Requests that a caller may make at once after a pause; 0: those of one second.
    burst: Annotated[float, Meta(ge=0, le=1e9)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """Who may call."""

    # File of API keys and certificate names, as `headrace keys` writes it; empty: whoever reaches the port may do all.
    keys: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """Metrics, traces and logs."""

    LIVE: ClassVar[frozenset[str]] = frozenset({"log_level"})
    """Keys that change without a restart."""

    # HOST:PORT for Prometheus, GET /metrics over HTTP with the certificate and keys of the other doors; empty: none.
    metrics_listen: str = ""
    # Campaigns of a tenant that have metrics of their own, the first by id.
    campaign_limit: Annotated[int, Meta(ge=0, le=100_000)] = 200
    # OpenTelemetry collector (OTLP over gRPC) that gets spans, such as http://127.0.0.1:4317; empty: no traces.
    traces_endpoint: str = ""
    # Share of calls that are traced where the caller's traceparent does not decide it.
    sample_rate: Annotated[float, Meta(ge=0, le=1)] = 0.01
    # Lines of JSON, text for people, or "auto": text on a terminal, else JSON.
    log_format: Literal["auto", "json", "text"] = "auto"
    # Least severe level that is logged.
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # Share of calls that get a line of their own in the log.
    access_log_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
