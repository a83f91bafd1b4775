"""More memory asked than there is: an estimate near the truth, and a refusal before the start."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from headrace.errors import ConfigError
from headrace_training import memory
from headrace_training.memory import available_bytes, require_for_file
from headrace_training.models import make_model

GB = 10**9


@pytest.fixture
def root(tmp_path: Path) -> Callable[[dict[str, object]], Path]:
    def write(files: dict[str, object]) -> Path:
        for name, text in ({"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {24 * GB // 1024} kB\n"} | files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return write


V2 = "sys/fs/cgroup/box/job/"
V1 = "sys/fs/cgroup/memory/job/"
MACHINES: dict[str, tuple[dict[str, object], float]] = {
    "no control groups": ({}, 24),
    "a group of version 2": (
        {"proc/self/cgroup": "0::/box/job", f"{V2}memory.max": 8 * GB, f"{V2}memory.current": 3 * GB},
        5,
    ),
    "a group whose caches can go": (
        {
            "proc/self/cgroup": "0::/box/job",
            f"{V2}memory.max": 8 * GB,
            f"{V2}memory.current": 3 * GB,
            f"{V2}memory.stat": f"anon 7\ninactive_file {GB}\nactive_file 5",
        },
        6,
    ),
    "a group within a smaller one": (
        {
            "proc/self/cgroup": "0::/box/job",
            f"{V2}memory.max": "max",
            f"{V2}memory.current": GB,
            "sys/fs/cgroup/box/memory.max": 4 * GB,
            "sys/fs/cgroup/box/memory.current": 2 * GB,
        },
        2,
    ),
    "a group of version 1": (
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job\n0::/",
            f"{V1}memory.limit_in_bytes": 10 * GB,
            f"{V1}memory.usage_in_bytes": 9 * GB,
            f"{V1}memory.stat": f"inactive_file 1\ntotal_inactive_file {3 * GB}",
        },
        4,
    ),
    "no limit of version 1": (
        {
            "proc/self/cgroup": "4:memory:/job",
            f"{V1}memory.limit_in_bytes": 2**63 - 4096,
            f"{V1}memory.usage_in_bytes": 5,
        },
        24,
    ),
    "a group that is used up": (
        {"proc/self/cgroup": "0::/box/job", f"{V2}memory.max": GB, f"{V2}memory.current": 2 * GB},
        0,
    ),
}


@pytest.mark.parametrize("machine", list(MACHINES))
def test_what_is_available_is_the_least_of_machine_and_groups(
    root: Callable[[dict[str, object]], Path], machine: str
) -> None:
    files, expected = MACHINES[machine]
    assert available_bytes(root(files)) == pytest.approx(expected * GB, abs=1024)


def test_this_machine_has_some() -> None:
    assert 10_000_000 < available_bytes() < 2**62


def random_matrix(n_users: int, n_items: int, n_pairs: int) -> sp.csr_matrix:
    """Items by a power law, as people take them."""
    rng = np.random.default_rng(0)
    shares = np.arange(1, n_items + 1) ** -0.8
    at = (rng.integers(0, n_users, n_pairs), rng.choice(n_items, n_pairs, p=shares / shares.sum()))
    matrix = sp.csr_matrix((np.ones(n_pairs, np.float32), at), shape=(n_users, n_items))
    matrix.sum_duplicates()
    return matrix


@pytest.mark.parametrize("name", ["graph", "itemknn", "linear"])
def test_the_estimate_is_near_what_a_fit_takes(name: str) -> None:
    train, model = random_matrix(3000, 4000, 60_000), make_model(name)
    make_model(name).fit(random_matrix(30, 40, 200))  # compiles
    tracemalloc.start()
    try:
        model.fit(train)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.7 < model.memory_bytes(train) / peak < 3  # type: ignore[attr-defined]


def test_the_exact_linear_model_is_estimated_by_its_dense_matrices() -> None:
    model = make_model("linear", 0, {"n_neighbours": 0})
    train = sp.csr_matrix((10, 50_000), dtype=np.float32)
    assert model.memory_bytes(train) == pytest.approx(50 * GB)  # type: ignore[attr-defined]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.txt"
    path.write_text("".join(f"u{user} i{user % 7} i{user % 5 + 7}\n" for user in range(100)))
    return path


def test_fifty_gigabytes_on_a_box_of_24_are_refused_before_the_start(
    headrace_train: Any, tmp_path: Path, train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 24 * GB)
    parameters = tmp_path / "large.json"
    parameters.write_text(json.dumps({"model": "ials", "parameters": {"n_factors": 16_000}}))
    arguments = ("--train", train, "--test", train, "--parameters", parameters, "--json")
    code, out, err = headrace_train("evaluate", *arguments)
    assert (code, out) == (2, "")
    assert "fitting ials on 100 users, 12 items and 200 pairs takes about 49." in err
    assert "24.0 GB are available" in err
    assert "fitting ials on all of train" not in err
    assert not (tmp_path / "test-openings.jsonl").exists()


def test_a_search_leaves_out_what_does_not_fit(
    headrace_train: Any, tmp_path: Path, train: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)
    arguments = ("--train", train, "--study", tmp_path / "study", "--trials", 2, "--model", "ials", "--json")
    code, out, err = headrace_train("search", *arguments)
    assert (code, out) == (2, "")
    assert "trial 1: ials" in err
    assert "are available" in err


@pytest.mark.parametrize("command", ["evaluate", "search"])
@pytest.mark.parametrize("kind", ["txt", "txt.gz", "csv", "parquet"])
def test_a_file_that_is_too_large_is_refused_unread(
    headrace_train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, kind: str
) -> None:
    path = tmp_path / f"train.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"user": ["u"] * 200_000, "item": ["i"] * 200_000}), path)
    else:
        with path.open("wb") as handle:
            handle.truncate(2_000_000)
    monkeypatch.setattr(memory, "available_bytes", lambda: 5_000_000)
    options = ("--test", path) if command == "evaluate" else ("--study", tmp_path / "study", "--trials", 1)
    code, out, err = headrace_train(command, "--train", path, *options, "--json")
    assert (code, out) == (2, "")
    assert f"reading {path} takes about 0.0 GB of memory" in err


def test_a_file_that_fits_or_is_none_passes(tmp_path: Path, train: Path) -> None:
    require_for_file(train)
    require_for_file(tmp_path / "absent")
    damaged = tmp_path / "damaged.parquet"
    damaged.write_text("no parquet")
    require_for_file(damaged)


def test_fit_refuses_factors_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 24 * GB)
    memory.require_for_factors(1_000_000, 100_000, 10_000_000, 64)
    with pytest.raises(ConfigError, match="--n-factors"):
        memory.require_for_factors(10_000_000, 1_000_000, 100_000_000, 1024)
