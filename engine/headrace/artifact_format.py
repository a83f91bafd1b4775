"""The artifact format: the manifest, the table of arrays and the checks that both reader and writer run."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from headrace.errors import ArtifactCorruptError, ArtifactError, ArtifactMissingError, ArtifactTooNewError

FORMAT_VERSION = 2
"""Version 2 adds the blend and its arrays; whatever version 1 has means the same."""
MAX_READERS = 4
"""Threads that verify one artifact."""

MANIFEST = "manifest.json"
MANIFEST_CHECKSUM = "manifest.sha256"
INDEX = "index.faiss"


class BlendTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is added to the factors' scores when serving; see native/include/headrace/blend.hpp for the formulas."""

    item_weight: float = 0.0
    """Of the item-item part in slates that may hold what the person bought before, 0 for none."""
    new_item_weight: float = 0.0
    """The same in slates that leave it out."""
    power: float = 1.0
    """A history's entry of weight w counts w ** power."""
    half_life_days: float = 0.0
    """Age at which such an entry counts half; 0: age does not matter."""
    length_power: float = 0.0
    """The item-item part is divided by the sum of what the entries count, to this power."""
    session_weight: float = 0.0
    """Of the transitions from the latest items of the present session, 0 for none."""
    session_minutes: float = 30.0
    """A session ends when nothing happens for so long."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an artifact says of itself; every number is finite."""

    format_version: int = FORMAT_VERSION
    version: str
    created_ms: int
    train_start_ms: int
    """Time of the first and of the last event trained on, ms since 1970 UTC."""
    trained_until_ms: int
    log_id: str
    log_sequence: int
    """The last event of that log inside the artifact; online state adds what follows it."""
    n_users: int
    n_items: int
    n_factors: int
    metrics: dict[str, float]
    parameters: dict[str, str | int | float | bool | None]
    libraries: dict[str, str]
    index_type: Literal["exact", "lists", "hnsw", "ivf"] = "exact"
    index_probes: int = 0
    """Lists that a search scans at least, of index type "lists"."""
    repeat_policy: Literal["allow", "exclude_purchased"]
    repeat_rate: float
    """Share of purchases of an item that its buyer had bought before."""
    event_weights: dict[str, float]
    """Confidence weight of one event, by lower-case event type."""
    alpha: float
    regularization: float
    repeat_boost: float = 0.0
    """Lift of bought items, see kernels.repeats; 0 for none."""
    repeat_days: float = 60.0
    """Days after which that lift has fallen to 1/e."""
    blend: BlendTerms = BlendTerms()
    """What is added to the factors' scores."""
    probability_bias: float
    horizon_days: float
    """The probability model speaks of a purchase within so many days."""
    landscape_exchanges: list[str]
    """Row names of landscape_counts; row 0 is "" = all exchanges."""
    landscape_source: Literal["observed", "assumed"]
    checksums: dict[str, str] = {}
    """SHA-256 of every file but the manifest, filled in by the writer."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Dtype and shape of one stored array; a name in the shape is a size that all arrays share, ``name+1`` one more."""

    dtype: str
    shape: tuple[str, ...]


