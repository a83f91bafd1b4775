"""One scrape: numbers under their families, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from headrace.counters import Histogram

CONTENT_TYPE = CONTENT_TYPE_LATEST

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name (a counter's without ``_total``), what it is, its meaning and unit, its labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()

    @property
    def exposed_name(self) -> str:
        """The name that a query uses; a histogram's with ``_bucket``, ``_sum`` or ``_count`` behind it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


class Page(Collector):
    """Collects the numbers of one scrape; not thread-safe."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def add(self, family: Family, labels: Sequence[str], value: float) -> None:
        """A counter's or gauge's value for these labels."""
        self._metric(family).add_metric(labels, value)  # type: ignore[attr-defined]

    def add_histogram(self, family: Family, labels: Sequence[str], histogram: Histogram) -> None:
        """A histogram's intervals for these labels."""
        counts, total = histogram.read()
        ends = [*map(floatToGoString, histogram.bounds), "+Inf"]
        buckets = list(zip(ends, accumulate(counts), strict=True))
        self._metric(family).add_metric(labels, buckets, total)  # type: ignore[attr-defined]

    def add_metrics(self, metrics: Iterable[Metric]) -> None:
        """Families that another collector made."""
        self._metrics |= {metric.name: metric for metric in metrics}

    def collect(self) -> Iterator[Metric]:
        """All families, each once."""
        yield from self._metrics.values()

    def render(self) -> bytes:
        """The page as Prometheus reads it."""
        return generate_latest(self)

    def _metric(self, family: Family) -> Metric:
        found = self._metrics.get(family.name)
        if found is None:
            found = _FAMILIES[family.kind](family.name, family.meaning, labels=family.labels)
            self._metrics[family.name] = found
        return found
