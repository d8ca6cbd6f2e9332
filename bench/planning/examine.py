"""What a record that came from elsewhere says against itself, without its images and its backbone. No torch.

    refused    something contradicts itself, or breaks the protocol; the sentence says what
    claimed    nothing is wrong, but nothing supports it either: no predictions, or a method of another source here
    ""         everything that can be seen in the files agrees

Predictions that somebody made up, metrics and losses included, and the weights of another run agree with everything
here: they are seen by scoring again (`bench.verbs.judge`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datasets import registry
from datasets.card import DataError
from datasets.own import note
from methods.grammar import MethodError, from_record, parse
from results import evidence, packs, pools
from results.schema import Artifact, RunResult
from results.spoken import many, word
from results.suites import SuiteView

from ..engine.describe import adapts_of

if TYPE_CHECKING:
    from numpy import ndarray

Doubt = tuple[Literal["refused", "claimed", ""], str]
AGREED: Doubt = ("", "")
CLOSE = 1e-6  # stored and computed metrics may differ so much: other machines sum floats in another order
SOFT = 1e-3  # a probability out of a loss, and the one stored beside it, in single precision
Row = tuple[str, str]  # method as shown, backbone


def examine(path: Path, record: RunResult) -> Doubt:
    """One record with the files beside it."""
    if record.status != "ok" or record.spec.phase != "final":
        return "refused", f"no finished final run: {record.status}, phase {record.spec.phase}"
    if record.test_passes != 1:
        return "refused", (f"test read {'twice' if record.test_passes == 2 else f'{record.test_passes} times'}: the "
                           "record says so (test_passes), and a final run reads it once")
    if why := _card(record):
        return "refused", why
    return _method(record, _files(path, record))


def _card(record: RunResult) -> str:
    """What the record says of its data set and the card here denies: numbers are read by the metric and by classes."""
    if record.dataset is None:
        return "it says nothing of its data set"
    told, tested = record.dataset, record.metrics.get("test.n")
    if told.standin != record.spec.standin:
        return "false data: by its spec it ran on " + ("stand-ins" if record.spec.standin else "real data")
    if tested is not None and told.test is not None and tested != told.test:
        return f"score changed: {tested:.0f} items were tested, and its data set has {told.test}"
    try:
        card = registry.get(record.spec.dataset)
    except DataError:
        return ""  # somebody's folder that was never named here
    for name in ("metric", "classes") if note.MARK in record.spec.dataset else ("metric", "classes", "title", "group"):
        if getattr(told, name) != getattr(card, name):
            return (f"false data: {name} of {record.spec.dataset} is {getattr(card, name)!r}, and "
                    f"{getattr(told, name)!r} in the record")
    return ""


def _method(record: RunResult, found: Doubt) -> Doubt:
    """What is said of the files, then whether the method's source is known here."""
    if found[0] == "refused":
        return found
    try:
        known = parse(record.method.text)
    except MethodError:
        return "claimed", f"source unknown: there is no method {record.method.text!r} here"
    if known.source_hash != record.method.source_hash:
        return "claimed", "source unknown: the method's source is another here than the run's"
    if from_record(record.spec.method, record.spec.options).text() != record.method.text:
        return "refused", f"another method: its settings are not those of {record.method.text!r}"
    if (moves := adapts_of(record.spec)) != record.method.adapts_at_test:
        return "refused", (f"false pool: by its settings it adapts at test {moves or 'not at all'}, its record says "
                           f"{record.method.adapts_at_test or 'not at all'}")
    return found


def _files(path: Path, record: RunResult) -> Doubt:
    claimed = AGREED
    for artifact in record.artifacts:
        split = evidence.split_of(artifact.kind, record.spec.phase)
        if not packs.there(path.with_name(artifact.path)):
            if split:
                claimed = "claimed", f"no evidence: its predictions ({artifact.path}) were not sent"
            continue
        try:
            content = evidence.stored(path.parent, artifact.path, artifact.sha256)
            why = _predictions(content, split, record) if split else ""
        except evidence.PredictionError as error:
            why = f"damaged: {artifact.path} {error}"
        if why:
            return "refused", why
    for split in evidence.unstored(record.spec.phase, record.metrics, [a.kind for a in record.artifacts]):
        claimed = "claimed", f"no evidence: no predictions are stored for {split}.top1"
    return claimed


