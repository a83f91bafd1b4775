"""Everything behind the door, put together: store, log, model, services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from headrace.artifacts import Artifact, open_artifact
from headrace.config import Config
from headrace.errors import ConfigError
from headrace.events.log import EventLog
from headrace.events.store import DATABASE, Store
from headrace.recommend.model import Model
from headrace.recommend.recommender import Recommender
from headrace.recommend.warm import warm
from headrace.service import artifacts
from headrace.service.artifacts import ServedArtifact
from headrace.service.catalog import CatalogService
from headrace.service.events import EventsService
from headrace.service.method import Method
from headrace.service.recommender import RecommenderService


class Assembly:
    """The parts of one serving process, ready to answer once built.

    Raises ConfigError without an artifact folder, ArtifactError for one that cannot be served, StoreError.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        with ExitStack() as undo:
            self._build(config, undo)
            self._closing = undo.pop_all()

    def _build(self, config: Config, undo: ExitStack) -> None:
        if not config.server.artifact:
            raise ConfigError("server.artifact", "", "an artifact folder", "say --artifact DIR")
        first = open_artifact(config.server.artifact)
        store = Store(Path(config.server.data) / DATABASE)
        undo.callback(store.close)
        self._log = EventLog(store)
        self._recommender = Recommender(self._model(first), self._log)
        undo.callback(self._recommender.close)
        self._recommender.start()
        self.served = ServedArtifact(Path(config.server.artifact), first, self._adopt)

    def _model(self, artifact: Artifact) -> Model:
        model = Model(artifact, self._log)
        warm(model)
        return model

    def _adopt(self, artifact: Artifact) -> None:
        self._recommender.swap(self._model(artifact))

    def methods(self) -> list[Method]:
        """All RPCs."""
        return [
            *RecommenderService(self._recommender).methods(),
            *EventsService(self._recommender).methods(),
            *CatalogService(self._recommender).methods(),
            *artifacts.methods(self.served),
        ]

    @contextmanager
    def following(self, set_serving: Callable[[str, bool], None]) -> Iterator[None]:
        """Within: become the ledger's owner as soon as it is free."""
        yield

    def close(self) -> None:
        """Return leases, commit, close; safe to call twice."""
        self._closing.close()
