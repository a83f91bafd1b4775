"""Decision records: what was decided comes back as it was, from whole, torn, rotated and retired files."""

from __future__ import annotations

import os
import struct
import threading

import numpy as np
import pytest

from headrace._native import hash_texts
from headrace.decisions.columns import digest
from headrace.decisions.erasure import Erasures
from headrace.decisions.layout import FORMAT_VERSION, MAGIC, frames, torn_bytes
from headrace.decisions.reading import each_candidate, live_frames, read_recording
from headrace.decisions.recorder import DecisionRecorder
from headrace.decisions.segments import clean_until, segment_paths
from headrace.decisions.settings import DecisionsConfig
from headrace.errors import DataError
from headrace.v1 import bidder_pb2 as pb


class Log:
    """The part of an event log that tells of erasures."""

    def __init__(self):
        self.sequence, self.erased = 100, []

    def erase(self, key):
        self.sequence += 1
        self.erased.append((self.sequence, key))

    def __call__(self, since):
        return self.sequence, [key for sequence, key in self.erased if sequence > since]


class Wall:
    """The clock of the machine, stopped."""

    now_s = 1_700_000_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def record(path, tmp_path, log, wall):
    """Starts to record a path's decisions, with these settings; writing waits for ``flush``."""

    made = []

    def record(**settings):
        folder = tmp_path / "decisions"
        config = DecisionsConfig(**{"no_bid_rate": 1.0} | settings)
        recorder = DecisionRecorder(folder, config, Erasures(log, folder), lambda: path.now_ms, wall)
        path.engine.record(recorder)
        made.append(recorder)
        return recorder

    yield record
    for recorder in made:
        recorder.close()


def requests(make, n=6, **fields):
    return [
        make.bid_request(n_impressions=1 + i % 3, bid_request_id=f"auction-{i}", country=("DE", "FR")[i % 2], **fields)
        for i in range(n)
    ]


def test_what_was_decided_comes_back(path, make, record, tmp_path):
    path.create(lines=[make.line_item(), make.line_item("de", targeting={"countries": ["DE"], "categories": ["tea"]})])
    recorder = record()
    answers = path.bid(*requests(make, categories=["tea", "unheard of"], floor_cpm_micros=1_000_000))
    recorder.flush()
    recording = read_recording(tmp_path)
    said = [each for answer in answers for each in answer.impressions]
    auctions = recording.auctions
    assert auctions["bid_cpm"].tolist() == [each.bid_cpm_micros for each in said]
    assert auctions["value_cpm"].tolist() == [each.value_cpm_micros for each in said]
    assert auctions["probability"].tolist() == [each.probability for each in said]
    assert [bytes(each) for each in auctions["token"]] == [digest(each.token) for each in said]
    assert auctions["impression"].tolist() == [0, 0, 1, 0, 1, 2] * 2
    assert auctions["request"].tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5]
    seeds = hash_texts([f"auction-{i}" for i in range(6)])
    assert auctions["seed"].tolist() == seeds[auctions["request"].astype(int)].tolist()
    assert set(auctions["time_ms"]) == {path.now_ms}
    assert set(auctions["floor_cpm"]) == {1_000_000}
    assert [recording.words[code] for code in auctions["exchange"]] == ["adx"] * 12
    assert auctions["n_offers"].tolist() == [2, 1, 1, 2, 2, 2, 1, 2, 2, 1, 1, 1]
    (board,) = recording.boards
    lines = [line.line_item_id for _, line in board.lines]
    assert [lines[line] for line in auctions["line"]] == [each.line_item_id for each in said]
    vocabulary = {number: word for words in board.vocabularies for word, number in words.items()}
    german, french = auctions[0], auctions[1]
    words = [vocabulary[at] for at in recording.terms[german["term_start"] :][: german["n_terms"].sum()].tolist()]
    assert (words, french["n_terms"].tolist()) == (["DE", "tea"], [0, 1, 0])
    assert recording.models[0].version == path.artifact.version


