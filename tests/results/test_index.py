"""The columns of records: the same with a cache and without, and as strict as the schema."""

from __future__ import annotations

import json
import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from results import index, schema
from results.columns import PROTOCOL_FREE
from results.schema import RecordError, from_json, to_json
from results.store import load, path_of
from results.strict import sound
from tests.reports import fakes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for dataset in ("cifar100", "eurosat"):
        for seed in range(3):
            fakes.store(tmp_path, fakes.record(fakes.spec(dataset, seed=seed), 0.5 + 0.01 * seed))
    return tmp_path


def age(root: Path) -> None:
    """Older than the two seconds in which an index does not trust a time stamp."""
    for path in root.rglob("*.json"):
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 10**10))


def as_lists(columns: index.Columns) -> dict[str, Any]:
    numbers = {k: [None if v != v else v for v in c] for k, c in sorted(columns.number.items())}
    return {**numbers, **{k: list(c) for k, c in sorted(columns.text.items())}}


def test_columns_hold_what_the_records_say(root: Path) -> None:
    columns = index.read(root)
    assert len(columns) == 6
    row = columns.by_run()[fakes.spec("eurosat", seed=2).id]
    assert columns.get_number("metrics.test.top1", row) == 0.52
    assert columns.get_number("spec.seed", row) == 2
    assert columns.get_text("spec.dataset", row) == "eurosat"
    assert columns.get_number("memory.cuda_peak_allocated_bytes", row) is None
    assert columns.get_text("protocol_id", row) == fakes.spec("eurosat", seed=2).protocol_id


def test_the_index_gives_the_same_columns(root: Path) -> None:
    age(root)
    plain = as_lists(index.read(root, index=False))
    assert not (root / index.INDEX).exists()
    assert as_lists(index.read(root)) == plain
    assert (root / index.INDEX).exists()
    assert as_lists(index.read(root)) == plain


def test_only_changed_files_are_parsed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age(root)
    index.read(root)
    parsed: list[str] = []
    real = index.parse
    monkeypatch.setattr(index, "parse", lambda data, where: parsed.append(where) or real(data, where))
    index.read(root)
    assert parsed == []
    new = fakes.store(root, fakes.record(fakes.spec("dmlab"), 0.9))
    gone = path_of(fakes.spec("cifar100", seed=0), root)
    gone.unlink()
    columns = index.read(root)
    assert parsed == [f"dmlab/{path_of(new.spec, root).name}"]
    assert len(columns) == 6 and gone.name not in str(columns.text["path"])
    assert as_lists(columns) == as_lists(index.read(root, index=False))


def test_a_file_as_young_as_the_index_is_read_again(root: Path) -> None:
    index.read(root)
    path = path_of(fakes.spec("cifar100", seed=0), root)
    stat = path.stat()
    body = json.loads(path.read_text())
    body["metrics"]["test.top1"] = 0.9  # same length, same time stamp
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    columns = index.read(root)
    assert columns.get_number("metrics.test.top1", columns.by_run()[fakes.spec("cifar100", seed=0).id]) == 0.9


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: b"", lambda d: b"{}\n" + d, lambda d: d[:-3] + b"abc",
                                    lambda d: d.replace(b'"code": "', b'"code": "0', 1)])
def test_a_damaged_or_foreign_index_is_ignored(root: Path, damage: Any) -> None:
    age(root)
    plain = as_lists(index.read(root))
    path = root / index.INDEX
    path.write_bytes(damage(path.read_bytes()))
    assert as_lists(index.read(root)) == plain


