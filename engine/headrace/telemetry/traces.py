"""Spans of sampled calls, for any OpenTelemetry collector. Imported only where traces are on."""

from __future__ import annotations

import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

import headrace
from headrace.breaker import Breaker
from headrace.errors import ConfigError, HeadraceError
from headrace.front import Call, Reply
from headrace.telemetry.calls import STATUS_NAMES, reason_of
from headrace.telemetry.collector import GuardedExporter
from headrace.telemetry.traceparent import parent_of

MAX_WAITING = 4096
"""Sampled calls that wait to become spans; more are counted and dropped."""
EXPORT_TIMEOUT_S = 3.0
PROBE_S, LONGEST_PROBE_S = 10.0, 60.0
"""Between two tries to reach a collector that fails; longer than a span waits for its batch."""

_SERVER_FAULTS = frozenset({2, 4, 12, 13, 14, 15})
"""Status codes that make a server's span an error, by OpenTelemetry's conventions for gRPC."""

_log = logging.getLogger("headrace.telemetry")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A sampled call and what became of it; ``ahead_s`` turns its times into Unix time."""

    call: Call
    tenant: str
    n_batch: int
    started: float
    ended: float
    ahead_s: float
    reply: Reply | None = None
    refusal: str = ""


def otlp_exporter(endpoint: str) -> SpanExporter:
    """An exporter to an OTLP collector over gRPC; not encrypted for ``http://``. Raises ConfigError."""
    if not re.fullmatch(r"https?://[^/\s]+(/.*)?", endpoint):
        raise ConfigError("telemetry.traces_endpoint", endpoint, "a URL such as http://127.0.0.1:4317")
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    # what it would say of each batch that fails is said once, see GuardedExporter
    logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
    exporter: SpanExporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)
    return exporter


class Tracer:
    """An Observer that makes spans of sampled calls, on threads of its own.

    sample_rate : of calls whose caller does not say in ``traceparent`` whether it samples them.
    chance : uniform numbers of [0, 1).
    """

    def __init__(self, exporter: SpanExporter, sample_rate: float, chance: Callable[[], float] = random.random) -> None:
        self._sample_rate = sample_rate
        self._chance = chance
        self._dropped = 0
        self._lock = threading.Lock()
        self._waiting: queue.Queue[_Seen | None] = queue.Queue(MAX_WAITING)
        resource = Resource.create({"service.name": "headrace", "service.version": headrace.__version__})
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._breaker = Breaker(least=1, open_s=PROBE_S, longest_s=LONGEST_PROBE_S)
        self._exporter = GuardedExporter(exporter, self._breaker)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("headrace", headrace.__version__)
        self._thread = threading.Thread(target=self._run, name="headrace-traces", daemon=True)
        self._thread.start()

    def n_dropped(self) -> int:
        """Sampled calls that found no room or no collector."""
        return self._dropped + self._exporter.n_lost

    def refused(self, call: Call, tenant: str, error: HeadraceError) -> None:
        """A span of a refused call that is sampled."""
        if self._sampled(call):
            now = time.monotonic()
            self._put(_Seen(call, tenant, 1, now, now, time.time() - now, refusal=reason_of(error)))

    def answered(
        self, method: str, tenant: str, calls: Sequence[Call], replies: Sequence[Reply], started: float, ended: float
    ) -> None:
        """A span of each call that is sampled."""
        for call, reply in zip(calls, replies, strict=True):
            if self._sampled(call):
                ahead_s = time.time() - time.monotonic()
                self._put(_Seen(call, tenant, len(calls), started, ended, ahead_s, reply))

    def flush(self) -> None:
        """Export what is there by now."""
        self._waiting.join()
        self._provider.force_flush()

    def close(self) -> None:
        """Export what is there by now, within the exporter's timeout, then stop."""
        self._waiting.put(None)
        self._thread.join()
        self._provider.shutdown()

    def _sampled(self, call: Call) -> bool:
        parent = parent_of(call)
        if not (self._chance() < self._sample_rate if parent is None else parent.sampled):
            return False
        if self._breaker.wait_s():
            self._drop()
            return False
        return True

    def _put(self, seen: _Seen) -> None:
        try:
            self._waiting.put_nowait(seen)
        except queue.Full:
            self._drop()

    def _drop(self) -> None:
        with self._lock:
            self._dropped += 1

    def _run(self) -> None:
        while (seen := self._waiting.get()) is not None:
            try:
                self._record(seen)
            except Exception:  # one strange call must not end the traces of all others
                _log.exception("a span could not be made")
            finally:
                self._waiting.task_done()

    def _record(self, seen: _Seen) -> None:
        call = seen.call
        # a call that was never waiting has no arrival
        arrived = call.arrived or seen.started
        span = self._tracer.start_span(
            call.method.removeprefix("/"),
            context=_context_of(call),
            kind=SpanKind.SERVER,
            attributes=_attributes(seen, arrived),
            start_time=int((arrived + seen.ahead_s) * 1e9),
        )
        if seen.refusal or (seen.reply is not None and seen.reply.status in _SERVER_FAULTS):
            span.set_status(Status(StatusCode.ERROR, seen.refusal or None))
        span.end(int((seen.ended + seen.ahead_s) * 1e9))


def _attributes(seen: _Seen, arrived: float) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {
        "rpc.method": seen.call.method.removeprefix("/"),
        "headrace.tenant": seen.tenant,
        "headrace.batch_calls": seen.n_batch,
        "headrace.queue_wait_seconds": seen.started - arrived,
        "headrace.handler_seconds": seen.ended - seen.started,
    }
    if seen.refusal:
        found["headrace.refusal"] = seen.refusal
    if seen.reply is not None:
        found["rpc.response.status_code"] = STATUS_NAMES[seen.reply.status]
        if not seen.reply.status:
            found |= _from_answer(seen.call.method, seen.reply.body)
    return found


def _from_answer(method: str, body: bytes) -> dict[str, str]:
    """Request id and artifact version, where the method's answers have them."""
    service, _, name = method.removeprefix("/").partition("/")
    try:
        output: Any = descriptor_pool.Default().FindMethodByName(f"{service}.{name}").output_type
        answer = message_factory.GetMessageClass(output).FromString(body)
    except (KeyError, DecodeError):
        return {}
    fields = {"request_id": "request_id", "bid_request_id": "request_id", "artifact_version": "artifact_version"}
    return {
        f"headrace.{label}": getattr(answer, field) for field, label in fields.items() if field in output.fields_by_name
    }


def _context_of(call: Call) -> Any:
    parent = parent_of(call)
    if parent is None:
        return None
    flags = TraceFlags(parent.sampled)
    caller = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(caller))
