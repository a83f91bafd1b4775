"""The compiled iALS: what it refuses, what it falls back to, that it can be stopped, and what it needs."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import FrameType

import numpy as np
import pytest
import scipy.sparse as sp

from headrace._native import als_solve, use_als_pass
from headrace.errors import ConfigError, DataError
from headrace_training.als import Als, AlsSettings
from headrace_training.history import PURCHASE, History
from headrace_training.models import ials
from headrace_training.models.ials import IalsTrainer, ImplicitTrainer, ials_memory_bytes


def ratings(n_users: int = 60, n_items: int = 40, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    return sp.csr_matrix((rng.random((n_users, n_items)) < 0.2).astype(np.float32))


def test_a_fit_computed_by_hand() -> None:
    # Two strangers with an item each, c = 4 and a ridge of 1: their axes are apart, and on each x = y with
    # x = c x / (c x² + 1), so that the score x² is 1 - 1/4 and the loss 2 (4 / 16 + 2 * 3/4).
    als = Als(sp.csr_matrix(2 * np.eye(2, dtype=np.float32)), AlsSettings(n_factors=2, alpha=2.0, regularization=1.0))
    for _ in range(200):
        als.epoch()
    np.testing.assert_allclose(als.user_factors @ als.item_factors.T, 0.75 * np.eye(2), atol=1e-3)
    assert als.loss() == pytest.approx(3.5, rel=1e-4)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf, np.nan])
def test_a_weight_of_zero_or_infinity_is_refused(weight: float) -> None:
    train = ratings()
    train.data[5] = weight
    with pytest.raises(DataError, match="a finite number above 0"):
        IalsTrainer(4, 1.0, 1.0, 1, 0).factorize(train)


@pytest.mark.parametrize("alpha", [1e3, 1e20])
def test_a_weight_that_alpha_takes_out_of_reach_is_refused(alpha: float) -> None:
    train = ratings()
    train.data[0] = 1e30
    with pytest.raises(DataError, match="weight"):
        IalsTrainer(4, alpha, 1.0, 1, 0).factorize(train)


def test_the_greatest_and_the_least_weights_are_learnt_from() -> None:
    train = ratings()
    train.data[::3], train.data[1::3] = 1e12, 1e-30
    users, items = IalsTrainer(8, 1.0, 1.0, 5, 0).factorize(train)
    scores = (users @ items.T)[train.nonzero()]
    assert np.isfinite(scores).all()
    assert np.abs(scores[::3] - 1).mean() < np.abs(scores[1::3] - 1).mean()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_factors", 0),
        ("alpha", 0.0),
        ("alpha", float("inf")),
        ("regularization", 0.0),
        ("regularization", float("nan")),
        ("frequency_exponent", -1.0),
        ("n_threads", -1),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        AlsSettings(**{"n_factors": 4, "alpha": 1.0, "regularization": 1.0, name: value})  # type: ignore[arg-type]


def test_repeated_pairs_add_their_weights_and_the_input_stays() -> None:
    repeated = sp.csr_matrix((np.ones(4, np.float32), np.array([1, 1, 0, 2]), np.array([0, 3, 4])), shape=(2, 3))
    once = sp.csr_matrix(np.array([[1, 2, 0], [0, 0, 1]], dtype=np.float32))
    left, right = (IalsTrainer(3, 2.0, 1.0, 4, 0).factorize(each) for each in (repeated, once))
    np.testing.assert_array_equal(left[0], right[0])
    assert repeated.nnz == 4
    assert (repeated.data == 1).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 4)])
def test_nothing_observed_gives_nothing(shape: tuple[int, int]) -> None:
    users, items = IalsTrainer(6, 1.0, 1.0, 2, 0).factorize(sp.csr_matrix(shape, dtype=np.float32))
    assert (users.shape, items.shape) == ((shape[0], 6), (shape[1], 6))
    assert not users.any()
    assert not items.any()


def test_what_has_aged_to_nothing_is_no_confidence() -> None:
    history = History(
        indptr=np.array([0, 2]),
        items=np.array([0, 1], np.int32),
        types=np.full(2, PURCHASE, np.int8),
        counts=np.array([1e-60, 1.0]),
        weights=np.ones(2, np.float32),
        times_ms=np.zeros(2, np.int64),
        n_items=2,
    )
    assert history.confidence(1.0).data.tolist() == [1.0]


def test_it_finds_what_implicit_finds() -> None:
    train = ratings(200, 80)
    ours, theirs = (
        trainer.factorize(train) for trainer in (IalsTrainer(8, 10.0, 3.0, 60, 0), ImplicitTrainer(8, 10.0, 3.0, 60, 0))
    )
    assert ours[0].dtype == theirs[0].dtype == np.float32
    losses = [_loss(train, *factors) for factors in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def _loss(train: sp.csr_matrix, users: np.ndarray, items: np.ndarray) -> float:
    scores, c = users @ items.T, 10.0 * train.toarray()
    return float(np.where(c > 0, c * (1 - scores) ** 2, scores**2).sum() + 3.0 * ((users**2).sum() + (items**2).sum()))


def test_without_the_core_implicit_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ials, "find_spec", lambda name: None if name == "headrace._native" else object())
    train = ratings()
    users, _ = IalsTrainer(4, 2.0, 1.0, 3, 0).factorize(train)
    np.testing.assert_array_equal(users, ImplicitTrainer(4, 2.0, 1.0, 3, 0).factorize(train)[0])
    with pytest.raises(ConfigError, match="frequency_exponent"):
        IalsTrainer(4, 2.0, 1.0, 3, 0, frequency_exponent=0.5).factorize(train)


def test_the_frequency_exponent_regularises_the_busy_more() -> None:
    train = sp.csr_matrix(np.tril(np.ones((30, 30), dtype=np.float32)))
    flat, scaled = (
        np.linalg.norm(IalsTrainer(8, 10.0, 20.0, 20, 0, frequency_exponent=nu).factorize(train)[0], axis=1)
        for nu in (0.0, 1.0)
    )
    assert scaled[0] > flat[0]
    assert scaled[-1] < flat[-1]


def test_the_watcher_sees_the_loss_of_every_iteration() -> None:
    losses: list[float] = []
    IalsTrainer(4, 5.0, 1.0, 7, 0, watch=lambda als: losses.append(als.loss())).factorize(ratings())
    assert len(losses) == 7
    assert losses == sorted(losses, reverse=True)


def test_a_signal_stops_it_between_tiles() -> None:
    class StoppedError(Exception):
        pass

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedError

    n, width = 20_000, 128
    rng = np.random.default_rng(0)
    fixed, free = rng.standard_normal((200, width)).astype(np.float32), np.zeros((n, width), np.float32)
    columns = np.tile(np.arange(200, dtype=np.int32), n)
    indptr = np.arange(0, 200 * n + 1, 200)
    ones = np.ones(width, np.float32)
    before = signal.signal(signal.SIGALRM, stop)
    try:
        # the threads would need twenty times longer
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(StoppedError):
            als_solve(
                indptr, columns, np.full(200 * n, 9e3, np.float32), fixed, ones, np.ones(n, np.float32), free, 4000, 2
            )
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not free[-1].any()


def test_arrays_that_do_not_fit_are_refused() -> None:
    table, ones = np.zeros((3, 16), np.float32), np.ones(16, np.float32)
    indptr, columns = np.array([0, 1]), np.array([3], np.int32)
    with pytest.raises(ValueError, match="do not fit"):
        als_solve(indptr, columns, ones[:1], table, ones, ones[:1], table[:1].copy(), 1, 1)
    with pytest.raises(ValueError, match="no such pass"):
        use_als_pass("none")


def test_the_memory_estimate_covers_what_is_used() -> None:
    script = """
