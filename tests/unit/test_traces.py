"""Spans of sampled calls: which are made, what they say, and what becomes of them without a collector."""

from __future__ import annotations

import ast
import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from headrace.breaker import Breaker
from headrace.config import load_config
from headrace.errors import ConfigError, DeadlineError
from headrace.front import Call, Reply
from headrace.service.monitor import Monitor
from headrace.telemetry import traces
from headrace.telemetry.traceparent import parent_of, trace_id_of
from headrace.telemetry.traces import Tracer, otlp_exporter
from headrace.v1 import recommender_pb2

RECOMMEND = "/headrace.v1.RecommenderService/Recommend"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ANSWER = recommender_pb2.RecommendResponse(request_id="r17", artifact_version="v3").SerializeToString()


def call(traceparent: str = "", method: str = RECOMMEND, user: str = "ann") -> Call:
    metadata = {"traceparent": traceparent} if traceparent else {}
    body = recommender_pb2.RecommendRequest(user_id=user).SerializeToString()
    return Call(method, body, float("inf"), "10.0.0.1", metadata, None, time.monotonic())


@contextlib.contextmanager
def tracing(rate: float, chances: Sequence[float] = (0.5,)) -> Iterator[tuple[Tracer, InMemorySpanExporter]]:
    exporter, numbers = InMemorySpanExporter(), iter(chances)
    with contextlib.closing(Tracer(exporter, rate, chance=lambda: next(numbers, 0.5))) as tracer:
        yield tracer, exporter


def answered(tracer: Tracer, calls: Sequence[Call], replies: Sequence[Reply], tenant: str = "tea") -> None:
    started = time.monotonic()
    tracer.answered(calls[0].method, tenant, calls, replies, started, started + 0.25)


def test_a_span_says_what_happened_and_names_nobody() -> None:
    with tracing(1.0) as (tracer, exporter):
        before = time.time_ns()
        one = call(f"00-{TRACE}-{SPAN}-01")
        answered(tracer, [one, call(f"00-{TRACE}-{SPAN}-00")], [Reply(ANSWER), Reply(ANSWER)])
        tracer.flush()
        (span,) = exporter.get_finished_spans()
    assert span.name == RECOMMEND[1:]
    assert span.kind is SpanKind.SERVER
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN
    assert span.parent.is_remote
    found = dict(span.attributes or {})
    assert 0 <= found.pop("headrace.queue_wait_seconds") < 5  # type: ignore[operator]
    assert found == {
        "rpc.method": RECOMMEND[1:],
        "rpc.response.status_code": "OK",
        "headrace.tenant": "tea",
        "headrace.batch_calls": 2,
        "headrace.handler_seconds": pytest.approx(0.25),
        "headrace.request_id": "r17",
        "headrace.artifact_version": "v3",
    }
    assert span.start_time is not None
    assert span.end_time is not None
    assert abs(span.start_time - before) < 5e9
    assert 0.25e9 <= span.end_time - span.start_time < 5e9
    assert "ann" not in span.to_json()
    assert span.resource.attributes["service.name"] == "headrace"


def test_the_caller_s_decision_counts_and_the_rate_is_for_all_others() -> None:
    with tracing(0.3, [0.29, 0.31]) as (tracer, exporter):
        calls = [
            call(f"00-{TRACE}-{SPAN}-00"),
            call(f"00-{TRACE}-{SPAN}-01"),
            call(),
            call("no traceparent at all"),
        ]
        answered(tracer, calls, [Reply(ANSWER)] * 4)
        tracer.flush()
        spans = exporter.get_finished_spans()
    assert [span.parent is not None for span in spans] == [True, False]
    assert f"{spans[1].context.trace_id:032x}" != TRACE