def _predictions(content: bytes, split: str, record: RunResult) -> str:
    """What the predictions of one split say against the record, or against themselves."""
    from results.metrics import ARRAYS, of_file

    held = evidence.arrays(content, ARRAYS[:2], (*ARRAYS[2:], "task"))
    now = of_file(held, split, record)
    for name, value in now.items():
        told = record.metrics.get(name)
        if (told is None) is not (value is None) or (told is not None and value is not None
                                                     and abs(told - value) > CLOSE):
            return f"score changed: the record says {name} {_number(told)}, its predictions give {_number(value)}"
    if "task" in held:  # numbers or ranks in the place of classes
        return ""
    if record.dataset is None or max(held["pred"].max(), held["label"].max()) >= record.dataset.classes:
        return "predictions replaced: they name classes that the data set has not"
    return _losses(held)


def _losses(held: Mapping[str, ndarray]) -> str:
    """The loss of an image is minus the logarithm of its label's probability, the confidence is the largest one."""
    import numpy as np

    likely, largest = np.exp(-held["nll"].astype(np.float64)), held["confidence"].astype(np.float64)
    right = held["pred"] == held["label"]
    wrong = (np.abs(likely - largest) > SOFT) & right | (likely > largest + SOFT)
    return (f"predictions replaced: on {many(int(wrong.sum()), 'image')} class, confidence and loss cannot come from "
            "one answer" if wrong.any() else "")


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"


def rows(records: Iterable[RunResult], suite: SuiteView | None) -> dict[Row, str]:
    """Row -> why none of its runs counts: seeds that are missing, a pool that its runs deny, or another budget of
    tuning than its neighbours'."""
    every = list(records)
    found = _seeds(every, suite) | _pools(every, suite)
    budgets: dict[str, list[Row]] = {}
    for record in every:
        if told := _budget(record):
            budgets.setdefault(told, []).append(row_of(record))
    if len(budgets) > 1:
        said = "; ".join(f"{told} for {', '.join(dict.fromkeys(row[0] for row in own))}"
                         for told, own in sorted(budgets.items()))
        found |= {row: f"unequal budget: {said}" for own in budgets.values() for row in own}
    return found


def _seeds(records: Sequence[RunResult], suite: SuiteView | None) -> dict[Row, str]:
    """By the suite that was sent; without one, by the seeds that the row has on its other data sets."""
    have: dict[tuple[Row, str], set[int]] = {}
    for record in records:
        have.setdefault((row_of(record), record.spec.dataset), set()).add(record.spec.seed)
    wanted: dict[tuple[Row, str], set[int]] = {}
    ids = {record.run_id: (row_of(record), record.spec.dataset) for record in records}
    if suite is not None:
        cells = {(e.dataset, e.method, e.backbone): ids[e.run_id] for e in suite.entries if e.run_id in ids}
        for entry in suite.entries:
            cell = cells.get((entry.dataset, entry.method, entry.backbone))
            if cell is not None and not entry.refused and entry.run_id not in ids:
                wanted.setdefault(cell, set()).add(entry.seed)
    else:
        for row, name in have:
            wanted[row, name] = set().union(*(s for (own, _), s in have.items() if own == row)) - have[row, name]
    return {row: f"seeds missing: {name} lacks seed {', '.join(map(str, sorted(missing)))}"
            for (row, name), missing in wanted.items() if missing}


def _pools(records: Sequence[RunResult], suite: SuiteView | None) -> dict[Row, str]:
    """Rows of another pool than their runs say; that one adapts at test is told of each record."""
    shown = {(r.method, r.backbone): r.pool or pools.told(r.budget, r.note) for r in (suite.rows if suite else ())}
    rows_of = {e.run_id: shown[e.method, e.backbone] for e in (suite.entries if suite else ())}
    found = {}
    for record in records:
        pool, tried = rows_of.get(record.run_id), _budget(record)
        if record.spec.combined and pool not in (None, pools.ENSEMBLED):
            found[row_of(record)] = f"false pool: the suite calls the row {pool}, its runs put several together"
        elif tried and pool == "plain":
            found[row_of(record)] = f"false pool: the suite calls the row plain, its runs say that {tried} were tried"
    return found


def _budget(record: RunResult) -> str:
    """How many settings were tried for it, in words; nothing for a run that was not tuned."""
    tried = record.passed.get("tuned.tried")
    allowed = record.passed.get("tuned.budget")
    return "" if tried is None else (f"{tried} of {allowed} {word(int(allowed or 0), 'setting')} "
                                     f"({record.passed.get('tuned.sampler')})")


def row_of(record: RunResult) -> Row:
    """Where tables show it."""
    return record.method.text, record.spec.model


def adapter_of(record: RunResult, path: Path) -> Artifact | None:
    """Its trained weights, where they were sent."""
    return next((a for a in record.artifacts if a.kind == "adapter" and packs.there(path.with_name(a.path))), None)
