"""Trained artifacts: an immutable directory of a manifest and arrays, written atomically and read by memory map.

A store's root holds ``versions/<version>/`` (each complete from the moment its name exists), ``current`` (a symbolic
link, switched atomically) and ``history.json`` (what was published, oldest first).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from headrace import durable
from headrace.artifact_format import (
    ARRAYS,
    INDEX,
    MANIFEST,
    MANIFEST_CHECKSUM,
    OPTIONAL_ARRAYS,
    Manifest,
    check_arrays,
    map_array,
    read_manifest,
    release,
    verify_checksums,
)
from headrace.errors import (
    ArtifactCorruptError,
    ArtifactError,
    ArtifactMissingError,
    ArtifactRejectedError,
    ConfigError,
    HeadraceError,
    NotFoundError,
    PreconditionError,
    StoreFullError,
)
from headrace.ids import IdTable
from headrace.locks import OwnerLock
from headrace.types import Float32, Float64, Int8, Int32, Int64

GUARDED_METRICS = ("recall@20", "coverage@20")
"""What publishing compares with the current version."""

_SPECS = ARRAYS | OPTIONAL_ARRAYS


# for the fields of optional arrays that are not there
_NO_POINTERS: Any = partial(np.empty, 0, np.int64)
_NO_ITEMS: Any = partial(np.empty, 0, np.int32)
_NO_WEIGHTS: Any = partial(np.empty, 0, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Artifact:
    """One version, its arrays mapped from disk and read-only; see artifact_format for dtypes and shapes.

    History rows are distinct (user, item, event type); times are those of the last such event. Neighbours are best
    first. ``index_path`` is the file of a Faiss index, None when there is none.
    """

    path: Path
    version: str
    manifest: Manifest
    user_ids: IdTable
    item_ids: IdTable
    index_path: Path | None
    user_factors: Float32
    item_factors: Float32
    gram: Float32
    popularity: Float32
    popular_order: Int32
    neighbour_indptr: Int64
    neighbour_items: Int32
    neighbour_weights: Float32
    history_indptr: Int64
    history_items: Int32
    history_types: Int8
    history_weights: Float32
    history_times_ms: Int64
    probability_weights: Float32
    calibration_x: Float64
    calibration_y: Float64
    landscape_edges_cpm: Int64
    landscape_counts: Float64
    traffic_profile: Float64
    item_link_indptr: Int64 = field(default_factory=_NO_POINTERS)
    item_link_items: Int32 = field(default_factory=_NO_ITEMS)
    item_link_weights: Float32 = field(default_factory=_NO_WEIGHTS)
    session_link_indptr: Int64 = field(default_factory=_NO_POINTERS)
    session_link_items: Int32 = field(default_factory=_NO_ITEMS)
    session_link_weights: Float32 = field(default_factory=_NO_WEIGHTS)
    session_decay: Float32 = field(default_factory=_NO_WEIGHTS)
    index_centres: Float32 = field(default_factory=_NO_WEIGHTS)
    index_lists: Int32 = field(default_factory=_NO_ITEMS)

    @classmethod
    def open(cls, path: Path | str, *, verify: bool = True) -> Artifact:
        """Map the version in a directory; ``verify=False`` skips the checksums, which read every byte.

        Raises ArtifactMissingError, ArtifactTooNewError, or ArtifactCorruptError naming the file.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if verify:
            verify_checksums(path, manifest)
        optional = [name for name in OPTIONAL_ARRAYS if f"{name}.npy" in manifest.checksums]
        arrays = {name: map_array(path, name) for name in (*ARRAYS, *optional)}
        try:
            check_arrays(arrays, manifest)
        except ArtifactError as error:
            raise ArtifactCorruptError(f"{path}: {error}", hint="train again or roll back") from error
        index_path = path / INDEX
        has_file = manifest.index_type in ("hnsw", "ivf")
        if has_file != index_path.exists():
            raise ArtifactCorruptError(
                f"{index_path}: the index type is {manifest.index_type!r}, which does not fit the files present"
            )
        names = {each.name for each in fields(cls)}
        stored: dict[str, Any] = {name: array for name, array in arrays.items() if name in names}
        return cls(
            path=path,
            version=manifest.version,
            manifest=manifest,
            index_path=index_path if has_file else None,
            user_ids=_id_table(arrays, "user"),
            item_ids=_id_table(arrays, "item"),
            **stored,
        )

    def release_pages(self) -> None:
        """Let go of the memory that reading the arrays took; what is read again comes from the file cache."""
        for each in fields(self):
            release(getattr(self, each.name))


