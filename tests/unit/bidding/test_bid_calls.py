"""Bids from bytes to bytes: time limits, streams, refusals for lack of time, and answers that were never sent."""

from __future__ import annotations

import importlib.util
import os
import queue
import time

import grpc
import pytest

from headrace.clock import RequestClock
from headrace.errors import HeadraceError, InvalidRequestError, OverloadedError, StoreFullError
from headrace.events.store import Store
from headrace.front import Call, make_door
from headrace.front.settings import DoorConfig
from headrace.ledger.ledger import Ledger
from headrace.service.admission import AdmitAll
from headrace.service.bidder import BidderService, _in_band
from headrace.service.dispatch import Dispatcher, Gates
from headrace.v1 import bidder_pb2 as pb

PREFIX = "/headrace.v1.BidderService/"
LATE = pb.NO_BID_REASON_INSUFFICIENT_TIME
KINDS = {"Bid": pb.BidResponse, "BidBatch": pb.BidBatchResponse, "BidStream": pb.BidStreamResponse}


@pytest.fixture
def real(tmp_path, factories, make):
    """A path with one campaign, on a ledger of its own."""
    store = Store(tmp_path / "ledger" / "money.db")
    ledger = Ledger(tmp_path / "ledger", store, clock_ms=lambda: make.noon_ms)
    assert ledger.try_acquire()
    path = make.path(tmp_path, factories.make_artifact(), ledger)
    path.fund()
    path.create()
    yield path
    ledger.close()
    store.close()
    path.close()


def reserved(path):
    return next(state.reserved_micros for state in path.ledger.accounts() if state.account_id == "acme")


def methods(path):
    return {method.name.removeprefix(PREFIX): method for method in path.bidder.methods()}


def wrapped(name, *requests):
    """The messages of calls of a method: one request each, or all of them in one batch."""
    if name == "BidBatch":
        return [pb.BidBatchRequest(requests=requests)]
    return [pb.BidStreamRequest(request=request) if name == "BidStream" else request for request in requests]


def bids(name, answers):
    """All impressions of answers."""
    messages = [KINDS[name].FromString(answer) for answer in answers]
    if name == "BidBatch":
        messages = [response for message in messages for response in message.responses]
    if name == "BidStream":
        assert all(message.bid_request_id == message.response.bid_request_id for message in messages)
        messages = [message.response for message in messages]
    return [bid for message in messages for bid in message.impressions]


# -- time


def test_the_time_of_a_request_begins_when_it_arrives(path):
    path.create()
    path.monotonic_s = 10.4
    assert path.bid_one(arrived=10.0, tmax_ms=500).token
    assert path.bid_one(arrived=10.0, tmax_ms=300).no_bid_reason == LATE
    assert path.bid_one(arrived=10.0, tmax_ms=0).token


def test_the_earlier_of_both_deadlines_counts(path):
    path.create()
    path.monotonic_s = 10.4
    assert path.bid_one(arrived=10.0, tmax_ms=1000, deadline=10.3).no_bid_reason == LATE
    assert path.bid_one(arrived=10.0, tmax_ms=300, deadline=11.0).no_bid_reason == LATE
    assert path.bid_one(arrived=10.0, tmax_ms=(1 << 32) - 1, deadline=11.0).token


@pytest.mark.parametrize("name", KINDS)
def test_a_short_time_is_one_requests_own(path, make, name):
    path.create()
    path.monotonic_s = 10.4
    messages = wrapped(
        name, make.bid_request(tmax_ms=300), make.bid_request(n_impressions=2), make.bid_request(tmax_ms=500)
    )
    answers = methods(path)[name].answer(path.calls(*messages, arrived=10.0))
    assert [bid.no_bid_reason for bid in bids(name, answers)] == [LATE, 0, 0, 0]


# -- streams


def test_a_wrong_request_of_a_stream_is_answered_in_its_place(path, make):
    path.create()
    requests = [make.bid_request(bid_request_id=f"a{n}") for n in range(3)]
    requests[1].country = "germany"
    messages = [pb.BidStreamRequest(request=request) for request in requests]
    answers = [
        pb.BidStreamResponse.FromString(each) for each in methods(path)["BidStream"].answer(path.calls(*messages))
    ]
    assert [answer.bid_request_id for answer in answers] == ["a0", "a1", "a2"]
    assert [answer.HasField("response") for answer in answers] == [True, False, True]
    assert answers[0].response.impressions[0].token
    error = answers[1].error
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert error.message.startswith("InvalidRequestError: country: got 'germany', expected ISO 3166-1")


