"""The plan of a request: resolved, looked up, with how it will stand in a table. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from results.received import Received
from results.suites import SuiteView

from .. import checkout
from ..suites import Suite
from .existing import RECEIVED, look_up, stand_in
from .request import Request, UsageError
from .resolve import Planned, lacking_head, resolve, specs_of
from .standing import view_of
from .tuned import resolve_tuned


@dataclass(frozen=True)
class Plan:
    suite: Suite
    runs: tuple[Planned, ...]
    view: SuiteView
    lacking: tuple[str, ...] = ()  # a sentence for what its runs need and the words did not give

    def count(self) -> dict[str, int]:
        """State -> number of runs, every state named."""
        states: dict[str, int] = dict.fromkeys(("done", "missing", "running", "failed", "stale"), 0)
        for run in self.runs:
            states[run.state] += 1
        return states

    def received(self) -> list[str]:
        """Of the done runs, where each one that was made elsewhere comes from."""
        return [r.why for r in self.runs if r.state == "done" and r.why.startswith(RECEIVED)]

    def whole(self) -> bool:
        """Whether it has as many runs as its suite by itself: what the suite says of its cost holds then."""
        suite = self.suite
        rows = sum(suite.shows(b, m) for b in suite.backbones for m in suite.methods)
        return len(self.runs) == rows * len(suite.datasets) * len(suite.seeds)

    def check(self) -> None:
        """Raises UsageError where something is lacking without which its runs would be others."""
        if self.lacking:
            raise UsageError(self.lacking)

    def to_do(self) -> list[Planned]:
        return [r for r in self.runs if r.state == "missing"]


def make(request: Request, runs: Path = checkout.RUNS, alive: set[str] | None = None,
         counted: Mapping[str, Received] | None = None) -> Plan:
    """Resolve, check, and look up what exists, received runs that count among it. Raises UsageError with every
    problem that was found."""
    if request.tuned:
        suite, planned, view = resolve_tuned(request)
    else:
        found = resolve(request)
        suite, planned = found.suite, specs_of(request, found)
        view = view_of(request, found, planned)
    return Plan(suite, tuple(stand_in(look_up(p, runs, alive or set()), counted or {}) for p in planned), view,
                tuple(lacking_head(request)))


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for a program to read."""
    return {"suite": plan.view.name, "counts": plan.count(),
            "runs": [{"id": p.spec.id, "state": p.state, "why": p.why, "method": p.text, "spec": asdict(p.spec)}
                     for p in plan.runs]}
