"""The script for a GPU on its small scale, on the CPU: that it works, not how fast."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.engine import compiling
from results import measured
from results.measured import Measurement
from tests.perf import on_gpu


def read(folder: Path) -> Measurement:
    (path,) = folder.glob("on-gpu-*.json")
    return measured.load(path)


def test_every_step_leaves_its_figures_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "eager")  # traced, and not compiled for half a minute
    assert on_gpu.main(["--small", "--device", "cpu", "--out", str(tmp_path)]) == 0
    found = read(tmp_path)
    known = {f.name: f for f in found.figures}
    for method in on_gpu.LEDGERS:
        ratio = known[method, "peak / ledger"].value
        assert ratio is not None and 0.5 < ratio < 2
    for form in ("fp32", "bf16", "bf16 blocks"):
        rate, share = known[f"lora {form}", "train"], known[f"lora {form}", "train of peak"]
        assert rate.value and rate.value > 0 and share.value and share.value > 0
    for name, said in (("lora tf32", "exists on GPUs alone"), ("lora bf16 graph", "fell back"),
                       ("cohort of 4", "not built")):
        figure = known[name, "train"]
        assert figure.value is None and said in figure.note
    assert known["lora", "synchronisations in a step"].value is None
    assert (known["run", "training"].value or 0) > 0 and (known["run", "evaluation"].value or 0) > 0
    assert (known["1 run on one device", "train"].value or 0) > 0
    assert not any("failed" in note for note in found.notes), found.notes


def test_figures_are_there_although_a_later_step_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def first(sheet: on_gpu.Sheet) -> None:
        sheet.add("a", "b", "count", 1.0)
        seen.append(len(read(tmp_path).figures))

    def second(sheet: on_gpu.Sheet) -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(on_gpu, "STEPS", (("first", first, 1.0), ("second", second, 1.0), ("third", first, 1.0)))
    assert on_gpu.main(["--small", "--device", "cpu", "--out", str(tmp_path)]) == 1
    assert seen == [1, 2], "written at once, and the step behind the failure is taken"
    assert read(tmp_path).notes == ("second failed: RuntimeError: the device is gone",)


def test_no_step_begins_that_would_not_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "STEPS", tuple((name, lambda sheet: sheet.add("x", "y", "count", 1.0), 100.0)
                                               for name in ("a", "b")))
    assert on_gpu.main(["--device", "cpu", "--minutes", "1", "--out", str(tmp_path)]) == 0
    assert not read(tmp_path).figures and len(read(tmp_path).notes) == 2


def test_the_whole_takes_eight_minutes_at_most() -> None:
    assert sum(cost for _, _, cost in on_gpu.STEPS) <= 8 * 60


def test_without_a_gpu_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(on_gpu.torch.cuda, "is_available", lambda: False)
    assert on_gpu.main(["--out", str(tmp_path)]) == 2
    assert "there is no GPU here" in capsys.readouterr().err and not list(tmp_path.iterdir())
