"""Do the committed tables match the committed records? Every finding is one sentence; none means they do.

Tables are written again from `results/reference` and compared byte by byte. Pictures drawn by another version of
matplotlib are compared by the hash of the records they carry. Each record's artifacts must have the promised hash,
its accuracy must follow from its stored predictions, and its tree must have been clean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from results import evidence, packs
from results.schema import RecordError, RunResult
from results.store import load, record_files

from . import leaderboard
from .pairs import PredictionError, load_scored

DRAWN = re.compile(r"<!-- records (\w+); matplotlib ([^ ]+) -->")


def findings(reference: Path, tables: Path) -> Iterator[str]:
    """Everything that does not match, tables first."""
    expected = leaderboard.build_reference(reference, tables)
    for path, text in expected.items():
        if not path.is_file():
            yield f"{_name(path, tables)}: missing; `python -m reports build --reference` writes it"
            continue
        found = path.read_text(encoding="utf-8")
        if found != text and not _same_but_for_matplotlib(found, text):
            yield f"{_name(path, tables)}: does not follow from the records{_first_change(found, text)}"
    for path in sorted(p for p in tables.rglob("*") if p.is_file() and p not in expected):
        yield f"{_name(path, tables)}: no record stands behind this file"
    for suite in sorted(p.parent for p in reference.glob("*/suite.json")):
        for path in record_files(suite):
            where = f"{suite.name}/{path.parent.name}/{path.name}"
            try:
                problems = list(_record(load(path), path.parent))
            except RecordError as error:
                problems = [str(error).partition(": ")[2]]
            yield from (f"{where}: {problem}" for problem in problems)


def _record(result: RunResult, folder: Path) -> Iterator[str]:
    if result.provenance.dirty:
        yield "field 'provenance.dirty' is true; a reference comes from a clean tree"
    for split in evidence.unstored(result.spec.phase, result.metrics, [a.kind for a in result.artifacts]):
        yield f"no predictions are stored for metrics.{split}.top1"
    for artifact in result.artifacts:
        path = folder / artifact.path
        if artifact.path.startswith("/") or ".." in Path(artifact.path).parts:
            yield f"artifact {artifact.path!r} leaves the folder of the record"
        elif not packs.there(path):
            if artifact.kind.startswith("predictions"):  # weights and logs are not published
                yield f"artifact {artifact.path!r} is missing"
        elif sha256(packs.read(path)).hexdigest() != artifact.sha256:
            yield f"artifact {artifact.path!r} has another hash than the record says"
        elif artifact.kind.startswith("predictions"):
            yield from _accuracy(result, path, evidence.split_of(artifact.kind, result.spec.phase))


def _accuracy(result: RunResult, path: Path, split: str) -> Iterator[str]:
    told = result.metrics.get(f"{split}.top1")
    if told is None and result.metrics.get(f"{split}.score") is not None:
        own = [(a.kind, a.path, a.sha256) for a in result.artifacts if a.path == path.name]
        yield from (why for _, why in evidence.faults(path.parent, result.spec.phase, result.metrics, own,
                                                      result.dataset.metric if result.dataset else "top1").values()
                    if path.name in why)
        return
    try:
        stored = float(load_scored(path, path.name).correct.mean())
    except PredictionError as error:
        yield str(error)
        return
    if told is None or abs(told - stored) > 1e-6:
        yield f"field 'metrics.{split}.top1' is {told}, but the stored predictions give {stored:.6f}"


def _same_but_for_matplotlib(a: str, b: str) -> bool:
    one, two = DRAWN.search(a), DRAWN.search(b)
    return bool(one and two and one[1] == two[1] and one[2] != two[2])


def _first_change(found: str, text: str) -> str:
    pairs = enumerate(zip(found.splitlines(), text.splitlines(), strict=False), 1)
    line = next((i for i, (a, b) in pairs if a != b), None)
    return f" (first in line {line})" if line is not None else " (one ends before the other)"


def _name(path: Path, tables: Path) -> str:
    return f"{tables.name}/{path.relative_to(tables)}"
