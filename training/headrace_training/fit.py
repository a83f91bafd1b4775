"""From the event log to a finished, unpublished artifact version."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass, replace
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import scipy.sparse as sp

from headrace.artifact_format import Manifest
from headrace.artifacts import ArtifactStore, ArtifactWriter
from headrace.errors import DataError
from headrace.events.columns import TrainingColumns
from headrace.ids import IdTable
from headrace.types import Bool, Float64
from headrace_training.choice import Choice, Choosers, choose_extras
from headrace_training.history import (
    PURCHASE,
    RETURN,
    build_history,
    daily_groups,
    fold_in_all,
    popular_order,
    recent_popularity,
    repeat_rate,
    type_weights,
)
from headrace_training.index import IndexChoice, choose_index
from headrace_training.landscape import assumed_landscape, observed_landscape, price_edges, traffic_profile
from headrace_training.links import item_links, link_arrays, links_an_item
from headrace_training.models.ials import IalsTrainer, Trainer
from headrace_training.neighbours import neighbour_arrays
from headrace_training.probability import (
    Moment,
    ProbabilityModel,
    calibration_report,
    draw_sample,
    fit_probability,
    reliability,
)
from headrace_training.progress import say
from headrace_training.report import FitTrace
from headrace_training.session_choice import DECAY, MINUTES, SessionChoice, choose_session, transitions
from headrace_training.settings import FitSettings
from headrace_training.slate import NO_EXTRAS, Extras, FactorModel, served_metrics, served_model
from headrace_training.weights import Worth, learn_weights

if TYPE_CHECKING:
    from headrace_training.als import Als  # its core may not be built

DAY_MS = 86_400_000
ALPHAS = (1.0, 2.0, 5.0, 20.0)
REPEATS_ALLOWED_FROM = 0.2
LIBRARIES = ("headrace", "numpy", "scipy", "implicit")


@dataclass(frozen=True)
class Slices:
    """Ends of the four parts of the log's time: factors learn before the first, labels lie between the first two,
    the calibration between the second and the third, the validation between the third and the end (exclusive)."""

    factors_ms: int
    labels_ms: int
    calibration_ms: int
    end_ms: int

    @property
    def horizon_days(self) -> float:
        return (self.end_ms - self.calibration_ms) / DAY_MS


def make_slices(events: TrainingColumns, horizon_days: float) -> Slices:
    """The last three slices are one horizon each, at most a sixth of the log's time."""
    first, end = int(events.times_ms.min()), int(events.times_ms.max()) + 1
    horizon = max(1, min(int(horizon_days * DAY_MS), (end - first) // 6))
    return Slices(end - 3 * horizon, end - 2 * horizon, end - horizon, end)


class Fitter:
    """One run of `fit` over the events of a log.

    auctions : file of market prices, None to assume a landscape.   now_ms : time of the run, for the manifest.
    """

    def __init__(
        self, events: TrainingColumns, settings: FitSettings, *, now_ms: int, auctions: Path | None = None
    ) -> None:
        check_events(events, settings)
        self.events = events
        self.settings = settings
        self.now_ms = now_ms
        self.weights, self.half_life_days = settings.weights(), settings.half_life_days
        self.slices = make_slices(events, settings.horizon_days)
        self.landscape = observed_landscape(auctions) if auctions else None
        self.alpha = settings.alpha
        self.choice = Choice()
        self.session = SessionChoice()
        self.n_links = links_an_item(len(events.item_ids), settings.links)
        self.rng = np.random.default_rng(settings.seed)
        self.trace = FitTrace()

    def run(self, store: ArtifactStore, name: str = "") -> Path:
        """Learn everything and write one version; returns its directory. ArtifactError if it cannot be."""
        name = name or new_version(store, self.now_ms)
        self.choose()
        say("learning the probability model")
        rate = repeat_rate(self.events)
        policy = self.settings.repeat_policy
        if policy == "auto":
            policy = "allow" if rate >= REPEATS_ALLOWED_FROM else "exclude_purchased"
        model, metrics = self._probability()
        validation = self.moment(self.slices.calibration_ms)
        held_out = draw_sample(validation, self._bought(self.slices.calibration_ms), self.rng)
        metrics |= calibration_report(model, held_out)
        self.trace.reliability = reliability(model, held_out)
        metrics |= self._served_metrics(validation, exclude=policy == "exclude_purchased")
        say(f"learning from all {len(self.events.times_ms)} events")
        final = self.moment(self.slices.end_ms)
        say("choosing the search index")
        n_threads = len(os.sched_getaffinity(0))
        index = choose_index(final.item_factors, final.user_factors, seed=self.settings.seed, n_threads=n_threads)
        metrics["index_recall@20"] = index.recall
        with store.writer(name) as writer:
            self._add_arrays(writer, final, model)
            if index.lists is not None:
                writer.add(index_centres=index.lists.centres, index_lists=index.lists.lists)
            return writer.finish(self._manifest(name, metrics, model, index, rate, policy))

    def choose(self) -> None:
        """Take the alpha, unless the settings give one, and what is added to the factors' scores, by what ranks best on
        the slice before the validation."""
        wanted = self._wanted(self.slices.labels_ms)
        found: list[tuple[float, float, Moment]] = []
        for alpha in (self.settings.alpha,) if self.settings.alpha else ALPHAS:
            self.alpha = alpha
            moment = self.moment(self.slices.labels_ms)
            recall = served_metrics(moment, wanted, NO_EXTRAS, exclude=False)["recall@20"]
            say(f"  alpha {alpha:g}: recall@20 {recall:.4f} on the slice before the last")
            found.append((recall, alpha, moment))
            self.trace.tried[f"factors, alpha {alpha:g}: recall@20"] = recall
        recall, self.alpha, moment = max(found, key=lambda entry: entry[0])
        if self.settings.learn_weights:
            moment = self._learn_weights(moment, wanted, recall)
        self.choice = choose_extras(
            Choosers(moment, wanted),
            (lambda kind: self._links(kind, moment)) if self.settings.blend == "auto" else None,
        )
        repeat = self.choice.served.repeat
        say(f"  repeats: lifted by {repeat.boost:g} over {repeat.days:g} days")
        if self.settings.blend == "auto":
            self.session = self._choose_session(moment)

    def _learn_weights(self, moment: Moment, wanted: sp.csr_matrix, recall: float) -> Moment:
        """The moment with learned weights of event types and ageing, if the factors find more with them too."""
        given = Worth(weights=self.weights, half_life_days=self.half_life_days)
        slices = self.slices
        horizon_ms = slices.calibration_ms - slices.labels_ms
        seed = self.settings.seed
        # serving counts events, whatever their quantity
        worth = learn_weights(self.events, given, slices.labels_ms, horizon_ms, quantities=False, seed=seed).worth
        if worth == given:
            return moment
        self.weights, self.half_life_days = dict(worth.weights), worth.half_life_days
        learned = self.moment(slices.labels_ms)
        found = served_metrics(learned, wanted, NO_EXTRAS, exclude=False)["recall@20"]
        self.trace.tried["factors, learned weights: recall@20"] = found
        if found > recall:
            return learned
        say(f"  recall@20 {found:.4f} with learned weights, {recall:.4f} without: the given ones stay")
        self.weights, self.half_life_days = dict(given.weights), given.half_life_days
        return moment

    def _links(self, kind: str, moment: Moment) -> sp.csr_matrix:
        groups = daily_groups(self.events, self.weights, moment.now_ms)
        return item_links(kind, moment.history.served(moment.purchase_weight)[0], groups, self.n_links)

    def extras(self, moment: Moment) -> Extras:
        """What is served beside the factors, with links learned from what was known at the moment."""
        if not self.choice.kind:
            return self.choice.served
        return replace(self.choice.served, links=self._links(self.choice.kind, moment))

    def _choose_session(self, moment: Moment) -> SessionChoice:
        extras = self.choice.served

        def served(events: TrainingColumns) -> FactorModel:
            return served_model(self.moment(self.slices.end_ms, factors=moment, events=events), extras)

        slices = self.slices
        return choose_session(
            self.events, self._weighed(), slices.labels_ms, slices.calibration_ms, served, self.n_links
        )

    def _served_metrics(self, validation: Moment, *, exclude: bool) -> dict[str, float]:
        """Of what is served and, as ``factors_…``, of what would be without the blend."""
        wanted = self._wanted(self.slices.calibration_ms)
        plain = served_metrics(validation, wanted, self.choice.plain, exclude=exclude)
        extras = self.extras(validation)
        served = plain if extras.links is None else served_metrics(validation, wanted, extras, exclude=exclude)
        ndcg = {f"chosen_{name}_ndcg@20": value for name, value in self.choice.ndcg.items()}
        return (
            served
            | ndcg
            | self.session.hits
            | {f"factors_{name}": plain[name] for name in ("recall@20", "ndcg@20", "coverage@20")}
        )

    def _probability(self) -> tuple[ProbabilityModel, dict[str, float]]:
        slices = self.slices
        early = self.moment(slices.factors_ms)
        labelled = draw_sample(early, self._bought(slices.factors_ms), self.rng)
        later = self.moment(slices.labels_ms, factors=early)
        calibrating = draw_sample(later, self._bought(slices.labels_ms), self.rng)
        model = fit_probability(labelled, calibrating)
        return model, {
            "label_purchases": float(labelled.labels.sum()),
            "calibration_purchases": float(calibrating.labels.sum()),
        }

    def moment(self, until_ms: int, factors: Moment | None = None, events: TrainingColumns | None = None) -> Moment:
        """State at a moment, with factors learned from everything before it, or the item factors of an earlier one.

        events : what is known of people then, if it is not the log's.
        """
        history = build_history(events or self.events, self.weights, until_ms)
        if factors is None:
            trainer: Trainer = IalsTrainer(
                self.settings.n_factors,
                self.alpha,
                self.settings.regularization,
                self.settings.iterations,
                self.settings.seed,
                watch=self._note_loss if until_ms == self.slices.end_ms else None,
            )
            aged = build_history(self.events, self.weights, until_ms, self._decay(until_ms))
            items = trainer.factorize(aged.confidence(self.weights["purchase"]))[1]
        else:
            items = factors.item_factors
        since = until_ms - int(self.settings.recent_days * DAY_MS)
        return Moment(
            now_ms=until_ms,
            history=history,
            user_factors=fold_in_all(
                history, items, self.alpha, self.settings.regularization, self.weights["purchase"]
            ),
            item_factors=items,
            popularity=recent_popularity(self.events, self.weights, since, until_ms),
            purchase_weight=self.weights["purchase"],
        )

    def _note_loss(self, als: Als) -> None:
        self.trace.curves.setdefault("loss", []).append(als.loss())

    def _decay(self, until_ms: int) -> Float64 | None:
        if not self.half_life_days:
            return None
        age_days = (until_ms - self.events.times_ms) / DAY_MS
        return np.asarray(0.5 ** (age_days / self.half_life_days))

    def _bought(self, since_ms: int) -> sp.csr_matrix:
        """What each person bought within one horizon of a moment; (n_users, n_items) float32."""
        return self._later(since_ms, self.events.types == PURCHASE)

    def _wanted(self, since_ms: int) -> sp.csr_matrix:
        """What slates are measured on: purchases, or every weighted event in a log without purchases."""
        types = self.events.types
        if (types == PURCHASE).any():
            return self._bought(since_ms)
        return self._later(since_ms, self._weighed())

    def _weighed(self) -> Bool:
        """Which events are of a weighted type, returns left out; (n_events,)."""
        types = self.events.types
        return np.asarray((types != RETURN) & (type_weights(self.weights)[types] > 0))

    def _later(self, since_ms: int, chosen: Bool) -> sp.csr_matrix:
        events = self.events
        until = since_ms + self.slices.end_ms - self.slices.calibration_ms
        rows = chosen & (events.times_ms >= since_ms) & (events.times_ms < until)
        shape = (len(events.user_names), len(events.item_ids))
        ones = np.ones(int(rows.sum()), dtype=np.float32)
        return sp.csr_matrix((ones, (events.user_idx[rows], events.item_idx[rows])), shape=shape)

    def _add_arrays(self, writer: ArtifactWriter, final: Moment, model: ProbabilityModel) -> None:
        history = final.history
        groups = daily_groups(self.events, self.weights, self.slices.end_ms)
        neighbours = neighbour_arrays(groups, self.settings.neighbours)
        counts = (
            self.landscape[1]
            if self.landscape
            else assumed_landscape(self.settings.assumed_median_cpm, self.settings.assumed_sigma)
        )
        writer.add_ids(users=IdTable.build(self.events.user_names), items=IdTable.build(self.events.item_ids))
        writer.add(
            user_factors=final.user_factors,
            item_factors=final.item_factors,
            gram=final.item_factors.T @ final.item_factors,
            popularity=final.popularity,
            popular_order=popular_order(final.popularity),
            neighbour_indptr=neighbours[0],
            neighbour_items=neighbours[1],
            neighbour_weights=neighbours[2],
            history_indptr=history.indptr,
            history_items=history.items,
            history_types=history.types,
            history_weights=history.weights,
            history_times_ms=history.times_ms,
            probability_weights=model.weights,
            calibration_x=model.calibration_x,
            calibration_y=model.calibration_y,
            landscape_edges_cpm=price_edges(),
            landscape_counts=counts,
            traffic_profile=traffic_profile(self.events.times_ms),
        )
        extras = self.extras(final)
        if extras.links is not None:
            writer.add(**link_arrays("item", extras.links))
        if self.session.weight:
            links = transitions(self.events, self._weighed(), self.n_links)
            writer.add(**link_arrays("session", links), session_decay=DECAY)

    def _manifest(
        self,
        name: str,
        metrics: dict[str, float],
        model: ProbabilityModel,
        index: IndexChoice,
        rate: float,
        policy: str,
    ) -> Manifest:
        settings = self.settings
        return Manifest(
            version=name,
            created_ms=self.now_ms,
            train_start_ms=int(self.events.times_ms.min()),
            trained_until_ms=int(self.events.times_ms.max()),
            log_id=self.events.log_id,
            log_sequence=self.events.log_sequence,
            n_users=len(self.events.user_names),
            n_items=len(self.events.item_ids),
            n_factors=settings.n_factors,
            metrics=metrics,
            parameters={
                "model": "blend" if self.choice.kind else "ials",
                "links": self.choice.kind,
                "iterations": settings.iterations,
                "seed": settings.seed,
                "half_life_days": self.half_life_days,
                "recent_days": settings.recent_days,
                **index.parameters(),
                "landscape": "observed"
                if self.landscape
                else f"log-normal, median {settings.assumed_median_cpm:g} CPM, sigma {settings.assumed_sigma:g}",
            },
            libraries={library: library_version(library) for library in LIBRARIES},
            index_type=index.kind,
            index_probes=index.lists.probes if index.lists else 0,
            repeat_policy="allow" if policy == "allow" else "exclude_purchased",
            repeat_rate=rate,
            event_weights=self.weights,
            alpha=self.alpha,
            regularization=settings.regularization,
            repeat_boost=self.choice.served.repeat.boost,
            repeat_days=self.choice.served.repeat.days,
            blend=msgspec.structs.replace(
                self.choice.served.terms, session_weight=self.session.weight, session_minutes=MINUTES
            ),
            probability_bias=model.bias,
            horizon_days=self.slices.horizon_days,
            landscape_exchanges=self.landscape[0] if self.landscape else [""],
            landscape_source="observed" if self.landscape else "assumed",
        )


def check_events(events: TrainingColumns, settings: FitSettings) -> None:
    """DataError when the log has nothing to learn from."""
    used = type_weights(settings.weights())[events.types] > 0 if len(events.types) else np.zeros(0, bool)
    if not used.any():
        raise DataError("the log holds no event of a weighted type", hint="ingest purchases or views first")
    if len(np.unique(events.item_idx[used])) < 2 or len(np.unique(events.times_ms)) < 8:
        raise DataError("the log is too small", got=f"{int(used.sum())} events", expected="two items and eight moments")


def new_version(store: ArtifactStore, now_ms: int) -> str:
    """A name from the time of the run, with a number when the second has one already."""
    base = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).strftime("v%Y%m%d-%H%M%S")
    taken = set(store.versions())
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name