ARRAYS: dict[str, ArraySpec] = {
    "user_id_offsets": ArraySpec("<i8", ("users+1",)),
    "user_id_blob": ArraySpec("|u1", ("user_id_bytes",)),
    "user_id_hashes": ArraySpec("<u8", ("users",)),
    "user_id_order": ArraySpec("<i4", ("users",)),
    "item_id_offsets": ArraySpec("<i8", ("items+1",)),
    "item_id_blob": ArraySpec("|u1", ("item_id_bytes",)),
    "item_id_hashes": ArraySpec("<u8", ("items",)),
    "item_id_order": ArraySpec("<i4", ("items",)),
    "user_factors": ArraySpec("<f4", ("users", "factors")),
    "item_factors": ArraySpec("<f4", ("items", "factors")),
    "gram": ArraySpec("<f4", ("factors", "factors")),
    "popularity": ArraySpec("<f4", ("items",)),
    "popular_order": ArraySpec("<i4", ("items",)),
    "neighbour_indptr": ArraySpec("<i8", ("items+1",)),
    "neighbour_items": ArraySpec("<i4", ("neighbours",)),
    "neighbour_weights": ArraySpec("<f4", ("neighbours",)),
    "history_indptr": ArraySpec("<i8", ("users+1",)),
    "history_items": ArraySpec("<i4", ("history",)),
    "history_types": ArraySpec("|i1", ("history",)),
    "history_weights": ArraySpec("<f4", ("history",)),
    "history_times_ms": ArraySpec("<i8", ("history",)),
    "probability_weights": ArraySpec("<f4", ("features",)),
    "calibration_x": ArraySpec("<f8", ("knots",)),
    "calibration_y": ArraySpec("<f8", ("knots",)),
    "landscape_edges_cpm": ArraySpec("<i8", ("price_bins+1",)),
    "landscape_counts": ArraySpec("<f8", ("exchanges", "price_bins")),
    "traffic_profile": ArraySpec("<f8", ("week_hours",)),
}
"""Every array that an artifact must have; the writer and the reader check against these tables alone."""

_LINKS = {"indptr": ("<i8", "items+1"), "items": ("<i4", ""), "weights": ("<f4", "")}

OPTIONAL_ARRAYS: dict[str, ArraySpec] = {
    f"{kind}_link_{part}": ArraySpec(dtype, (size or f"{kind}_links",))
    for kind in ("item", "session")
    for part, (dtype, size) in _LINKS.items()
} | {
    "session_decay": ArraySpec("<f4", ("lags",)),
    "index_centres": ArraySpec("<f4", ("lists", "factors")),
    "index_lists": ArraySpec("<i4", ("items",)),
}
"""Arrays of the blend and of the index, since format version 2. All of one kind are there or none; those that are not
are empty.

item_link_* : links from an item of a history to others. session_link_* : from an item of the session to what comes
next. session_decay : what the latest item of the session weighs, the one before it, and so on. index_centres,
index_lists : of index type "lists", the centres and which of them each item belongs to.
"""

OFFSETS = {
    "user_id_offsets": "user_id_blob",
    "item_id_offsets": "item_id_blob",
    "neighbour_indptr": "neighbour_items",
    "history_indptr": "history_items",
    "item_link_indptr": "item_link_items",
    "session_link_indptr": "session_link_items",
}


