"""Reported purchases: counted once, judged by their token, they correct goals and survive a restart."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from headrace.bidding.actions import Actions
from headrace.bidding.pacing import progress
from headrace.bidding.pacing.delay import MOST_KEPT, Delay
from headrace.bidding.settings import BiddingConfig
from headrace.decisions.erasure import Erasures
from headrace.decisions.reading import read_recording
from headrace.decisions.recorder import DecisionRecorder
from headrace.decisions.settings import DecisionsConfig
from headrace.errors import InvalidRequestError, StoreError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger
from headrace.service.actions import PATH, ActionsService, action_routes
from headrace.service.explain import ExplainService
from headrace.v1 import bidder_pb2 as pb
from headrace.v1 import campaigns_pb2

DAY_MS, HOUR_MS = 86_400_000, 3_600_000
WORTH = 10_000_000
REPORTED = BiddingConfig(explore_share=0.0, actions="reported")
OUTCOMES = {value: name.removeprefix("ACTION_OUTCOME_") for name, value in pb.ActionOutcome.items()}


class Rig:
    """The bidding path on a real ledger, and what takes in reports; a start anew keeps the store."""

    def __init__(self, folder, factories, make, config=REPORTED):
        self.folder, self.factories, self.make, self.config = folder, factories, make, config
        self.store = Store(folder / "ledger" / "money.db")
        self.ledger = Ledger(folder / "ledger", self.store, clock_ms=lambda: make.noon_ms)
        assert self.ledger.try_acquire()
        records = folder / "decisions"
        settings = DecisionsConfig(no_bid_rate=1.0)
        self.recorder = DecisionRecorder(records, settings, Erasures(lambda _: (0, []), records), lambda: make.noon_ms)
        self.explainer = ExplainService(records, self.recorder)
        self.start()

    def start(self):
        self.path = self.make.path(self.folder, self.factories.make_artifact(), self.ledger, config=self.config)
        pacer = self.path.engine.pacer
        pacer.restore(progress.load(self.store), self.path.now_ms)
        self.path.engine.record(self.recorder)
        self.actions = Actions(self.store, self.ledger, pacer, self.config, lambda: self.path.now_ms, self.recorder)
        self.service = ActionsService(self.actions, lambda: self.path.now_ms)
        self.actions.feed()

    @property
    def goals(self):
        """The pacer's, once it has solved anew."""
        self.path.engine.pacer.solve(self.path.now_ms)
        return self.path.engine.pacer._course.goals

    def win(self):
        bid = self.path.bid_one(time_ms=self.path.now_ms)
        told = pb.Notice(type=pb.NOTICE_TYPE_WIN, token=bid.token, price_cpm_micros=1_000)
        assert self.path.notify(told) == [pb.NOTICE_OUTCOME_ACCEPTED]
        return bid.token

    def report(self, *actions):
        (answer,) = self.service.report([pb.ReportActionsRequest(actions=actions)])
        if isinstance(answer, Exception):
            raise answer
        return [OUTCOMES[outcome] for outcome in answer.outcomes]

    def say(self, action_id, token, **fields):
        return self.report(pb.Action(action_id=action_id, token=token, **fields))[0]

    def close(self):
        self.recorder.close()
        self.ledger.close()
        self.store.close()


@pytest.fixture
def rig(tmp_path, factories, make):
    """Acme's campaign with the line items a, which has a goal, and b."""
    rig = Rig(tmp_path, factories, make)
    rig.path.fund()
    rig.path.create(
        lines=[
            make.line_item("a", goals=campaigns_pb2.Goals(target_roas=1.0)),
            make.line_item("b", action_worth_micros=1_000_000),
        ]
    )
    yield rig
    rig.close()