def open_artifact(path: Path | str, *, verify: bool = True) -> Artifact:
    """Open a version directory, or the current version of a store's root; errors as of :meth:`Artifact.open`."""
    path = Path(path)
    if (path / MANIFEST).exists():
        return Artifact.open(path, verify=verify)
    current = ArtifactStore(path).current()
    if current is None:
        raise ArtifactMissingError(
            f"no artifact at {path}", hint="give a version directory or a store with a published version"
        )
    return Artifact.open(path / "versions" / current, verify=verify)


def _id_table(arrays: dict[str, Any], kind: str) -> IdTable:
    return IdTable(*(arrays[f"{kind}_id_{part}"] for part in ("offsets", "blob", "hashes", "order")))


class ArtifactWriter:
    """Writes one version: everything goes to a temporary folder beside it, is synced, and gets its name by one rename.

    Use as a context manager; leaving it without :meth:`finish` removes what was written.
    """

    def __init__(self, store: ArtifactStore, version: str) -> None:
        store.check_new(version)
        self.target = store.versions_dir / version
        self.version = version
        self.folder = store.versions_dir / f".writing-{version}-{uuid.uuid4().hex[:8]}"
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise _write_error(error, self.target) from error
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, **arrays: npt.NDArray[Any]) -> None:
        """Take arrays by the names of the format's tables, converted to their dtypes."""
        for name, array in arrays.items():
            self._arrays[name] = np.ascontiguousarray(array, dtype=_SPECS[name].dtype)

    def add_ids(self, *, users: IdTable, items: IdTable) -> None:
        """Take both id tables."""
        for kind, table in (("user", users), ("item", items)):
            for part in ("offsets", "blob", "hashes", "order"):
                self.add(**{f"{kind}_id_{part}": getattr(table, part)})

    @property
    def index_path(self) -> Path:
        """Where a Faiss index belongs, to be written before :meth:`finish`."""
        return self.folder / INDEX

    def finish(self, manifest: Manifest) -> Path:
        """Check, write, sync and name the version; returns its directory.

        Raises ArtifactError when an array is missing, misshapen or not finite, StoreFullError when the device is full:
        then nothing of the version remains.
        """
        manifest = msgspec.structs.replace(manifest, version=self.version)
        check_arrays(self._arrays, manifest)
        self._check_finite(manifest)
        try:
            for name, array in self._arrays.items():
                np.save(self.folder / f"{name}.npy", array, allow_pickle=False)
            manifest = msgspec.structs.replace(manifest, checksums=self._sync_files())
            raw = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"
            durable.write(self.folder / MANIFEST, raw)
            durable.write(self.folder / MANIFEST_CHECKSUM, hashlib.sha256(raw).hexdigest().encode() + b"\n")
            durable.sync(self.folder)
            self.folder.rename(self.target)
            durable.sync(self.target.parent)
        except OSError as error:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise _write_error(error, self.target) from error
        return self.target

    def _check_finite(self, manifest: Manifest) -> None:
        for name, array in self._arrays.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ArtifactError(f"array {name} holds NaN or infinity", hint="look for them in the training data")
        blend = {f"blend.{name}": value for name, value in msgspec.structs.asdict(manifest.blend).items()}
        others = {"probability_bias": manifest.probability_bias}
        numbers = {**manifest.metrics, **manifest.event_weights, **blend, **others}
        for name, value in numbers.items():
            if not np.isfinite(value):
                raise ArtifactError(f"manifest: {name}", got=value, expected="a finite number")

    def _sync_files(self) -> dict[str, str]:
        checksums = {}
        for file in sorted(self.folder.iterdir()):
            with file.open("rb") as handle:
                checksums[file.name] = hashlib.file_digest(handle, "sha256").hexdigest()
                os.fsync(handle.fileno())
        return checksums


