"""What peeking at test would have gained, from the records of phase `peek`: best epoch on test against the last one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from .columns import Columns


@dataclass(frozen=True)
class Inflation:
    """One method on one backbone, over data sets and seeds. Shares of test images."""

    method: str
    backbone: str
    runs: int
    datasets: int
    last: float  # mean top-1 of the last epoch
    best: float  # mean top-1 of the best epoch on test
    worst: str  # data set where peeking gains most
    worst_gain: float

    @property
    def gain(self) -> float:
        return self.best - self.last


def inflation(records: Columns) -> list[Inflation]:
    """A row per method, in the order of the gain; empty when no record of phase `peek` exists."""
    cells: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for method, backbone, dataset, last, best in _peeks(records):
        cells.setdefault((method, backbone), {}).setdefault(dataset, []).append((last, max(last, best)))
    rows = []
    for (method, backbone), sets in cells.items():
        means = {d: (fmean(last for last, _ in runs), fmean(best for _, best in runs)) for d, runs in sets.items()}
        worst = max(means, key=lambda d: means[d][1] - means[d][0])
        rows.append(Inflation(method, backbone, sum(map(len, sets.values())), len(means),
                              fmean(last for last, _ in means.values()), fmean(best for _, best in means.values()),
                              worst, means[worst][1] - means[worst][0]))
    return sorted(rows, key=lambda r: (-r.gain, r.method, r.backbone))


def _peeks(records: Columns) -> Iterator[tuple[str, str, str, float, float]]:
    for row in range(len(records)):
        if records.get_text("phase", row) != "peek" or records.get_text("status", row) != "ok":
            continue
        last = records.get_number("metrics.peek.top1", row)
        best = records.get_number("metrics.peek.best.top1", row)
        if last is not None and best is not None:
            yield (records.get_text("method.text", row), records.get_text("spec.model", row),
                   records.get_text("spec.dataset", row), last, best)
