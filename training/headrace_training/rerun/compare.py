"""Two ways to bid on what was recorded, compared pair by pair, with how sure the difference is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headrace.decisions.reading import Recording, read_recording
from headrace.errors import ConfigError
from headrace.types import Bool, Float64, Int32, Int64
from headrace_training.intervals import N_RESAMPLES, bootstrap_means, interval
from headrace_training.options import check_seed
from headrace_training.progress import track
from headrace_training.rerun.parameters import check_names, read_parameters
from headrace_training.rerun.run import Played, Rerun
from headrace_training.rerun.traffic import Traffic, traffic_of

BLOCKS_MS = {"hour": 3_600_000, "day": 86_400_000}
MEASURES = ("value_micros", "spend_micros", "wins", "bids")
MAX_DRAWS = 100
FAR_OFF = 0.1
"""A base whose wins are further from those recorded, as a share of them, is warned of."""


@dataclass(frozen=True)
class Paired:
    """Sums of both ways by draw, block and measure, (draws, blocks, 4) float64."""

    base: Float64
    changed: Float64

    def summary(self, seed: int) -> dict[str, Any]:
        """Totals of both, and their differences with 95 % intervals over blocks and drawn prices."""
        difference = self.changed - self.base
        n_blocks = difference.shape[1]
        each = max(1, N_RESAMPLES // len(difference))
        resampled = np.concatenate(
            [bootstrap_means(of_draw, seed + number, each) for number, of_draw in enumerate(difference)]
        )
        total = difference.mean(axis=0).sum(axis=0)
        return {
            "base": _totals(self.base),
            "changed": _totals(self.changed),
            "difference": {
                name: {
                    "estimate": float(total[place]),
                    "interval": interval(resampled[:, place] * n_blocks) if n_blocks > 1 else None,
                }
                for place, name in enumerate(MEASURES)
            },
        }


def compare(
    folder: Path,
    parameters: Path,
    against: Path | None = None,
    *,
    since_ms: int = 0,
    currency: str = "",
    draws: int = 5,
    block: str = "hour",
    seed: int = 0,
) -> dict[str, Any]:
    """Run a recording under two files of parameters; without the second, under what was in force.

    since_ms : only auctions from then on.   currency : whose money is counted; not needed where there is only one.
    draws : how often unknown prices are drawn anew.   block : what is resampled, "hour" or "day" (UTC).

    Raises DataError for records that cannot be read, ConfigError for options and parameters that are wrong.
    """
    check_seed(seed)
    if block not in BLOCKS_MS:
        raise ConfigError("--block", block, " or ".join(BLOCKS_MS))
    if not 1 <= draws <= MAX_DRAWS:
        raise ConfigError("--draws", draws, f"a whole number from 1 to {MAX_DRAWS}")
    changed, base = read_parameters(parameters), read_parameters(against)
    recording = read_recording(folder, since_ms)
    campaigns = [campaign for board in recording.boards for campaign in board.campaigns]
    check_names(parameters, changed, campaigns)
    check_names(against, base, campaigns)
    counted = Counted.of(recording, currency)
    rng = np.random.default_rng(seed)
    traffic = traffic_of(recording, rng)
    blocks: Int64 = np.unique(traffic.time_ms // BLOCKS_MS[block], return_inverse=True)[1]
    ways = Rerun(traffic, base), Rerun(traffic, changed)
    sums: tuple[list[Float64], list[Float64]] = ([], [])
    for _ in track(range(draws), "drawn prices", draws):
        prices = traffic.prices.draw(rng)
        for of_way, way in zip(sums, ways, strict=True):
            of_way.append(counted.sums(way.play(prices), traffic, blocks))
    both = Paired(np.stack(sums[0]), np.stack(sums[1])).summary(seed)
    recorded = counted.recorded(recording)
    return {
        "auctions": len(traffic.rows),
        "known_price_share": float(traffic.prices.known.mean()),
        "torn_segments": len(recording.torn),
        "torn_files": recording.torn,
        "currency": counted.currency,
        "blocks": int(blocks.max()) + 1,
        "block": block,
        "draws": draws,
        "seed": seed,
        "recorded": recorded,
        **both,
        "warnings": [] if against else _warnings(recorded["wins"], both["base"]["wins"]),
    }


def _warnings(recorded: float, again: float) -> list[str]:
    """Of a rerun of what was in force that comes out otherwise."""
    if abs(again - recorded) <= FAR_OFF * max(recorded, 1.0):
        return []
    why = "limits, balances or history that the records lack mattered"
    return [f"as it was, a rerun wins {again:.0f} times, and {recorded:.0f} are recorded: {why}"]


@dataclass(frozen=True)
class Counted:
    """Whose money is counted.

    lines : by board, (m,) bool: line items with a budget in the currency.
    """

    currency: str
    lines: list[Bool]

    @classmethod
    def of(cls, recording: Recording, currency: str) -> Counted:
        """Raises ConfigError for a currency that no campaign has, and for none where there are several."""
        known = sorted({campaign.currency for board in recording.boards for campaign in board.campaigns})
        wanted = currency or known[0]
        if wanted not in known or (not currency and len(known) > 1):
            raise ConfigError("--currency", currency, " or ".join(known))
        lines = [np.array([campaign.currency == wanted for campaign, _ in board.lines]) for board in recording.boards]
        return cls(wanted, lines)

    def sums(self, played: Played, traffic: Traffic, blocks: Int64) -> Float64:
        """Value, spend, wins and bids of each block, (blocks, 4)."""
        mine = self._mine(traffic.recording.auctions["board"][traffic.rows], played.line)
        out = np.zeros((int(blocks.max()) + 1, len(MEASURES)))
        for place, column in enumerate((played.value_micros, played.spend_micros, played.won, played.bid_cpm > 0)):
            out[:, place] = np.bincount(blocks, weights=np.where(mine, column, 0.0), minlength=len(out))
        return out

    def recorded(self, recording: Recording) -> dict[str, float]:
        """The same as it was; what was won at an unknown price is counted at none."""
        auctions, outcomes = recording.auctions, recording.outcomes
        mine = self._mine(auctions["board"], auctions["line"])
        won = mine & outcomes.won
        return {
            "value_micros": float(auctions["value_cpm"][won].sum() / 1000.0),
            "spend_micros": float(np.maximum(outcomes.price_cpm[won], 0).sum() / 1000.0),
            "wins": float(won.sum()),
            "bids": float((mine & (auctions["reason"] == 0)).sum()),
        }

    def _mine(self, boards: Int64, lines: Int32) -> Bool:
        mine = np.zeros(len(lines), np.bool_)
        for number, of_board in enumerate(self.lines):
            rows = np.flatnonzero((boards == number) & (lines >= 0))
            mine[rows] = of_board[lines[rows]]
        return mine


def _totals(sums: Float64) -> dict[str, float]:
    totals = sums.mean(axis=0).sum(axis=0)
    return {name: float(totals[place]) for place, name in enumerate(MEASURES)}
