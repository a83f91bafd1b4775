"""Which calls are let in: by deadline, by how long the queue stands, by caller; on a clock of its own."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from headrace.errors import DeadlineError, HeadraceError, OverloadedError, RateLimitError
from headrace.front import Call
from headrace.service.access import Principal
from headrace.service.admission import (
    EXPIRED,
    LEAST_ROOM,
    NEXT_TURN,
    STANDING,
    TOO_LATE,
    UNBOUNDED,
    AdmitInTime,
    Room,
)
from headrace.service.cost import Cost
from headrace.service.server import make_admission
from headrace.service.settings import AdmissionConfig
from headrace.v1 import bidder_pb2, recommender_pb2

NOW = 50_000.0
ANYONE = Principal("anyone")


def call(deadline: float = math.inf, arrived: float = NOW, method: str = "/slate") -> Call:
    return Call(method, b"", deadline, "", {}, None, arrived)


def admission(**settings: Any) -> AdmitInTime:
    return AdmitInTime(AdmissionConfig(**settings), {"/slate": 1.0, "/bid": 2.0, "/write": 8.0}, 4.0, apart={"/write"})


def refusal(gate: AdmitInTime, one: Call, now: float = NOW, who: Principal = ANYONE) -> HeadraceError | None:
    return gate.turn(now, 1).refusal(one, who)


# -- by deadline


def test_deadline_in_the_past_is_refused_at_once() -> None:
    assert refusal(admission(), call(NOW - 0.001)) is EXPIRED
    assert refusal(admission(), call(NOW)) is EXPIRED
    assert refusal(admission(), call(NOW + 0.001)) is None


def test_call_is_refused_when_its_answer_would_come_too_late() -> None:
    gate = admission(margin=2.0, reply_ms=1.0)
    gate.answered("/slate", 1, 0.010, NOW)
    assert refusal(gate, call(NOW + 0.020)) is TOO_LATE
    assert refusal(gate, call(NOW + 0.022)) is None
    assert refusal(gate, call(NOW + 0.001, method="/bid")) is None, "each method has its own cost"
    assert isinstance(TOO_LATE, DeadlineError)


def test_place_in_the_batch_counts() -> None:
    gate = admission(margin=1.0, reply_ms=0.0, turn_ms=1000.0)
    for n in (1, 2, 4, 8) * 20:
        gate.answered("/slate", n, 0.004 + n * 0.001, NOW)
    turn = gate.turn(NOW, 10)
    # 4 ms for the batch and 1 ms for each call: six fit into 10 ms
    asked = [turn.refusal(call(NOW + 0.0101), ANYONE) for _ in range(10)]
    assert asked == [None] * 6 + [TOO_LATE] * 4
    assert refusal(gate, call(NOW + 0.0101)) is None, "the next batch begins anew"


def test_no_call_makes_one_before_it_late() -> None:
    gate = admission(margin=1.0, reply_ms=0.0, turn_ms=1000.0)
    for n in (1, 2, 4, 8) * 20:
        gate.answered("/slate", n, 0.004 + n * 0.001, NOW)
    turn = gate.turn(NOW, 10)
    asked = [turn.refusal(call(NOW + left), ANYONE) for left in (0.0061, 1.0, 1.0, 1.0)]
    assert asked == [None, None, NEXT_TURN, NEXT_TURN]
    assert turn.refusal(call(NOW + 0.003), ANYONE) is TOO_LATE, "it would not be in time in a turn of its own either"
    assert gate.turn(NOW, 2).refusal(call(NOW + 1.0), ANYONE) is None


def test_calls_that_wait_for_the_disk_take_no_time_of_the_batch() -> None:
    gate = admission(margin=1.0, reply_ms=0.0, turn_ms=1000.0)
    gate.answered("/write", 1, 1.0, NOW)
    gate.answered("/slate", 1, 0.010, NOW)
    turn = gate.turn(NOW, 10)
    assert turn.refusal(call(NOW + 5, method="/write"), ANYONE) is None
    assert turn.refusal(call(NOW + 0.5, method="/write"), ANYONE) is TOO_LATE
    assert turn.refusal(call(NOW + 0.011), ANYONE) is None


def test_estimate_that_refuses_all_is_tried_now_and_then() -> None:
    gate = admission()
    gate.answered("/slate", 1, 3.0, NOW)
    late = [refusal(gate, call(NOW + t + 0.5, NOW + t), NOW + t) is None for t in np.arange(0.0, 1.0, 0.01)]
    assert 8 <= sum(late) <= 10
    for step in range(200):
        gate.answered("/slate", 1, 0.001, NOW + 1 + step / 1000)
    assert refusal(gate, call(NOW + 2), NOW + 1.5) is None


def test_one_pause_of_the_machine_is_no_trend() -> None:
    gate = admission()
    for _ in range(50):
        gate.answered("/slate", 4, 0.001, NOW)
    gate.answered("/slate", 4, 2.0, NOW)
    assert refusal(gate, call(NOW + 0.005)) is None


@pytest.mark.parametrize("seed", range(3))
def test_cost_tells_the_fixed_part_from_the_part_of_each_call(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost = Cost()
    for _ in range(300):
        n = int(rng.integers(1, 64))
        cost.learn(n, (0.0005 + n * 0.0001) * float(rng.uniform(0.9, 1.1)))
    assert cost.each_s == pytest.approx(0.0001, rel=0.25)
    assert 0 <= cost.fixed_s < 0.0015
    assert cost.fixed_s + 32 * cost.each_s == pytest.approx(0.0037, rel=0.15)


def test_cost_follows_a_change_and_is_never_negative() -> None:
    cost = Cost()
    for _ in range(100):
        cost.learn(8, 0.001)
    for _ in range(100):
        cost.learn(8, 0.010)
    assert cost.fixed_s + 8 * cost.each_s == pytest.approx(0.010, rel=0.1)
    for n in (1, 64) * 100:  # larger batches that take less
        cost.learn(n, 0.064 / n)
        assert cost.each_s >= 0
        assert cost.fixed_s >= 0


def test_worker_takes_as_many_calls_as_fit_into_a_turn() -> None:
    gate = admission(turn_ms=5.0)
    assert gate.limit(64) == 64, "nothing is known yet"
    for _ in range(200):
        gate.answered("/slate", 10, 0.005, NOW)
        gate.answered("/write", 1, 9.0, NOW)
    assert gate.limit(64) == 10
    for _ in range(200):
        gate.answered("/slate", 1, 0.5, NOW)
    assert gate.limit(64) == 1


def test_turn_holds_no_more_work_than_it_should() -> None:
    gate = admission(turn_ms=5.0)
    gate.answered("/slate", 1, 0.002, NOW)
    turn = gate.turn(NOW, 4)
    assert [turn.refusal(call(), ANYONE) for _ in range(4)] == [None, None, NEXT_TURN, NEXT_TURN]
    gate.answered("/bid", 1, 0.9, NOW)
    assert refusal(gate, call(method="/bid")) is None, "what takes longer than a turn has one for itself"


def test_worker_takes_more_at_once_when_most_are_refused() -> None:
    gate = admission(turn_ms=5.0)
    for _ in range(100):
        gate.turn(NOW, 40)
        gate.answered("/slate", 4, 0.004, NOW)
    # five fit into a turn, one in ten is let in, and twice as many bring the queue down
    assert 80 <= gate.limit(64) <= 105


# -- by how long the queue stands


def stream(gate: AdmitInTime, waited_ms: float, start: float, seconds: float, method: str = "/slate") -> list[bool]:
    """One call every millisecond that waited so long; whether each was let in."""
    moments = start + np.arange(0, seconds, 0.001)
    return [refusal(gate, call(arrived=now - waited_ms / 1000, method=method), now) is None for now in moments]


def test_burst_is_worked_off_but_a_standing_queue_is_cut() -> None:
    gate = admission(target_delay_ms=10.0, interval_ms=100.0)
    assert all(stream(gate, 50, NOW, 0.099))
    late = stream(gate, 50, NOW + 0.099, 0.5)
    assert sum(late) <= 2
    assert isinstance(STANDING, OverloadedError)


def test_young_calls_are_answered_while_the_queue_stands() -> None:
    gate = admission(target_delay_ms=10.0, interval_ms=100.0)
    stream(gate, 50, NOW, 0.3)
    assert refusal(gate, call(arrived=NOW + 0.295), NOW + 0.3) is None
    # and one that came through does not let the old ones pass again
    assert refusal(gate, call(arrived=NOW + 0.25), NOW + 0.301) is STANDING


def test_cutting_ends_when_no_call_waited_long_for_an_interval() -> None:
    gate = admission(target_delay_ms=10.0, interval_ms=100.0)
    stream(gate, 50, NOW, 0.3)
    assert all(stream(gate, 5, NOW + 0.3, 0.2))
    assert refusal(gate, call(arrived=NOW + 0.45), NOW + 0.5) is None


def test_rare_calls_that_waited_are_no_standing_queue() -> None:
    gate = admission(target_delay_ms=10.0, interval_ms=100.0)
    assert all(refusal(gate, call(arrived=NOW + s - 0.05), NOW + s) is None for s in range(20))


def test_slates_are_cut_before_bids_and_bids_before_writes() -> None:
    gate = admission(target_delay_ms=10.0, interval_ms=100.0)
    cut = {}
    for waited in (5, 15, 25, 90):
        for method in ("/slate", "/bid", "/write"):
            fresh = admission(target_delay_ms=10.0, interval_ms=100.0)
            cut[waited, method] = not all(stream(fresh, waited, NOW, 0.3, method))
    assert {key for key, was in cut.items() if was} == {
        (15, "/slate"), (25, "/slate"), (25, "/bid"), (90, "/slate"), (90, "/bid"), (90, "/write")
    }  # fmt: skip
    assert refusal(gate, call(method="/never-heard-of")) is None


def test_door_is_narrowed_while_calls_stand_and_widened_after() -> None:
    gate = admission(target_delay_ms=10.0, interval_ms=100.0)
    assert gate.room() == UNBOUNDED
    stream(gate, 50, NOW, 0.5)
    # 1,000 calls a second are taken here: 20 fit into two targets, but a few more may always wait
    assert gate.room() == LEAST_ROOM
    for step in range(100):
        turn = gate.turn(NOW + 0.5 + step / 1000, 30)
        turn.refusal(call(arrived=NOW + 0.45 + step / 1000), ANYONE)
    assert 540 <= gate.room() <= 660
    stream(gate, 1, NOW + 0.6, 0.3)
    assert gate.room() == UNBOUNDED


# -- by caller


def test_each_caller_has_a_rate_and_a_burst() -> None:
    gate = admission(rate_per_second=10.0, burst=3.0)
    a, b = Principal("a", "shop"), Principal("b", "shop")
    results = [refusal(gate, call(), who=a) for _ in range(5)]
    assert [result is None for result in results] == [True, True, True, False, False]
    assert isinstance(results[-1], RateLimitError)
    assert "try again in 0.100 s" in str(results[-1])
    assert refusal(gate, call(), who=b) is None
    assert refusal(gate, call(), who=Principal("a", "other")) is None, "names are a tenant's own"
    assert refusal(gate, call(), NOW + 0.101, who=a) is None
    assert refusal(gate, call(), NOW + 0.15, who=a) is not None
    assert [refusal(gate, call(), NOW + 60, who=a) is None for _ in range(4)] == [True] * 3 + [False]


def test_no_rate_means_no_limit_and_no_burst_means_a_second() -> None:
    assert all(refusal(admission(), call()) is None for _ in range(1000))
    gate = admission(rate_per_second=5.0)
    assert sum(refusal(gate, call()) is None for _ in range(10)) == 5
    slow = admission(rate_per_second=0.5)
    assert sum(refusal(slow, call()) is None for _ in range(10)) == 1


def test_a_caller_s_own_rate_goes_before_the_settings() -> None:
    gate = admission(rate_per_second=10.0, burst=3.0)
    fast, free = Principal("fast", rate_per_second=5.0, burst=20.0), Principal("free", rate_per_second=0.0)
    assert sum(refusal(gate, call(), who=fast) is None for _ in range(50)) == 20
    assert all(refusal(gate, call(), who=free) is None for _ in range(1000))
    assert sum(refusal(gate, call()) is None for _ in range(50)) == 3
    slow, unset = Principal("slow", rate_per_second=2.0), admission()
    assert sum(refusal(unset, call(), who=slow) is None for _ in range(10)) == 2, "no settings are needed"
    assert all(refusal(admission(), call()) is None for _ in range(100))


def test_a_batch_counts_the_requests_that_it_holds() -> None:
    gate = make_admission(AdmissionConfig(rate_per_second=100.0, burst=8.0))
    requests = [recommender_pb2.RecommendRequest(user_id=f"u{i}", exclude_item_ids=["i1"]) for i in range(7)]
    batch = call(method="/headrace.v1.RecommenderService/RecommendBatch")
    batch.body = recommender_pb2.RecommendBatchRequest(requests=requests).SerializeToString()
    one = call(method="/headrace.v1.RecommenderService/Recommend")
    assert [refusal(gate, each) is None for each in (batch, one, one)] == [True, True, False]
    bids = call(method="/headrace.v1.BidderService/BidBatch")
    bids.body = bidder_pb2.BidBatchRequest(requests=[bidder_pb2.BidRequest()] * 108).SerializeToString()
    assert refusal(gate, bids, NOW + 0.079) is not None, "more than fits waits for all that fits"
    assert refusal(gate, bids, NOW + 0.081) is None
    assert "try again in 1.0" in str(refusal(gate, one, NOW + 0.081)), "and is paid off"
    assert refusal(gate, one, NOW + 1.2) is None
    bids.body = b"\xff"
    assert refusal(gate, bids, NOW + 2) is None, "whatever is no message counts as one"


def test_a_burst_below_one_call_locks_nobody_out() -> None:
    gate = admission(rate_per_second=5.0, burst=0.5)
    assert refusal(gate, call()) is None
    assert refusal(gate, call()) is not None


def test_settings_change_while_it_runs() -> None:
    gate = admission()
    gate.answered("/slate", 1, 0.010, NOW)
    assert refusal(gate, call(NOW + 0.018)) is None
    gate.configure(AdmissionConfig(margin=3.0, rate_per_second=1.0))
    assert refusal(gate, call(NOW + 0.018)) is TOO_LATE
    assert isinstance(refusal(gate, call(NOW + 1)), RateLimitError)


def test_room_is_never_oversold() -> None:
    room = Room(5)
    assert (room.take(3), room.take(4), room.take(1)) == (3, 2, 0)
    room.give(2)
    assert room.take(9) == 2


# -- bad input


def test_clock_jumps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's date is set back and forth by years: only the monotonic clock counts."""
    dates = itertools.cycle([0.0, 4e9, -1.0])
    monkeypatch.setattr(time, "time", lambda: next(dates))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(dates) * 1e9))
    gate = admission(rate_per_second=1000.0, burst=1000.0)
    gate.answered("/slate", 1, 0.01, NOW)
    assert refusal(gate, call(NOW - 1)) is EXPIRED
    assert refusal(gate, call(NOW + 0.002)) is TOO_LATE
    assert refusal(gate, call(NOW + 1)) is None
    assert all(stream(gate, 5, NOW + 1, 0.3))
    assert sum(stream(gate, 50, NOW + 2, 0.3)) <= 102


