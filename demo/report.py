"""The demo's page: the numbers and the plots of one run, in one HTML file without scripts."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from market import LANDSCAPE, Day, market_prices

matplotlib.use("svg")
import matplotlib.pyplot as plt  # the backend is chosen first
from matplotlib.figure import Figure

INK, ACCENT, MUTED = "#22313f", "#1f77b4", "#9aa5b1"

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #22313f; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
table { border-collapse: collapse } td, th { padding: .25rem .9rem .25rem 0; text-align: right }
td:first-child, th:first-child { text-align: left } th { border-bottom: 1px solid #9aa5b1 }
.note { color: #5c6b7a } svg { max-width: 100%; height: auto }
"""


def svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def axes(title: str, x: str, y: str) -> tuple[Figure, plt.Axes]:
    figure, axis = plt.subplots(figsize=(8, 3.2))
    axis.set_title(title, loc="left", color=INK)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def recall_plot(rows: Sequence[tuple[str, dict[str, float]]]) -> str:
    figure, axis = axes("recall@20 on the held-out weeks", "", "recall@20")
    positions = np.arange(len(rows))
    for offset, key, colour, label in (
        (-0.2, "", ACCENT, "all items"),
        (0.2, "new_", MUTED, "items new to the household"),
    ):
        axis.bar(positions + offset, [row[1][f"{key}recall@20"] for row in rows], 0.38, color=colour, label=label)
    axis.set_xticks(positions, [name for name, _ in rows])
    axis.legend(frameon=False)
    return svg(figure)


def pacing_plot(day: Day) -> str:
    figure, axis = axes("Spend against the pacing plan", "time of day (UTC)", "micros")
    for (campaign, trace), colour in zip(day.traces.items(), (ACCENT, "#d1730f"), strict=True):
        hours = [time.hour + time.minute / 60 + time.second / 3600 for time in trace.times]
        axis.plot(hours, trace.planned, "--", color=colour, alpha=0.6, label=f"{campaign}: plan")
        axis.plot(hours, trace.spent, color=colour, label=f"{campaign}: spent")
    axis.legend(frameon=False)
    return svg(figure)


def landscape_plot(day: Day) -> str:
    figure, axis = axes("Market prices, and what was paid", "CPM", "share")
    bins = np.linspace(0, 16, 49)
    axis.hist(
        market_prices(20_000, seed=1) / 1e6, bins, density=True, color=MUTED, alpha=0.6, label="the stated landscape"
    )
    if day.prices_won:
        axis.hist(
            np.array(day.prices_won) / 1e6, bins, density=True, histtype="step", color=ACCENT, label="won impressions"
        )
    axis.legend(frameon=False)
    return svg(figure)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def write(path: Path, title: str, sections: Sequence[tuple[str, str]]) -> None:
    """sections : (heading, HTML) pairs, in order."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections)
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{body}<p class=note>Market: {html.escape(LANDSCAPE)}.</p></html>\n",
        encoding="utf-8",
    )
