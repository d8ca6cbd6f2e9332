"""The search: studies propose configurations, their runs are done as any others, scores go back to the sampler.

A study is one method on one backbone, on one data set or on several together. All studies move at the same time, in
waves: grid and random have one, TPE has one per trial. What was tried is written after every wave, so that a search
that was interrupted, or is given a larger budget, goes on where it was.

With `halving` a wave is a bracket (of TPE: four trials) that is trained in stages, each stage's runs being ordinary
records that stop early (`RunSpec.until`); a longer one goes on from where the shorter stood, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from results.selections import Effort, Study, Trial, Trials, load_trials, save_trials

from ..engine.checkpoint import Checkpoints
from ..engine.where import keeps_members
from ..planning.existing import look_up
from ..planning.held import settled
from ..planning.request import Request
from ..planning.resolve import Planned, resolve, specs_of
from . import halving
from .rules import candidate, ranked, score
from .samplers import Proposer, seed_of
from .spaces import Config, Space, config_of, space_of, with_config

CarryOut = Callable[[list[Planned]], None]


@dataclass
class Tried:
    """A configuration at work."""

    number: int  # in the order of trying
    config: Config
    runs: list[Planned]  # to their end
    stopped: int = 0  # the stage behind which it was set aside, from 1 on; 0: never
    score: float | None = None  # of its last stage

    def at(self, stage: int) -> list[Planned]:
        """Its runs, no longer than a stage wants them."""
        return [replace(p, spec=replace(p.spec, until=halving.until(p.spec.epochs, stage))) for p in self.runs]

    def trial(self) -> Trial:
        if not self.stopped:
            return Trial(self.number, self.config, tuple(p.spec.id for p in self.runs))
        last = self.at(self.stopped - 1)
        return Trial(self.number, self.config, tuple(p.spec.id for p in last),
                     sum(p.spec.until or p.spec.epochs for p in last))


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
    trials: list[Tried] = field(default_factory=list)

    @property
    def epochs(self) -> list[int]:
        """Of each run of a configuration."""
        return [p.spec.epochs for p in self.base]

    @property
    def stages(self) -> int:
        """How often a wave is scored."""
        return halving.stages(self.epochs) if self.effort.prune == "halving" else 1

    def propose(self) -> list[Tried]:
        """The configurations that can be tried now."""
        wave = [Tried(number, config, [replace(p, spec=with_config(p.spec, self.method, config),
                                               passed=p.passed | {f"tune.{k}": v for k, v in config.items()})
                                       for p in self.base])
                for number, config in enumerate(self.proposer.next(), len(self.trials))]
        self.trials += wave
        return wave

    def expected(self) -> int:
        """Runs of the whole budget."""
        budget, size = self.effort.budget, halving.BRACKET if self.effort.sampler == "tpe" else self.effort.budget
        if self.stages == 1:
            return budget * len(self.base)
        whole, rest = divmod(budget, size)
        return whole * halving.runs(size, self.epochs) + (halving.runs(rest, self.epochs) if rest else 0)

    def study(self) -> Study:
        return Study(self.method, self.backbone, self.datasets, self.effort,
                     {name: one.text() for name, one in self.space.items()}, tuple(t.trial() for t in self.trials),
                     sum(self.epochs) if self.effort.prune == "halving" else 0)


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
                            seed_of(seed, text, backbone, *datasets), config_of(base[0].spec, space),
                            halving.BRACKET if effort.prune == "halving" else 1)
        made.append(Search(text, backbone, datasets, effort, space, base, proposer))
    return found.suite.name, made


def run(suite: str, moving: Sequence[Search], runs: Path, carry_out: CarryOut, folder: Path | None = None,
        again: bool = False, checkpoints: Path | None = None, members: str = "none") -> int:
    """Search until every budget is used, `again`: failed runs too; returns the number of trials without a score.

    `checkpoints`: where runs that stopped early stand; those of configurations that were set aside are removed.
    `members`: whole runs that stored no probabilities on val are done once more, with the same numbers.
    """
    alive = list(moving)
    while alive:
        waves = [(one, wave) for one in alive if (wave := one.propose())]
        for stage in range(max((one.stages for one, _ in waves), default=0)):
            going = [(one, [t for t in wave if not t.stopped]) for one, wave in waves if stage < one.stages]
            _stage(going, stage, runs, carry_out, again, members)
            for one, wave in going:
                if stage + 1 < one.stages:
                    _cut(one, wave, stage, runs, checkpoints)
        for one, wave in waves:
            if one.effort.sampler == "tpe":
                one.proposer.tell([t.score for t in wave], [t.stopped for t in wave])
        note(suite, moving, folder)
        alive = [one for one, _ in waves if one.effort.sampler == "tpe"]
    return sum(t.score is None for one in moving for t in one.trials)


def _stage(going: Sequence[tuple[Search, list[Tried]]], stage: int, runs: Path, carry_out: CarryOut,
           again: bool, members: str) -> None:
    """Train what is going as far as the stage wants it, and score it."""
    wanted = ("missing", "failed") if again else ("missing",)
    looked = [look_up(p, runs, set()) for one, wave in going for t in wave for p in _runs(one, t, stage)]
    todo = list({p.spec.id: p for p in looked if p.state in wanted or _lacking(p, members)}.values())
    if todo:
        carry_out(todo)
    for one, wave in going:
        for t in wave:
            t.score = score([look_up(p, runs, set()).record for p in _runs(one, t, stage)])[0]


def _lacking(planned: Planned, members: str) -> bool:
    """Whether a finished whole run lacks what an ensemble is to be chosen from."""
    record = planned.record
    if planned.state != "done" or record is None or record.dataset is None or planned.spec.until \
            or "val.top1" not in record.metrics:  # numbers have no probabilities
        return False
    return keeps_members(members, record.dataset.classes) and all(a.kind != "probabilities" for a in record.artifacts)


def _runs(one: Search, tried: Tried, stage: int) -> list[Planned]:
    return tried.runs if stage + 1 == one.stages else tried.at(stage)


def _cut(one: Search, wave: Sequence[Tried], stage: int, runs: Path, checkpoints: Path | None) -> None:
    """Set aside what is behind; ties are settled as a choice settles them."""
    found = [candidate(t.number, t.config, [look_up(p, runs, set()).record for p in t.at(stage)]) for t in wave]
    going = halving.keep(found, [c.number for c in ranked(found)])
    for t in wave:
        if t.number not in going:
            t.stopped = stage + 1
            folders = [checkpoints / p.spec.id for p in t.runs] if checkpoints is not None else []
            for folder in folders:
                Checkpoints(folder, "", "").clear()


def note(suite: str, moving: Sequence[Search], folder: Path | None = None) -> None:
    """Write what was tried, beside the studies of earlier searches."""
    before = load_trials(suite, folder)
    ours = {one.study().key: one.study() for one in moving if one.trials}
    kept = [s for s in before.studies if not any((s.method, s.backbone) == key[:2] and set(s.datasets) & set(key[2])
                                                 for key in ours)] if before else []
    save_trials(Trials(suite, (*kept, *ours.values())), folder)
