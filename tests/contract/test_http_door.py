"""What the HTTP door promises: its routes, limits and codes, and that bad callers disturb nobody."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ConfigError
from headrace.front import TENANT, Call, Door, Reply
from headrace.front.http import HttpDoor, answer_of
from headrace.front.routes import QUERY, Route
from headrace.front.settings import DoorConfig, HttpConfig, TlsConfig

MAX_BYTES = 64 * 1024
JSON = {"content-type": "application/json"}
ROUTES = [
    Route("POST", "/echo", "/echo", "application/json", 7.0, lambda body: 2.0 if body == b"hurry" else None),
    Route("GET", "/openrtb2/win", "/openrtb2/win", timeout_s=9.0),
    Route("GET", "/openrtb2/{tenant}/win", "/openrtb2/win"),
]


class Rig:
    """A started door, and the batches that its one worker saw."""

    def __init__(self, tls: TlsConfig | None = None, **settings: Any) -> None:
        config = HttpConfig(listen="127.0.0.1:0", **settings)
        limits = DoorConfig(max_message_bytes=MAX_BYTES, max_in_flight=20)
        self.http_door = HttpDoor(ROUTES, config, limits, tls)
        self.door: Door = self.http_door
        self.address = self.door.start()
        self.port = int(self.address.rpartition(":")[2])
        self.answer: Callable[[Call], Reply] = lambda call: Reply(call.body)
        self.batches: list[list[Call]] = []
        self.dropped: list[list[int]] = []
        self.free, self.busy = threading.Event(), threading.Event()
        self.free.set()
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.worker.start()
        self.pool = ThreadPoolExecutor(40)

    def _work(self) -> None:
        while batch := self.door.next_batch(16):
            self.batches.append(batch)
            self.busy.set()
            self.free.wait()
            self.dropped.append(self.door.reply(batch, [self.answer(call) for call in batch]))

    def ask(self, verb: str, path: str, body: bytes | None = None, headers: Any = JSON) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(verb, path, body, headers)
        response = connection.getresponse()
        response.text = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response

    def post(self, body: bytes, **headers: str) -> Any:
        return self.ask("POST", "/echo", body, JSON | {name.replace("_", "-"): text for name, text in headers.items()})

    def send(self, body: bytes) -> Future[Any]:
        return self.pool.submit(self.post, body)

    def connect(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        connection.sendall(data)
        return connection

    def raw(self, data: bytes) -> bytes:
        """What comes back until the server closes the connection."""
        with self.connect(data) as connection:
            return b"".join(iter(lambda: connection.recv(65_536), b""))

    def occupy(self) -> Future[Any]:
        """Make the worker busy with one call until ``free`` is set."""
        self.free.clear()
        self.busy.clear()
        first = self.send(b"first")
        assert self.busy.wait(5)
        return first

    def waiting(self) -> int:
        return len(self.http_door._waiting)

    def close(self) -> None:
        self.free.set()
        self.door.drain(5)
        self.worker.join(5)
        self.pool.shutdown()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(idle_timeout_s=1.0, body_timeout_s=0.4)
    yield rig
    rig.close()


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.002)


def head(request_line: str, *headers: str) -> bytes:
    return "\r\n".join((f"{request_line} HTTP/1.1", "host: a", *headers, "", "")).encode()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


POST = ("POST /echo", "content-type: application/json")


def test_a_body_comes_and_an_answer_goes(rig: Rig) -> None:
    before = time.monotonic()
    response = rig.post(b'{"a": 1}', x_request_id="r1", Authorization="Bearer s")
    assert (response.status, response.text, response.headers["content-type"]) == (200, b'{"a": 1}', "application/json")
    (call,) = rig.batches[-1]
    assert (call.method, call.metadata["x-request-id"], call.metadata["authorization"]) == ("/echo", "r1", "Bearer s")
    assert call.peer.startswith("127.0.0.1:")
    assert before <= call.arrived <= call.deadline - 7.0
    assert call.deadline < time.monotonic() + 7.0


def test_a_query_and_a_tenant_stand_beside_the_headers(rig: Rig) -> None:
    rig.ask("GET", "/openrtb2/acme/win?token=t%20u&price=1", headers={TENANT: "another"})
    (call,) = rig.batches[-1]
    assert (call.method, call.body) == ("/openrtb2/win", b"token=t%20u&price=1")
    assert (call.metadata[TENANT], call.metadata[QUERY]) == ("acme", "token=t%20u&price=1")
    rig.ask("GET", "/openrtb2/win")
    assert TENANT not in rig.batches[-1][0].metadata


def test_an_empty_answer_is_204_and_headers_are_sent(rig: Rig) -> None:
    rig.answer = lambda call: Reply(headers=(("x-openrtb-nbr", "15"),))
    response = rig.post(b"{}")
    assert (response.status, response.text, response.headers["x-openrtb-nbr"]) == (204, b"", "15")
    rig.answer = lambda call: Reply(b"a 1\n", content_type="text/plain")
    assert rig.post(b"{}").headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("status", "code"),
    [(3, 400), (16, 401), (7, 403), (5, 404), (6, 409), (9, 409), (8, 429), (13, 500), (2, 500), (14, 503), (4, 504)],
)
def test_errors_have_their_code_and_a_short_body(status: int, code: int) -> None:
    sent, headers, body = answer_of(Reply(status=status, message='SomeError: what "is": wrong'))
    assert (sent, headers) == (code, [("content-type", "application/json")])
    assert json.loads(body) == {"error": "SomeError", "message": 'what "is": wrong'}


def test_what_is_not_served_is_refused_by_its_code(rig: Rig) -> None:
    assert rig.ask("POST", "/nothing", b"{}").status == 404
    assert rig.ask("POST", "/echo/more/still", b"{}").status == 404
    wrong_verb = rig.ask("GET", "/echo")
    assert (wrong_verb.status, wrong_verb.headers["allow"]) == (405, "POST")
    assert rig.ask("HEAD", "/openrtb2/win").status == 405
    assert rig.ask("DELETE", "/openrtb2/acme/win").status == 405
    assert rig.post(b"x", content_type="text/plain").status == 415
    assert rig.ask("POST", "/echo", b"x", {}).status == 415
    assert rig.post(b"x", content_encoding="br").status == 415
    assert rig.batches == []


def test_health_and_readiness(rig: Rig) -> None:
    assert rig.ask("GET", "/healthz").status == 200
    assert rig.ask("GET", "/readyz").status == 503
    rig.door.set_serving("headrace.v1.BidderService", True)
    assert rig.ask("GET", "/readyz").status == 503
    rig.door.set_serving("", True)
    assert rig.ask("GET", "/readyz").status == 200


def test_gzip_both_ways(rig: Rig) -> None:
    text = b'{"a": "' + b"b" * 5_000 + b'"}'
    plain = rig.post(gzip.compress(text), content_encoding="gzip")
    assert (plain.text, plain.headers["content-encoding"]) == (text, None)
    packed = rig.post(text, accept_encoding="deflate, gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.text) == text
    assert rig.post(b"short", accept_encoding="gzip").text == b"short"
    assert rig.post(text, accept_encoding="gzip;q=0").text == text


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(rig: Rig) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < MAX_BYTES
    assert rig.post(bomb, content_encoding="gzip").status == 413
    unpacked = rig.http_door._inflated(bomb)
    assert unpacked is not None
    assert len(unpacked) == MAX_BYTES + 1


@pytest.mark.parametrize(
    "body", [b"no gzip", gzip.compress(b"{}" * 99)[:-9], gzip.compress(b"{}") + b"more"], ids=["garbage", "cut", "more"]
)
def test_what_is_no_gzip_is_refused(rig: Rig, body: bytes) -> None:
    assert rig.post(body, content_encoding="gzip").status == 400


def test_a_body_too_large_is_refused_unread(rig: Rig) -> None:
    assert rig.post(b"a" * MAX_BYTES).status == 200
    assert status_of(rig.raw(head(*POST, "content-length: 1000000000"))) == 413
    assert status_of(rig.raw(head(*POST, f"content-length: {MAX_BYTES + 1}") + b"a" * 100)) == 413


def test_two_lengths_and_chunks_are_refused_and_nothing_is_smuggled(rig: Rig) -> None:
    smuggled = head("GET /openrtb2/win?smuggled")
    both = head(*POST, f"content-length: {len(smuggled)}", "transfer-encoding: chunked") + b"0\r\n\r\n" + smuggled
    assert status_of(rig.raw(both)) == 411
    twice = head(*POST, "content-length: 3", "content-length: 99") + b"abc" + smuggled
    assert status_of(rig.raw(twice)) == 400
    assert status_of(rig.raw(head(*POST, "transfer-encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n" + smuggled)) == 411
    assert status_of(rig.raw(head("POST /echo", f"content-length: {len(smuggled)}") + smuggled)) == 415
    assert rig.batches == []


GARBAGE = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
    "noise": b"\xff\x00\x80garbage\r\n\r\n",
    "no version": b"POST /echo\r\n\r\n",
    "a bad length": head(*POST, "content-length: -1"),
    "a header without a colon": head(*POST, "content-length 3"),
    "headers too large": head(*POST, "x: " + "a" * 100_000),
    "too many headers": head(*POST, *(f"x{n}: 1" for n in range(500))),
    "a raw byte in the path": b"GET /openrtb2/win?\xff HTTP/1.1\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused_and_disturbs_nobody(rig: Rig, data: bytes) -> None:
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        answer = rig.raw(data)
    assert answer == b"" or 400 <= status_of(answer) < 500
    assert rig.batches == []
    assert rig.post(b"still here").text == b"still here"


def test_slow_senders_are_cut_off(rig: Rig) -> None:
    slow_head = rig.connect(b"POST /echo HTTP/1.1\r\nhost")
    slow_body = rig.connect(head(*POST, "content-length: 100") + b"abc")
    assert rig.post(b"meanwhile").text == b"meanwhile"
    assert status_of(slow_body.recv(4096)) == 408
    assert slow_head.recv(4096) == b""
    slow_head.close()
    slow_body.close()


def test_a_connection_is_kept_and_closed_when_idle(rig: Rig) -> None:
    answer = rig.raw((head(*POST, "content-length: 3") + b"abc") * 3)
    assert answer.count(b"200 OK") == 3


def test_many_idle_connections_disturb_nobody(rig: Rig) -> None:
    idle = [rig.connect(b"") for _ in range(300)]
    assert rig.post(b"still here").text == b"still here"
    for connection in idle:
        connection.close()


def test_what_waits_comes_in_batches_with_the_least_time_first(rig: Rig) -> None:
    first = rig.occupy()
    slow = [rig.send(b"slow") for _ in range(10)]
    wait_until(lambda: rig.waiting() == 10)
    fast = [rig.send(b"hurry") for _ in range(8)]
    wait_until(lambda: rig.waiting() == 18)
    rig.free.set()
    assert {call.result().text for call in (first, *slow, *fast)} == {b"first", b"slow", b"hurry"}
    assert [len(batch) for batch in rig.batches] == [1, 16, 2]
    assert [call.body for call in rig.batches[1][:9]] == [b"hurry"] * 8 + [b"slow"]


def test_more_than_may_be_in_flight_is_refused_at_once(rig: Rig) -> None:
    first = rig.occupy()
    held = [rig.send(b"x") for _ in range(19)]
    wait_until(lambda: rig.waiting() == 19)
    refused = rig.post(b"y")
    assert (refused.status, json.loads(refused.text)["error"]) == (503, "OverloadedError")
    rig.free.set()
    assert all(call.result().status == 200 for call in (first, *held))
    assert rig.post(b"room again").status == 200
    assert rig.http_door.stats()["refused_overload"] == 1


def test_a_caller_that_goes_away_costs_nothing_or_is_told_as_dropped(rig: Rig) -> None:
    first = rig.connect(head(*POST, "content-length: 1") + b"1")
    rig.free.clear()
    assert rig.busy.wait(5)
    second = rig.connect(head(*POST, "content-length: 1") + b"2")
    wait_until(lambda: rig.waiting() == 1)
    first.close()
    second.close()
    ticket: Any = rig.batches[0][0].ticket
    wait_until(lambda: ticket.gone and rig.waiting() == 0)
    rig.free.set()
    assert rig.post(b"3").text == b"3"
    assert rig.dropped[0] == [0]
    stats = rig.http_door.stats()
    assert (stats["dropped_replies"], stats["cancelled_waiting"], stats["accepted"]) == (1, 1, 3)
    assert [call.body for batch in rig.batches for call in batch] == [b"1", b"3"]


def test_many_threads_each_get_their_own_answer(rig: Rig) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: rig.post(b"%d" % n).text, range(300)))
    assert answers == [b"%d" % n for n in range(300)]


def test_the_first_of_two_replies_counts(rig: Rig) -> None:
    first = rig.occupy()
    assert rig.door.reply(rig.batches[0], [Reply(b"early")]) == []
    rig.free.set()
    assert first.result().text == b"early"
    wait_until(lambda: rig.dropped == [[0]])


def test_a_drain_finishes_what_is_in_flight_and_refuses_the_rest() -> None:
    rig = Rig()
    rig.door.set_serving("", True)
    first = rig.occupy()
    drain = rig.pool.submit(rig.door.drain, 5)
    threading.Timer(0.2, rig.free.set).start()
    assert first.result().text == b"first"
    drain.result()
    with pytest.raises(ConnectionRefusedError):
        rig.post(b"late")
    rig.close()


def test_a_drain_ends_after_its_grace_whoever_still_waits() -> None:
    rig = Rig()
    first = rig.occupy()
    slow = rig.connect(b"POST /ec")
    started = time.monotonic()
    rig.door.drain(0.1)
    assert time.monotonic() - started < 5
    assert first.result().status == 503
    slow.close()
    rig.close()


def test_an_address_in_use_is_a_configuration_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        door = HttpDoor(ROUTES, HttpConfig(listen=f"127.0.0.1:{taken.getsockname()[1]}"), DoorConfig())
        with pytest.raises(ConfigError, match=r"http\.listen"):
            door.start()


def test_two_doors_share_one_port() -> None:
    rig = Rig()
    twin = HttpDoor(ROUTES, HttpConfig(listen=rig.address), DoorConfig())
    assert twin.start() == rig.address
    twin.drain(1)
    assert rig.post(b"still here").text == b"still here"
    rig.close()


def openssl(arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsConfig:
    """A server's certificate, signed by an authority that clients' certificates are verified against, too."""
    folder = tmp_path_factory.mktemp("tls")
    ca, ca_key = folder / "ca.pem", folder / "ca-key.pem"
    key, request, certificate = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(f"req -x509 {new} -days 2 -subj /CN=test-authority -keyout {ca_key} -out {ca}")
    openssl(f"req -new {new} -subj /CN=localhost -keyout {key} -out {request}")
    files = f"-in {request} -CA {ca} -CAkey {ca_key} -out {certificate} -extfile {folder / 'names'}"
    openssl(f"x509 -req -days 2 -CAcreateserial {files}")
    return TlsConfig(certificate=str(certificate), key=str(key), client_ca=str(ca))


def secure_get(port: int, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status


def test_tls_from_the_same_files_as_grpc(tls: TlsConfig) -> None:
    rig = Rig(replace(tls, client_ca=""))
    trusting = ssl.create_default_context(cafile=tls.client_ca)
    assert secure_get(rig.port, trusting) == 200
    with contextlib.suppress(ConnectionError):
        assert b"200" not in rig.raw(head("GET /healthz"))
    assert secure_get(rig.port, trusting) == 200
    rig.close()


def test_mutual_tls_refuses_strangers(tls: TlsConfig) -> None:
    rig = Rig(replace(tls, require_client_certificate=True))
    context = ssl.create_default_context(cafile=tls.client_ca)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        secure_get(rig.port, context)
    context.load_cert_chain(tls.certificate, tls.key)
    assert secure_get(rig.port, context) == 200
    rig.close()


def test_a_key_that_does_not_fit_is_a_configuration_error(tls: TlsConfig, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no key")
    broken = replace(tls, key=str(tmp_path / "no.pem"))
    door = HttpDoor(ROUTES, HttpConfig(listen="127.0.0.1:0"), DoorConfig(), broken)
    with pytest.raises(ConfigError):
        door.start()