def test_candidates_are_those_that_were_priced(path, make, record, tmp_path):
    lines = [make.line_item(f"l{i}", action_worth_micros=1_000_000 * (1 + i * 7 % 5)) for i in range(9)]
    path.create(lines=lines)
    recorder = record(candidate_limit=5)
    path.bid(*requests(make))
    recorder.flush()
    recording = read_recording(tmp_path)
    owner, at = each_candidate(recording.auctions)
    candidates = recording.candidates[at]
    assert np.bincount(owner).tolist() == [5] * 12
    assert set(recording.auctions["n_offers"]) == {9}
    first = candidates[owner == 0]
    assert sorted(first["rank"].tolist()) == [-1, 0, 1, 2, 3]
    assert first["line"].tolist() == sorted(first["line"].tolist())
    best = first[first["rank"] == 0][0]
    assert (best["line"], best["bid_cpm"]) == (recording.auctions["line"][0], recording.auctions["bid_cpm"][0])
    assert best["value_cpm"] == int(best["probability"] * lines[best["line"]].action_worth_micros * 1000)


def test_a_recording_may_begin_at_a_time(path, make, record, tmp_path):
    path.create(lines=[make.line_item("a"), make.line_item("de", targeting={"countries": ["DE"]})])
    recorder = record()
    offers = [path.bid_one(country=("FR", "DE")[hour % 2], time_ms=path.now_ms + hour) for hour in range(6)]
    path.notify(pb.Notice(type=pb.NOTICE_TYPE_WIN, token=offers[4].token, price_cpm_micros=5))
    recorder.flush()
    whole, late = read_recording(tmp_path), read_recording(tmp_path, path.now_ms + 3)
    assert late.auctions["bid_cpm"].tolist() == whole.auctions["bid_cpm"][3:].tolist()
    of_whole, of_late = (each.candidates[each_candidate(each.auctions)[1]] for each in (whole, late))
    assert of_late.tolist() == of_whole[4:].tolist()
    assert late.outcomes.won.tolist() == [False, True, False]
    with pytest.raises(DataError, match="no auction since then"):
        read_recording(tmp_path, path.now_ms + 6)


def test_what_became_of_bids_is_joined(path, make, record, tmp_path):
    path.create()
    recorder = record()
    tokens = [each.token for answer in path.bid(*requests(make, 4)) for each in answer.impressions]
    recorder.flush()
    path.notify(
        pb.Notice(type=pb.NOTICE_TYPE_WIN, token=tokens[0], price_cpm_micros=700),
        pb.Notice(type=pb.NOTICE_TYPE_BILLING, token=tokens[0], price_cpm_micros=900),
        pb.Notice(type=pb.NOTICE_TYPE_LOSS, token=tokens[2], minimum_to_win_cpm_micros=5_000),
        pb.Notice(type=pb.NOTICE_TYPE_LOSS, token="forged"),
    )
    path.engine.take_back([tokens[3], None])
    recorder.flush()
    outcomes = read_recording(tmp_path).outcomes
    assert np.flatnonzero(outcomes.won).tolist() == [0]
    assert np.flatnonzero(outcomes.lost).tolist() == [2]
    assert np.flatnonzero(outcomes.withdrawn).tolist() == [3]
    assert (outcomes.price_cpm[0], outcomes.minimum_cpm[2]) == (900, 5_000)
    assert (outcomes.price_cpm[1:] == -1).all()


def test_no_bids_are_drawn_at_the_published_rate(path, make, record, tmp_path):
    recorder = record(no_bid_rate=0.25)
    for _ in range(40):
        path.bid(*requests(make, 30))
    recorder.flush()
    auctions = read_recording(tmp_path).auctions
    assert set(auctions["weight"]) == {4.0}
    assert set(auctions["reason"]) == {pb.NO_BID_REASON_NO_MATCH}
    assert 450 < len(auctions) < 750
    assert record(no_bid_rate=0.0).n_recorded == 0


@pytest.fixture
def written(path, make, record, tmp_path):
    """The only segment of a short history with a bid, a no-bid and an outcome."""
    path.create(lines=[make.line_item(targeting={"countries": ["DE"]})])
    recorder = record()
    path.bid(make.bid_request(country="DE"))
    recorder.flush()
    path.bid(make.bid_request(country="FR"))
    recorder.flush()
    recorder.close()
    return segment_paths(tmp_path / "decisions")[0]