def test_bytes_that_are_no_message_are_answered_without_an_id(path):
    (answer,) = methods(path)["BidStream"].answer([Call("", b"\xff", float("inf"), "", {}, None)])
    said = pb.BidStreamResponse.FromString(answer)
    assert said.bid_request_id == ""
    assert said.error.message == "InvalidRequestError: the request is no headrace.v1.BidStreamRequest message"
    (answer,) = methods(path)["BidStream"].answer([Call("", b"", float("inf"), "", {}, None)])
    assert "bid_request_id" in pb.BidStreamResponse.FromString(answer).error.message


@pytest.mark.parametrize(
    ("name", "message"),
    [("Bid", "BidRequest"), ("BidBatch", "BidBatchRequest"), ("Notify", "NotifyRequest")],
)
def test_bytes_that_are_no_message_fail_alone(path, name, message):
    (answer,) = methods(path)[name].answer([Call("", b"\xff", float("inf"), "", {}, None)])
    assert isinstance(answer, InvalidRequestError)
    assert str(answer) == f"the request is no headrace.v1.{message} message"


# -- batches


def test_one_wrong_request_fails_its_batch_and_reserves_nothing(real, make):
    wrong = make.bid_request(floor_cpm_micros=-1)
    batches = [pb.BidBatchRequest(requests=some) for some in ([make.bid_request(), wrong], [], [make.bid_request()])]
    first, second, third = methods(real)["BidBatch"].answer(real.calls(*batches))
    assert str(first).startswith("requests[1]: floor_cpm_micros: got -1, expected 0 to ")
    assert str(second) == "requests: got '0 entries', expected 1 to 256; split the batch"
    (bid,) = bids("BidBatch", [third])
    assert bid.token
    assert reserved(real) == -(-bid.bid_cpm_micros // 1000)


# -- refused for lack of time


@pytest.mark.parametrize("name", KINDS)
def test_calls_that_there_is_no_time_for_are_told_so_for_each_impression(real, make, name):
    clock = RequestClock(make.noon_ms)
    real.bidder = BidderService(real.engine, real.ledger, real.config, clock)
    messages = wrapped(name, make.bid_request(n_impressions=2, time_ms=make.noon_ms + 10), make.bid_request())
    answers = methods(real)[name].shed(real.calls(*messages))
    assert [(bid.impression_id, bid.no_bid_reason, bid.token) for bid in bids(name, answers)] == [
        ("0", LATE, ""),
        ("1", LATE, ""),
        ("0", LATE, ""),
    ]
    assert reserved(real) == 0
    assert clock() == make.noon_ms


def test_a_wrong_request_that_there_is_no_time_for_is_still_wrong(path, make):
    wrong = make.bid_request(country="x")
    assert isinstance(methods(path)["Bid"].shed(path.calls(wrong))[0], InvalidRequestError)
    (answer,) = methods(path)["BidStream"].shed(path.calls(pb.BidStreamRequest(request=wrong)))
    assert pb.BidStreamResponse.FromString(answer).error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


class NoRoom(AdmitAll):
    """Admission that refuses everything."""

    def refusal(self, call, principal):
        return OverloadedError("no room")


def test_a_call_that_admission_refuses_gets_a_no_bid(real, make):
    door = Door()
    dispatcher(real, door, Gates(admission=NoRoom())).dispatch(calls_of(real, "Bid", make.bid_request()))
    ((reply,),) = door.replies
    assert reply.status == 0
    assert bids("Bid", [reply.body])[0].no_bid_reason == LATE


# -- answers that were never sent


class Door:
    """Loses the answers at the positions that it is told."""

    def __init__(self, *lost):
        self.lost = lost
        self.replies = []

    def reply(self, calls, replies):
        self.replies.append(replies)
        return [position for position in self.lost if position < len(calls)]


def dispatcher(path, door, gates=None):
    return Dispatcher(
        door,
        {"": path.bidder.methods()},
        durable=(),
        pure=(),
        executor=None,  # nothing here waits for the disk
        durable_queue=1,
        batch_limit=32,
        gates=gates,
    )


def calls_of(path, name, *requests):
    bodies = [message.SerializeToString() for message in wrapped(name, *requests)]
    return [Call(PREFIX + name, body, float("inf"), "", {}, None) for body in bodies]


@pytest.mark.parametrize("name", KINDS)
def test_money_of_answers_that_nobody_got_is_returned(real, make, name):
    requests = [make.bid_request(n_impressions=2), make.bid_request()]
    dispatcher(real, Door(0, 1)).dispatch(calls_of(real, name, *requests))
    assert reserved(real) == 0
    door = Door()
    dispatcher(real, door).dispatch(calls_of(real, name, *requests))
    sent = bids(name, [reply.body for reply in door.replies[0]])
    assert len(sent) == 3
    assert reserved(real) == sum(-(-bid.bid_cpm_micros // 1000) for bid in sent)
    real.ledger.check_invariant()


def test_only_the_lost_answers_money_is_returned(real, make):
    door = Door(1)
    dispatcher(real, door).dispatch(calls_of(real, "Bid", *[make.bid_request()] * 3))
    kept = [bids("Bid", [door.replies[0][n].body])[0] for n in (0, 2)]
    assert reserved(real) == sum(-(-bid.bid_cpm_micros // 1000) for bid in kept)
    assert real.notify(pb.Notice(type=pb.NOTICE_TYPE_LOSS, token=kept[0].token)) == [pb.NOTICE_OUTCOME_ACCEPTED]


def test_answers_without_a_bid_that_nobody_got(real, make):
    real.ledger.brake("", "", True, "test", "tester")
    dispatcher(real, Door(0)).dispatch(calls_of(real, "Bid", make.bid_request()))
    assert reserved(real) == 0


def test_what_is_taken_back_teaches_nothing_of_prices(real, make):
    dispatcher(real, Door(0)).dispatch(calls_of(real, "Bid", make.bid_request()))
    assert not real.engine.pacer.landscape.n_open


def test_a_worker_outlives_money_that_cannot_be_returned(real, make, monkeypatch, caplog):
    def fails(tokens):
        raise StoreFullError("the disk is full")

    monkeypatch.setattr(real.ledger, "release_reservations", fails)
    dispatcher(real, Door(0)).dispatch(calls_of(real, "Bid", make.bid_request()))
    assert "the disk is full" in caplog.text


@pytest.fixture(params=["grpcio", "native"])
def door(request):
    if request.param == "native" and "CI" not in os.environ and importlib.util.find_spec("headrace._door") is None:
        pytest.skip("the native door is not built here")
    door = make_door(request.param, [PREFIX + "Bid"], "127.0.0.1:0", DoorConfig(), streams=[PREFIX + "BidStream"])
    yield door
    door.drain(0.0)


@pytest.mark.parametrize("door", ["grpcio"], indirect=True)
def test_a_call_that_is_cancelled_while_it_is_decided_leaves_no_reservation(real, make, door):
    with grpc.insecure_channel(door.start()) as channel:
        gone = channel.unary_unary(PREFIX + "Bid").future(make.bid_request().SerializeToString())
        batch = door.next_batch(8)
        gone.cancel()
        wait_until(lambda: batch[0].ticket.settled)
        dispatcher(real, door).dispatch(batch)
        assert reserved(real) == 0


def test_an_answer_that_was_handed_to_the_transport_keeps_its_reservation(real, make, door):
    with grpc.insecure_channel(door.start()) as channel:
        kept = channel.unary_unary(PREFIX + "Bid").future(make.bid_request().SerializeToString())
        dispatcher(real, door).dispatch(door.next_batch(8))
        (sent,) = bids("Bid", [kept.result(timeout=30)])
        assert reserved(real) == -(-sent.bid_cpm_micros // 1000) > 0


def test_a_stream_answers_each_message_and_outlives_wrong_ones(real, make, door):
    bodies = [message.SerializeToString() for message in wrapped("BidStream", make.bid_request(), make.bid_request())]
    with grpc.insecure_channel(door.start()) as channel:
        asked = queue.SimpleQueue()
        answers = channel.stream_stream(PREFIX + "BidStream")(iter(asked.get, None), timeout=30)
        said = []
        for body in (bodies[0], b"\xff", bodies[1]):
            asked.put(body)
            dispatcher(real, door).dispatch(door.next_batch(8))
            said.append(pb.BidStreamResponse.FromString(next(answers)))
        asked.put(None)
        assert list(answers) == []
    assert [answer.bid_request_id for answer in said] == ["auction", "", "auction"]
    sent = [said[n].response.impressions[0] for n in (0, 2)]
    assert reserved(real) == sum(-(-bid.bid_cpm_micros // 1000) for bid in sent)


def test_a_stream_that_is_cancelled_while_it_is_decided_leaves_no_reservation(real, make, door):
    (body,) = (message.SerializeToString() for message in wrapped("BidStream", make.bid_request()))
    with grpc.insecure_channel(door.start()) as channel:
        asked = queue.SimpleQueue()
        answers = channel.stream_stream(PREFIX + "BidStream")(iter(asked.get, None), timeout=30)
        asked.put(body)
        asked.put(body)
        batch = door.next_batch(1)
        wait_until(lambda: door.stats()["waiting"] == 1)
        answers.cancel()
        asked.put(None)
        wait_until(lambda: door.stats()["waiting"] == 0)  # the door has heard of it
        dispatcher(real, door).dispatch(batch)
        assert reserved(real) == 0


def wait_until(holds):
    limit = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_every_error_of_a_stream_has_its_own_code():
    said = pb.BidStreamResponse.FromString(_in_band("a", HeadraceError("odd")))
    assert (said.bid_request_id, said.error.code) == ("a", grpc.StatusCode.INTERNAL.value[0])
