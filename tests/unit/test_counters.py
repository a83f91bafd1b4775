"""Cheap counters count what Prometheus' own would, from any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Reference
from prometheus_client.parser import text_string_to_metric_families

from headrace import errors
from headrace.counters import Counts, Histogram
from headrace.front import Call, Reply
from headrace.telemetry.calls import LATENCY_BOUNDS_S, REASONS, STATUS_NAMES, CallCounters, reason_of
from headrace.telemetry.page import Family, Page

RECOMMEND = "/headrace.v1.RecommenderService/Recommend"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(page: bytes) -> Samples:
    """Name and labels to value."""
    families = text_string_to_metric_families(page.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples}


def at_once(work: Callable[[], None], n: int = 4) -> None:
    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def call(arrived: float = 1.0, method: str = RECOMMEND) -> Call:
    return Call(method, b"", float("inf"), "peer", {}, None, arrived)


def test_histogram_equals_that_of_prometheus() -> None:
    rng = np.random.default_rng(5)
    values = [*rng.lognormal(-6, 3, 2000).tolist(), *LATENCY_BOUNDS_S, 0.0, 1e9]
    reference = Reference("waited_seconds", "Waited.", buckets=LATENCY_BOUNDS_S, registry=CollectorRegistry())
    ours = Histogram(LATENCY_BOUNDS_S)
    for value in values:
        reference.observe(value)
        ours.add(value)
    page, theirs = Page(), Page()
    page.add_histogram(Family("waited_seconds", "histogram", "Waited."), (), ours)
    theirs.add_metrics(reference.collect())
    expected = {key: value for key, value in samples(theirs.render()).items() if not key[0].endswith("_created")}
    assert samples(page.render()) == pytest.approx(expected)


def test_what_began_at_many_times_is_counted_as_if_one_by_one() -> None:
    rng = np.random.default_rng(6)
    begins = rng.uniform(0, 3, 500).tolist()
    together, alone = Histogram(LATENCY_BOUNDS_S), Histogram(LATENCY_BOUNDS_S)
    together.add_since(3.0, begins)
    for begin in begins:
        alone.add(3.0 - begin)
    assert together.read()[0] == alone.read()[0]
    assert together.read()[1] == pytest.approx(alone.read()[1])


def test_counts_of_batches_of_any_size() -> None:
    counts = Counts(4)
    counts.add(np.array([3], np.int8))
    counts.add(np.array([], np.int32))
    counts.add(np.array([0, 3, 3], np.int32))
    counts.add([1, 1])
    assert counts.totals().tolist() == [1, 2, 0, 3]


def test_nothing_is_lost_between_threads() -> None:
    counts, histogram, calls = Counts(3), Histogram((1.0, 2.0)), CallCounters()
    rounds = 2000

    def work() -> None:
        for _ in range(rounds):
            counts.add(np.array([0, 2, 2]))
            histogram.add(1.5)
            calls.answered(RECOMMEND, "", [call()] * 2, [Reply(), Reply(status=3)], 1.0, 1.25)
            calls.refused(call(), "", errors.OverloadedError("full"))

    at_once(work)
    total = 4 * rounds
    assert counts.totals().tolist() == [total, 0, 2 * total]
    assert histogram.read() == ([0, total, 0], 1.5 * total)
    page = Page()
    calls.write(page, None)
    labels = {"tenant": "", "method": "RecommenderService/Recommend"}
    found = samples(page.render())
    for status in ("OK", "INVALID_ARGUMENT"):
        assert found["headrace_requests_total", frozenset((labels | {"status": status}).items())] == total
    assert found["headrace_refused_total", frozenset((labels | {"reason": "overload"}).items())] == total
    assert found["headrace_batch_calls_sum", frozenset(labels.items())] == 2 * total
    assert found["headrace_request_duration_seconds_count", frozenset(labels.items())] == 2 * total
    assert found["headrace_request_duration_seconds_sum", frozenset(labels.items())] == 2 * total * 0.25
    assert found["headrace_handler_duration_seconds_count", frozenset(labels.items())] == total


def test_a_page_of_one_tenant_has_nothing_of_another() -> None:
    calls = CallCounters()
    for tenant in ("acme", "zeta"):
        calls.answered(RECOMMEND, tenant, [call()], [Reply()], 1.0, 1.1)
        calls.refused(call(), tenant, errors.RateLimitError("often"))
    page = Page()
    calls.write(page, frozenset({"acme"}))
    assert b"acme" in page.render()
    assert b"zeta" not in page.render()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.RateLimitError("x"), "rate_limit"),
        (errors.OverloadedError("x"), "overload"),
        (errors.DeadlineError("x"), "deadline"),
        (errors.UnauthenticatedError("x"), "unauthenticated"),
        (errors.PermissionDeniedError("x"), "permission_denied"),
        (errors.NotFoundError("x"), "unknown_tenant"),
        (errors.StoreError("x"), "store"),
        (errors.ServerError("x"), "internal"),
    ],
)
def test_every_refusal_has_its_reason(error: errors.HeadraceError, reason: str) -> None:
    assert reason_of(error) == reason
    assert reason in REASONS


def test_status_names_are_those_of_grpc() -> None:
    import grpc

    assert list(STATUS_NAMES) == [code.name for code in sorted(grpc.StatusCode, key=lambda code: code.value[0])]


def test_labels_are_escaped() -> None:
    page = Page()
    page.add(Family("odd", "gauge", "Odd.", ("name",)), ('a"b\\c\n',), 1)
    assert samples(page.render()) == {("odd", frozenset({("name", 'a"b\\c\n')})): 1.0}