def test_a_torn_end_is_dropped_wherever_it_is(written, tmp_path):
    whole = written.read_bytes()
    sizes = []
    for size in range(len(whole) + 1):
        written.write_bytes(whole[:size])
        sizes.append(len(list(frames(written))))
        torn_bytes(written)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (0, 5)
    written.write_bytes(whole[:-1])
    recording = read_recording(tmp_path)
    assert (len(recording.auctions), recording.torn) == (1, [written.name])


def test_a_damaged_byte_ends_the_segment_there(written, tmp_path):
    whole = written.read_bytes()
    rng = np.random.default_rng(7)
    before = list(frames(written))
    for at in rng.integers(len(MAGIC) + 4, len(whole), 200).tolist():
        written.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        found = list(frames(written))
        assert found == before[: len(found)]
        assert len(found) < len(before)


def test_records_of_another_version_and_no_records_at_all_are_refused(written, tmp_path):
    whole = written.read_bytes()
    written.write_bytes(MAGIC + struct.pack("<I", FORMAT_VERSION + 1) + whole[12:])
    with pytest.raises(DataError, match="format version"):
        read_recording(tmp_path)
    written.write_bytes(b"something else entirely")
    with pytest.raises(DataError, match="holds no decision records"):
        read_recording(tmp_path)
    written.write_bytes(whole[:5])
    with pytest.raises(DataError, match="holds no auction"):
        read_recording(tmp_path)
    written.unlink()
    with pytest.raises(DataError, match=r"decisions\.record must be on"):
        read_recording(tmp_path)


def test_files_end_by_size_and_by_time(path, make, record, tmp_path, wall):
    path.create(lines=[make.line_item(f"l{i}") for i in range(16)])
    recorder = record(segment_mib=1, segment_minutes=1.0)
    n = 0
    while len(segment_paths(tmp_path / "decisions")) < 3:
        n += 1
        path.bid(*requests(make, 100))
        recorder.flush()
        recorder.tidy()
        wall.now_s += 0.001
    sizes = [path.stat().st_size for path in segment_paths(tmp_path / "decisions")]
    assert all(size >= 1 << 20 for size in sizes[:2])
    wall.now_s += 60
    recorder.tidy()
    path.bid(make.bid_request())
    recorder.flush()
    assert len(segment_paths(tmp_path / "decisions")) == 4
    recording = read_recording(tmp_path)
    assert len(recording.auctions) == 199 * n + 1  # of 100 requests a third has one, two, three impressions
    assert len(set(recording.auctions["board"])) == 4  # each file says anew what it refers to


def test_old_and_too_many_files_go_but_never_the_one_in_use(path, make, record, tmp_path, wall):
    path.create()
    recorder = record(segment_minutes=1.0, keep_days=1.0)
    for _ in range(4):
        path.bid(make.bid_request())
        recorder.flush()
        wall.now_s += 61
        recorder.tidy()
    folder = tmp_path / "decisions"
    paths = segment_paths(folder)
    assert len(paths) == 4
    os.utime(paths[1], (wall.now_s - 90_000, wall.now_s - 90_000))
    for each in (paths[0], *paths[2:]):
        os.utime(each, (wall.now_s, wall.now_s))
    recorder.tidy()
    assert segment_paths(folder) == [paths[0], *paths[2:]]
    path.bid(make.bid_request())
    recorder.flush()
    with paths[0].open("ab") as file:
        file.truncate(2 << 20)
    recorder.configure(DecisionsConfig(keep_mib=1))
    recorder.tidy()
    assert paths[0] not in segment_paths(folder)
    wall.now_s += 10 * 86_400
    recorder.configure(DecisionsConfig(segment_minutes=10_000.0, keep_days=1.0))
    recorder._segment.begun_s = wall.now_s
    recorder.tidy()
    assert len(segment_paths(folder)) == 1


