"""Claims that nobody of ours wrote: each is a dead one with a sentence, none a traceback or a wait, none lives on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.dispatch import jobs
from bench.dispatch.state import STALE_S, Claims, _birth, _host

HERE = {"host": _host(), "pid": os.getpid(), "born": _birth(os.getpid())}


def _dead_pid() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def _text(body: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(body if isinstance(body, str) else json.dumps(body))


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


NO_CLAIMS: dict[str, Callable[[Path], object]] = {
    "nested": _text("[" * 100_000),
    "nested and whole": _text("[" * 1500 + "]" * 1500),
    "pid too large for a float": _text(json.dumps({**HERE, "pid": 0}).replace(": 0", ": 1e999")),
    "pid not a number": _text(json.dumps({**HERE, "pid": 0}).replace(": 0", ": NaN")),
    "pid of many digits": _text({**HERE, "pid": 10**30}),
    "pid of too many digits": _text(json.dumps({**HERE, "pid": 0}).replace(": 0", ": 1" + "0" * 5000)),
    "pid negative": _text({**HERE, "pid": -1}),
    "pid true": _text({**HERE, "pid": True}),
    "pid a text": _text({**HERE, "pid": "../self"}),
    "never born": _text({**HERE, "pid": _dead_pid(), "born": None}),
    "host a list": _text({**HERE, "host": [_host()]}),
    "nothing": _text(""),
    "no object": _text("7"),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "huge": _huge,
    "fifo": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "full folder": lambda path: (path / "in" / "it").mkdir(parents=True),
    "link to nowhere": lambda path: path.symlink_to("/nowhere"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", sorted(NO_CLAIMS))
def test_what_is_no_claim_is_a_dead_one_and_named(kind: str, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    claims = Claims(tmp_path)
    NO_CLAIMS[kind](claims.path("run"))
    assert not claims.alive("run") and claims.living() == set()
    assert claims.take("run") and claims.alive("run")
    assert capsys.readouterr().err.splitlines() == [
        "regatta: run.claim is no claim of this program; it holds no run back"]
    assert claims.path("run").is_file() and not claims.path("run").is_symlink()
    claims.release("run")
    NO_CLAIMS[kind](claims.path("run"))
    claims.sweep()
    assert not os.path.lexists(claims.path("run"))
    assert "run.claim is no claim" in capsys.readouterr().err


@pytest.mark.parametrize(("ahead", "lives"), ((0.0, True), (STALE_S / 2, True), (STALE_S + 60, False), (1e9, False)))
def test_a_claim_of_the_future_does_not_live_for_ever(ahead: float, lives: bool, tmp_path: Path) -> None:
    """Clocks of two machines differ by a little; a claim from next year is nobody's."""
    claims = Claims(tmp_path)
    claims.path("run").write_text(json.dumps({"host": "another", "pid": 1, "born": "1"}))
    when = time.time() + ahead
    os.utime(claims.path("run"), (when, when))
    assert claims.alive("run") == lives
    assert claims.take("run") != lives


def test_a_claim_that_is_whole_is_not_spoken_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = Claims(tmp_path)
    assert claims.take("run") and not claims.take("run")
    claims.path("old").write_text(json.dumps({**HERE, "born": "1"}))
    claims.sweep()
    assert claims.living() == {"run"} and capsys.readouterr().err == ""


BEAT = jobs.Beat("1", _host(), os.getpid(), _birth(os.getpid()), 0, time.time(), time.time(), {}, {})


def test_a_sign_of_life_is_read_as_it_was_written(tmp_path: Path) -> None:
    beat = jobs.Beat("1", "h", 5, None, 1, 2.0, 3.0, {"a": (0.5, 1.0)}, {"b": "ok"}, "done")
    jobs.write_beat(tmp_path / "0-0.json", beat)
    assert jobs.read_beat(tmp_path / "0-0.json") == beat


@pytest.mark.parametrize("change", ({"pid": 1e999}, {"pid": "x"}, {"beaten": "soon"}, {"beaten": None}, {"ended": []},
                                    {"ended": {"a": []}}, {"running": {"a": [1]}}, {"running": {"a": "xy"}},
                                    {"life": "1"}, {"over": 3}, {"more": 1}))
def test_a_sign_of_life_of_other_make_is_none(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "0-0.json"
    jobs.write_beat(path, BEAT)
    path.write_text(json.dumps(json.loads(path.read_text()) | change).replace("Infinity", "1e999"))
    assert jobs.read_beat(path) is None
    path.write_text("[" * 100_000)
    assert jobs.read_beat(path) is None


def test_a_sign_of_life_of_the_future_is_not_fresh(tmp_path: Path) -> None:
    path = tmp_path / "0-0.json"
    jobs.write_beat(path, replace(BEAT, beaten=time.time()))
    found = jobs.read_beat(path)
    assert found is not None and found.fresh
    path.write_text(json.dumps(json.loads(path.read_text()) | {"beaten": time.time() + 1e6}))
    found = jobs.read_beat(path)
    assert found is not None and not found.fresh
