"""How far work is, told where there is a terminal and where there is none."""

from __future__ import annotations

import io
import sys

import pytest

from bench import progress


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_a_minute_and_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress.Bar(8, "demo: runs") as bar:
        for second in range(5, 321, 5):  # a run takes 40 s
            now[0] = 100.0 + second
            bar.to(second // 40, "svhn lora")
    assert log.getvalue().splitlines() == ["demo: runs: 0 % of 8 after 00:10",  # the first soon: it is at work
                                           "demo: runs: 12 % of 8 after 01:10",
                                           "demo: runs: 38 % of 8 after 02:10, about 03:45 left",
                                           "demo: runs: 50 % of 8 after 03:10, about 03:20 left",
                                           "demo: runs: 75 % of 8 after 04:10, about 01:24 left",
                                           "demo: runs: 88 % of 8 after 05:10, about 00:45 left"]


def test_halves_are_not_called_finished_and_a_slow_start_is_not_taken_for_the_speed(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs at once: a minute of imports, then two minutes of training."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with progress.Bar(2, "demo: runs") as bar:
        for second in range(0, 181, 2):
            now[0] = float(second)
            bar.to(2 * max(0, (second - 54) // 6) * 0.05, "svhn lora")
    soon, first, second = log.getvalue().splitlines()[:3]
    assert soon == "demo: runs: 0 % of 2 after 00:10"
    assert first == "demo: runs: 10 % of 2 after 01:10"
    assert second == "demo: runs: 60 % of 2 after 02:10, about 00:51 left"
    assert "1 of 2" not in log.getvalue()


def test_a_terminal_gets_the_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "AFTER_S", 0.0)
    monkeypatch.setattr(progress, "FIRST_S", 0.0)
    with progress.Bar(2, "demo: runs") as bar:
        bar.to(1.0, "svhn lora")
        bar.one_more("dtd lora")
    assert "after" not in screen.getvalue() and "demo: runs 100%" in screen.getvalue()


def test_nothing_done_promises_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = progress.Bar(3, "x")
    assert bar.line(bar.began + 90.0) == "0 % of 3 after 01:30"
