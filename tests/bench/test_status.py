"""What `status` says of records, claims, the ledger and signs of life; no scheduler is asked here."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.dispatch import jobs
from bench.dispatch.jobs import Array, Beat, Resources, Roots
from bench.dispatch.queue import Seen
from bench.dispatch.state import Claims
from bench.dispatch.survey import Report, _Look, last_line, survey
from bench.engine.where import Where
from bench.planning.request import Request
from bench.planning.resolve import Planned, resolve, specs_of
from bench.verbs.status import show
from methods.grammar import parse
from results import store
from results.index import read
from results.schema import Failure, RunResult, Status
from tests.reports import fakes

REQUEST = Request(suite="demo", datasets=("digits",), methods=("linear", "lora"), seeds=(0, 1, 2))


@pytest.fixture
def planned() -> list[Planned]:
    return specs_of(REQUEST, resolve(REQUEST))


def _record(planned: Planned, status: Status = "ok", kind: str = "", message: str = "") -> RunResult:
    made = fakes.record(planned.spec, 0.5 if status == "ok" else None)
    return replace(made, status=status, failure=Failure(kind, message, "train") if status != "ok" else None,
                   method=replace(made.method, text=planned.text, source_hash=parse(planned.text).source_hash),
                   time=replace(made.time, total_s=10.0))


def _survey(folder: Path) -> Report:
    return survey(REQUEST, folder / "runs", Claims(folder / "claims"), folder / "jobs", ask=False)


def _submit(folder: Path, planned: list[Planned], cluster: str = "slurm") -> jobs.Submission:
    """All runs in two tasks."""
    half = len(planned) // 2
    ids = [p.spec.id for p in planned]
    array = Array(0, "regatta-x-0", Resources(), (tuple(ids[:half]), tuple(ids[half:])), job="77")
    made = jobs.create(folder / "jobs", "demo", cluster, "abc", [array],
                       [jobs.job_of(p, Where(folder, None, None), False) for p in planned],
                       Roots(folder / "runs", folder / "claims", folder))
    (made.folder / "submitit").mkdir()
    return made


def _beat(submission: jobs.Submission, task: int, running: dict[str, tuple[float, float]], **changes: object) -> None:
    now = time.time()
    beat = Beat(f"77_{task}", "host", 1, "1", 0, now - 60, now, running, {})
    jobs.write_beat(jobs.beat_path(submission.folder, 0, task), replace(beat, **changes))  # type: ignore[arg-type]


def test_every_state_is_told_from_the_records(tmp_path: Path, planned: list[Planned]) -> None:
    runs, (done, oom, broken, stale, killed, _) = tmp_path / "runs", planned
    store.save(_record(done), runs)
    store.save(_record(oom, "oom", "memory", "out of memory (batch 8)"), runs)
    store.save(_record(broken, "failed", "data", "truncated image"), runs)
    old = _record(stale)
    store.save(replace(old, method=replace(old.method, source_hash="before")), runs)
    store.save(_record(killed, "failed", "killed", "ended by signal SIGKILL"), runs)
    report = _survey(tmp_path)
    assert report.count() == {"done": 1, "running": 0, "queued": 0, "failed": 2, "stale": 1, "lost": 0, "missing": 2}
    text = show(report, why=True)
    assert "failed        2  oom 1, data 1" in text
    assert f"{oom.spec.id}  digits linear seed 1  (oom: out of memory (batch 8))" in text
    assert "missing" in text and "(never sent)" in text and "(failed before: ended by signal SIGKILL)" in text


def test_signs_of_life_tell_running_from_queued_and_how_long_it_takes(tmp_path: Path, planned: list[Planned]) -> None:
    submission = _submit(tmp_path, planned)
    store.save(_record(planned[5]), tmp_path / "runs")
    _beat(submission, 0, {planned[0].spec.id: (0.25, time.time() - 30)})
    report = _survey(tmp_path)
    assert report.count() == {"done": 1, "running": 1, "queued": 4, "failed": 0, "stale": 0, "lost": 0, "missing": 0}
    text = show(report, why=True)
    assert " 25 %  90 s left  job 77_0" in text or " 25 %  2 min left  job 77_0" in text
    assert "behind others of its task" in text and "expected end" in text and "(1 in the last" in text


def test_a_run_finished_in_an_earlier_life_of_its_task_is_done(tmp_path: Path, planned: list[Planned]) -> None:
    submission = _submit(tmp_path, planned)
    for one, status in ((planned[0], "ok"), (planned[1], "preempted")):
        store.save(_record(one, status, "node", "wanted back"), tmp_path / "runs")  # type: ignore[arg-type]
    _beat(submission, 0, {}, life=1)
    states = {line.planned.spec.id: line.state for line in _survey(tmp_path).lines}
    assert states[planned[0].spec.id] == "done" and states[planned[1].spec.id] == "queued"


def test_a_task_that_ended_without_a_record_is_lost_and_its_last_words_are_shown(tmp_path: Path,
                                                                                 planned: list[Planned]) -> None:
    submission = _submit(tmp_path, planned)
    place = jobs.places([submission])[planned[0].spec.id]
    place.stderr.write_text("starting\nslurmstepd: error: Exceeded job memory limit\n\n")
    columns = read(tmp_path / "runs")
    gone = Seen("OUT_OF_MEMORY", "", "n1", "sacct")
    look = _Look(columns, {}, set(), {}, jobs.places([submission]), {p.key: gone for p in jobs.tasks([submission])},
                 tmp_path / "runs")
    line = look.line(planned[0])
    assert line.state == "lost" and line.kind == "out_of_memory"
    assert line.why == ("job 77_0 ended (OUT_OF_MEMORY) without a record; it said last: slurmstepd: error: Exceeded "
                        "job memory limit")
    (submission.folder / "cancelled").write_text("2026-01-01T00:00:00Z")
    look = replace(look, places=jobs.places(jobs.read_all(tmp_path / "jobs")))
    assert look.line(planned[0]).kind == "cancelled"


def test_a_local_runners_claim_is_running_and_other_sets_are_counted_apart(tmp_path: Path,
                                                                            planned: list[Planned]) -> None:
    claims = Claims(tmp_path / "claims")
    assert claims.take(planned[0].spec.id)
    others = Request(suite="demo", datasets=("svhn",), methods=("linear",), seeds=(0, 1))
    _submit(tmp_path, specs_of(others, resolve(others)))
    report = _survey(tmp_path)
    assert report.count()["running"] == 1 and report.count()["missing"] == 5
    assert "of other sets: 2 queued" in show(report)


def test_an_unreadable_record_is_named_and_the_rest_is_told(tmp_path: Path, planned: list[Planned]) -> None:
    path = store.save(_record(planned[0]), tmp_path / "runs")
    body = json.loads(path.read_text())
    path.write_text(json.dumps(body | {"status": "splendid"}))
    store.save(_record(planned[1]), tmp_path / "runs")
    report = _survey(tmp_path)
    assert report.count()["done"] == 1 and report.count()["failed"] == 1
    assert any(path.name in hint and "remove the file" in hint for hint in report.hints)


def test_the_same_states_as_the_plan_tells(tmp_path: Path, planned: list[Planned]) -> None:
    from bench.planning.existing import look_up

    runs = tmp_path / "runs"
    for one, (status, kind) in zip(planned, (("ok", ""), ("diverged", "numbers"), ("timeout", "node"),
                                             ("failed", "killed")), strict=False):
        store.save(_record(one, status, kind, "why"), runs)  # type: ignore[arg-type]
    told = {line.planned.spec.id: line.state for line in _survey(tmp_path).lines}
    assert told == {p.spec.id: look_up(p, runs, set()).state for p in planned}


def test_last_line_of_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert last_line(tmp_path / "no.err") == ""
    assert asdict(Resources())["time_min"] > 10


def test_plan_and_status_name_a_set_alike() -> None:
    """With settings of one's own, a published recipe, both, or none."""
    from bench.dispatch.survey import _planned
    from bench.planning.plan import make

    for request in (REQUEST, replace(REQUEST, epochs=2), replace(REQUEST, epochs=2, sets=("lr=0.01",)),
                    replace(REQUEST, methods=("lora",), recipe="paper")):
        assert _planned(request)[0] == make(request).view.name
    assert _planned(replace(REQUEST, epochs=2))[0] == "demo-epochs2"
