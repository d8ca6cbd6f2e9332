"""Counts in sentences: the forms themselves, and that nothing says `1 runs` by putting a number before a plural."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.spoken import many, word

ROOT = Path(__file__).resolve().parents[2]
PLURALS = re.compile(r" (?:(?!with|of)[a-z]+ )?(attempts|cards|cells|classes|configurations|epochs|files|findings|"
                     r"folds|methods|pages|pictures|records|rows|runs|seeds|sets|settings|studies|suites|tables|tasks|"
                     r"tensors|weights)\b")
# numbers that are more than one where they are said, and words
LARGE = {"len(group)", "len(key)", "len(columns)", "len(tasks)", "len(every)", "len(found)", "len(sets)",
         "len(fit.trainable)", "card.classes", "record.params.total", "t.source"}


@pytest.mark.parametrize(("said", "expected"), [
    (many(1, "run"), "1 run"), (many(0, "run"), "0 runs"), (many(21, "data set"), "21 data sets"),
    (many(1, "class", "classes"), "1 class"), (many(3, "class", "classes"), "3 classes"),
    (word(1, "has", "have"), "has"), (word(2, "has", "have"), "have"), (word(1.0, "epoch"), "epoch")])
def test_one_has_a_form_of_its_own(said: str, expected: str) -> None:
    assert said == expected


def counts(text: str) -> Iterator[str]:
    """`{expression} plural` of every f-string whose expression may be a whole number."""
    for node in ast.walk(ast.parse(text)):
        for value, after in zip(node.values, node.values[1:], strict=False) if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant) and value.conversion == -1:
                held, found = ast.unparse(value.value), PLURALS.match(str(after.value))
                plain = isinstance(value.value, ast.Name | ast.Attribute) or held.startswith(("len(", "sum("))
                if found and plain and not held.isupper() and held not in LARGE:
                    yield f"{{{held}}}{found[0]}"


def test_a_number_before_a_plural_is_seen() -> None:
    assert list(counts('f"{len(x)} complete rows, {n} runs, {N} runs, {n} of {many(m, \'run\')} {name!r} runs"')) == [
        "{len(x)} complete rows", "{n} runs"]


@pytest.mark.parametrize("package", ["bench", "reports", "results"])
def test_every_count_goes_through_the_forms(package: str) -> None:
    found = [f"{path.relative_to(ROOT)}: {one}" for path in sorted((ROOT / package).rglob("*.py"))
             for one in counts(path.read_text(encoding="utf-8"))]
    assert found == []
