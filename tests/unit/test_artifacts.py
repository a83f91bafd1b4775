"""Artifacts: writing, reading, refusing, publishing and rolling back."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest

from headrace.artifact_format import ARRAYS, FORMAT_VERSION, OPTIONAL_ARRAYS, BlendTerms
from headrace.artifacts import Artifact, ArtifactStore, Manifest, open_artifact
from headrace.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    ArtifactRejectedError,
    ArtifactTooNewError,
    PreconditionError,
    StoreFullError,
)
from headrace.ids import IdTable

GOLDEN = Path(__file__).parents[1] / "golden"


def _load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_artifact", GOLDEN / "make_artifact.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _load_maker()


def write(root: Path, version: str, **metrics: float) -> Path:
    manifest: Manifest = maker.golden_manifest()
    manifest = msgspec.structs.replace(
        manifest, metrics={**manifest.metrics, **{k.replace("_", "@"): v for k, v in metrics.items()}}
    )
    with ArtifactStore(root).writer(version) as writer:
        writer.add(**maker.golden_arrays())
        writer.add_ids(users=IdTable.build(maker.USERS), items=IdTable.build(maker.ITEMS))
        return writer.finish(manifest)


def write_arrays(root: Path, arrays: dict[str, np.ndarray]) -> Path:
    with ArtifactStore(root).writer("a") as writer:
        writer.add(**arrays)
        writer.add_ids(users=IdTable.build(maker.USERS), items=IdTable.build(maker.ITEMS))
        return writer.finish(maker.golden_manifest())


def reseal(folder: Path, **changes: object) -> None:
    raw = json.loads((folder / "manifest.json").read_text())
    text = json.dumps({**raw, **changes})
    (folder / "manifest.json").write_text(text)
    (folder / "manifest.sha256").write_text(hashlib.sha256(text.encode()).hexdigest())


def test_format_version_1_still_opens() -> None:
    artifact = Artifact.open(GOLDEN / "artifact_v1")
    assert artifact.version == "golden"
    assert artifact.item_ids.find("茶") == 3
    assert artifact.user_ids.id(2) == "9000000001"
    assert artifact.index_path is None
    assert artifact.manifest.log_sequence == 17
    arrays = maker.golden_arrays()
    for name in ARRAYS.keys() & arrays.keys():
        np.testing.assert_array_equal(getattr(artifact, name), arrays[name], err_msg=name)
    assert artifact.manifest.blend == BlendTerms()
    for name, spec in OPTIONAL_ARRAYS.items():
        assert getattr(artifact, name).dtype == spec.dtype
        assert not len(getattr(artifact, name))


def test_format_version_2_brings_its_blend() -> None:
    artifact = Artifact.open(GOLDEN / "artifact_v2")
    assert artifact.manifest.blend.half_life_days == 90.0
    for name, expected in maker.golden_arrays().items():
        np.testing.assert_array_equal(getattr(artifact, name), expected, err_msg=name)


def test_a_blend_with_a_part_of_its_arrays_is_refused(tmp_path: Path) -> None:
    arrays = maker.golden_arrays()
    for name in ("item_link_weights", "session_decay"):
        with pytest.raises(ArtifactError, match=f"array {name} is missing"):
            write_arrays(tmp_path / name, {key: array for key, array in arrays.items() if key != name})
    arrays["item_link_indptr"] = np.array([0, 1, 3, 3, 5])
    with pytest.raises(ArtifactError, match="item_link_indptr"):
        write_arrays(tmp_path, arrays)


def test_a_blend_that_lost_a_file_is_corrupt(tmp_path: Path) -> None:
    folder = maker.write_golden(tmp_path)
    (folder / "session_link_items.npy").unlink()
    for verify in (True, False):
        with pytest.raises(ArtifactCorruptError, match=r"session_link_items\.npy"):
            Artifact.open(folder, verify=verify)


def test_the_golden_artifact_is_what_the_writer_writes_today(tmp_path: Path) -> None:
    fresh = maker.write_golden(tmp_path)
    for file in sorted((GOLDEN / "artifact_v2").iterdir()):
        assert (fresh / file.name).read_bytes() == file.read_bytes(), file.name


def test_arrays_are_mapped_and_read_only(tmp_path: Path) -> None:
    artifact = Artifact.open(write(tmp_path, "a"))
    assert not artifact.item_factors.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        artifact.item_factors[0, 0] = 1.0


def test_empty_arrays_can_be_stored(tmp_path: Path) -> None:
    arrays = maker.golden_arrays()
    for name in ("history_items", "history_types", "history_weights", "history_times_ms"):
        arrays[name] = arrays[name][:0]
    arrays["history_indptr"] = np.zeros(4)
    assert len(Artifact.open(write_arrays(tmp_path, arrays)).history_items) == 0


def test_a_missing_artifact_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtifactMissingError, match=path.name):
            open_artifact(path)
    with pytest.raises(ArtifactMissingError):
        Artifact.open(tmp_path)


def test_a_newer_artifact_is_refused_with_advice(tmp_path: Path) -> None:
    folder = write(tmp_path, "a")
    reseal(folder, format_version=FORMAT_VERSION + 1, unheard_of=1)
    with pytest.raises(ArtifactTooNewError, match="upgrade headrace"):
        Artifact.open(folder)


def test_a_flipped_bit_is_found_and_the_file_named(tmp_path: Path) -> None:
    folder = write(tmp_path, "a")
    file = folder / "item_factors.npy"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ArtifactCorruptError, match=r"item_factors\.npy"):
        Artifact.open(folder)
    Artifact.open(folder, verify=False)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("damage", ["remove", "truncate", "no_manifest_sum", "edited_manifest", "broken_manifest"])
def test_damage_is_corruption(tmp_path: Path, damage: str, verify: bool) -> None:
    folder = write(tmp_path, "a")
    file = folder / "popularity.npy"
    if damage == "remove":
        file.unlink()
    elif damage == "truncate":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "no_manifest_sum":
        (folder / "manifest.sha256").unlink()
    elif damage == "edited_manifest":
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(text.replace('"alpha": 8.0', '"alpha": 9.0'))
    else:
        (folder / "manifest.json").write_text('{"format_version"')
    with pytest.raises(ArtifactCorruptError):
        Artifact.open(folder, verify=verify)


@pytest.mark.parametrize(
    "changes", [{"n_items": 5}, {"n_users": 2}, {"n_factors": 3}, {"index_type": "hnsw"}, {"alpha": "x"}, {"other": 1}]
)
def test_a_manifest_that_does_not_fit_is_corruption(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = write(tmp_path, "a")
    reseal(folder, **changes)
    with pytest.raises(ArtifactCorruptError):
        Artifact.open(folder)


@pytest.mark.parametrize("damage", ["nan", "missing", "shape", "offsets"])
def test_the_writer_refuses_what_the_reader_would(tmp_path: Path, damage: str) -> None:
    arrays = maker.golden_arrays()
    if damage == "nan":
        arrays["user_factors"][0, 0] = np.nan
    elif damage == "missing":
        del arrays["gram"]
    elif damage == "shape":
        arrays["popularity"] = arrays["popularity"][:2]
    else:
        arrays["history_indptr"] = np.array([0, 2, 3, 4])
    with pytest.raises(ArtifactError):
        write_arrays(tmp_path, arrays)
    assert list((tmp_path / "versions").iterdir()) == []


def test_a_metric_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="recall@20"):
        write(tmp_path, "a", recall_20=float("nan"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("180078 requested and 12256 written"),  # how ndarray.tofile says the same
    ],
)
def test_a_full_disk_leaves_nothing_half_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    write(tmp_path, "a")
    store = ArtifactStore(tmp_path)
    store.publish("a")
    written: list[str] = []

    def save_until_full(file: Path, array: np.ndarray, **_: object) -> None:
        if len(written) == 5:
            raise error
        written.append(str(file))

    monkeypatch.setattr(np, "save", save_until_full)
    with pytest.raises(StoreFullError, match="free space"):
        write(tmp_path, "b")
    assert store.versions() == ["a"]
    assert store.current() == "a"
    assert [path.name for path in store.versions_dir.iterdir()] == ["a"]


def test_a_crash_before_the_rename_leaves_no_version(tmp_path: Path) -> None:
    writer = ArtifactStore(tmp_path).writer("a")
    writer.add(**maker.golden_arrays())
    (writer.folder / "manifest.json").write_text("{}")
    assert ArtifactStore(tmp_path).versions() == []
    write(tmp_path, "a")
    assert ArtifactStore(tmp_path).versions() == ["a"]


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with pytest.raises(ArtifactError, match="exists"):
        write(tmp_path, "a")


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", ".."])
def test_version_names_stay_inside_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError):
        ArtifactStore(tmp_path).writer(name)


def test_publish_switches_and_rollback_goes_back(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for version in ("a", "b", "c"):
        write(tmp_path, version)
    assert store.current() is None
    assert store.publish("a") is None
    assert store.publish("b") == "a"
    assert open_artifact(tmp_path).version == "b"
    assert store.rollback() == "a"
    assert open_artifact(tmp_path).version == "a"
    assert store.publish("c") == "a"
    assert store.history() == ["a", "c"]
    assert store.rollback() == "a"
    with pytest.raises(PreconditionError):
        store.rollback()
    assert store.current() == "a"


@pytest.mark.parametrize("metrics", [{"recall_20": 0.44}, {"coverage_20": 0.89}])
def test_a_worse_version_is_rejected_unless_forced(tmp_path: Path, metrics: dict[str, float]) -> None:
    store = ArtifactStore(tmp_path)
    write(tmp_path, "good")
    write(tmp_path, "worse", **metrics)
    store.publish("good")
    with pytest.raises(ArtifactRejectedError, match="--force"):
        store.publish("worse")
    assert store.current() == "good"
    store.publish("worse", tolerance=0.2)
    assert store.current() == "worse"
    store.publish("good")
    store.publish("worse", force=True)
    assert store.current() == "worse"


def test_a_corrupt_version_is_not_published_even_by_force(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    folder = write(tmp_path, "a")
    (folder / "gram.npy").write_bytes(b"")
    with pytest.raises(ArtifactCorruptError):
        store.publish("a", force=True)
    assert store.current() is None


def test_a_crash_between_history_and_link_is_harmless(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    for version in ("a", "b"):
        write(tmp_path, version)
        store.publish(version)
    (tmp_path / "history.json").write_text(json.dumps(["a", "b", "never-linked"]))
    assert store.history() == ["a", "b"]
    assert store.rollback() == "a"


def test_an_open_artifact_outlives_its_directory(tmp_path: Path) -> None:
    artifact = Artifact.open(write(tmp_path, "a"))
    shutil.rmtree(artifact.path)
    assert float(artifact.popularity.sum()) == 1.0
