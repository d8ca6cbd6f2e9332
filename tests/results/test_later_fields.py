"""A field that joined RunSpec renames no run: it is left out while it holds its first value, hashed and written."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from results import index, packs, schema, store, strict
from results.schema import LATER, BackboneInfo, RecordError, RunSpec, from_json, spec_from_json, to_json
from tests.reports import fakes

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def records() -> list[Path]:
    return [path for suite in sorted(REFERENCE.glob("*/suite.json")) for path in store.record_files(suite.parent)]


def body_of(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(to_json(fakes.record(replace(fakes.spec(), **changes), 0.5)))
    return found


def test_the_names_of_the_reference_runs_hold() -> None:
    found = records()
    assert len(found) > 500
    for path in found[::25]:
        body = json.loads(packs.read(path))
        later = LATER.keys() & body["spec"].keys()
        assert all(body["spec"][name] != LATER[name] for name in later), "named only where it is another run"
        record = from_json(packs.read(path).decode(), path.name)
        assert record.run_id == body["run_id"] and record.run_id in path.name
        assert json.loads(to_json(record)) == body
        assert record.spec.compiled is False and (later or record.spec.decay == "matrices")


def test_a_later_field_with_another_value_is_another_run_and_another_protocol() -> None:
    plain, other = fakes.spec(), replace(fakes.spec(), compiled=True)
    assert len({plain.id, other.id}) == len({plain.cell_id, other.cell_id}) == 2
    assert plain.protocol_id != other.protocol_id
    assert body_of(compiled=True)["spec"]["compiled"] is True and "compiled" not in body_of()["spec"]
    for spec in (plain, other):
        text = to_json(fakes.record(spec, 0.5))
        assert from_json(text).spec == spec and strict.sound(json.loads(text))


@pytest.mark.parametrize("value, problem", [
    ("yes", "'spec.compiled' has the value 'yes'"), (1, "'spec.compiled' has the value '1'"),
    (None, "'spec.compiled' has the value 'None'"), (False, "'spec.compiled' is left out while it is False"),
    (True, "the spec hashes to")])
def test_a_later_field_that_is_wrong_is_refused_by_both_readers(value: Any, problem: str) -> None:
    body = body_of()
    body["spec"]["compiled"] = value
    assert not strict.sound(json.loads(json.dumps(body)))
    with pytest.raises(RecordError, match=problem):
        index.parse(json.dumps(body).encode(), "record")


def test_only_later_fields_may_be_missing() -> None:
    body = body_of()
    del body["spec"]["merged_eval"]
    assert not strict.sound(json.loads(json.dumps(body)))
    with pytest.raises(RecordError, match=r"'spec\.merged_eval' is missing"):
        from_json(json.dumps(body))


def test_what_was_done_to_the_weights_is_written_where_something_was_done() -> None:
    backbone = BackboneInfo(params=1, weights_sha256="0" * 64, family="vit", image_size=48)
    plain = replace(fakes.record(fakes.spec(), 0.5), backbone=backbone)
    resized = replace(plain, backbone=replace(backbone, adjusted="positions 196 -> 576"))
    assert "adjusted" not in json.loads(to_json(plain))["backbone"]
    assert json.loads(to_json(resized))["backbone"]["adjusted"] == "positions 196 -> 576"
    for record in (plain, resized):
        body = json.loads(to_json(record))
        assert from_json(json.dumps(body)) == record and strict.sound(body) and record.run_id == plain.run_id
    wrong = json.loads(to_json(resized))
    wrong["backbone"]["adjusted"] = 7
    assert not strict.sound(json.loads(json.dumps(wrong)))
    with pytest.raises(RecordError, match=r"'backbone\.adjusted' has the value '7'"):
        from_json(json.dumps(wrong))


def test_a_spec_alone_may_be_written_in_full_as_the_ledger_of_jobs_does() -> None:
    spec = fakes.spec()
    assert spec_from_json(json.loads(json.dumps(asdict(spec)))) == spec
    assert spec_from_json(json.loads(json.dumps(spec.written()))) == spec


def test_every_later_field_starts_at_what_the_runs_before_it_did() -> None:
    starts = {f.name: f.default for f in fields(RunSpec)}
    assert {name: starts[name] for name in LATER} == schema.LATER


def test_the_names_of_classes_are_written_where_they_are_known() -> None:
    plain = fakes.record(fakes.spec(), 0.5)
    assert plain.dataset is not None
    named = replace(plain, dataset=replace(plain.dataset, class_names=("apple", "pear")))
    assert "class_names" not in json.loads(to_json(plain))["dataset"]
    assert json.loads(to_json(named))["dataset"]["class_names"] == ["apple", "pear"]
    for record in (plain, named):
        body = json.loads(to_json(record))
        assert from_json(json.dumps(body)) == record and strict.sound(body)
    wrong = json.loads(to_json(named))
    wrong["dataset"]["class_names"] = ["apple", 7]
    assert not strict.sound(json.loads(json.dumps(wrong)))
    with pytest.raises(RecordError, match="class_names"):
        from_json(json.dumps(wrong))
