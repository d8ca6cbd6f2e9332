"""A cell is one data identity and one weights identity: runs with others stand in rows of their own, and a note says
which.

What names the data of a run is its `spec.data`; where two runs of one name and size have decoded other training pixels
(`dataset.content_hash`), these too. The identity of most runs keeps the row, whole data before partial ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from results.columns import Columns
from results.suites import Entry, Row, SuiteView

Key = tuple[str, str]  # ("data", data set) or ("weights", backbone of the row)
PARTIAL = "partial:"


def identities(records: Columns) -> list[str]:
    """What names each record's data."""
    text, count = records.text, len(records)
    nothing = [""] * count
    data, contents = text.get("spec.data", nothing), text.get("dataset.content_hash", nothing)
    sizes = records.number.get("spec.image_size", nothing)
    keys = list(zip(text.get("spec.dataset", nothing), data, sizes, strict=True))
    known: dict[tuple[str, str, object], set[str]] = {}
    for key, content in zip(keys, contents, strict=True):
        if content:
            known.setdefault(key, set()).add(content)
    return [f"{name}, pixels {content[:12] or 'unknown'}" if len(known.get(key, ())) > 1 else name
            for key, name, content in zip(keys, data, contents, strict=True)]


def apart(suite: SuiteView, records: Columns, by_run: Mapping[str, int], names: Sequence[str]) -> SuiteView:
    """The suite with a row for each identity; the very suite where every cell has one. `names`: of `identities`."""
    kinds = {c.run_dataset or c.name: c.standin for c in suite.columns}
    told = {entry: own for entry in suite.entries
            if (own := _of(entry, by_run.get(entry.run_id), records, names, kinds)) is not None}
    ranks = _ranks(told)
    if all(len(found) == 1 for found in ranks.values()):
        return suite
    rows: dict[tuple[str, str], Row] = {(r.method, r.backbone): r for r in suite.rows}
    made: dict[tuple[str, str], list[str]] = {}
    shelves: dict[tuple[str, str, str], dict[int, Entry]] = {}  # (method, backbone as shown, data set) -> by seed
    for entry in suite.entries:
        shown, why = _shelf(entry.backbone, told.get(entry), ranks)
        if why:
            notes = made.setdefault((entry.method, shown), [])
            notes += [note for note in why if note not in notes]
        shelves.setdefault((entry.method, shown, entry.dataset), {})[entry.seed] = replace(entry, backbone=shown)
    entries = list(_filled(suite.entries, shelves, told))
    filled = {(e.method, e.backbone) for e in entries}
    shown_rows = []
    for key, row in rows.items():
        others = [replace(row, backbone=shown, note="; ".join(filter(None, (row.note, *notes))))
                  for (method, shown), notes in made.items() if method == key[0] and shown.startswith(f"{key[1]} [")]
        shown_rows += [row, *others] if key in filled or not others else others
    return replace(suite, rows=tuple(shown_rows), entries=tuple(entries))


def _of(entry: Entry, run: int | None, records: Columns, names: Sequence[str],
        kinds: Mapping[str, bool]) -> tuple[tuple[Key, str], ...] | None:
    """((what, identity), ...) of an entry's run; None where it has none, or of data that the column refuses anyway."""
    if run is None or names[run].startswith("standin:") != kinds.get(entry.dataset):
        return None
    if records.get_text("status", run) != "ok":
        return None
    return ((("data", records.get_text("spec.dataset", run)), names[run]),
            (("weights", entry.backbone), records.get_text("spec.weights", run)))


def _ranks(told: Mapping[Entry, tuple[tuple[Key, str], ...]]) -> dict[Key, list[str]]:
    """Identities of each data set and backbone, the one that keeps the row first."""
    counts: dict[Key, Counter[str]] = {}
    for own in told.values():
        for key, name in own:
            counts.setdefault(key, Counter())[name] += 1
    return {key: sorted(found, key=lambda name, found=found: (name.startswith(PARTIAL), -found[name], name))  # type: ignore[misc]
            for key, found in counts.items()}


def _shelf(backbone: str, own: tuple[tuple[Key, str], ...] | None,
           ranks: Mapping[Key, list[str]]) -> tuple[str, list[str]]:
    """(backbone as the row shows it, why the run stands apart)."""
    tags, why = [], []
    for key, name in own or ():
        place = ranks[key].index(name)
        if place:
            kind, of = key
            tags.append(f"other {kind}" + (f" {place}" if len(ranks[key]) > 2 else ""))
            why.append(f"stands apart, its runs {'of ' + of if kind == 'data' else 'on ' + of} have other {kind} "
                       f"({_short(kind, name)}) than most ({_short(kind, ranks[key][0])})")
    return (f"{backbone} [{', '.join(tags)}]" if tags else backbone), why


def _short(kind: str, name: str) -> str:
    return name[:12] if kind == "weights" else name


def _filled(entries: Sequence[Entry], shelves: Mapping[tuple[str, str, str], dict[int, Entry]],
            told: Mapping[Entry, tuple[tuple[Key, str], ...]]) -> list[Entry]:
    """Every cell wants all the seeds that the suite wants of it; what stands in another row is missing here."""
    seeds: dict[tuple[str, str, str], dict[int, Entry]] = {}
    for entry in entries:
        seeds.setdefault((entry.method, entry.backbone, entry.dataset), {})[entry.seed] = entry
    found = []
    for (method, shown, dataset), own in shelves.items():
        home = shown.partition(" [")[0] if (method, shown, dataset) not in seeds else shown
        wanted = seeds[method, home, dataset]
        if not any(wanted[seed] in told for seed in own) and shown == home and any(
                e in told for e in wanted.values()):
            continue  # its runs stand apart, all of them: no row of gaps beside them
        found += [own[seed] if seed in own else replace(entry, run_id="", backbone=shown)
                  for seed, entry in wanted.items()]
    return found
