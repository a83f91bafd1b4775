"""Everything behind the door, put together: store, log, model, ledger, campaigns, services."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from headrace.artifacts import Artifact, open_artifact
from headrace.authority.actions import put_in_outbox
from headrace.authority.opening import in_step, open_ledger
from headrace.bidding.actions import Actions
from headrace.bidding.campaigns import CampaignStore
from headrace.bidding.foreign import ForeignEngine
from headrace.bidding.pacing import progress
from headrace.bidding.people import KnownPeople
from headrace.bidding.predict import BidModel
from headrace.bidding.pricing.snapshot import Snapshot
from headrace.bidding.strategies.strategy import load_strategies
from headrace.clock import Clock, RequestClock, SystemClock
from headrace.config import Config, ServerConfig
from headrace.decisions.batch import NoRecorder
from headrace.decisions.erasure import Erasures
from headrace.decisions.recorder import DecisionRecorder
from headrace.decisions.segments import FOLDER
from headrace.errors import ConfigError
from headrace.events.log import EventLog
from headrace.events.store import DATABASE, Store
from headrace.ledger.rates import Rates
from headrace.operations.live import LiveSettings
from headrace.recommend.model import Model
from headrace.recommend.recommender import Recommender
from headrace.recommend.warm import warm, warm_arena
from headrace.service import artifacts
from headrace.service.actions import ActionsService
from headrace.service.artifacts import ServedArtifact
from headrace.service.bidder import BidderService
from headrace.service.campaigns import CampaignsService
from headrace.service.catalog import CatalogService
from headrace.service.events import EventsService
from headrace.service.explain import ExplainService
from headrace.service.method import Method
from headrace.service.notices import NoticeUrls
from headrace.service.openrtb import OpenRtbService
from headrace.service.recommender import RecommenderService
from headrace.telemetry.shop import Parts

BIDDER = "headrace.v1.BidderService"
DAY_MS = 86_400_000
SAVE_S = 10.0
"""Seconds between two times that the progress of goals and promises is kept; a crash forgets so much of it at most."""
KEEP_PRICES_S = 60.0
"""Seconds between two times that what bids taught of prices is kept."""

FED = frozenset(
    f"/headrace.v1.{name}"
    for name in (
        "BidderService/Notify",
        "BidderService/ReportActions",
        "CatalogService/DeleteItems",
        "CatalogService/UpsertItems",
        "EventsService/RecordEvents",
    )
)
"""Methods that programs call many times a second and repeat: while the disk fails they fail at once. What an operator
does is always tried."""

_log = logging.getLogger("headrace.service")


class Assembly:
    """The parts of one serving process, ready to answer once built.

    Raises ConfigError without an artifact folder, ArtifactError for one that cannot be served, StoreError.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._retry_s = config.server.ledger_retry_ms / 1000
        with ExitStack() as undo:
            self._build(config, undo)
            self._closing = undo.pop_all()

    def _build(self, config: Config, undo: ExitStack) -> None:
        if not config.server.artifact:
            raise ConfigError("server.artifact", "", "an artifact folder", "say --artifact DIR")
        with ThreadPoolExecutor(1, "headrace-kernels") as aside:
            # the first kernel brings up Numba's machinery, while checksums are verified, for which nobody needs the GIL
            loading = aside.submit(warm_arena)
            first, data = open_artifact(config.server.artifact), Path(config.server.data)
            loading.result()
        requests = config.server.clock == "requests"
        self._clock: Clock = RequestClock(first.manifest.trained_until_ms) if requests else SystemClock()
        store = Store(data / DATABASE)
        undo.callback(store.close)
        self._event_log = EventLog(store)
        model = Model(first, self._event_log)
        warm(model)
        keep_slates_ms = round(config.server.slate_days * DAY_MS) or None
        self._recommender = Recommender(model, self._event_log, self._clock, keep_slates_ms)
        undo.callback(self._recommender.close)
        self._recommender.start()
        self._build_bidding(store, data, model, undo)
        self.served = ServedArtifact(Path(config.server.artifact), first, self._adopt)

    def _build_bidding(self, store: Store, data: Path, model: Model, undo: ExitStack) -> None:
        config = self._config
        max_bid_cpm = config.bidding.max_bid_cpm_micros
        ledger_config = replace(config.ledger, max_bid_cpm_micros=config.ledger.max_bid_cpm_micros or max_bid_cpm)
        self._ledger = open_ledger(data, store, clock_ms=self._clock, ledger=ledger_config, authority=config.authority)
        undo.callback(self._ledger.close)
        self._ledger.try_acquire()
        strategies = load_strategies(config.bidding.strategies)
        for each in strategies.values():
            _log.info("strategy %s", each)
        self._campaigns = CampaignStore(
            store, self._ledger, max_bid_cpm=max_bid_cpm, clock_ms=self._clock, strategies=strategies
        )
        people = KnownPeople(model)
        self._bidding = ForeignEngine(
            self._ledger,
            self._campaigns.board,
            BidModel.of(model.artifact),
            people,
            people.find_item,
            config.bidding,
            strategies=strategies,
        )
        rates_file = Path(config.bidding.rates_file) if config.bidding.rates_file else None
        self._bidding.rates = Rates(rates_file, config.bidding.rates_max_age_ms)
        self._bidder = BidderService(self._bidding, self._ledger, config.bidding, self._clock)
        self._campaigns.subscribe(self._bidding.set_board)
        self._store = store
        self._snapshot = Snapshot(data)
        self._recall()
        self._bidding.warm(self._clock())
        self._records = data / FOLDER
        erasures = Erasures(self._event_log.erased_since, self._records)
        self._recorder = DecisionRecorder(self._records, config.decisions, erasures, self._clock)
        self._recorder.start()
        undo.callback(self._recorder.close)
        recorder = self._recorder if config.decisions.record else NoRecorder()
        self._bidding.record(recorder)
        self._actions = Actions(
            store, self._ledger, self._bidding.pacer, config.bidding, self._clock, recorder, put_in_outbox
        )
        self._actions.feed()

    def _adopt(self, artifact: Artifact) -> None:
        model, bid_model = Model(artifact, self._event_log), BidModel.of(artifact)
        people = KnownPeople(model)
        artifact.release_pages()
        # whatever is wrong with an artifact is raised before the first of these has changed anything
        self._recommender.swap(model)
        self._bidding.set_model(bid_model, people, people.find_item)

    def methods(self) -> list[Method]:
        """All RPCs."""
        every = [
            *RecommenderService(self._recommender).methods(),
            *self._bidder.methods(),
            *ActionsService(self._actions, self._clock).methods(),
            *ExplainService(self._records, self._recorder).methods(),
            *EventsService(self._recommender).methods(),
            *CampaignsService(self._campaigns, self._bidding, self._ledger).methods(),
            *CatalogService(self._recommender).methods(),
            *artifacts.methods(self.served),
        ]
        breaker = self._event_log.store.breaker
        return [replace(method, breaker=breaker) if method.name in FED else method for method in every]

    def parts(self) -> Parts:
        """What metrics are read from."""
        return Parts(
            recommender=self._recommender,
            bidding=self._bidding,
            ledger=self._ledger,
            log=self._event_log,
            artifact=lambda: self.served.current,
            n_swaps=lambda: self.served.n_swaps,
            clock_ms=self._clock,
            decisions=self._recorder,
            actions=self._actions,
            snapshot=self._snapshot,
        )

    def follow_settings(self, live: LiveSettings) -> None:
        """Take over changed settings from now on."""
        live.register("server", self._take_over)
        live.register("bidding", self._bidder.configure)
        live.register("decisions", self._recorder.configure)

    def _take_over(self, server: ServerConfig) -> None:
        if server.artifact:  # else each tenant has its own
            self.served.move_to(Path(server.artifact))
        self._retry_s = server.ledger_retry_ms / 1000

    def http_methods(self, notices: str) -> list[Method]:
        """What is offered over HTTP; notice URLs begin with ``notices``."""
        openrtb = OpenRtbService(
            self._bidding,
            self._clock,
            notices,
            expires_s=self._ledger.config.expire_after_ms // 1000,
            explain=self._config.http.explain_no_bid,
        )
        breaker = self._event_log.store.breaker
        durable = *NoticeUrls(self._bidder).methods(), *ActionsService(self._actions, self._clock).http_methods()
        guarded = [replace(method, breaker=breaker) for method in durable]
        return [*openrtb.methods(), *guarded]

    @contextmanager
    def following(self, set_serving: Callable[[str, bool], None]) -> Iterator[None]:
        """Within: own the ledger as soon as it is free, and follow what other processes change.

        set_serving : hears whether this process bids.
        """
        over = threading.Event()
        follower = threading.Thread(target=self._follow, args=(over, set_serving), name="headrace-ledger")
        set_serving(BIDDER, self._ledger.owned)
        follower.start()
        # with the requests' clock bids solve themselves, always at the same requests, so that a replay paces the same
        aside = nullcontext() if self._config.server.clock == "requests" else self._bidding.pacer.aside()
        try:
            with aside, in_step(self._ledger, self._bidding.learn, self._actions.report):
                yield
        finally:
            over.set()
            follower.join()
            if self._ledger.owned:
                self._keep_prices()
                self._save()

    def _follow(self, over: threading.Event, set_serving: Callable[[str, bool], None]) -> None:
        owned, turns, kept_s = self._ledger.owned, 0, time.monotonic()
        while not over.wait(self._retry_s):
            try:
                self._ledger.try_acquire()
                self._ledger.tick(self._clock())
                self._campaigns.refresh()
                self._bidding.refresh_items()
                self._actions.feed()
                turns += 1
                if self._ledger.owned and turns * self._retry_s >= SAVE_S:
                    turns = 0
                    self._save()
                    # with the requests' clock bids alone may touch the pacer, so that a replay paces the same
                    if not isinstance(self._clock, RequestClock) and time.monotonic() - kept_s >= KEEP_PRICES_S:
                        kept_s = time.monotonic()
                        self._keep_prices()
            except Exception:  # a disk that fails now may work again
                _log.exception("following the ledger and the campaigns failed")
            if self._ledger.owned != owned:
                owned = self._ledger.owned
                if owned:
                    self._recall()
                    self._actions.recall()
                _log.info("this process %s the ledger", "owns" if owned else "no longer owns")
                set_serving(BIDDER, owned)

    def _save(self) -> None:
        kept = self._bidding.pacer.progress()
        progress.save(self._store, kept)
        self._actions.forget(kept.heard)

    def _recall(self) -> None:
        """Go on from what the last owner of the ledger kept."""
        pacer = self._bidding.pacer
        pacer.restore(progress.load(self._store), self._clock())
        found = self._snapshot.load(self._clock())
        if found is not None:
            pacer.restore_prices(*found)

    def _keep_prices(self) -> None:
        try:
            self._snapshot.save(self._bidding.pacer.prices(), self._clock())
        except OSError as error:  # they are learned again sooner than money is
            _log.warning("what was learned of prices was not kept: %s", error)

    def close(self) -> None:
        """Return leases, commit, close; safe to call twice."""
        self._closing.close()