def test_an_action_counts_once_whatever_is_repeated(rig):
    token = rig.win()
    action = pb.Action(action_id="order 7", token=token, time_ms=rig.path.now_ms, count=2)
    assert rig.report(action, action) == ["ACCEPTED", "DUPLICATE"]
    rig.path.now_ms += 5_000
    assert rig.say("order 7", token, count=2) == "DUPLICATE"  # the time of a retry does not matter
    for other in ({"count": 3}, {"count": 2, "worth_micros": 1}, {"count": 2, "retraction": True}):
        assert rig.say("order 7", token, **other) == "CONFLICT"
    assert rig.say("order 7", rig.win(), count=2) == "CONFLICT"
    assert rig.goals.actions.tolist() == pytest.approx([2.0, 0.0], rel=1e-4)
    totals = rig.actions.outcomes.totals()
    assert (int(totals[1]), int(totals[2]), int(totals[3])) == (1, 2, 4)


def test_calls_that_are_answered_together_are_one_commit_and_share_their_ids(rig):
    token = rig.win()
    before = sum(rig.store.commits.read()[0])
    requests = [
        pb.ReportActionsRequest(actions=[pb.Action(action_id=f"{n % 1500}", token=token) for n in range(k, k + 1000)])
        for k in (0, 1000)
    ]
    first, second = rig.service.report(requests)
    outcomes = [*first.outcomes, *second.outcomes]
    assert outcomes == [pb.ACTION_OUTCOME_ACCEPTED] * 1500 + [pb.ACTION_OUTCOME_DUPLICATE] * 500
    assert sum(rig.store.commits.read()[0]) == before + 1
    assert rig.goals.actions[0] == 1500.0


def test_a_token_decides_what_may_be_reported(rig):
    bid = rig.path.bid_one(time_ms=rig.path.now_ms)
    assert rig.path.notify(pb.Notice(type=pb.NOTICE_TYPE_LOSS, token=bid.token)) == [pb.NOTICE_OUTCOME_ACCEPTED]
    won, silent = rig.win(), rig.path.bid_one(time_ms=rig.path.now_ms).token
    assert rig.say("1", bid.token) == "NOT_WON"
    assert rig.say("2", silent) == "ACCEPTED"  # the win's notice may be lost, or on its way
    assert rig.say("3", won[:-4] + "AAAA") == "FORGED"
    assert rig.say("4", "no token") == "UNKNOWN"
    rig.path.now_ms += rig.config.action_window_ms - 1
    assert rig.say("5", won) == "ACCEPTED"
    rig.path.now_ms += 2
    assert rig.say("5", won) == "TOO_OLD"
    assert rig.say("6", bid.token) == "TOO_OLD"
    assert rig.say("7", won[:-4] + "AAAA") == "FORGED"


def test_what_comes_back_is_taken_from_what_was_reported(rig):
    token = rig.win()
    assert rig.say("return 1", token, retraction=True) == "NOT_REPORTED"
    assert rig.say("order 1", token, count=3, worth_micros=2 * WORTH) == "ACCEPTED"
    assert rig.say("return 1", token, retraction=True, count=2, worth_micros=2 * WORTH) == "ACCEPTED"
    assert rig.say("return 2", token, retraction=True, count=2) == "NOT_REPORTED"
    assert rig.goals.actions.tolist() == [1.0, 0.0]
    assert rig.goals.earned.tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"action_id": ""}, "actions[1].action_id"),
        ({"action_id": "x" * 129}, "actions[1].action_id"),
        ({"token": ""}, "actions[1].token"),
        ({"token": "x" * 257}, "actions[1].token"),
        ({"time_ms": -1}, "actions[1].time_ms"),
        ({"time_ms": 4_102_444_800_000}, "actions[1].time_ms"),
        ({"count": 10_001}, "actions[1].count"),
        ({"worth_micros": -1}, "actions[1].worth_micros"),
    ],
)
def test_a_wrong_action_fails_its_whole_call_and_no_other(rig, fields, what):
    token = rig.win()
    good = pb.Action(action_id="good", token=token)
    wrong = pb.Action(**{"action_id": "wrong", "token": token} | fields)
    first, second = rig.service.report(
        [pb.ReportActionsRequest(actions=[good, wrong]), pb.ReportActionsRequest(actions=[good])]
    )
    assert isinstance(first, InvalidRequestError)
    assert first.what == what
    assert list(second.outcomes) == [pb.ACTION_OUTCOME_ACCEPTED]


