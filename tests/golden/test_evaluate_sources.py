"""`headrace-train evaluate` on interactions: where models and splits come from, each clause computed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.artifacts import ArtifactStore
from headrace.events.log import NewEvent
from headrace.ids import IdTable
from headrace_training.datasets import read_pairs
from headrace_training.evaluate import fit_model
from headrace_training.ingest import open_log
from headrace_training.models import MODELS

JANUARY_2_MS = 1_704_153_600_000
"""2024-01-02T00:00:00Z."""


@pytest.fixture
def evaluate(headrace_train: Any) -> Any:
    def call(*options: object) -> dict[str, Any]:
        code, out, err = headrace_train("evaluate", *options, "--json")
        assert code == 0, err
        report: dict[str, Any] = json.loads(out)
        return report

    return call


def write_store(folder: Path, factories: ModuleType) -> Path:
    """Items a … d with one factor each of 4, 3, 2, 1, users ann and bob with a factor of 1; ann has a, bob nothing."""
    artifact = factories.make_artifact(2, 4, 1, history=1)
    items = np.array([[4.0], [3.0], [2.0], [1.0]], dtype=np.float32)
    arrays = {
        "item_factors": items,
        "gram": items.T @ items,
        "user_factors": np.ones((2, 1), dtype=np.float32),
        "history_indptr": np.array([0, 1, 1], dtype=np.int64),
        "history_items": np.array([0], dtype=np.int32),
        "history_types": np.array([3], dtype=np.int8),
        "history_weights": np.array([1.0], dtype=np.float32),
        "history_times_ms": np.array([JANUARY_2_MS], dtype=np.int64),
    }
    store = ArtifactStore(folder)
    with store.writer("v1") as writer:
        kept = {name: getattr(artifact, name) for name in factories.ARRAYS if getattr(artifact, name, None) is not None}
        writer.add(**(kept | arrays))
        writer.add_ids(users=IdTable.build(["ann", "bob"]), items=IdTable.build(list("abcd")))
        writer.finish(artifact.manifest)
    store.publish("v1", force=True)
    return folder


def test_artifact_measures_without_fitting(tmp_path: Path, factories: ModuleType, evaluate: Any) -> None:
    store = write_store(tmp_path / "store", factories)
    (tmp_path / "test.txt").write_text("ann a c\nbob d\neve a\n")
    report = evaluate("--artifact", store, "--test", tmp_path / "test.txt", "--k", 2)
    # ann: a is masked and an overlap, then b c: c at 2. bob and eve: no history, so by popularity: a, then the tie b
    assert (report["users"], report["items"], report["overlap_pairs"], report["cold_users"]) == (3, 4, 1, 2)
    assert report["recall@2"] == pytest.approx((1 + 0 + 1) / 3)
    assert report["ndcg@2"] == pytest.approx((1 / math.log2(3) + 0 + 1) / 3)
    assert (report["fit_seconds"], report["select_seconds"]) == (0.0, 0.0)


def test_log_trains_before_the_split_time_and_tests_from_it_on_in_utc(tmp_path: Path, evaluate: Any) -> None:
    log = open_log(tmp_path / "log", create=True)
    rows = [("u", "a", -9), ("v", "a", -5), ("v", "b", -4), ("w", "c", -1), ("u", "b", 0), ("w", "a", 7), ("x", "z", 9)]
    log.append([NewEvent(str(n), who, "", 3, what, JANUARY_2_MS + at) for n, (who, what, at) in enumerate(rows)])
    log.store.close()
    report = evaluate("--log", tmp_path / "log", "--split-time", "2024-01-02", "--model", "popularity", "--k", 1)
    # train: a 2, b 1, c 1. u has a: b first, hit. w has c: a first, hit. x is new and wants z, which train has not
    assert (report["items"], report["users"], report["cold_users"]) == (3, 3, 1)
    assert report["unseen_test_items"] == 1
    assert report["recall@1"] == pytest.approx(2 / 3)


def test_ids_are_opaque_strings(tmp_path: Path, evaluate: Any) -> None:
    (tmp_path / "train.csv").write_text("user,item\n01,007\n01,7\n1,7\n1,7.0\n2,NA\n")
    (tmp_path / "test.csv").write_text("user,item\n1,007\n01,7.0\n")
    paths = ("--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv")
    report = evaluate(*paths, "--model", "popularity", "--k", 1)
    # items 007, 7, 7.0, NA. 1 has 7 and 7.0: 007 first, a hit. 01 has 007 and 7: 7.0 first, a hit
    assert (report["items"], report["overlap_pairs"], report["unseen_test_items"]) == (4, 0, 0)
    assert report["recall@1"] == 1.0


def test_repeated_user_lines_merge_and_duplicate_train_pairs_add_weight(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("u a b a\nv b\nu a\n")
    (tmp_path / "table.csv").write_text("user,item,weight\nu,a,1\nu,b,1\nv,b,1\nu,a,2\n")
    for name in ("lines.txt", "table.csv"):
        pairs = read_pairs(tmp_path / name)
        assert (pairs.user_ids, pairs.item_ids) == (["u", "v"], ["a", "b"])
        assert pairs.matrix().toarray().tolist() == [[3, 1], [0, 1]]


def test_auto_refits_on_all_of_train(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[sp.csr_matrix] = []
    for maker in set(MODELS.values()):
        fit = maker.fit  # type: ignore[attr-defined]
        monkeypatch.setattr(maker, "fit", lambda self, train, fit=fit: (fitted.append(train), fit(self, train))[0])
    rng = np.random.default_rng(0)
    train = sp.csr_matrix((rng.random((60, 30)) < 0.3).astype(np.float32))
    fit_model("auto", train, None, 20, 0)
    before, last = fitted[:-1], max(fitted, key=lambda matrix: matrix.nnz)
    assert last is train
    assert all(matrix is train or matrix.nnz < train.nnz for matrix in before)
    assert before


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_whole_catalogue_is_ranked_whatever_the_model(tmp_path: Path, evaluate: Any, model: str) -> None:
    rng = np.random.default_rng(1)
    n_items = 60
    first = "".join(f"i{item} " for item in range(n_items))
    lines = [f"u{user} " + " ".join(f"i{item}" for item in rng.choice(n_items, 8, False)) for user in range(40)]
    (tmp_path / "train.txt").write_text(f"all {first}\n" + "\n".join(lines) + "\n")
    rest = [f"{line.split()[0]} " + " ".join(sorted(set(first.split()) - set(line.split()[1:]))) for line in lines]
    (tmp_path / "test.txt").write_text("\n".join(rest) + "\n")
    paths = ("--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt")
    report = evaluate(*paths, "--model", model, "--k", n_items)
    # everything but a person's own items is looked for, so every one of them must be in a list as long as the catalogue
    assert report[f"recall@{n_items}"] == report[f"ndcg@{n_items}"] == 1.0