def test_a_writer_that_is_behind_drops_and_counts_and_delays_nobody(path, make, record, tmp_path):
    path.create()
    recorder = record(queue=10)
    writing = threading.Lock()
    recorder._writing = writing
    with writing:  # a disk that does not answer
        for _ in range(3):
            assert path.bid_one(country="DE").bid_cpm_micros > 0
        path.bid(*requests(make))
    assert (recorder.n_dropped, recorder.n_waiting) == (12, 3)
    recorder.flush()
    assert (recorder.n_recorded, recorder.n_waiting) == (3, 0)


def test_a_disk_that_fails_drops_and_counts_and_works_again(path, make, record, tmp_path):
    path.create()
    recorder = record()
    folder = tmp_path / "decisions"
    folder.write_text("in the way")
    path.bid(*requests(make))
    recorder.flush()
    assert (recorder.n_dropped, recorder.n_recorded) == (12, 0)
    folder.unlink()
    path.bid(*requests(make))
    recorder.flush()
    assert (recorder.n_dropped, recorder.n_recorded) == (12, 12)


def test_a_file_that_is_renamed_while_it_is_read_is_found_again(written, tmp_path):
    renamed = written.with_name(written.name.replace("-100.", "-200."))
    written.rename(renamed)
    assert len(list(live_frames(written))) == len(list(frames(renamed))) == 5
    renamed.unlink()
    assert list(live_frames(written)) == []


def test_who_is_erased_leaves_every_file(path, make, record, tmp_path, log, wall, monkeypatch):
    path.create()
    recorder = record(segment_minutes=1.0)
    keys = iter([11, 22, 11, 33])
    read = type(path.engine._view.people).read

    def known(self, names, now_ms):
        return read(self, names, now_ms)._replace(subject_keys=np.array([next(keys)]), sequence=5)

    monkeypatch.setattr(type(path.engine._view.people), "read", known)
    for _ in range(3):
        path.bid(make.bid_request(user_id="somebody"))
        recorder.flush()
        wall.now_s += 61
        recorder.tidy()
    folder = tmp_path / "decisions"
    assert read_recording(folder).auctions["subject"].tolist() == [11, 22, 11]
    log.erase(11)
    recorder.tidy()
    auctions = read_recording(folder).auctions
    assert auctions["subject"].tolist() == [0, 22, 0]
    assert (auctions["seed"] == 0).tolist() == [True, False, True]
    assert (auctions["bid_cpm"] > 0).all()
    assert b"".join(each.read_bytes() for each in segment_paths(folder)).count((11).to_bytes(8, "little")) == 0
    assert {clean_until(each) for each in segment_paths(folder)} == {101}
    path.bid(make.bid_request(user_id="somebody"))  # decided before, written after
    log.erase(33)
    recorder._erasures.news()
    recorder.flush()
    assert read_recording(folder).auctions["subject"].tolist() == [0, 22, 0, 0]


def test_whoever_ends_forgets_first(path, make, record, tmp_path, log, monkeypatch):
    path.create()
    recorder = record()
    read = type(path.engine._view.people).read
    monkeypatch.setattr(
        type(path.engine._view.people),
        "read",
        lambda self, names, now_ms: read(self, names, now_ms)._replace(subject_keys=np.array([11])),
    )
    path.bid(make.bid_request())
    recorder.flush()
    log.erase(11)
    recorder.close()
    assert read_recording(tmp_path).auctions["subject"].tolist() == [0]


def test_an_erasure_that_a_crash_came_before_is_made_up_for(path, make, record, tmp_path, log):
    path.create()
    first = record()
    path.bid(make.bid_request())
    first.flush()
    folder = tmp_path / "decisions"
    (left,) = segment_paths(folder)
    first._segment._stream.close()  # the process ends without a word
    first._segment = None
    log.erase(44)
    second = record()
    assert clean_until(left) == 100
    second.tidy()
    (renamed,) = segment_paths(folder)
    assert clean_until(renamed) == 101
    assert second._erasures.keys.tolist() == [44]


def test_a_stranger_leaves_no_key(path, make, record, tmp_path):
    path.create()
    recorder = record()
    path.bid(make.bid_request(user_id="u1"), make.bid_request())
    recorder.flush()
    (segment,) = segment_paths(tmp_path / "decisions")
    assert set(read_recording(tmp_path).auctions["subject"]) == {0}
    assert b"u1" not in segment.read_bytes()
