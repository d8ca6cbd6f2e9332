"""A beginner's slips in a part's file are told with the line and what to write; what ships has none."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from methods import slips
from methods.catalog import KINDS, catalog
from methods.faults import PartError
from methods.grammar import MethodError, parse
from methods.pointing import at_attribute, in_error, shown

RIGHT = '''"""Mine."""

from ..base import Adapter
from ..compose import part


@part("mine")
class Mine(Adapter):
    """Mine."""

    title = "Mine"

    rank: int = 8

    def build(self, backbone, classes):
        return backbone
'''
HERE = Path(slips.__file__).parent / "adapters" / "mine.py"
SLIPS = [
    ('@part("mine")\n', "", r"line 7: Mine has no decorator, so that nobody finds it; write @part\('mine'\) above"),
    ('@part("mine")', "@part", r"line 7: the decorator of Mine has no name; write @part\('mine'\)"),
    ("Mine(Adapter)", "Mine", r"line 8: Mine lies in adapters/ and inherits from nothing; write class Mine\(Adapter\)"),
    ("Mine(Adapter)", "Mine(Regularizer)", "inherits from Regularizer; write .* import Adapter from [.][.]base"),
    ("Mine(Adapter)", "Mine(nn.Module)", "inherits from Module; write class"),
    ("    title =", "    tilte =", "line 11: nothing reads 'tilte'; write title = "),
    ("rank: int =", "rank =", "line 13: 'rank' has no type, so that it is no option; write rank: int = 8"),
    ("def build", "def biuld", "line 15: nothing calls 'biuld'; write def build"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), SLIPS)
def test_a_slip_is_told_with_its_line_and_what_to_write(old: str, new: str, sentence: str) -> None:
    assert old in RIGHT
    with pytest.raises(PartError, match=sentence) as caught:
        slips.check(ast.parse(RIGHT.replace(old, new, 1)), HERE, "adapter")
    assert "\n" not in str(caught.value)


def test_the_same_file_without_a_slip_passes_and_so_does_all_that_ships() -> None:
    slips.check(ast.parse(RIGHT), HERE, "adapter")
    for folder, kind in KINDS.items():
        for path in (HERE.parents[1] / folder).glob("*.py"):
            slips.check(ast.parse(path.read_text()), path, kind)


def test_every_fact_that_ships_is_known_or_a_class_variable_of_its_own() -> None:
    known = slips.FACTS | {"size"}  # what `mars_pgm` and `l2_pgm` share with their base
    assert {fact for part in catalog().values() for fact in part.facts} <= known


def test_a_misspelt_option_is_answered_by_the_nearest_one() -> None:
    with pytest.raises(MethodError, match=r"'lora' has no option 'rnak' \(did you mean rank\?\); it has: rank=8"):
        parse("lora(rnak=4)")


class Owner:
    """Sets one attribute."""

    def __init__(self) -> None:
        self.here = 1


def test_an_attribute_is_found_where_it_is_set() -> None:
    number = next(i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if "self.here = 1" in line)
    assert at_attribute(Owner, "here") == f"tests/methods/test_slips.py, line {number}"
    assert shown(Path("/somewhere/else/mine/adapters/x.py")) == "mine/adapters/x.py"


def test_an_error_on_its_way_through_no_part_has_no_place() -> None:
    try:
        raise ValueError
    except ValueError as error:
        assert in_error(error) == ""
