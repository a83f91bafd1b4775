"""Recommenders under test."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from headrace.artifacts import Artifact
from headrace.events.log import EventLog
from headrace.recommend.model import Model
from headrace.recommend.recommender import Recommender

NOW_MS = 1_700_000_000_000


@pytest.fixture
def make(factories: ModuleType, log: EventLog) -> Callable[..., Recommender]:
    """Builds a recommender over an artifact, made with these options when none is given; its clock stands still."""

    def build(artifact: Artifact | None = None, **options: Any) -> Recommender:
        return Recommender(Model(artifact or factories.make_artifact(**options), log), log, clock_ms=lambda: NOW_MS)

    return build
