"""How much memory a run will take and whether the machine has it: a refusal before the start, not a kill later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import scipy.sparse as sp

from headrace.errors import ConfigError
from headrace_training.tables import table_suffix

ROOT = Path("/")
PAIR_BYTES = 28
"""Of a (user, item) pair while a file is read: two indices, a weight and the matrix being built."""

TEXT_BYTES_PER_PAIR = 8
"""An id and its blank, generously; a table row is longer."""

N_TRIALS_KEPT = 5
"""Sets of factors that `fit` holds at once: those of its trials, and the one being made."""

UNPACKED = 3
"""A compressed file of ids grows by more than this when it is read."""

CGROUPS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))


def available_bytes(root: Path = ROOT) -> int:
    """What can still be taken: of the machine's memory, and of the limits of the control groups this process is in.

    root : where proc and sys are, for tests. A limit that cannot be read is none.
    """
    free = [2**63]
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            free.append(int(value.split()[0]) * 1024)
    free += _group_bytes(root)
    return max(0, min(free))


def _group_bytes(root: Path) -> Iterator[int]:
    """Limit less use of each group from the process's own up; caches that the kernel would drop count as free."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        own = mount / path.strip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(mount):
                break
            for limit_name, used_name in CGROUPS:
                limit, used = (_text(folder / name).strip() for name in (limit_name, used_name))
                if limit.isdecimal() and used.isdecimal():
                    yield int(limit) - int(used) + _inactive_file(folder)


def _inactive_file(folder: Path) -> int:
    values = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def require_memory(what: str, n_bytes: int, hint: str) -> None:
    """ConfigError when this is more than can be taken now; ``what`` begins the sentence."""
    free = available_bytes()
    if n_bytes > free:
        raise ConfigError(
            f"{what} takes about {n_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are available", hint=hint
        )


def require_for_fit(model: object, train: sp.csr_matrix) -> None:
    """Refuse a model whose own estimate, ``memory_bytes(train)``, exceeds what is available."""
    estimate = getattr(model, "memory_bytes", None)
    if estimate is not None:
        n_users, n_items = train.shape
        name = getattr(model, "name", "the model")
        require_memory(
            f"fitting {name} on {n_users} users, {n_items} items and {train.nnz} pairs",
            estimate(train),
            "take fewer factors or neighbours, less data, another model or a larger machine",
        )


def require_for_factors(n_users: int, n_items: int, n_events: int, n_factors: int) -> None:
    """Refuse `fit` where its factors, those of its trials kept beside each other, would not fit."""
    from headrace_training.models.ials import ials_memory_bytes

    kept = N_TRIALS_KEPT * 4 * n_factors * (n_users + n_items)
    require_memory(
        f"fitting {n_factors} factors of {n_users} users and {n_items} items",
        kept + ials_memory_bytes(n_users, n_items, n_events, n_factors),
        "take fewer factors with --n-factors, or a larger machine",
    )


def require_for_file(path: Path) -> None:
    """Refuse a file of interactions whose pairs alone would not fit, by its size or what Parquet says of itself."""
    if not path.is_file():
        return
    if table_suffix(path) == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            n_pairs = pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError):
            return  # the reader says what is wrong with it
    else:
        n_pairs = path.stat().st_size * (UNPACKED if path.suffix == ".gz" else 1) // TEXT_BYTES_PER_PAIR
    require_memory(f"reading {path}", n_pairs * PAIR_BYTES, "split the file, or take a larger machine")