class ArtifactStore:
    """The versions under one root and which of them is current."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.versions_dir = self.root / "versions"

    def writer(self, version: str) -> ArtifactWriter:
        """A writer of a new version, not published by finishing it."""
        return ArtifactWriter(self, version)

    def check_new(self, version: str) -> None:
        """Raise ArtifactError unless a version of this name can be added; asked before long work, too."""
        if not version or version.startswith(".") or "/" in version or "\0" in version:
            raise ArtifactError("version", got=version, expected="a file name that does not begin with a dot")
        if (self.versions_dir / version).exists():
            raise ArtifactError(f"version {version} exists already in {self.root}", hint="choose another name")
        if self.root.exists() and not self.root.is_dir():
            raise ArtifactError(f"{self.root} is a file", hint="name a folder to keep versions in")

    def versions(self) -> list[str]:
        """Names of all complete versions, sorted."""
        if not self.versions_dir.is_dir():
            return []
        return sorted(path.name for path in self.versions_dir.iterdir() if not path.name.startswith("."))

    def current(self) -> str | None:
        """Name of the published version, None before the first."""
        try:
            return Path(os.readlink(self.root / "current")).name
        except OSError:
            return None

    def history(self) -> list[str]:
        """Published versions, oldest first, up to the current one."""
        current = self.current()
        try:
            names: list[str] = json.loads((self.root / "history.json").read_text())
        except FileNotFoundError:
            names = []
        if current is None:
            return []
        return names[: len(names) - names[::-1].index(current)] if current in names else [*names, current]

    def open(self, version: str | None = None, *, verify: bool = True) -> Artifact:
        """Open a version by name, the current one by default."""
        if version is None:
            return open_artifact(self.root, verify=verify)
        return Artifact.open(self.versions_dir / version, verify=verify)

    def publish(self, version: str | Path, *, tolerance: float = 0.1, force: bool = False) -> str | None:
        """Make a version current and return the name of the one before.

        Raises ArtifactRejectedError when one of :data:`GUARDED_METRICS` is lower than the current version's by more
        than that share of it, unless forced; and the errors of :meth:`Artifact.open`, since all of it is verified.
        """
        name = Path(version).name
        if not 0.0 <= tolerance <= 1.0:
            raise ConfigError("tolerance", got=tolerance, expected="a share from 0 to 1")
        with _publishing(self.root):
            candidate = self.open(name)
            current = self.current()
            if current == name:
                return current
            if current is not None and not force:
                _guard(read_manifest(self.versions_dir / current), candidate.manifest, tolerance)
            self._switch(name, [*self.history(), name])
            return current

    def rollback(self) -> str:
        """Make the version published before the current one current again and return its name."""
        with _publishing(self.root):
            history = self.history()
            if len(history) < 2:
                raise PreconditionError(f"{self.root}: nothing was published before the current version")
            name = history[-2]
            if name not in self.versions():
                raise NotFoundError(
                    f"version {name} is no longer in {self.versions_dir}", hint="publish another by name"
                )
            self.open(name)
            self._switch(name, None)
            return name

    def _switch(self, name: str, history: list[str] | None) -> None:
        link = self.root / f".current-{uuid.uuid4().hex[:8]}"
        try:
            if history is not None:
                # before the link: history() reads only up to the current one, so a crash between the two is harmless
                draft = self.root / ".history.json"
                durable.write(draft, json.dumps(history, indent=1).encode())
                draft.replace(self.root / "history.json")
            link.symlink_to(Path("versions") / name)
            link.replace(self.root / "current")
            durable.sync(self.root)
        except OSError as error:
            link.unlink(missing_ok=True)
            raise _write_error(error, self.root) from error


@contextmanager
def _publishing(root: Path) -> Iterator[None]:
    """One publisher of a store at a time."""
    if not root.is_dir():
        raise ArtifactMissingError(f"no artifact store at {root}", hint="run headrace-train fit first")
    lock = OwnerLock(root / "publish.lock")
    if not lock.try_acquire():
        raise PreconditionError("another process is publishing to this store", hint="try again when it is done")
    try:
        yield
    finally:
        lock.release()


def _guard(current: Manifest, candidate: Manifest, tolerance: float) -> None:
    for metric in GUARDED_METRICS:
        before, after = current.metrics.get(metric), candidate.metrics.get(metric, 0.0)
        if before is not None and after < before * (1.0 - tolerance):
            raise ArtifactRejectedError(
                f"{candidate.version}: {metric}",
                got=round(after, 6),
                expected=f"at least {before * (1.0 - tolerance):.6f}, {before:.6f} less {tolerance:.0%}",
                hint="look at what changed in the data; --force publishes it anyway",
            )


def _write_error(error: OSError, target: Path) -> HeadraceError:
    # NumPy says how many bytes it could write and gives no number of an error: the device is full
    if error.errno in (errno.ENOSPC, errno.EDQUOT, None):
        hint = "free space on its device and run it again; nothing was published"
        return StoreFullError(f"{target} cannot be written: {error.strerror or error}", hint=hint)
    hint = "nothing was published; check the folder and its permissions"
    return ArtifactError(f"{target} cannot be written: {error.strerror}", hint=hint)
