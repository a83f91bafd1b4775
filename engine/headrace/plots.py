"""Plots as SVG text: no script, no request, names as text and never as markup."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""By name the x and the y of points."""

INK, MUTED = "#22313f", "#9aa5b1"
COLOURS = ("#1f77b4", "#d1730f", "#2b8a3e", "#8f3fa8", "#b02a37", "#5c6b7a", "#0b7285", "#a07800")
SETTINGS = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "headrace",  # one plot gives one file
    "text.parse_math": False,  # a $ in a name is a $
    "axes.edgecolor": MUTED,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}
MAX_LABEL = 40


def curves(x_label: str, y_label: str, series: Series, *, steps: bool = False, diagonal: bool = False) -> str:
    """A line a series; ``steps``: a value holds until the next; ``diagonal``: where x and y are equal."""

    def draw(axis: Any) -> None:
        for (name, (x, y)), colour in zip(series.items(), _colours(len(series)), strict=True):
            style = {"drawstyle": "steps-post"} if steps else {}
            axis.plot(x, y, color=colour, label=_short(name), marker="." if len(x) < 30 else None, **style)
        if diagonal:
            top = max((max(*x, *y) for x, y in series.values() if len(x)), default=1.0)
            axis.plot([0, top], [0, top], "--", color=MUTED, label="equal")
        _finish(axis, x_label, y_label, len(series) + diagonal > 1)

    return _svg(draw)


def points(x_label: str, y_label: str, series: Series, *, log: bool = False) -> str:
    """A dot a point; ``log``: x by its logarithm."""

    def draw(axis: Any) -> None:
        for (name, (x, y)), colour in zip(series.items(), _colours(len(series)), strict=True):
            axis.scatter(x, y, s=14, color=colour, alpha=0.8, label=_short(name))
        if log:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
        _finish(axis, x_label, y_label, len(series) > 1)

    return _svg(draw)


def bars(
    y_label: str, names: Sequence[str], values: Sequence[float], intervals: Sequence[Sequence[float]] | None = None
) -> str:
    """A bar a name, with its interval [low, high] when there is one."""

    def draw(axis: Any) -> None:
        errors = None
        if intervals is not None:
            pairs = list(zip(values, intervals, strict=True))
            errors = [[max(0.0, v - low) for v, (low, _) in pairs], [max(0.0, high - v) for v, (_, high) in pairs]]
        labels = [_short(name) for name in names]
        axis.barh(range(len(names)), values, color=COLOURS[0], xerr=errors, ecolor=INK, capsize=3)
        axis.set_yticks(range(len(names)), labels)
        axis.invert_yaxis()
        _finish(axis, y_label, "", False)

    return _svg(draw, height=1.2 + 0.32 * len(names))


def _colours(n: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(n)]


def _short(name: str) -> str:
    text = name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"
    return "".join(letter if letter.isprintable() else "�" for letter in text).removeprefix("_")


def _finish(axis: Any, x_label: str, y_label: str, legend: bool) -> None:
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    if legend:
        axis.legend()


def _svg(draw: Callable[[Any], None], height: float = 3.2) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter that the font has not
        figure = Figure(figsize=(8, height))
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
