"""Attributes of items: how they are read, and what they make of items that nobody took."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from headrace.errors import ConfigError, DataError
from headrace_training.evaluate import evaluate_files
from headrace_training.items import read_items
from headrace_training.models import BlendModel, GraphModel, IalsModel
from headrace_training.models.sideinfo import SideInfoModel, lean_on, regress

SMALL = {"n_factors": 8, "iterations": 5, "alpha": 20.0, "regularization": 1.0}


def test_the_same_items_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [("a", "red", "A warm coat of wool"), ("b", "blue", "A thin coat of silk"), ("c", "red", "")]
    table = tmp_path / "items.csv"
    table.write_text("item_id,colour,title\n" + "".join(",".join(row) + "\n" for row in rows))
    columns = dict(zip(("item_id", "colour", "title"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    lines = [json.dumps({"item_id": item, "colour": [colour], "title": title}) for item, colour, title in rows]
    with gzip.open(tmp_path / "items.jsonl.gz", "wt") as handle:
        handle.write("\n".join(lines) + "\n\n")
    found = [read_items(path) for path in sorted(tmp_path.iterdir())]
    assert found[0] == found[1] == found[2]
    matrix = found[0].matrix(["c", "nobody", "a", "b"])
    # shared by two: red, coat, of, a
    assert matrix.shape == (4, 4)
    np.testing.assert_allclose(np.linalg.norm(matrix.toarray(), axis=1), [1, 0, 1, 1], rtol=1e-6)
    similar = (matrix @ matrix.T).toarray()
    assert similar[2, 3] > similar[2, 0] > similar[3, 0] == 0


def test_a_mapping_of_items_to_attributes(tmp_path: Path) -> None:
    path = tmp_path / "attributes.json"
    path.write_text('{"7": [1, 2], "8": [2], "9": []}')
    assert read_items(path).features == [["attribute=1", "attribute=2"], ["attribute=2"], []]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("i.csv", "item_id,colour\n,red\n", "row 1: the item id is empty"),
        ("i.csv", "name,colour\na,red\n", "column item_id"),
        ("i.csv", "item_id,colour\n", "holds no item"),
        ("i.jsonl", '{"item_id": 1}\n{broken\n', "line 2"),
        ("i.jsonl", "[1]\n", "a JSON object"),
        ("i.parquet", "no", "no Parquet file"),
    ],
)
def test_files_that_are_none_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_items(path)


def test_the_regression_solves_its_normal_equations() -> None:
    rng = np.random.default_rng(0)
    attributes = sp.random(30, 12, 0.3, format="csr", random_state=rng)
    counts, factors = rng.integers(0, 5, 30).astype(np.float64), rng.standard_normal((30, 4))
    dense = attributes.toarray()
    expected = np.linalg.solve(dense.T * counts @ dense + 2.0 * np.eye(12), dense.T * counts @ factors)
    np.testing.assert_allclose(regress(attributes, counts, factors, 2.0), expected, rtol=1e-3, atol=1e-4)


def kinds(n_users: int = 60, n_items: int = 32) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """People and items of two kinds; nobody took the last two items; the kind is the attribute."""
    rng = np.random.default_rng(0)
    same = np.arange(n_users)[:, None] % 2 == np.arange(n_items) % 2
    taken = (rng.random((n_users, n_items)) < np.where(same, 0.4, 0.02)).astype(np.float32)
    taken[:, -2:] = 0.0
    attributes = np.zeros((n_items, 2), dtype=np.float32)
    attributes[np.arange(n_items), np.arange(n_items) % 2] = 1.0
    return sp.csr_matrix(taken), sp.csr_matrix(attributes)


def test_items_that_nobody_took_are_scored_by_their_attributes() -> None:
    train, attributes = kinds()
    for model in (lean_on(IalsModel(**SMALL), attributes), lean_on(BlendModel(ials=IalsModel(**SMALL)), attributes)):
        model.fit(train)
        scores = model.scores(np.array([0, 1], dtype=np.int32))
        assert scores[0, 30] > scores[0, 31] + 0.1 * scores.std()
        assert scores[1, 31] > scores[1, 30] + 0.1 * scores.std()


def test_attributes_hardly_move_items_that_many_took() -> None:
    train, attributes = kinds(2000)
    plain, leaning = IalsModel(**SMALL), lean_on(IalsModel(**SMALL), attributes)
    plain.fit(train)
    leaning.fit(train)
    users = np.arange(20, dtype=np.int32)
    np.testing.assert_allclose(leaning.scores(users)[:, :30], plain.scores(users)[:, :30], atol=0.02)


def test_models_without_factors_and_bad_strengths_are_refused() -> None:
    _, attributes = kinds()
    with pytest.raises(ConfigError, match="--items"):
        lean_on(GraphModel(), attributes)
    with pytest.raises(ConfigError, match="strength"):
        SideInfoModel(attributes, IalsModel(), strength=float("inf"))


def test_evaluate_ranks_items_of_the_file_that_nobody_took(tmp_path: Path) -> None:
    train, _ = kinds()
    lines = [f"u{user} " + " ".join(f"i{item}" for item in train[user].indices) for user in range(60)]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "test.txt").write_text("u0 i30\nu1 i31\n")
    rows = "".join(f"i{item},{'even' if item % 2 == 0 else 'odd'}\n" for item in range(32))
    (tmp_path / "items.csv").write_text("item_id,kind\n" + rows)
    report = evaluate_files(
        tmp_path / "train.txt", tmp_path / "test.txt", model="ials", k=16, items=tmp_path / "items.csv"
    )
    assert (report["items"], report["new_items"], report["unseen_test_items"]) == (32, 2, 0)
    assert report["recall@16"] == 1.0
    without = evaluate_files(tmp_path / "train.txt", tmp_path / "test.txt", model="ials", k=16)
    assert (without["items"], without["unseen_test_items"], without["recall@16"]) == (30, 2, 0.0)
