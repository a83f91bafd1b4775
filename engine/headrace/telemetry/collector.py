"""The way of spans to a collector that may be gone. Imported only where traces are on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from headrace.breaker import Breaker

_log = logging.getLogger("headrace.telemetry")


class GuardedExporter(SpanExporter):  # type: ignore[misc]
    """An exporter that tells its breaker what came of each batch, and the log when spans begin and cease to be lost.

    breaker : while it is open batches are dropped unsent; what makes spans asks it first, so that none is made for
        nobody.

    Attribute ``n_lost`` counts spans that did not reach the collector.
    """

    def __init__(self, exporter: SpanExporter, breaker: Breaker) -> None:
        self._exporter = exporter
        self._breaker = breaker
        self._failing = False
        self.n_lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, unless the last one failed a moment ago."""
        if self._breaker.state == "open":
            self.n_lost += len(spans)
            return SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        except Exception:  # whatever it is, the server goes on without traces
            _log.debug("spans could not be sent", exc_info=True)
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._breaker.succeeded()
            if self._failing:
                self._failing = False
                _log.info("the collector takes spans again, %d were lost", self.n_lost)
            return result
        self.n_lost += len(spans)
        self._breaker.failed()
        if not self._failing:
            self._failing = True
            _log.warning("the collector of telemetry.traces_endpoint takes no spans; they are lost until it does")
        return result

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Let the exporter send what it keeps."""
        return bool(self._exporter.force_flush(timeout_millis))
