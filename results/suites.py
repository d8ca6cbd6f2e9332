"""A suite on disk: which runs belong to it, in which order its rows and columns stand, and what its tables must say.

`bench` knows the suite and writes this file; `reports` reads it: a run that does not exist yet is a visible gap.

    results/suites/<name>.json               the user's suites, git-ignored
    results/reference/<name>/suite.json      the repository's own published suites
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from . import door
from .ladder import SUFFIX
from .parsing import parse
from .pools import Pool
from .schema import RecordError, _build, joins, written
from .spoken import many
from .store import ROOT, write_text
from .strict import fits

SUITE_SCHEMA = 1
Kind = Literal["table", "fewshot", "shift"]


@dataclass(frozen=True)
class Column:
    """One data set as a column: `split` names the metrics ("test" reads test.top1, test.n, ...)."""

    name: str  # unique in the suite, and the key of Entry.dataset
    title: str
    group: str  # "natural", "specialized", "structured", "fgvc", "imagenet", "real", ...
    standin: bool
    classes: int | None = None
    run_dataset: str = ""  # data set whose run holds the numbers; "" when it is `name` itself
    split: str = "test"  # "test:imagenet_v2" for a further test set scored with the same weights
    family: str = ""  # few-shot: columns of one family form a curve ...
    shots: int | None = None  # ... over this many images per class
    # "class_mean": the cells are `.class_mean`; a key of scores.PARTS: they are `.score`, with `.score_se`
    metric: str = field(default="top1", repr=False)

    @property
    def answered(self) -> bool:
        """Whether a cell is a mean of right answers, over items or over classes: then rows are ranked by answers."""
        return self.metric in ("top1", "class_mean")


joins(Column, {"metric": "top1"})


@dataclass(frozen=True)
class Row:
    """One method on one backbone."""

    method: str  # as shown, options that differ from the defaults included: "lora(rank=4)+pace"
    backbone: str
    budget: str = ""  # tuning effort in words: "8 configurations on val"
    note: str = ""
    source_hash: str | None = None  # of the method's files now; a record with another one is stale
    pool: Literal[Pool, ""] = field(default="", repr=False)  # "": as the words of its tuning say (pools.told)


joins(Row, {"pool": ""})


@dataclass(frozen=True, slots=True)
class Entry:
    """One run that the suite wants. `refused` says why a run cannot exist; its run_id is then empty."""

    run_id: str
    dataset: str
    method: str
    backbone: str
    seed: int
    refused: str = ""


@dataclass(frozen=True)
class SuiteView:
    name: str
    title: str
    note: str
    protocol: str  # the protocol in one line, printed in captions
    columns: tuple[Column, ...]  # in the order of the tables; a group's columns stand together
    groups: dict[str, str]  # group -> title, in the order of the tables
    rows: tuple[Row, ...]  # in the order of the tables
    entries: tuple[Entry, ...]
    reference: str = "linear"  # the row that others are compared with, per backbone
    kind: Kind = "table"
    schema: int = SUITE_SCHEMA
    # part of a method -> what it is, in lines; for readers alone: no table depends on it, and files may lack it
    about: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


def narrowed(suite: SuiteView, have: Container[str]) -> SuiteView:
    """The rows and data sets of which some run is had; the note says how many were left out, and names the sets."""
    got = [e for e in suite.entries if e.run_id in have]
    rows, sets = {(e.method, e.backbone) for e in got}, {e.dataset for e in got}
    columns = tuple(c for c in suite.columns if (c.run_dataset or c.name) in sets)
    kept = tuple(r for r in suite.rows if (r.method, r.backbone) in rows)
    entries = tuple(e for e in suite.entries if (e.method, e.backbone) in rows and e.dataset in sets)
    left = [c.title for c in suite.columns if c not in columns]
    lost = len(suite.rows) - len(kept)
    said = [f"{lost} of its {many(len(suite.rows), 'row')}"] if lost else []
    said += [f"the data sets {', '.join(left)}"] if left else []
    note = f"{suite.note} Not run here, of the whole suite: {' and '.join(said)}." if said else suite.note
    groups = {key: title for key, title in suite.groups.items() if any(c.group == key for c in columns)}
    return replace(suite, columns=columns, groups=groups, rows=kept, entries=entries, note=note)


def suite_to_json(suite: SuiteView) -> str:
    """Readable JSON, the same bytes for the same suite."""
    check_suite(suite)
    body = {k: v for k, v in written(suite).items() if k != "about" or v}
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def suite_from_json(text: str, where: str = "suite") -> SuiteView:
    """Strict, as a record is: raises RecordError naming the file and the field."""
    try:
        body = parse(text)
    except ValueError as error:
        raise RecordError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(body, dict) or body.get("schema") != SUITE_SCHEMA:
        given = body.get("schema") if isinstance(body, dict) else None
        raise RecordError(f"{where}: field 'schema' is {given!r}, this program reads {SUITE_SCHEMA}")
    body.setdefault("about", {})
    if fits(SuiteView, body):  # the quick way; what it does not accept is named by _build
        intern = sys.intern  # of many entries most words are the same
        entries = tuple(Entry(e["run_id"], intern(e["dataset"]), intern(e["method"]), intern(e["backbone"]), e["seed"],
                              e["refused"]) for e in body.pop("entries"))
        columns = tuple(Column(**item) for item in body.pop("columns"))
        rows = tuple(Row(**item) for item in body.pop("rows"))
        lines = {part: tuple(told) for part, told in body.pop("about").items()}
        suite = SuiteView(**body, columns=columns, rows=rows, entries=entries, about=lines)
    else:
        suite = _build(SuiteView, body, where, "")
    check_suite(suite, where)
    return suite


def check_suite(suite: SuiteView, where: str = "suite") -> None:
    """Every entry has its row and column, no name or id twice, every group a title."""
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", suite.name) or suite.name.startswith("."):
        raise RecordError(f"{where}: field 'name' is {suite.name!r}; use letters, digits, '_', '-', '+' and '.'")
    _unique((c.name for c in suite.columns), "columns", where)
    _unique(((r.method, r.backbone) for r in suite.rows), "rows", where)
    if not suite.name.endswith(SUFFIX):  # where the best setting is the common one, two steps of a ladder are one run
        _unique((e.run_id for e in suite.entries if e.run_id), "entries (run_id)", where)
    _unique(((e.dataset, e.method, e.backbone, e.seed) for e in suite.entries), "entries", where)
    # several columns may read one run (shift); an entry names the run's own data set
    sets = {c.run_dataset or c.name for c in suite.columns}
    rows = {(r.method, r.backbone) for r in suite.rows}
    for column in suite.columns:
        if column.group not in suite.groups:
            raise RecordError(f"{where}: field 'groups' has no title for {column.group!r} of column {column.name!r}")
    for entry in suite.entries:
        known = entry.dataset in sets and (entry.method, entry.backbone) in rows
        if known and bool(entry.run_id) != bool(entry.refused):
            continue
        if entry.dataset not in sets:
            raise RecordError(f"{where}: field 'entries' names the data set {entry.dataset!r}, which is no column")
        if (entry.method, entry.backbone) not in rows:
            raise RecordError(f"{where}: field 'entries' names {entry.method!r} on {entry.backbone!r}, which is no row")
        raise RecordError(f"{where}: field 'entries': give either run_id or refused, not both ({entry.method})")


@contextlib.contextmanager
def amending(root: Path | None = None) -> Iterator[None]:
    """Alone from reading a suite file to writing it, so that two runners of one suite both find their rows in it."""
    folder = root if root is not None else ROOT / "suites"
    folder.mkdir(parents=True, exist_ok=True)
    with door.locked(folder / ".lock"):
        yield


def save_suite(suite: SuiteView, root: Path | None = None) -> Path:
    """Write <root>/<name>.json atomically (default: this folder's suites/); unchanged content is left alone."""
    path = (root if root is not None else ROOT / "suites") / f"{suite.name}.json"
    text = suite_to_json(suite)
    if not door.holds(path, text):
        write_text(path, text)
    return path


def load_suite(path: Path) -> SuiteView:
    """Read one suite file. Raises RecordError naming the file and the field."""
    try:
        text = door.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name}: cannot be read ({error.__class__.__name__})") from None
    return suite_from_json(text, f"{path.parent.name}/{path.name}")


def load_suites(root: Path | None = None) -> list[SuiteView]:
    """Every suite below a folder, by name."""
    base = root if root is not None else ROOT / "suites"
    return [load_suite(p) for p in sorted(base.glob("*.json")) if not p.name.startswith(".")]


def _unique(keys: Iterable[object], what: str, where: str) -> None:
    every = list(keys)
    if len(set(every)) < len(every):
        twice = next(key for key, count in Counter(every).items() if count > 1)
        raise RecordError(f"{where}: field {what!r} holds {twice!r} twice")