def test_errors_and_refusals_have_spans() -> None:
    with tracing(1.0, [0.0] * 9) as (tracer, exporter):
        answered(
            tracer, [call(), call(), call(method="/openrtb2/bid")], [Reply(status=3), Reply(status=13), Reply(b"{}")]
        )
        tracer.refused(call(), "tea", DeadlineError("late"))
        tracer.flush()
        wrong, fault, http, refused = exporter.get_finished_spans()
    assert (wrong.status.status_code, fault.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert (fault.attributes or {})["rpc.response.status_code"] == "INTERNAL"
    assert "headrace.request_id" not in (http.attributes or {})
    assert (refused.status.status_code, (refused.attributes or {})["headrace.refusal"]) == (
        StatusCode.ERROR,
        "deadline",
    )


@pytest.mark.parametrize(
    "bad",
    [
        f"00-{TRACE}-{SPAN}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        "x" * 10_000,
    ],
)
def test_a_malformed_traceparent_is_none(bad: str) -> None:
    assert parent_of(call(bad)) is None
    assert trace_id_of(call(bad)) == ""


class Stuck(SpanExporter):
    """Takes no span until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.let_go.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.let_go.set()


def test_a_collector_that_hangs_delays_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "MAX_WAITING", 8)
    monkeypatch.setattr(Tracer, "_record", lambda self, seen: exporter.let_go.wait())
    exporter = Stuck()
    tracer = Tracer(exporter, 1.0, chance=lambda: 0.0)
    began = time.monotonic()
    for _ in range(50):
        answered(tracer, [call()], [Reply(ANSWER)])
    assert time.monotonic() - began < 5
    # one is with the thread, eight wait
    assert tracer.n_dropped() in (41, 42)
    exporter.let_go.set()
    tracer.close()


class Dead(SpanExporter):
    """A collector that may come back."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.result = SpanExportResult.FAILURE

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append(len(spans))
        if self.result is SpanExportResult.FAILURE and len(self.batches) % 2:
            raise ConnectionError("nobody is there")
        return self.result

    def shutdown(self) -> None:
        pass


def test_a_dead_collector_costs_no_spans_and_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock_s = [1000.0]
    monkeypatch.setattr(traces, "Breaker", lambda **settings: Breaker(**settings, clock=lambda: clock_s[0]))
    dead = Dead()
    with contextlib.closing(Tracer(dead, 1.0, chance=lambda: 0.0)) as tracer, caplog.at_level("INFO"):
        answered(tracer, [call()] * 3, [Reply(ANSWER)] * 3)
        tracer.flush()
        for _ in range(20):
            answered(tracer, [call()], [Reply(ANSWER)])
            tracer.flush()
        assert dead.batches == [3]
        assert tracer.n_dropped() == 23
        clock_s[0] += traces.PROBE_S
        answered(tracer, [call()] * 2, [Reply(ANSWER)] * 2)
        tracer.flush()
        assert dead.batches == [3, 1]
        assert tracer.n_dropped() == 25
        clock_s[0] += traces.LONGEST_PROBE_S
        dead.result = SpanExportResult.SUCCESS
        for _ in range(2):
            answered(tracer, [call()], [Reply(ANSWER)])
            tracer.flush()
        assert dead.batches == [3, 1, 1, 1]
        assert tracer.n_dropped() == 25
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(";")[0] for line in said] == [
        "the collector of telemetry.traces_endpoint takes no spans",
        "the collector takes spans again, 4 were lost",
    ]


class Collector:
    """A real OTLP receiver on this machine."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.came = threading.Event()
        self.server = grpc.server(ThreadPoolExecutor(1))
        method = grpc.unary_unary_rpc_method_handler(
            self.take,
            trace_service_pb2.ExportTraceServiceRequest.FromString,
            trace_service_pb2.ExportTraceServiceResponse.SerializeToString,
        )
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": method})])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def take(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        self.came.set()
        return trace_service_pb2.ExportTraceServiceResponse()


def test_spans_reach_a_collector_over_otlp() -> None:
    collector = Collector()
    config = load_config(
        flags={"telemetry": {"traces_endpoint": f"http://127.0.0.1:{collector.port}", "sample_rate": 0.0}},
        environment={},
    )
    with Monitor(config, {}) as monitor:
        monitor.observer.answered(RECOMMEND, "", [call(), call(f"00-{TRACE}-{SPAN}-01")], [Reply(ANSWER)] * 2, 1.0, 1.5)
    # leaving exports what there is
    assert collector.came.wait(10)
    collector.server.stop(None).wait()
    (span,) = collector.spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)
    assert {one.key: one.value.string_value for one in span.attributes}["headrace.request_id"] == "r17"


def test_without_a_collector_the_end_is_soon() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        tracer = Tracer(otlp_exporter(f"http://127.0.0.1:{nobody.getsockname()[1]}"), 1.0)
        answered(tracer, [call()], [Reply(ANSWER)])
        began = time.monotonic()
        tracer.close()
    assert time.monotonic() - began < 2 * traces.EXPORT_TIMEOUT_S + 2


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "ftp://collector", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.traces_endpoint"):
        Monitor(load_config(flags={"telemetry": {"traces_endpoint": endpoint}}, environment={}), {})


def test_nothing_of_opentelemetry_is_loaded_while_traces_are_off() -> None:
    """Only traces.py and what that imports do, and that is imported where traces are asked for."""
    engine = Path(traces.__file__).parents[1]
    those = {Path(traces.__file__), Path(traces.__file__).with_name("collector.py")}
    for path in sorted(engine.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wanted = {
                name
                for name in names
                if name.startswith(("opentelemetry", "headrace.telemetry.traces", "headrace.telemetry.collector"))
            }
            assert not wanted or path in those, path