# -- overload, simulated


@dataclass
class Simulation:
    """One worker with an earliest-deadline-first queue of Poisson arrivals, all times virtual.

    each_s, fixed_s : what a batch takes for each call and once. refused_s : what a refused or cheap answer takes.
    """

    each_s: float = 200e-6
    fixed_s: float = 300e-6
    refused_s: float = 2e-6
    deadline_s: float = 0.1
    seconds: float = 4.0
    method: str = "/slate"
    gate: AdmitInTime = field(default_factory=admission)
    in_time: int = 0
    late: int = 0
    cheap: int = 0
    latencies: list[float] = field(default_factory=list)

    def run(self, rate: float) -> Simulation:
        rng = np.random.default_rng(int(rate))
        arrivals = np.cumsum(rng.exponential(1 / rate, int(rate * self.seconds))).tolist()
        now, first, queue = 0.0, 0, 0
        while first < len(arrivals):
            while queue < len(arrivals) and arrivals[queue] <= now:
                queue += 1
            if queue == first:
                now = arrivals[first]
                continue
            batch = arrivals[first : min(queue, first + self.gate.limit(64))]
            first += len(batch)
            rest, now = self.answer(batch, now, len(batch))
            while rest:
                rest, now = self.answer(rest, now, 0)
        return self

    def answer(self, batch: list[float], now: float, n_new: int) -> tuple[list[float], float]:
        """One turn; returns what is left for the next, and the time."""
        turn, good, n_refused = self.gate.turn(now, n_new), [], 0
        for n, arrived in enumerate(batch):
            one = call(arrived + self.deadline_s, arrived, self.method)
            error = turn.refusal(one, ANYONE)
            if error is NEXT_TURN:
                batch = batch[n:]
                break
            n_refused += error is not None
            good += [one] if error is None else []
        else:
            batch = []
        now += n_refused * self.refused_s
        self.cheap += n_refused
        if good:
            took_s = self.fixed_s + len(good) * self.each_s
            now += took_s
            self.gate.answered(self.method, len(good), took_s, now)
            self.in_time += sum(now <= one.deadline for one in good)
            self.late += sum(now > one.deadline for one in good)
            self.latencies += [now - one.arrived for one in good]
        return batch, now

    def goodput(self) -> float:
        return self.in_time / self.seconds


