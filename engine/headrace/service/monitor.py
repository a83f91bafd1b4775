"""What an operator sees of the process: who counts, traces and logs its calls, and the address of its metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Self

from headrace.config import Config
from headrace.errors import ConfigError, HeadraceError, NotFoundError, PermissionDeniedError
from headrace.front import Call, Reply
from headrace.service.access import TENANT, Access
from headrace.service.observer import Observer
from headrace.service.settings import TelemetryConfig
from headrace.telemetry.calls import CallCounters
from headrace.telemetry.listener import MetricsListener
from headrace.telemetry.logs import AccessLog
from headrace.telemetry.metrics import DoorStats, Metrics
from headrace.telemetry.shop import Parts


class Monitor:
    """Watches a process.

    tenants : where each tenant's numbers are read from.
    config : the sections telemetry and tls are used.

    Raises ConfigError for a collector that cannot be, or traces without the packages they need.
    """

    def __init__(self, config: Config, tenants: Mapping[str, Parts]) -> None:
        self._config = config
        self._tenants = dict(tenants)
        self._counters = CallCounters()
        self._closing = contextlib.ExitStack()
        observers: list[Observer] = [self._counters]
        settings = config.telemetry
        self._n_traces_dropped = lambda: 0
        if settings.traces_endpoint:
            observers.append(self._tracer(settings))
        if settings.access_log_rate:
            observers.append(AccessLog(settings.access_log_rate))
        self.observer: Observer = observers[0] if len(observers) == 1 else Observers(observers)

    def serve(self, access: Access, doors: Mapping[str, DoorStats]) -> str:
        """Serve metrics where the settings say so, to callers whom ``access`` lets in; returns ``host:port`` or "".

        doors : by name, what tells of a door's calls. Raises ConfigError.
        """
        settings = self._config.telemetry
        if not settings.metrics_listen:
            return ""
        metrics = Metrics(self._tenants, self._counters, doors, self._n_traces_dropped, settings.campaign_limit)
        self._closing.callback(metrics.close)

        def scrape(call: Call) -> bytes:
            return metrics.render(self._view_of(access, call))

        listener = MetricsListener(settings.metrics_listen, self._config.tls, scrape)
        self._closing.callback(listener.close)
        return listener.address

    def _view_of(self, access: Access, call: Call) -> str | None:
        """Whose metrics a caller sees: one tenant's, or None for all of the process."""
        principal = access.admit(call)
        if principal.tenant:
            if principal.tenant not in self._tenants:
                hint = f"say which in the header {TENANT}"
                raise NotFoundError("tenant", principal.tenant, "one that this server serves", hint)
            return principal.tenant
        if principal.role != "admin" and "" not in self._tenants:
            raise PermissionDeniedError("only an admin sees the metrics of all tenants")
        return None

    def _tracer(self, settings: TelemetryConfig) -> Observer:
        if find_spec("opentelemetry") is None:
            hint = "pip install 'headrace[traces]', or leave it empty"
            raise ConfigError("telemetry.traces_endpoint", settings.traces_endpoint, "OpenTelemetry's packages", hint)
        from headrace.telemetry.traces import Tracer, otlp_exporter

        tracer = Tracer(otlp_exporter(settings.traces_endpoint), settings.sample_rate)
        self._closing.callback(tracer.close)
        self._n_traces_dropped = tracer.n_dropped
        return tracer

    def close(self) -> None:
        """Serve no more metrics; export the spans there are."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Observers:
    """An Observer that passes on what it hears to several."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def refused(self, call: Call, tenant: str, error: HeadraceError) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.refused(call, tenant, error)

    def answered(
        self, method: str, tenant: str, calls: Sequence[Call], replies: Sequence[Reply], started: float, ended: float
    ) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.answered(method, tenant, calls, replies, started, ended)
