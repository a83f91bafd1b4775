"""`headrace-train fit`."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from headrace.artifact_format import read_manifest
from headrace.artifacts import ArtifactStore
from headrace_training.commands.output import put
from headrace_training.fit import Fitter, new_version
from headrace_training.ingest import open_log
from headrace_training.memory import require_for_factors
from headrace_training.report import report_fit
from headrace_training.settings import FitSettings, read_settings

Whole = Annotated[int | None, typer.Option()]
Number = Annotated[float | None, typer.Option()]


def fit(
    log: Annotated[Path, typer.Option(help="Folder of the event log.")],
    store: Annotated[Path, typer.Option(help="Folder of the artifact store; created when absent.")],
    config: Annotated[Path | None, typer.Option(help="TOML file of the settings below.")] = None,
    auctions: Annotated[Path | None, typer.Option(help="Table of market prices: price_cpm, exchange.")] = None,
    version: Annotated[str, typer.Option(help="Name of the version; made from the time without it.")] = "",
    publish: Annotated[bool, typer.Option("--publish", help="Publish it at once if its metrics allow.")] = False,
    n_factors: Whole = None,
    iterations: Whole = None,
    alpha: Number = None,
    regularization: Number = None,
    learn_weights: Annotated[bool | None, typer.Option("--learn-weights", help="By event type and age.")] = None,
    half_life_days: Number = None,
    horizon_days: Number = None,
    recent_days: Number = None,
    neighbours: Whole = None,
    links: Whole = None,
    blend: Annotated[str | None, typer.Option(help="auto or off.")] = None,
    repeat_policy: Annotated[str | None, typer.Option(help="auto, allow or exclude_purchased.")] = None,
    assumed_median_cpm: Number = None,
    assumed_sigma: Number = None,
    seed: Whole = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Learn from the event log and write a new version to the store."""
    flags = {name: value for name, value in locals().items() if name in FitSettings.__struct_fields__}
    settings = read_settings(config, flags)
    target, now_ms = ArtifactStore(store), time.time_ns() // 1_000_000
    name = version or new_version(target, now_ms)
    target.check_new(name)
    event_log = open_log(log)
    with closing(event_log.store):
        events = event_log.read_columns()
    require_for_factors(len(events.user_names), len(events.item_ids), len(events.times_ms), settings.n_factors)
    fitter = Fitter(events, settings, now_ms=now_ms, auctions=auctions)
    path = fitter.run(target, name)
    if publish:
        target.publish(path.name)
    manifest = read_manifest(path)
    page = store / "reports" / f"{manifest.version}.html"
    learned = [np.load(path / f"calibration_{axis}.npy") for axis in "xy"]
    report_fit(page, manifest, (learned[0], learned[1]), fitter.trace)
    put(
        {
            "version": manifest.version,
            "published": publish,
            "users": manifest.n_users,
            "items": manifest.n_items,
            "alpha": manifest.alpha,
            "index_type": manifest.index_type,
            "model": manifest.parameters["model"],
            "repeat_rate": manifest.repeat_rate,
            "repeat_policy": manifest.repeat_policy,
            "landscape": manifest.landscape_source,
            "metrics": manifest.metrics,
            "report": str(page) if page.exists() else "",
        },
        json,
    )