def test_two_processes_give_the_same_columns(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = as_lists(index.read(root, index=False))
    monkeypatch.setattr(index, "MANY", 2)
    monkeypatch.setattr(index, "PIECE", 2)
    monkeypatch.setattr(index.threading, "active_count", lambda: 1)
    assert as_lists(index.read(root, index=False)) == plain
    sorted(root.glob("*/*.json"))[3].write_text("{")
    with pytest.raises(RecordError, match="not valid JSON"):
        index.read(root, index=False)


def test_an_infinite_number_is_refused(root: Path) -> None:
    path = path_of(fakes.spec("cifar100", seed=0), root)
    path.write_text(path.read_text().replace('"test.top1": 0.5', '"test.top1": 1e999'))
    with pytest.raises(RecordError, match=r"field 'metrics.test.top1' is not finite"):
        index.read(root)


def test_a_record_nested_too_deeply_is_no_crash(root: Path) -> None:
    path_of(fakes.spec("cifar100", seed=0), root).write_text("[" * 100_000)
    with pytest.raises(RecordError, match="not valid JSON"):
        index.read(root)


def test_an_unreadable_record_raises_or_is_handed_over_and_is_never_cached(root: Path) -> None:
    victim = sorted(root.glob("*/*.json"))[1]
    victim.write_text("{")
    with pytest.raises(RecordError, match=victim.name):
        index.read(root)
    problems: list[RecordError] = []
    assert len(index.read(root, on_error=problems.append)) == 5
    assert len(problems) == 1 and victim.name in str(problems[0])
    with pytest.raises(RecordError, match=victim.name):
        index.read(root)


@pytest.mark.parametrize(("section", "field"), [("metrics", "test.top1"), ("memory", "saved_bytes"),
                                                ("spec", "lr"), ("time", "total_s")])
@pytest.mark.parametrize("digits", ["1" + "0" * 400, "1e999"])
def test_a_number_that_no_float_holds_is_one_unreadable_record(root: Path, section: str, field: str,
                                                               digits: str) -> None:
    victim = sorted(root.glob("*/*.json"))[0]
    body = json.loads(victim.read_text())
    body[section][field] = "HERE"
    victim.write_text(json.dumps(body).replace('"HERE"', digits))
    problems: list[RecordError] = []
    assert len(index.read(root, on_error=problems.append)) == 5
    assert len(problems) == 1 and victim.name in str(problems[0])
    with pytest.raises(RecordError, match=victim.name):
        load(victim)


def test_a_link_to_nowhere_is_one_unreadable_record_and_stops_no_table(root: Path) -> None:
    (next(p for p in root.iterdir() if p.is_dir()) / "gone.json").symlink_to(root / "nowhere")
    problems: list[RecordError] = []
    before = len([p for p in root.glob("*/*.json") if p.exists()])
    assert len(index.read(root, on_error=problems.append)) == before
    assert len(problems) == 1 and "gone.json: cannot be read" in str(problems[0])
    with pytest.raises(RecordError, match=r"gone\.json: cannot be read"):
        index.read(root)


def test_one_run_in_two_files_is_refused(root: Path) -> None:
    path = path_of(fakes.spec("cifar100", seed=0), root)
    path.with_name(f"copy-{path.stem.rpartition('-')[2]}.json").write_bytes(path.read_bytes())
    with pytest.raises(RecordError, match="a run has one record"):
        index.read(root).by_run()


def test_the_protocol_s_free_fields_are_those_of_the_schema() -> None:
    base = fakes.spec()
    other = {"str": "other", "int": 77, "float": 0.77, "bool": True, "NoneType": 7, "tuple": ("other",)}
    for name, value in asdict(base).items():
        if name in ("schema", "options", "also_test"):
            continue
        changed = fakes.spec(**{**dict.fromkeys(()), name: other[type(value).__name__]})
        assert (changed.protocol_id == base.protocol_id) == (name in PROTOCOL_FREE), name


def mutations(body: Any, rng: random.Random) -> Any:
    """One random change somewhere in a record."""
    body = json.loads(json.dumps(body))
    place = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return body
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
            continue
        kind = rng.randrange(4)
        if kind == 0 and isinstance(place, dict):
            place["unknown"] = 1
        elif kind == 1:
            del place[key]
        else:
            place[key] = rng.choice([None, 1, 1.5, "x", True, [], {}, [1], {"a": 1}, "ok", "final"])
        return body


def test_the_quick_check_never_accepts_what_the_schema_refuses() -> None:
    record = fakes.record(fakes.spec(), 0.5, failure=schema.Failure("code", "m", "train", 3),
                          artifacts=(schema.Artifact("predictions", "a.npz", "00", 3),), history=({"loss": 1.0},))
    body = json.loads(to_json(record))
    assert sound(body)
    rng = random.Random(0)
    quick = strict = 0
    for _ in range(3000):
        changed = mutations(body, rng)
        try:
            from_json(json.dumps(changed))
            accepted = True
        except RecordError:
            accepted = False
        strict += accepted
        quick += sound(changed)
        assert accepted or not sound(changed), changed
    assert quick > 0.5 * strict > 0  # it is of use


def test_not_a_number_is_refused(root: Path) -> None:
    path = path_of(fakes.spec("cifar100", seed=0), root)
    path.write_text(path.read_text().replace('"test.top1": 0.5', '"test.top1": NaN'))
    with pytest.raises(RecordError, match="NaN is not allowed"):
        index.read(root)