import numpy as np, scipy.sparse as sp
from headrace_training.als import Als, AlsSettings
from headrace_training.models.ials import ials_memory_bytes

def memory(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

rng = np.random.default_rng(0)
n, m, d, each = 60_000, 30_000, 100, 20
Als(sp.identity(20, np.float32, format="csr"), AlsSettings(n_factors=3, alpha=1.0, regularization=1.0)).epoch()
columns = rng.integers(0, m, n * each).astype(np.int32)
train = sp.csr_matrix((np.ones(n * each, np.float32), columns, np.arange(0, n * each + 1, each)), shape=(n, m))
train.sum_duplicates()
before = memory("VmRSS")
als = Als(train, AlsSettings(n_factors=d, alpha=1.0, regularization=1.0))
als.epoch(1)
factors = als.user_factors, als.item_factors
print(memory("VmHWM") - before, ials_memory_bytes(n, m, train.nnz, d))
"""
    used, estimate = map(
        int, subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout.split()
    )
    assert 0.4 * estimate < used <= estimate


def test_fifty_gigabytes_are_estimated_without_being_asked_for() -> None:
    assert ials_memory_bytes(40_000_000, 10_000_000, 2_000_000_000, 128) > 50e9
    assert Als(ratings(), AlsSettings(n_factors=2, alpha=1.0, regularization=1.0)).item_factors.nbytes == 40 * 2 * 4
