"""Suite files: what is written is read, and every mistake is named with its file and field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from results.schema import RecordError
from results.suites import Column, Entry, load_suites, save_suite, suite_from_json, suite_to_json
from tests.reports import fakes

COLUMNS = (Column("cifar100", "CIFAR-100", "natural", True, 100), Column("digits", "Digits", "real", False, 10))
SUITE = fakes.suite([fakes.spec("cifar100"), fakes.spec("digits")], COLUMNS, ["lora"])


def test_a_suite_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save_suite(SUITE, tmp_path)
    assert load_suites(tmp_path) == [SUITE]


def test_writing_the_same_suite_again_leaves_the_file_alone(tmp_path: Path) -> None:
    path = save_suite(SUITE, tmp_path)
    before = path.stat().st_mtime_ns
    save_suite(SUITE, tmp_path)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(("change", "message"), [
    ({"name": "../x"}, "field 'name' is '../x'"),
    ({"groups": {"natural": "Natural"}}, "no title for 'real' of column 'digits'"),
    ({"columns": (COLUMNS[0], COLUMNS[0])}, "holds 'cifar100' twice"),
    ({"columns": COLUMNS[:1]}, "names the data set 'digits', which is no column"),
    ({"rows": ()}, "names 'lora' on 'regatta_vit_48', which is no row"),
    ({"entries": (Entry("", "digits", "lora", fakes.BACKBONE, 0),)}, "give either run_id or refused"),
    ({"entries": tuple(Entry("aa", d, "lora", fakes.BACKBONE, 0) for d in ("digits", "cifar100"))}, "holds 'aa' twice"),
])
def test_a_suite_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecordError, match="suite: .*" + message.replace("(", r"\(").replace(".", r"\.")):
        suite_to_json(replace(SUITE, **change))  # type: ignore[arg-type]


def test_unknown_fields_and_schemas_are_named() -> None:
    body = json.loads(suite_to_json(SUITE))
    with pytest.raises(RecordError, match="demo: field 'colour' is unknown"):
        suite_from_json(json.dumps({**body, "colour": 1}), "demo")
    with pytest.raises(RecordError, match="field 'schema' is 9"):
        suite_from_json(json.dumps({**body, "schema": 9}))
    with pytest.raises(RecordError, match="not valid JSON"):
        suite_from_json("{")
