"""Which finished runs are combined into one row, and why these: written down before the combination sees test.

    results/selections/<suite>.combined.json    what `ensemble` and `soup` chose; ids of the combinations' records

`ensemble` averages probabilities, `soup` weights. Members of a search's trials were trained on the training list alone
and chosen on validation; the seeds of a final run are all taken, and nothing is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .schema import RunSpec
from .selections import FOLDER, SELECTION_SCHEMA, _load, _save
from .spoken import many

Kind = Literal["ensemble", "seeds", "soup_uniform", "soup_greedy", "model_stock"]
KINDS: dict[str, str] = {
    "ensemble": "greedy ensemble of configurations", "seeds": "mean of seeds", "soup_uniform": "uniform soup",
    "soup_greedy": "greedy soup", "model_stock": "Model Stock"}
OF_CHOICE = ("ensemble", "soup_greedy")  # kinds that look at validation


@dataclass(frozen=True)
class Member:
    """One run that takes part, `times` over."""

    run: str
    times: int
    phase: str  # "tune": it has trained on the training list alone; "final": on train and val
    seed: int


@dataclass(frozen=True)
class Combination:
    """What is combined for one method on one data set; `spec` names the record."""

    kind: Kind
    of: str  # "configurations" or "seeds"
    stage: str  # of the members: "tuned", "default", "paper"
    method: str  # the row's text before tuning
    members: tuple[Member, ...]
    pool: int  # runs that might have been taken
    val: float | None  # top-1 of the combination on validation, where it was chosen there
    best: float | None  # of its best member alone
    spec: RunSpec

    @property
    def key(self) -> tuple[str, str, str, str, str, str, int]:
        """One combination each; a later choice takes its place."""
        seed = self.spec.seed if self.of == "configurations" else 0
        return self.kind, self.of, self.stage, self.method, self.spec.model, self.spec.dataset, seed

    def text(self) -> str:
        """`greedy ensemble of configurations: 3 of 8 runs, trained on train alone`."""
        alone = sum(m.phase == "tune" for m in self.members)
        seen = "trained on train alone, without val" if alone == len(self.members) else (
            f"{alone} of them trained on train alone" if alone else "trained on train and val")
        return f"{KINDS[self.kind]}: {len(self.members)} of {many(self.pool, 'run')}, {seen}"


@dataclass(frozen=True)
class Combinations:
    """All of a suite."""

    suite: str
    all: tuple[Combination, ...]
    schema: int = SELECTION_SCHEMA


def path_of(suite: str, folder: Path | None = None) -> Path:
    return (folder or FOLDER) / f"{suite}.combined.json"


def add(suite: str, chosen: list[Combination], folder: Path | None = None) -> Path:
    """Write them beside those of before; one of the same key takes its place."""
    before, keys = load(suite, folder), {c.key for c in chosen}
    kept = [c for c in before.all if c.key not in keys] if before else []
    return _save(Combinations(suite, (*kept, *chosen)), path_of(suite, folder))


def load(suite: str, folder: Path | None = None) -> Combinations | None:
    """None when nothing was combined; raises RecordError naming the file and the field."""
    found: Combinations | None = _load(Combinations, path_of(suite, folder))
    return found
