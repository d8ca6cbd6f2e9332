"""`verify`: a finished run's stored weights, on its backbone, tested again and compared with stored predictions.

Whatever is wrong with a run is a sentence about that run; the others are verified all the same.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from results import evidence, scores, store
from results.schema import RecordError, RunResult
from results.spoken import many, word

from .. import checkout
from ..planning import own
from ..planning.again import again
from ..planning.request import UsageError
from . import here, recorded
from .words import Verb, on_device

if TYPE_CHECKING:
    import numpy as np

    from ..engine.evaluate import Found
    from ..engine.where import Where

CLOSE = 1e-4  # margins may differ so much where the device differs
KINDS = ("adapter", "predictions")  # that a run must have stored
ORDER = 120  # in the list of commands


def add(verb: Verb) -> None:
    """The command and its options."""
    verify = verb("verify", act, "load the weights that a run stored, test again, compare with its predictions")
    verify.add_argument("runs", nargs="+", metavar="RUN", help="ids, or enough of their first digits; 'all'")
    verify.add_argument("--root", "--data", dest="data", help="where real data lies (default: the variable DATA); of "
                        "runs of somebody's folder of images, that folder")
    verify.add_argument("--weights", type=Path, help="the file of pre-trained weights")
    verify.add_argument("--head", type=Path, metavar="FILE", help="the file of class embeddings that heads started "
                        "from, where they did")
    on_device(verify)


def act(args: argparse.Namespace) -> int:
    found = runs_of(args.runs, checkout.RUNS)
    device = here.device_of(args.device)
    problems = 0
    for path in found:
        good, words = check(path, args.data, args.weights, place(device, args.head))
        problems += not good
        print(words)
    return 1 if problems else 0


def place(device: str, head: Path | None = None) -> Where:
    """A place to run on, without data yet; `head`: the file of class embeddings that heads start from."""
    from ..engine.where import Where

    return replace(Where(Path(), None, None), device=device, deterministic=device == "cpu", head_file=head)


def runs_of(names: Sequence[str], runs: Path) -> list[Path]:
    """Records by id or its first digits, own, committed and received ones; 'all': every own one that holds weights."""
    found, problems = [], []
    for name in names:
        if name == "all":
            found += [p for p in store.record_files(runs) if p.with_suffix(".safetensors").exists()]
            continue
        try:
            found += recorded.find(name, runs)
        except UsageError as error:
            problems += error.problems
    if problems or not found:
        raise UsageError(problems or ["no run has stored weights"])
    return list(dict.fromkeys(found))


def check(path: Path, data: str | None, weights: Path | None, where: Where) -> tuple[bool, str]:
    """(the same predictions?, a sentence). First the hashes of all stored files, then the record's numbers against its
    stored predictions, then the weights themselves."""
    from datasets.card import DataError
    from methods.grammar import MethodError
    from methods.weights import StoredError

    from ..engine.backbones import BackboneError

    try:
        record = store.load(path)
    except RecordError as error:
        return False, str(error)
    told = f"{record.run_id} {record.spec.dataset} {record.method.text} seed {record.spec.seed}"
    if recorded.pack_of(path):
        told += f", received in pack {recorded.pack_of(path)}"
    if record.status != "ok" or record.spec.phase != "final":
        return False, f"{told}: {record.status}, phase {record.spec.phase}; only finished final runs can be verified"
    if record.spec.combined in ("ensemble", "seeds"):
        return False, f"{told}: it is a mean of runs and has no weights of its own; verify {_ingredients(record)}"
    committed = bool(recorded.suite_of(path))
    problem = _files(path, record, ("predictions",) if committed else KINDS) or _numbers(path, record)
    if problem:
        return False, f"{told}: {problem}"
    if committed:
        return True, f"{told}: {_published(record)}"
    if why := own.lost(record.spec.dataset, record.spec.partial, data, f"python -m bench verify {record.run_id}"):
        return False, f"{told}: {why}"
    try:
        found = tested_again(path, record, data, weights, where)
        return found.same, f"{told}: {found.told}"
    except (StoredError, DataError, MethodError, BackboneError, evidence.PredictionError, OSError) as error:
        return False, f"{told}: {error}"


def _ingredients(record: RunResult) -> str:
    """The ids of the runs that a combination is made of."""
    return " ".join(one.partition("*")[2] for one in record.spec.ingredients)


def _published(record: RunResult) -> str:
    """What can be said of a committed run whose numbers follow."""
    how = again(record)
    words = f"git checkout {how.commit} && {how.command}" if how.command else "; ".join(how.told)
    return (f"its numbers follow from its stored predictions ({_score(record)}); its trained weights are not "
            f"published, so nothing can be tested again: to make it again, {words}")


def _score(record: RunResult) -> str:
    """What the tables tell of it."""
    metric = record.dataset.metric if record.dataset else "top1"
    if scores.scored(metric):
        return f"test {scores.NAMES[metric]} {100 * (record.metrics.get('test.score') or 0):.2f}"
    return f"test top-1 {100 * (record.metrics.get('test.top1') or 0):.2f} %"


def _files(path: Path, record: RunResult, wanted: Sequence[str] = KINDS) -> str:
    """What is wrong with a stored file, or nothing; weights and logs of committed runs are not published."""
    kinds = {a.kind for a in record.artifacts}
    for kind in wanted:
        if kind not in kinds:
            return f"the run stored no {kind}" + ("; `run --keep-weights all` does" if kind == "adapter" else "")
    for artifact in record.artifacts:
        if wanted != KINDS and not artifact.kind.startswith("predictions"):
            continue
        try:
            evidence.stored(path.parent, artifact.path, artifact.sha256)
        except evidence.PredictionError as error:
            return f"{artifact.path} {error}"
    return ""


def _numbers(path: Path, record: RunResult) -> str:
    """Whether the record says what its stored predictions give; a sentence when it does not."""
    files = [(a.kind, a.path, a.sha256) for a in record.artifacts]
    metric = record.dataset.metric if record.dataset else "top1"
    found = evidence.faults(path.parent, record.spec.phase, record.metrics, files, metric)
    return next((why for _, why in found.values()), "")


@dataclass(frozen=True)
class TestedAgain:
    """What stored weights gave, beside what was stored. `differing` of `images` predictions are others."""

    same: bool
    told: str
    differing: int
    images: int


def tested_again(path: Path, record: RunResult, data: str | None, weights: Path | None, where: Where) -> TestedAgain:
    """Load a run's stored weights and test them. Raises BackboneError and DataError for what is not here, StoredError
    for weights that do not fit, PredictionError."""
    from datasets import registry

    from ..engine import backbones
    from ..engine.session import Session

    kept = {a.kind: a for a in record.artifacts}
    root = checkout.STANDINS if record.spec.standin else Path(data or os.environ.get("DATA") or "")
    random = record.spec.weights == "random"
    backbone = backbones.find_weights(record.spec.model, weights, random)
    if backbone.sha256 != record.spec.weights:
        raise backbones.BackboneError(f"the weights of {record.spec.model} on this machine are others than the run's")
    session = Session(record.spec, registry.get(record.spec.dataset), replace(where, data_root=root,
                                                                              weights_file=backbone.file))
    found, items = session.test_again(path.with_name(kept["adapter"].path))
    predictions = kept["predictions"]
    stored = evidence.arrays(evidence.stored(path.parent, predictions.path, predictions.sha256),
                             ("pred", "label", "items"), ("margin", "task"))
    return _compare(record, stored, found, items)


def _compare(record: RunResult, stored: Mapping[str, np.ndarray], found: Found, items: str) -> TestedAgain:
    import numpy as np

    from ..engine.evaluate import Numbers
    from ..engine.matching import Ranked

    images = len(found.pred)
    if str(stored["items"]) != items or len(stored["pred"]) != images:
        return TestedAgain(False, "the test images are others, or in another order", images, images)
    if not np.allclose(stored["label"], found.label, rtol=0, atol=CLOSE):
        return TestedAgain(False, "the stored labels are not those of the data here", images, images)
    if isinstance(found, Numbers | Ranked):
        drift = float(np.abs(stored["pred"] - found.pred).max())
        return TestedAgain(drift <= CLOSE, f"{many(images, 'answer')} {word(images, 'differs', 'differ')} by "
                           f"{drift:.1e} at most ({_score(record)})",
                           int((np.abs(stored["pred"] - found.pred) > CLOSE).sum()), images)
    same = int((stored["pred"] == found.pred).sum())
    drift = float(np.abs(stored["margin"] - found.margin).max())
    words = f"{same} of {many(images, 'prediction')} {word(same, 'is', 'are')} the same, margins differ by " \
            f"{drift:.1e} at most"
    return TestedAgain(same == images and drift <= CLOSE, f"{words} ({_score(record)})",
                       images - same, images)
