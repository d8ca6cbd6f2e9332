"""The plan of a request: resolved, looked up, with how it will stand in a table. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from results.suites import SuiteView

from .. import checkout
from ..suites import Suite
from .existing import look_up
from .request import Request
from .resolve import Planned, resolve, specs_of
from .standing import view_of
from .tuned import resolve_tuned


@dataclass(frozen=True)
class Plan:
    suite: Suite
    runs: tuple[Planned, ...]
    view: SuiteView

    def count(self) -> dict[str, int]:
        """State -> number of runs, every state named."""
        states: dict[str, int] = dict.fromkeys(("done", "missing", "running", "failed", "stale"), 0)
        for run in self.runs:
            states[run.state] += 1
        return states

    def to_do(self) -> list[Planned]:
        return [r for r in self.runs if r.state == "missing"]


def make(request: Request, runs: Path = checkout.RUNS, alive: set[str] | None = None) -> Plan:
    """Resolve, check, and look up what exists. Raises UsageError with every problem that was found."""
    if request.tuned:
        suite, planned, view = resolve_tuned(request)
    else:
        found = resolve(request)
        suite, planned = found.suite, specs_of(request, found)
        view = view_of(request, found, planned)
    return Plan(suite, tuple(look_up(p, runs, alive or set()) for p in planned), view)


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan for a program to read."""
    return {"suite": plan.view.name, "counts": plan.count(),
            "runs": [{"id": p.spec.id, "state": p.state, "why": p.why, "method": p.text, "spec": asdict(p.spec)}
                     for p in plan.runs]}
