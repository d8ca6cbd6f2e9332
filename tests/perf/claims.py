"""What the measuring scripts share: turns on one thread, targets, and the record that they leave.

Every script is run from the checkout's root, `python -m tests.perf.NAME`, prints its figures and writes a record below
results/perf (`--out` elsewhere; published ones lie in results/reference/perf). Ratios are formed within turns, so a
busy machine widens their intervals before it moves them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from bench.engine import env
from bench.perf.machine import describe
from bench.perf.measure import Found
from results import measured
from results.measured import Measurement, Scalar

Wanted = Sequence[tuple[str, str, float, str]]  # subject, quantity, at least, note


class Script:
    """Times itself, then prints and stores what was found."""

    def __init__(self, kind: str, title: str, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--out", type=Path, default=measured.FOLDER, help="folder of the record (results/perf)")
        self.args = parser.parse_args()
        self.kind, self.title, self.found = kind, title, Found()
        self.started, self.began = env.now(), time.perf_counter()
        torch.set_num_threads(1)

    def close(self, settings: dict[str, Scalar], wanted: Wanted) -> None:
        """Judge the targets, print, store."""
        targets = measured.against(self.found.figures, wanted)
        rows = [(f.subject, f.quantity, f.unit, "–" if f.value is None else f"{f.value:.4g}",
                 "" if f.low is None or f.high is None else f"[{f.low:.4g}, {f.high:.4g}]", f.n, f.note)
                for f in self.found.figures]
        print(tabulate(rows, ("what", "figure", "unit", "median", "interval", "n", ""), disable_numparse=True))
        for target in targets:
            verdict = {True: "reached", False: "not reached", None: "not measured"}[target.reached]
            print(f"target {target.subject} {target.quantity} >= {target.wanted:g}: {verdict}")
        path = measured.save(Measurement(
            self.kind, self.title, self.started, time.perf_counter() - self.began, describe(torch.device("cpu")),
            settings, tuple(self.found.figures), targets, tuple(self.found.notes)), self.args.out)
        print(f"record: {path.name}")


def tell(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)
