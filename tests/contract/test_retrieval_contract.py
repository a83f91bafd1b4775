"""One suite over exact and approximate search: the same promises hold whichever index an artifact brings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import numpy as np
import pytest

from headrace.artifacts import Artifact
from headrace.events.items import CatalogItem
from headrace.events.log import EventLog
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender

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


@pytest.fixture(params=["exact", "hnsw", "ivf"])
def artifact(request: pytest.FixtureRequest, factories: ModuleType, tmp_path: Path) -> Artifact:
    made: Artifact = factories.make_artifact(
        n_items=N_ITEMS, d=D, history=20, index_type=request.param, repeat_policy="exclude_purchased"
    )
    if request.param == "exact":
        return made
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
    artifact = dataclasses.replace(recommender.model.artifact, index_path=None)
    return Recommender(Model(artifact, recommender.log), recommender.log)


def test_the_tier_says_how_the_answer_was_made(recommender: Recommender, artifact: Artifact) -> None:
    known, stranger = ask(recommender, [Query("u1"), Query("nobody")])
    assert known.tier == (EXACT if artifact.index_path is None else APPROXIMATE)
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
