"""Which artifact is served, and what a reload does when something is wrong."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headrace import errors
from headrace.artifacts import Artifact, ArtifactStore, open_artifact
from headrace.events.log import EventLog
from headrace.recommend.model import Model
from headrace.recommend.warm import warm
from headrace.service.artifacts import ServedArtifact, describe, methods
from headrace.v1 import artifacts_pb2


@pytest.fixture
def root(tmp_path: Path, factories: ModuleType) -> Path:
    store = ArtifactStore(tmp_path)
    for version in ("v1", "v2"):
        factories.write_artifact(store, version, 3, 4)
    store.publish("v1")
    return tmp_path


def served(path: Path, adopted: list[str]) -> ServedArtifact:
    def adopt(artifact: Artifact) -> None:
        if artifact.version == "v2" and "refuse" in adopted:
            raise errors.ArtifactCorruptError("the index does not load")
        adopted.append(artifact.version)

    return ServedArtifact(path, open_artifact(path), adopt)


def test_reload_goes_to_the_published_or_the_named_version(root: Path) -> None:
    adopted: list[str] = []
    one = served(root, adopted)
    assert not one.reload()
    assert one.reload("v2")
    assert not one.reload("v2")
    assert one.reload()
    assert adopted == ["v2", "v1"]


@pytest.mark.parametrize("version", ["v3", "..", "../versions/v2", "/etc", ".", "v1/../v2"])
def test_unknown_version_is_not_found_and_changes_nothing(root: Path, version: str) -> None:
    one = served(root, [])
    with pytest.raises(errors.NotFoundError, match="version"):
        one.reload(version)
    assert one.current.version == "v1"


def test_refused_artifact_leaves_the_old_one(root: Path) -> None:
    one = served(root, ["refuse"])
    with pytest.raises(errors.ArtifactCorruptError, match="index"):
        one.reload("v2")
    assert one.current.version == "v1"


def test_version_that_fails_again_and_again_is_left_alone_for_a_while(root: Path) -> None:
    adopted = ["refuse"]
    one = served(root, adopted)
    for _ in range(3):
        with pytest.raises(errors.ArtifactCorruptError, match="index"):
            one.reload("v2")
    with pytest.raises(errors.UnavailableError, match="artifact v2 failed several times in a row; try again in"):
        one.reload("v2")
    assert not one.reload("v1"), "another version is no matter of it"
    adopted.remove("refuse")
    with pytest.raises(errors.UnavailableError):
        one.reload("v2")


def test_one_version_given_as_a_folder_has_nowhere_to_go(root: Path) -> None:
    one = served(root / "versions" / "v2", [])
    assert one.current.version == "v2"
    assert not one.reload()
    with pytest.raises(errors.NotFoundError):
        one.reload("v1")


def test_rpcs_tell_what_is_served(root: Path) -> None:
    one = served(root, [])
    current, reload = (method.handle for method in methods(one))
    calls: list[Any] = [None, None]
    told = current([artifacts_pb2.GetCurrentArtifactRequest()] * 2, calls)
    assert told == [artifacts_pb2.GetCurrentArtifactResponse(artifact=describe(one.current))] * 2
    requests = [artifacts_pb2.ReloadArtifactRequest(version=name) for name in ("v9", "v2")]
    failed, changed = reload(requests, calls)
    assert isinstance(failed, errors.NotFoundError)
    assert changed == artifacts_pb2.ReloadArtifactResponse(artifact=describe(one.current), changed=True)
    assert (describe(one.current).n_users, describe(one.current).n_items) == (3, 4)


def test_an_old_model_is_freed_with_its_last_batch_not_at_some_collection_of_garbage(
    factories: ModuleType, log: EventLog
) -> None:
    gc.disable()
    try:
        model = Model(factories.make_artifact(), log)
        warm(model)
        model.fold_in(np.array([0, 1]), np.zeros(1, np.int32), np.ones(1, np.float32))
        freed = weakref.ref(model)
        del model
        assert freed() is None
    finally:
        gc.enable()


def test_released_pages_are_read_again(tmp_path: Path, factories: ModuleType) -> None:
    store = ArtifactStore(tmp_path)
    factories.write_artifact(store, "v1")
    artifact = store.open("v1")
    before = artifact.item_factors.copy()
    artifact.release_pages()
    np.testing.assert_array_equal(artifact.item_factors, before)
    factories.make_artifact().release_pages()  # not mapped: nothing to let go of
