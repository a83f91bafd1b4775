"""Everything behind the door, put together: store, log, model, ledger, services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headrace.artifacts import Artifact, open_artifact
from headrace.config import Config
from headrace.errors import ConfigError
from headrace.events.log import EventLog
from headrace.events.store import DATABASE, Store
from headrace.service import artifacts
from headrace.service.artifacts import ServedArtifact
from headrace.service.method import Method


class Assembly:
    """The parts of one serving process.

    Raises ConfigError without an artifact folder, ArtifactError for one that cannot be served, StoreError.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._closing = ExitStack()
        try:
            self._build(config)
        except BaseException:
            self.close()
            raise

    def _build(self, config: Config) -> None:
        if not config.server.artifact:
            raise ConfigError("server.artifact", "", "an artifact folder", "say --artifact DIR")
        first = open_artifact(config.server.artifact)
        self.store = Store(Path(config.server.data) / DATABASE)
        self._closing.callback(self.store.close)
        self.log = EventLog(self.store)
        self.served = ServedArtifact(Path(config.server.artifact), first, self._adopt)

    def _adopt(self, artifact: Artifact) -> None:
        pass

    def methods(self) -> list[Method]:
        """All RPCs."""
        return artifacts.methods(self.served)

    def warm(self) -> None:
        """Compile or load every kernel, so that no caller waits for it."""

    @contextmanager
    def following(self, set_serving: Callable[[str, bool], None]) -> Iterator[None]:
        """Within: follow other processes' changes and become the ledger's owner as soon as it is free."""
        yield

    def close(self) -> None:
        """Return leases, commit, close; safe to call twice."""
        self._closing.close()
