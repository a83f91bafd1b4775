"""Counting calls: how many, how they ended, how long they took."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from headrace.counters import Histogram
from headrace.errors import (
    DeadlineError,
    HeadraceError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    StoreError,
    UnauthenticatedError,
)
from headrace.front import Call, Reply
from headrace.telemetry.page import Family, Page

LATENCY_BOUNDS_S = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

_OF_METHOD = ("tenant", "method")

REQUESTS = Family("headrace_requests", "counter", "Calls answered, by gRPC status.", (*_OF_METHOD, "status"))
REFUSED = Family("headrace_refused", "counter", "Calls that were not let in, by reason.", (*_OF_METHOD, "reason"))
DURATION = Family(
    "headrace_request_duration_seconds", "histogram", "From a call's arrival to its answer, seconds.", _OF_METHOD
)
HANDLER = Family("headrace_handler_duration_seconds", "histogram", "Work of one batch of calls, seconds.", _OF_METHOD)
BATCH = Family("headrace_batch_calls", "histogram", "Calls that were answered together.", _OF_METHOD)
FAMILIES = (REQUESTS, REFUSED, DURATION, HANDLER, BATCH)

STATUS_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""gRPC's status codes by number."""

# the first class that fits; subclasses stand before their parents
_REASONS: tuple[tuple[type[HeadraceError], str], ...] = (
    (RateLimitError, "rate_limit"),
    (OverloadedError, "overload"),
    (DeadlineError, "deadline"),
    (UnauthenticatedError, "unauthenticated"),
    (PermissionDeniedError, "permission_denied"),
    (NotFoundError, "unknown_tenant"),
    (StoreError, "store"),
)
REASONS = (*(name for _, name in _REASONS), "internal")


def reason_of(error: HeadraceError) -> str:
    """Why a call was refused, one of REASONS."""
    return next((name for cls, name in _REASONS if isinstance(error, cls)), "internal")


def short_method(method: str) -> str:
    """A method's label: without the package that all RPCs share."""
    return method.removeprefix("/headrace.v1.")


class _Series:
    """What is counted of one tenant's calls of one method."""

    __slots__ = ("batch", "duration", "handler", "lock", "statuses")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.statuses: dict[int, int] = {}
        self.duration = Histogram(LATENCY_BOUNDS_S)
        self.handler = Histogram(LATENCY_BOUNDS_S)
        self.batch = Histogram(BATCH_BOUNDS)


class CallCounters:
    """An Observer that counts; its labels are the methods of the door and the tenants configured, so they are few."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = {}
        self._refused: dict[tuple[str, str, str], int] = {}
        self._lock = threading.Lock()

    def refused(self, call: Call, tenant: str, error: HeadraceError) -> None:
        """Count a refusal by its reason."""
        key = (tenant, call.method, reason_of(error))
        with self._lock:
            self._refused[key] = self._refused.get(key, 0) + 1

    def answered(
        self, method: str, tenant: str, calls: Sequence[Call], replies: Sequence[Reply], started: float, ended: float
    ) -> None:
        """Count a batch: statuses, each call's time since its arrival, the batch's work and size."""
        series = self._series.get((tenant, method)) or self._new_series((tenant, method))
        series.duration.add_since(ended, [call.arrived for call in calls])
        series.handler.add(ended - started)
        series.batch.add(len(calls))
        failed = [reply.status for reply in replies if reply.status]
        with series.lock:
            statuses = series.statuses
            statuses[0] = statuses.get(0, 0) + len(replies) - len(failed)
            for status in failed:
                statuses[status] = statuses.get(status, 0) + 1

    def write(self, page: Page, tenants: frozenset[str] | None) -> None:
        """Add what was counted for these tenants, None for all, to a page."""
        for (tenant, method), series in self._of(tenants):
            labels = (tenant, short_method(method))
            with series.lock:
                statuses = sorted(series.statuses.items())
            for status, n in statuses:
                page.add(REQUESTS, (*labels, STATUS_NAMES[status]), n)
            page.add_histogram(DURATION, labels, series.duration)
            page.add_histogram(HANDLER, labels, series.handler)
            page.add_histogram(BATCH, labels, series.batch)
        with self._lock:
            refused = sorted(self._refused.items())
        for (tenant, method, reason), n in refused:
            if tenants is None or tenant in tenants:
                page.add(REFUSED, (tenant, short_method(method), reason), n)

    def _of(self, tenants: frozenset[str] | None) -> Iterator[tuple[tuple[str, str], _Series]]:
        with self._lock:
            known = sorted(self._series.items(), key=lambda item: item[0])
        return (item for item in known if tenants is None or item[0][0] in tenants)

    def _new_series(self, key: tuple[str, str]) -> _Series:
        with self._lock:
            return self._series.setdefault(key, _Series())
