"""Both VTAB means against figures that a paper prints (PACE, NeurIPS 2024: rows and means of its table 1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.cells import grid
from reports.fields import mean_of
from reports.pairs import Predictions
from reports.summary import VTAB as GROUPS
from reports.summary import summary
from reports.world import worlds
from results.index import read
from results.published import VTAB
from results.suites import Column
from tests.reports import fakes

ROWS = {  # in percent; the paper's order of tasks is that of results.published.VTAB
    "lora_mul_vpt_add": "74.9 93.3 72.0 99.4 91.0 91.5 54.8  83.2 95.7 86.9 74.2  "
                        "83.0 70.5 51.9 81.4 77.9 51.7 33.6 44.4",
    "lora_mul_vpt_add+pace": "79.0 94.2 73.6 99.4 92.4 93.7 58.0  87.4 96.4 89.3 77.1  "
                             "84.9 70.9 54.9 84.3 84.7 57.3 39.3 44.8",
}
COLUMNS = tuple(Column(name, name, group, False, 10) for group, names in VTAB.items() for name in names)


@pytest.mark.parametrize(("method", "grouped", "flat"), [("lora_mul_vpt_add", 76.4, 74.3),
                                                         ("lora_mul_vpt_add+pace", 79.0, 76.9)])
def test_pace_17_the_vtab_aggregator_gives_both_printed_means(method: str, grouped: float, flat: float,
                                                              tmp_path: Path) -> None:
    specs = []
    for name, cells in ROWS.items():
        for column, percent in zip(COLUMNS, cells.split(), strict=True):
            specs.append(fakes.spec(column.name, name, data=f"real:{column.name}"))
            fakes.store(tmp_path, fakes.record(specs[-1], float(percent) / 100, n=10_000))
    records = read(tmp_path, index=False)
    found = grid(fakes.suite(specs, COLUMNS, list(ROWS)), records, records.by_run())
    row = next(r for r in found.suite.rows if r.method == method)
    parts = [[c for c in COLUMNS if c.group == group] for group in GROUPS]
    assert round(mean_of(found, row, COLUMNS, parts).value or 0, 1) == grouped
    assert round(mean_of(found, row, COLUMNS).value or 0, 1) == flat
    (world,) = worlds(found, Predictions(records))
    table = summary(world)
    line = dict(zip(table.header, next(r for r in table.body if r[0].text == method), strict=True))
    assert line["VTAB, 3 groups"].text.startswith(str(grouped)) and line["Mean of 19"].text.startswith(str(flat))
