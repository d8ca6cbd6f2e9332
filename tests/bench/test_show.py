"""What `show` says of a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.verbs.show import card
from methods.catalog import catalog


def test_a_name_that_is_a_part_and_a_suite_shows_both(tmp_path: Path) -> None:
    text = card("ugr", None, tmp_path)
    assert text.startswith("regularizer ugr\n") and "\nsuite ugr: " in text
    assert "rho = 0.1" in text and "length of the look-ahead" in text


@pytest.mark.parametrize("part", ["pace", "ugr"])
def test_a_whole_method_bears_the_label_of_our_reading_and_says_where_options_are_explained(part: str,
                                                                                           tmp_path: Path) -> None:
    text = card(f"lora+{part}", None, tmp_path)
    assert f"{part}, ours: our reading: " in text and f"show lora, show {part}" in text


def test_options_stand_in_columns(tmp_path: Path) -> None:
    lines = [line for line in card("lora", None, tmp_path).splitlines() if line.startswith("  ") and " = " in line]
    meanings = [option.doc for option in catalog()["lora"].options]
    assert len(lines) == len(meanings) > 4
    starts = {line.index(meaning[:20]) for line, meaning in zip(lines, meanings, strict=True)}
    assert len(starts) == 1


def test_a_miniature_is_shown_as_what_it_is(tmp_path: Path) -> None:
    assert "in miniature on stand-ins" in card("ugr-standin", None, tmp_path).splitlines()[0]
