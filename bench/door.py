"""The door for Python: `from bench import plan, run, results`; the same words as on the command line, as DataFrames.

    from bench import plan, results, run
    run(datasets=["svhn", "digits"], methods=["lora", "linear"], seeds=[0, 1], set={"lr": 1e-3})
    results(datasets=["svhn", "digits"], methods=["lora", "linear"], seeds=[0, 1]).groupby("method")["test.top1"].mean()

Run from the checkout's root. What the command line would answer with a sentence raises ValueError with that sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from results import store
from results.schema import RunResult

from . import checkout, cli

if TYPE_CHECKING:
    import pandas as pd

    from .planning.plan import Plan

Word = str | int | float | bool | Sequence[str | int | float] | Mapping[str, Any] | None


class RunsFailed(RuntimeError):
    """Some runs did not end well; their records say why. `status` is what the command would have exited with."""

    def __init__(self, status: int) -> None:
        super().__init__("some runs did not end well; results(...) has a row for each, with its status")
        self.status = status


def plan(**asked: Word) -> pd.DataFrame:
    """A row for each run that is meant: id, state, data set, method, backbone, seed. Nothing is run.

    Keywords are the options of `python -m bench plan`, `_` for `-`; `set` takes a mapping. Raises ValueError with every
    problem of what was asked.
    """
    import pandas as pd

    return pd.DataFrame([{"id": r.spec.id, "state": r.state, "dataset": r.spec.dataset, "method": r.text,
                          "backbone": r.spec.model, "seed": r.spec.seed} for r in _planned("plan", asked).runs],
                        columns=["id", "state", "dataset", "method", "backbone", "seed"])


def run(**asked: Word) -> pd.DataFrame:
    """Do what `plan` lists as missing, write the tables, and return `results` of all of it.

    Keywords are the options of `python -m bench run`. Raises ValueError as `plan` does, RunsFailed where a run did not
    end well.
    """
    made = _planned("run", asked)  # so that what is wrong is raised and not printed
    status = cli.main(words("run", asked))
    if status:
        raise RunsFailed(status)
    return _frame(made)


def results(**asked: Word) -> pd.DataFrame:
    """A row for each recorded run of what is meant: id, status, what it was, and every metric by its name.

    Keywords are those of `plan`. Runs without a record have no row. Raises ValueError as `plan` does.
    """
    return _frame(_planned("plan", asked))


def words(verb: str, asked: Mapping[str, Word]) -> list[str]:
    """The command line that says the same."""
    found = [verb]
    for name, value in asked.items():
        if value is None or value is False:
            continue
        found.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Mapping):
            found += [f"{key}={one}" for key, one in value.items()]
        elif value is not True:
            found += [str(value)] if isinstance(value, str | int | float) else [str(one) for one in value]
    return found


def _planned(verb: str, asked: Mapping[str, Word]) -> Plan:
    from .planning.plan import make
    from .verbs.here import check_device
    from .verbs.words import request_of

    parser = cli._parser()
    parser.of(verb).asked = True
    args, rest = parser.parse_known_args(words(verb, asked))
    if rest:
        raise ValueError(f"{verb} has no option {rest[0]}")
    try:
        with cli.parts_of(args):
            if verb == "run":
                check_device(args)
            return make(request_of(args), checkout.RUNS)
    except cli.MISTAKES as error:
        raise ValueError(str(error)) from None


def _frame(made: Plan) -> pd.DataFrame:
    import pandas as pd

    paths = [store.path_of(one.spec, checkout.RUNS) for one in made.runs]
    return pd.DataFrame([_row(store.load(path)) for path in paths if path.exists()])


def _row(record: RunResult) -> dict[str, Any]:
    spec = record.spec
    return {"id": spec.id, "status": record.status, "dataset": spec.dataset, "method": record.method.text,
            "backbone": spec.model, "seed": spec.seed, "trained": record.params.trained if record.params else None,
            "total_s": record.time.total_s, **record.metrics}
