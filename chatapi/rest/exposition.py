"""The text that Prometheus reads. Loaded by the first `GET /metrics`: prometheus-client brings an HTTP server and more,
1 MB of memory that a server without Prometheus does not need."""

from collections.abc import Iterable, Iterator
from functools import cache

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.registry import Collector

from chatapi.metrics import METRICS, TENANT, Histogram, MetricKind, Sample, Total, Value

__all__ = ["CONTENT_TYPE"]


class Exposition(Collector):
    """One answer to Prometheus: the samples, and what the operating system says of this process."""

    def __init__(self, samples: Iterable[Sample], *, with_tenants: bool) -> None:
        """`samples` hold a tenant's id exactly where the metric has the label and `with_tenants` is true."""
        self._families: dict[str, Metric] = {}
        for name, declared in METRICS.items():
            labels = [label for label in declared.labels if with_tenants or label != TENANT]
            self._families[name] = _FAMILIES[declared.kind](name.removesuffix("_total"), declared.help, labels=labels)
        for name, labels_, value in samples:
            _add(self._families[name], labels_, value)

    def collect(self) -> Iterator[Metric]:
        yield from self._families.values()
        yield from _read_process().collect()

    def encode(self) -> bytes:
        """Reads files below /proc: not to be called in the loop."""
        return generate_latest(self)


_FAMILIES = {
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.COUNTER: CounterMetricFamily,
    MetricKind.SUMMARY: SummaryMetricFamily,
    MetricKind.HISTOGRAM: HistogramMetricFamily,
}


def _add(family: Metric, labels: tuple[str, ...], value: Value) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, Histogram)
        family.add_metric(labels, buckets=value.cumulate(), sum_value=value.sum)
    elif isinstance(family, SummaryMetricFamily):
        assert isinstance(value, Total)
        family.add_metric(labels, count_value=value.count, sum_value=value.sum)
    else:
        assert isinstance(family, GaugeMetricFamily | CounterMetricFamily)
        assert isinstance(value, int | float)
        family.add_metric(labels, value)


@cache
def _read_process() -> ProcessCollector:
    return ProcessCollector(registry=None)