def test_a_call_has_1_to_1000_actions(rig):
    action = pb.Action(action_id="a", token=rig.win())
    for n in (0, 1001):
        with pytest.raises(InvalidRequestError, match="1 to 1000"):
            rig.report(*[action] * n)


def test_json_over_http_is_the_same(rig, make):
    token = rig.win()
    body = {"actions": [{"action_id": "order 9", "token": token, "count": 2, "worth_micros": 5}]}
    calls = [
        replace(call, body=raw)
        for raw in (json.dumps(body).encode(), b"{", b'{"actions": [{"price": 1}]}', b"\xff")
        for call in [rig.path.call()]
    ]
    good, *wrong = rig.service.report_json(calls)
    assert json.loads(good.body) == {"outcomes": ["ACTION_OUTCOME_ACCEPTED"]}
    assert all(isinstance(each, InvalidRequestError) for each in wrong)
    assert {route.path for route in action_routes()} == {PATH, "/v1/{tenant}/actions"}


def test_nothing_is_counted_that_was_not_committed(rig, monkeypatch):
    token = rig.win()

    def fail(*_):
        raise StoreError("the disk fails")

    monkeypatch.setattr(rig.store, "write", fail)
    with pytest.raises(StoreError):
        rig.say("order", token)
    monkeypatch.undo()
    assert rig.goals.actions.tolist() == [0.0, 0.0]
    assert rig.say("order", token) == "ACCEPTED"


def test_a_restart_goes_on_from_what_was_saved_and_reads_the_rest(rig):
    token = rig.win()
    rig.say("1", token, count=4)
    rig.goals.due[:], rig.goals.pending[:] = (6.0, 1.0), (2.0, 3.0)
    progress.save(rig.store, rig.path.engine.pacer.progress())
    rig.say("2", token, count=3)  # after the last save, before a crash
    rig.start()
    goals = rig.goals
    assert goals.actions.tolist() == [7.0, 0.0]
    assert goals.due.tolist() == [6.0, 1.0]
    assert goals.pending.tolist() == [2.0, 3.0]
    assert rig.say("1", token, count=4) == "DUPLICATE"
    assert rig.goals.actions.tolist() == [7.0, 0.0]


def test_reports_of_bids_made_before_counting_began_correct_nothing(rig):
    rig.config = BiddingConfig(explore_share=0.0)
    rig.start()
    token = rig.win()
    assert rig.say("1", token) == "ACCEPTED"
    assert rig.goals.actions.tolist() == [0.0, 0.0]  # goals go by predictions here
    progress.save(rig.store, rig.path.engine.pacer.progress())
    rig.config = REPORTED
    rig.path.now_ms += 1
    now_ms = rig.path.now_ms
    rig.start()
    rig.path.engine.pacer.restore(progress.load(rig.store), now_ms)
    rig.actions.feed()
    assert rig.goals.since_ms == now_ms > rig.make.noon_ms
    assert rig.say("2", token) == "ACCEPTED"
    assert rig.goals.actions.tolist() == [0.0, 0.0]  # its impression was never counted as due
    rig.path.now_ms = now_ms
    assert rig.say("3", rig.win()) == "ACCEPTED"
    assert rig.goals.actions.tolist() == pytest.approx([1.0, 0.0])


def test_actions_of_bids_too_old_to_be_reported_are_forgotten(rig):
    token = rig.win()
    rig.say("1", token)
    heard = rig.goals.heard
    rig.actions.forget(heard)
    rig.path.now_ms += 2 * rig.config.action_window_ms + 1
    rig.actions.forget(heard - 1)  # not kept elsewhere yet
    assert len(rig.store.read("SELECT 1 FROM bid_actions")) == 1
    rig.actions.forget(heard)
    assert rig.store.read("SELECT 1 FROM bid_actions") == []
    rig.path.now_ms = rig.make.noon_ms
    rig.say("2", token)
    assert rig.goals.heard > heard  # numbers are not used again
    assert rig.goals.actions[0] == pytest.approx(2.0)


