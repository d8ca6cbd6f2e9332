"""The search: studies propose configurations, their runs are done as any others, scores go back to the sampler.

A study is one method on one backbone, on one data set or on several together. All studies move at the same time, in
waves: grid and random have one, TPE has one per trial. What was tried is written after every wave, so that a search
that was interrupted, or is given a larger budget, goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from results.selections import Effort, Study, Trial, Trials, load_trials, save_trials

from ..planning.existing import look_up
from ..planning.held import settled
from ..planning.request import Request
from ..planning.resolve import Planned, resolve, specs_of
from .rules import score
from .samplers import Proposer, seed_of
from .spaces import Config, Space, config_of, space_of, with_config

CarryOut = Callable[[list[Planned]], None]


@dataclass
class Search:
    """A study at work."""

    method: str
    backbone: str
    datasets: tuple[str, ...]
    effort: Effort
    space: Space
    base: list[Planned]  # data set x seed x fold, with the settings as they are
    proposer: Proposer
    trials: list[tuple[Config, list[Planned]]] = field(default_factory=list)

    def propose(self) -> list[list[Planned]]:
        """The runs of each configuration that can be tried now."""
        wave = [(config, [replace(p, spec=with_config(p.spec, self.method, config),
                                  passed=p.passed | {f"tune.{k}": v for k, v in config.items()}) for p in self.base])
                for config in self.proposer.next()]
        self.trials += wave
        return [runs for _, runs in wave]

    def study(self) -> Study:
        return Study(self.method, self.backbone, self.datasets, self.effort,
                     {name: one.text() for name, one in self.space.items()},
                     tuple(Trial(number, config, tuple(p.spec.id for p in runs))
                           for number, (config, runs) in enumerate(self.trials)))


def searches(request: Request, effort: Effort, together: bool, seed: int = 0) -> tuple[str, list[Search]]:
    """(suite, a search for every method, backbone and data set asked for; `together`: one for all data sets)."""
    found = resolve(replace(request, phase="tune", seeds=effort.seeds))
    planned = specs_of(replace(request, phase="tune", seeds=effort.seeds), found)
    fixed = {*found.fields, *found.overrides}
    cells: dict[tuple[str, str, str], list[Planned]] = {}
    for one in planned:
        folds = [f"{k}/{effort.folds}" for k in range(1, effort.folds + 1)] if effort.folds else [""]
        cells.setdefault((one.text, one.spec.model, "" if together else one.spec.dataset), []).extend(
            replace(one, spec=settled(replace(one.spec, fold=fold))) for fold in folds)
    methods = {method.text(): method for _, method in found.methods}
    made = []
    for (text, backbone, _), base in cells.items():
        space = space_of(methods[text], fixed, found.suite.tuning.space(methods[text].adapter.name))
        datasets = tuple(dict.fromkeys(p.spec.dataset for p in base))
        proposer = Proposer(space, effort.sampler, effort.budget,  # type: ignore[arg-type]
                            seed_of(seed, text, backbone, *datasets), config_of(base[0].spec, space))
        made.append(Search(text, backbone, datasets, effort, space, base, proposer))
    return found.suite.name, made


def run(suite: str, moving: Sequence[Search], runs: Path, carry_out: CarryOut, folder: Path | None = None,
        again: bool = False) -> int:
    """Search until every budget is used, `again`: failed runs too; returns the number of trials without a score."""
    alive = list(moving)
    while alive:
        waves = [(one, one.propose()) for one in alive]
        waves = [(one, wave) for one, wave in waves if wave]
        looked = [look_up(p, runs, set()) for _, wave in waves for trial in wave for p in trial]
        wanted = ("missing", "failed") if again else ("missing",)
        todo = list({p.spec.id: p for p in looked if p.state in wanted}.values())
        if todo:
            carry_out(todo)
        for one, wave in waves:
            if one.effort.sampler == "tpe":
                one.proposer.tell([score([look_up(p, runs, set()).record for p in trial])[0] for trial in wave])
        note(suite, moving, folder)
        alive = [one for one, _ in waves if one.effort.sampler == "tpe"]
    return sum(score([look_up(p, runs, set()).record for p in trial])[0] is None
               for one in moving for _, trial in one.trials)


def note(suite: str, moving: Sequence[Search], folder: Path | None = None) -> None:
    """Write what was tried, beside the studies of earlier searches."""
    before = load_trials(suite, folder)
    ours = {one.study().key: one.study() for one in moving if one.trials}
    kept = [s for s in before.studies if not any((s.method, s.backbone) == key[:2] and set(s.datasets) & set(key[2])
                                                 for key in ours)] if before else []
    save_trials(Trials(suite, (*kept, *ours.values())), folder)