def read_manifest(path: Path) -> Manifest:
    """The manifest of a version directory, checked against its own checksum."""
    try:
        raw = (path / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissingError(
            f"no artifact at {path}: {MANIFEST} is not there", hint="train and publish one, or correct the path"
        ) from error
    _check_format(path, raw)
    try:
        expected = (path / MANIFEST_CHECKSUM).read_text().strip()
    except FileNotFoundError:
        expected = ""
    if hashlib.sha256(raw).hexdigest() != expected:
        raise ArtifactCorruptError(
            f"{path / MANIFEST} does not match {MANIFEST_CHECKSUM}", hint="roll back, or copy the version again"
        )
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.ValidationError as error:
        raise ArtifactCorruptError(f"{path / MANIFEST}: {error}", hint="train again or roll back") from error


def _check_format(path: Path, raw: bytes) -> None:
    try:
        format_version = json.loads(raw)["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorruptError(
            f"{path / MANIFEST} is no manifest: {error}", hint="copy the version again"
        ) from error
    if not isinstance(format_version, int) or format_version < 1:
        raise ArtifactCorruptError(f"{path / MANIFEST}: format_version is {format_version!r}")
    if format_version > FORMAT_VERSION:
        raise ArtifactTooNewError(
            f"{path}: format version",
            got=format_version,
            expected=f"at most {FORMAT_VERSION}",
            hint="upgrade headrace here, or train with the version that serves",
        )


def check_arrays(arrays: dict[str, npt.NDArray[Any]], manifest: Manifest) -> None:
    """Raise ArtifactError unless the arrays have the dtypes and one consistent set of sizes of the tables."""
    sizes = {
        "users": manifest.n_users,
        "items": manifest.n_items,
        "factors": manifest.n_factors,
        "exchanges": len(manifest.landscape_exchanges),
        "week_hours": 168,
    }
    wanted = ARRAYS | {name: OPTIONAL_ARRAYS[name] for name in _optional_arrays(arrays, manifest)}
    for name, spec in wanted.items():
        array = arrays.get(name)
        if array is None:
            raise ArtifactError(f"array {name} is missing")
        if array.dtype.newbyteorder("<") != np.dtype(spec.dtype) or array.ndim != len(spec.shape):
            got = (array.dtype.str, array.ndim)
            raise ArtifactError(f"array {name}", got=got, expected=f"{spec.dtype} of {len(spec.shape)} dimensions")
        for size, symbol in zip(array.shape, spec.shape, strict=True):
            base, _, one_more = symbol.partition("+")
            found = size - int(one_more or 0)
            if sizes.setdefault(base, found) != found:
                raise ArtifactError(f"array {name}: {base}", got=found, expected=f"{sizes[base]} as elsewhere")
    for name, target in OFFSETS.items():
        if name not in wanted:
            continue
        offsets = arrays[name]
        if offsets[0] != 0 or offsets[-1] != len(arrays[target]):
            raise ArtifactError(f"array {name}", got=int(offsets[-1]), expected=f"0 to {len(arrays[target])}")


def _optional_arrays(arrays: dict[str, npt.NDArray[Any]], manifest: Manifest) -> list[str]:
    """Names of the optional arrays that this artifact must have."""
    needed = {
        "item_link": manifest.blend.item_weight != 0 or manifest.blend.new_item_weight != 0,
        "session_": manifest.blend.session_weight != 0,
        "index_": manifest.index_type == "lists",
    }
    if needed["index_"] and manifest.index_probes < 1:
        raise ArtifactError("manifest: index_probes", got=manifest.index_probes, expected="1 or more")
    kinds = [kind for kind, must in needed.items() if must or any(name.startswith(kind) for name in arrays)]
    return [name for name in OPTIONAL_ARRAYS if name.startswith(tuple(kinds))]


def map_array(path: Path, name: str) -> npt.NDArray[Any]:
    file = path / f"{name}.npy"
    try:
        # a plain view: np.memmap's own subclass slows every small slice
        array: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        return array
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactCorruptError(f"{file}: {error}", hint="roll back, or copy the version again") from error


def release(array: object) -> None:
    """Let go of the resident pages of an array that :func:`map_array` mapped; nothing happens to any other."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, mmap.mmap):
        array.madvise(mmap.MADV_DONTNEED)


def verify_checksums(path: Path, manifest: Manifest) -> None:
    """Read every byte, on several threads; raises ArtifactCorruptError naming the first file that is off."""

    def size(name: str) -> int:
        return (path / name).stat().st_size if (path / name).exists() else 0

    # the largest first, so that no thread is left alone with it at the end
    names = sorted(manifest.checksums, key=size, reverse=True)
    with ThreadPoolExecutor(min(MAX_READERS, len(os.sched_getaffinity(0))), "headrace-verify") as pool:
        list(pool.map(lambda name: _verify_file(path / name, manifest.checksums[name]), names))


def _verify_file(file: Path, expected: str) -> None:
    hint = "roll back, or copy the version again"
    try:
        with file.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactCorruptError(f"{file}: {error}", hint=hint) from error
    if found != expected:
        raise ArtifactCorruptError(f"{file}: its checksum is not the manifest's", hint=hint)