def test_a_goal_follows_what_really_comes(rig):
    goals = rig.goals
    token = rig.win()
    goals.due[:] = 1_000.0, 0.0
    rig.say("1", token, count=500)
    rig.goals.due[0] = 1_000.0
    allowed = rig.goals.allowed()[0, 0]
    assert allowed == pytest.approx(0.5, abs=0.02)
    rig.say("2", token, count=500, worth_micros=4 * WORTH)
    rig.goals.due[0] = 1_000.0
    assert rig.goals.allowed()[0, 0] == pytest.approx(2.5, abs=0.1)  # a return counts what they were worth
    assert rig.goals.calibration()[0][0] == pytest.approx(1.0, abs=0.01)


def test_old_reports_fade_with_their_predictions(rig):
    goals = rig.goals
    goals.due[:], goals.actions[:], goals.earned[:] = 40.0, 20.0, 10.0
    goals.add(28 * DAY_MS, DAY_MS, [goals.spent * 0, goals.spent * 0, goals.spent * 0])
    assert (goals.due[0], goals.actions[0], goals.earned[0]) == (20.0, 10.0, 5.0)


def test_how_long_reports_take_is_learned_and_survives_a_restart(rig):
    assert rig.goals.delay.mean_ms(rig.path.now_ms) == rig.config.action_delay_ms
    tokens = [rig.win() for _ in range(40)]
    for n, token in enumerate(tokens):
        rig.path.now_ms += 15_000  # five minutes on average
        assert rig.say(str(n), token) == "ACCEPTED"
    rig.path.now_ms += DAY_MS
    learned = rig.goals.delay.mean_ms(rig.path.now_ms)
    assert 240_000 < learned < 600_000
    now_ms = rig.path.now_ms
    progress.save(rig.store, rig.path.engine.pacer.progress())
    rig.start()
    assert rig.goals.delay.mean_ms(now_ms) == pytest.approx(learned)


def test_of_many_delays_an_even_part_is_kept():
    delay = Delay(DAY_MS)
    for n in range(20_000):
        delay.heard(n * 1_000, n * 1_000 + HOUR_MS * (1 + n % 3), 1)
    assert len(delay._kept) <= MOST_KEPT
    assert delay.mean_ms(30 * DAY_MS) == pytest.approx(2 * HOUR_MS, rel=0.05)


def test_reports_from_several_threads_are_each_counted_once(rig):
    tokens = [rig.win() for _ in range(3)]
    barrier = threading.Barrier(4)

    def send(first):
        barrier.wait()
        for n in range(first, first + 40):
            rig.say(f"order {n}", tokens[n % 3])

    threads = [threading.Thread(target=send, args=(20 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rig.goals.actions[0] == 100.0


def test_records_hold_actions_and_explain_shows_them(rig, tmp_path):
    token, other = rig.win(), rig.win()
    at = rig.path.now_ms - 5_000
    rig.say("secret order", token, time_ms=at, count=3, worth_micros=7)
    rig.say("secret order", token, time_ms=at, count=3, worth_micros=7)
    rig.say("return", token, time_ms=at + 1_000, retraction=True)
    (answer,) = rig.explainer.explain([pb.ExplainBidRequest(token=token)])
    assert [(each.time_ms, each.count, each.worth_micros) for each in answer.actions] == [
        (at, 3, 7),
        (at + 1_000, -1, 0),
    ]
    (answer,) = rig.explainer.explain([pb.ExplainBidRequest(token=other)])
    assert list(answer.actions) == []
    recording = read_recording(tmp_path)
    assert recording.actions["count"].tolist() == [3, -1]
    assert len(set(recording.action_row.tolist())) == 1
    raw = b"".join(path.read_bytes() for path in (tmp_path / "decisions").glob("*.records"))
    assert b"secret" not in raw
    assert token.encode() not in raw
    assert rig.store.read("SELECT 1 FROM bid_actions WHERE instr(action, 'secret') OR instr(token, 'secret')") == []
