"""What `plan` says of its data and of its price, for whoever typed a data set's name."""

from __future__ import annotations

import pytest

from bench import cli


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["plan", *words]) == 0
    return capsys.readouterr().out


def test_a_set_that_is_drawn_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    """`--datasets dtd` alone means its miniature, which the name does not say."""
    assert "not the real images: dtd, svhn; --root FOLDER" in told(["--datasets", "dtd", "digits", "svhn"], capsys)
    assert "not the real images: 25 of 26 data sets" in told([], capsys)
    assert "not the real images" not in told(["--datasets", "digits"], capsys), "digits are real everywhere"


def test_what_a_suite_costs_is_not_said_of_a_part_of_it(capsys: pytest.CaptureFixture[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.verbs import plan

    monkeypatch.setattr(plan, "past", lambda runs: {})
    monkeypatch.setattr(plan, "price", lambda *_: None)
    monkeypatch.setattr(plan, "lines", lambda found, at_once, units, unit, otherwise: [f"else: {otherwise}."])
    assert "else: ." in told(["--datasets", "digits", "--methods", "linear"], capsys)
    assert "else: 208 runs of about 5 s" in told([], capsys)
