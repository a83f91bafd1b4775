"""ArtifactsService: which trained model answers, and swapping to another one under load."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from headrace.allocator import give_back
from headrace.artifact_format import MANIFEST
from headrace.artifacts import Artifact, ArtifactStore, open_artifact
from headrace.breaker import Breaker
from headrace.errors import ArtifactError, HeadraceError, NotFoundError, UnavailableError
from headrace.front import Call
from headrace.service.checks import MAX_ID_BYTES, check_text
from headrace.service.method import Method
from headrace.v1 import artifacts_pb2 as pb

NICENESS = 10
"""Of the thread that swaps: a tenth of the time of a busy core."""


class ServedArtifact:
    """The artifact being served and the way to another one.

    path : an artifact store's root, or one version's directory (then there is nothing to reload to).
    adopt : builds everything that answers from an artifact and swaps to it in one step; on an error nothing changed.

    Attribute ``n_swaps`` counts the artifacts swapped in.
    """

    def __init__(self, path: Path, first: Artifact, adopt: Callable[[Artifact], None]) -> None:
        self._path = path
        self._store = _store_of(path)
        self._adopt = adopt
        self._one_at_a_time = threading.Lock()
        self._tried, self._breaker = "", Breaker()
        self.current = first
        self.n_swaps = 0

    def reload(self, version: str = "") -> bool:
        """Verify and swap to a version, the store's current one by default; False when it is being served already.

        Raises NotFoundError for an unknown version, UnavailableError for one that failed several times just now, and
        what reading an artifact raises; the old one stays then.
        """
        with self._one_at_a_time:
            name = self._resolve(version)
            if name == self.current.version:
                return False
            self._try(name)
            return True

    def _try(self, name: str) -> None:
        """Read and verify a version, unless it failed again and again just now; any other may be tried meanwhile."""
        if name != self._tried:
            self._tried, self._breaker = name, Breaker(least=3, window_s=60.0, open_s=2.0, longest_s=30.0)
        if wait_s := self._breaker.wait_s():
            hint = f"try again in {wait_s:.0f} s, or name another version"
            raise UnavailableError(f"artifact {name} failed several times in a row", hint=hint)
        try:
            store = self._store
            self._take(lambda: store.open(name) if store else open_artifact(self._path))
        except (ArtifactError, OSError):
            self._breaker.failed()
            raise
        self._breaker.succeeded()

    def move_to(self, path: Path) -> None:
        """Serve from another store, or another version's directory, from now on; raises as `reload`."""
        with self._one_at_a_time:
            if path != self._path:
                self._take(lambda: open_artifact(path))
                self._path, self._store = path, _store_of(path)

    def _take(self, open_next: Callable[[], Artifact]) -> None:
        """Verify and build on a thread that gives way to those that answer."""

        def take() -> None:
            artifact = open_next()
            # the memory of two artifacts is not needed: what answers read of the old one comes back by itself
            self.current.release_pages()
            self._adopt(artifact)
            artifact.release_pages()
            self.current = artifact
            self.n_swaps += 1
            give_back()

        with ThreadPoolExecutor(1, "headrace-swap", _give_way) as thread:
            thread.submit(take).result()

    def _resolve(self, version: str) -> str:
        if self._store is None:
            known, chosen = [self.current.version], version or self.current.version
        else:
            known, chosen = self._store.versions(), version or self._store.current() or ""
        if chosen not in known:
            raise NotFoundError("version", chosen, f"one of those in {self._path}", "publish it first")
        return chosen


def _give_way() -> None:
    # on Linux this is of the calling thread, and of those that it starts, alone
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _store_of(path: Path) -> ArtifactStore | None:
    return None if (path / MANIFEST).exists() else ArtifactStore(path)


def methods(served: ServedArtifact) -> list[Method]:
    """The RPCs of ArtifactsService."""

    def current(requests: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
        return [pb.GetCurrentArtifactResponse(artifact=describe(served.current))] * len(requests)

    def reload(requests: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
        return [_reload(served, request.version) for request in requests]

    return [
        Method("/headrace.v1.ArtifactsService/GetCurrentArtifact", pb.GetCurrentArtifactRequest, current),
        Method("/headrace.v1.ArtifactsService/ReloadArtifact", pb.ReloadArtifactRequest, reload),
    ]


def _reload(served: ServedArtifact, version: str) -> pb.ReloadArtifactResponse | HeadraceError:
    try:
        check_text("version", version, MAX_ID_BYTES)
        changed = served.reload(version)
    except HeadraceError as error:
        return error
    return pb.ReloadArtifactResponse(artifact=describe(served.current), changed=changed)


def describe(artifact: Artifact) -> pb.Artifact:
    """An artifact as the API tells of it."""
    manifest = artifact.manifest
    return pb.Artifact(
        version=artifact.version,
        format_version=manifest.format_version,
        trained_until_ms=manifest.trained_until_ms,
        n_users=len(artifact.user_ids),
        n_items=len(artifact.item_ids),
        metrics=manifest.metrics,
        index_type=manifest.index_type,
    )
