"""One suite over exact and approximate search: the same promises hold whichever index an artifact brings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import msgspec
import numpy as np
import pytest

from headrace.artifacts import Artifact
from headrace.events.items import CatalogItem
from headrace.events.log import EventLog
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender
from headrace_training.clusters import k_means, nearest

EXACT, APPROXIMATE, POPULAR = 1, 2, 3
N_ITEMS, D = 2000, 16


def build_index(kind: str, factors: np.ndarray) -> Any:
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(D, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = 64
    else:
        index = faiss.index_factory(D, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
        index.train(factors)
        index.nprobe = 8
    index.add(factors)
    return index


@pytest.fixture(params=["exact", "lists", "hnsw", "ivf"])
def artifact(request: pytest.FixtureRequest, factories: ModuleType, tmp_path: Path) -> Artifact:
    made: Artifact = factories.make_artifact(
        n_items=N_ITEMS, d=D, history=20, index_type=request.param, repeat_policy="exclude_purchased"
    )
    if request.param == "exact":
        return made
    if request.param == "lists":
        factors = np.array(made.item_factors)
        centres = k_means(factors, 16)
        manifest = msgspec.structs.replace(made.manifest, index_probes=8)
        return dataclasses.replace(
            made, manifest=manifest, index_centres=centres, index_lists=nearest(factors, centres)
        )
    path = tmp_path / "index.faiss"
    faiss.write_index(build_index(request.param, np.array(made.item_factors)), str(path))
    return dataclasses.replace(made, index_path=path)


@pytest.fixture
def recommender(artifact: Artifact, log: EventLog) -> Recommender:
    return Recommender(Model(artifact, log), log)


def ask(recommender: Recommender, queries: list[Query]) -> list[Answer]:
    answers = recommender.recommend(queries)
    assert all(isinstance(answer, Answer) for answer in answers)
    return answers  # type: ignore[return-value]


def exact_twin(recommender: Recommender) -> Recommender:
    artifact = recommender.model.artifact
    manifest = msgspec.structs.replace(artifact.manifest, index_type="exact")
    artifact = dataclasses.replace(artifact, index_path=None, manifest=manifest)
    return Recommender(Model(artifact, recommender.log), recommender.log)


def test_the_tier_says_how_the_answer_was_made(recommender: Recommender, artifact: Artifact) -> None:
    known, stranger = ask(recommender, [Query("u1"), Query("nobody")])
    assert known.tier == (EXACT if artifact.manifest.index_type == "exact" else APPROXIMATE)
    assert stranger.tier == POPULAR


def test_scores_are_exact_whatever_found_the_candidates(recommender: Recommender) -> None:
    queries = [Query(f"u{i}", limit=10) for i in range(40)]
    hits = 0
    for found, exact in zip(ask(recommender, queries), ask(exact_twin(recommender), queries), strict=True):
        scores = dict(zip(exact.rows, exact.scores, strict=True))
        assert len(found.rows) == 10
        assert found.scores == sorted(found.scores, reverse=True)
        assert all(scores.get(row, score) == score for row, score in zip(found.rows, found.scores, strict=True))
        hits += len(set(found.rows) & set(exact.rows))
    assert hits >= 0.8 * 400  # a floor on recall, not a target: the index here is small and coarse


def test_purchases_and_exclusions_never_appear(recommender: Recommender, artifact: Artifact) -> None:
    best = ask(recommender, [Query("u1", limit=50)])[0].item_ids
    (answer,) = ask(recommender, [Query("u1", limit=50, exclude_item_ids=best)])
    span = slice(artifact.history_indptr[1], artifact.history_indptr[2])
    bought = artifact.history_items[span][artifact.history_types[span] == 3].tolist()
    assert not set(answer.rows) & set(bought)
    assert not set(answer.item_ids) & set(best)
    assert len(answer.rows) == 50


def test_as_many_items_as_there_are(recommender: Recommender, log: EventLog) -> None:
    keep = {f"i{i}" for i in range(0, N_ITEMS, 100)}
    gone = [f"i{i}" for i in range(N_ITEMS) if f"i{i}" not in keep]
    log.delete_items(gone, [True] * len(gone))
    log.upsert_items([CatalogItem("new", False, 0, 0, 0, {})])
    recommender.catch_up()
    answer = ask(recommender, [Query("u1", limit=1000, exclude_purchased=False)])[0]
    assert set(answer.item_ids) == keep | {"new"}
    assert answer.tier == EXACT


def test_an_answer_does_not_depend_on_its_companions(recommender: Recommender) -> None:
    queries = [Query(f"u{i}", limit=5 + i) for i in range(32)]
    for query, together in zip(queries, ask(recommender, queries), strict=True):
        (alone,) = ask(recommender, [query])
        assert (alone.rows, alone.scores, alone.tier) == (together.rows, together.scores, together.tier)


def test_items_that_come_and_go_do_so_whatever_the_index(recommender: Recommender, artifact: Artifact) -> None:
    live, best = recommender.model.live, ask(recommender, [Query("u1", limit=20)])[0]
    vector = recommender.model.artifact.item_factors[best.rows[0]]
    live.remove(np.array(best.rows[:5], dtype=np.int32))
    after = ask(recommender, [Query("u1", limit=N_ITEMS)])[0]
    assert not set(best.rows[:5]) & set(after.rows)
    popular = ask(recommender, [Query("nobody", limit=N_ITEMS)])[0]
    assert not set(best.rows[:5]) & set(popular.rows)
    assert len(popular.rows) == N_ITEMS - 5
    live.add(np.array([best.rows[4]], dtype=np.int32), 3 * vector[None])
    (again,) = ask(recommender, [Query("u1", limit=20)])
    assert again.rows[0] == best.rows[4]
    assert again.rows[1:3] == best.rows[5:7]
    assert again.tier == (EXACT if artifact.manifest.index_type == "exact" else APPROXIMATE)


def test_a_new_item_with_factors_ranks_among_the_others(recommender: Recommender, log: EventLog) -> None:
    log.upsert_items([CatalogItem("new", False, 0, 0, 0, {}), CatalogItem("newer", False, 0, 0, 0, {})])
    recommender.catch_up()
    best = ask(recommender, [Query("u1", limit=20)])[0]
    row = recommender.model.items.rows.find("newer")
    recommender.model.live.add(
        np.array([row], dtype=np.int32), recommender.model.artifact.item_factors[best.rows[3]][None]
    )
    (answer,) = ask(recommender, [Query("u1", limit=20)])
    assert answer.scores[4] == answer.scores[3]
    assert answer.item_ids[4] == "newer"
    assert answer.rows[:4] == best.rows[:4]
    everything = ask(recommender, [Query("u1", limit=N_ITEMS + 9, exclude_purchased=False)])[0]
    assert len(set(everything.rows)) == len(everything.rows) == N_ITEMS + 2
    recommender.model.live.add(np.array([row + 100], dtype=np.int32), np.ones((1, D), np.float32))
    ask(recommender, [Query("u1", limit=20)])  # a row that the item table does not know yet is not shown