@pytest.mark.parametrize("method", ["/slate", "/bid"])
@pytest.mark.parametrize("deadline_s", [0.02, 0.1, 1.0, math.inf])
def test_overload_five_times_keeps_nine_tenths_of_the_peak(method: str, deadline_s: float) -> None:
    capacity = 64 / (300e-6 + 64 * 200e-6)
    runs = {
        load: Simulation(method=method, deadline_s=deadline_s).run(load * capacity) for load in (0.5, 0.8, 1, 1.5, 5)
    }
    peak = max(run.goodput() for run in runs.values())
    assert runs[5].goodput() >= 0.9 * peak
    assert peak >= 0.85 * capacity
    for load, run in runs.items():
        assert run.late <= 0.01 * (run.in_time + run.late), "p99 of answered calls is inside their deadline"
        # without a deadline too nobody waits for long, once the queue was seen to stand
        assert np.quantile(run.latencies, 0.95) <= 0.12, load
    assert runs[0.5].cheap == 0


def test_without_the_gate_the_same_overload_answers_nobody_in_time() -> None:
    """What the gate is for: with a queue alone, what is answered is late."""

    class Open(AdmitInTime):
        def turn(self, now: float, n: int) -> Any:
            class Yes:
                def refusal(self, *_: object) -> None:
                    return None

            return Yes()

    gate = Open(AdmissionConfig(), {}, 1.0, apart=())
    run = Simulation(gate=gate, seconds=2.0).run(5 * 4700)
    assert run.in_time < 0.2 * run.late


def test_decision_costs_about_a_microsecond() -> None:
    gate = admission()
    gate.answered("/slate", 10, 0.001, NOW)
    calls = [call(NOW + 1) for _ in range(2000)]
    best = math.inf
    for _ in range(5):
        turn = gate.turn(NOW, 10)
        begun = time.thread_time()
        for one in calls:
            turn.refusal(one, ANYONE)
        best = min(best, (time.thread_time() - begun) / len(calls))
    assert best < 3e-6, f"{best * 1e6:.2f} microseconds; a busy machine takes longer than the microsecond aimed at"
