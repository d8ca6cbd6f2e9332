"""`advise` says what forecasts and records know and nothing else: no record, no number."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path
from statistics import fmean, variance

import pytest

from bench import checkout, cli
from bench.perf import advice
from bench.planning.resolve import Planned
from bench.verbs import printed
from datasets import registry
from methods.grammar import parse
from results import store
from results.index import read
from results.printed import load_published
from results.schema import RunSpec
from tests.reports import fakes

EMPTY = ("advise", "--datasets", "digits", "svhn", "--methods", "linear", "lora")
DOCS = Path(__file__).resolve().parents[2] / "docs"
PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No record anywhere."""
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(checkout, "REFERENCE", tmp_path / "reference")
    return tmp_path


def spec(text: str, dataset: str = "svhn", **changes: object) -> RunSpec:
    found = parse(text)
    plain = replace(fakes.spec(), dataset=dataset, method=found.name, options=found.options, model="regatta_vit_48",
                    phase="final", weights="0" * 64, data="standin:1", epochs=5, batch_size=8, image_size=48)
    return replace(plain, **changes)  # type: ignore[arg-type]


def kept(root: Path, one: RunSpec, top1: float, source: str = "") -> None:
    made = fakes.record(one, top1, n=200)
    method = replace(made.method, text=parse(one.method).text(), source_hash=source or parse(one.method).source_hash)
    store.save(replace(made, method=method, metrics={"test.top1": top1, "test.n": 200.0}), root)


def planned(text: str, *datasets: str) -> list[Planned]:
    return [Planned(spec(text, name), parse(text).text(), {}, Path(), None) for name in datasets]


def test_without_a_record_nothing_is_known_but_memory(nothing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*EMPTY, "--memory", "2GB", "12GB"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(("linear ", "lora "))}
    assert len(rows) == 2
    for line in rows.values():
        assert line.count("not known here") == 2, "neither time nor accuracy"
        assert "%" not in line and "[" not in line and " yes" not in line
    assert "time: not known here, no like run is recorded" in out and "its time is not known here" in out
    assert "accuracy:" not in out and "Pareto:" not in out and "printed:" not in out
    words = shlex.split(out.splitlines()[-1])
    assert words[:4] == ["python", "-m", "bench", "run"]
    from bench.planning.resolve import without_inputs
    from bench.verbs.words import request_of

    runs = without_inputs(request_of(cli._parser().parse_args(words[3:])))
    assert {(r.text, r.spec.dataset, r.spec.seed) for r in runs} == {
        (m, d, s) for m in ("linear", "lora") for d in ("digits", "svhn") for s in (0, 1, 2)}


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    from bench.engine.forecast import forecast

    one, budget = spec("lora"), 2e9
    found = advice.memory(one, 10, (budget,))
    assert found is not None
    (most,) = found[1]

    def card(batch: int) -> float:
        told = forecast(replace(one, batch_size=batch), 10).total_bytes
        assert told is not None
        return 0.8e9 + 1.2 * told  # a CUDA context, a fifth for temporaries

    assert card(most) <= budget < card(most + 1)
    assert found[0] == pytest.approx(card(one.batch_size), abs=1)
    assert advice.memory(one, 10, (0.8e9,)) == (found[0], (0,))


def test_accuracy_is_the_mean_over_data_sets_and_the_interval_holds_images_and_seeds(tmp_path: Path) -> None:
    svhn, dtd = (0.6, 0.7, 0.65), (0.5,)
    for name, values in (("svhn", svhn), ("dtd", dtd)):
        for seed, value in enumerate(values):
            kept(tmp_path, spec("lora", name, seed=seed), value)
    seen, lacks = advice.accuracy(planned("lora", "svhn", "dtd"), [advice.Source("own", read(tmp_path))], True)
    assert seen is not None and not lacks and seen.seeds == 1 and seen.batch == (8,) and not seen.older
    first = 0.65 * 0.35 / 200 + variance(svhn) / 3
    error = 1.96 * math.sqrt(first + 0.5 * 0.5 / 200) / 2
    assert (seen.mean, seen.low, seen.high) == pytest.approx((0.575, 0.575 - error, 0.575 + error))


@pytest.mark.parametrize(("changes", "said"), [
    ({"epochs": 9}, "known for 9 epochs"), ({"model": "other"}, ""), ({"image_size": 96}, ""),
    ({"weights": "random"}, ""), ({"phase": "tune"}, ""), ({"data": "partial:1"}, ""), ({"data": "0" * 16}, ""),
    ({"method": "linear", "options": ()}, "")], ids=str)
def test_a_record_of_something_else_says_nothing(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    kept(tmp_path, spec("lora", **changes), 0.9)
    assert advice.accuracy(planned("lora", "svhn"), [advice.Source("own", read(tmp_path))], True) == (None, said)


def test_a_set_without_a_record_is_named_and_gives_no_mean(tmp_path: Path) -> None:
    kept(tmp_path, spec("lora"), 0.9)
    seen, lacks = advice.accuracy(planned("lora", "svhn", "dtd"), [advice.Source("own", read(tmp_path))], True)
    assert seen is None and lacks == "lacks dtd"
    assert advice.taken(planned("lora", "svhn"), []) is None


def test_own_records_come_first_and_an_older_source_last(tmp_path: Path) -> None:
    for place, top1, source in (("own", 0.4, "older"), ("committed", 0.8, "")):
        kept(tmp_path / place, spec("lora"), top1, source)
    known = [advice.Source(name, read(tmp_path / name)) for name in ("own", "committed")]
    seen, _ = advice.accuracy(planned("lora", "svhn"), known, True)
    assert seen is not None and (seen.source, seen.mean, seen.older) == ("committed", 0.8, False)
    seen, _ = advice.accuracy(planned("lora", "svhn"), known[:1], True)
    assert seen is not None and (seen.source, seen.mean, seen.older) == ("own", 0.4, True)
    kept(tmp_path / "own", spec("lora", seed=1), 0.5)
    known[0] = advice.Source("own", read(tmp_path / "own"))
    seen, _ = advice.accuracy(planned("lora", "svhn"), known, True)
    assert seen is not None and (seen.source, seen.mean) == ("own", 0.5)


def test_papers_numbers_are_those_of_their_files_and_of_the_backbone_asked() -> None:
    sets = ("cifar100", "svhn")
    found = advice.printed(load_published(), ["lora(rank=4)", "full"], "vit_base_patch16_224.augreg_in21k", sets,
                           lambda row: printed.meant(row.method))
    table = next(t for t in json.loads((PUBLISHED / "pace.json").read_text())["tables"] if t["name"] == "Table 1")
    row = next(r for r in table["rows"] if r["method"] == "Full")
    told = [p.percent for p in found["full"] if p.where.startswith("PACE") and p.where.endswith("Table 1")]
    assert told and told[0] == pytest.approx(fmean(row["values"][name] for name in sets))
    assert found["lora(rank=4)"]
    assert not advice.printed(load_published(), ["full"], "vit_small_patch16_224.augreg_in21k", sets,
                              lambda row: printed.meant(row.method))


def test_what_nothing_beats() -> None:
    points = {"a": (0.9, 5.0), "b": (0.8, 1.0), "c": (0.8, 2.0), "d": (0.7, 1.0), "e": (0.9, 5.0)}
    assert advice.undominated(points) == ["b", "a", "e"]


@pytest.mark.parametrize(("words", "sentence"), [
    (("--memory", "twelve"), "takes a size as 12GB, 12GiB or 800MB"), (("--memory", "0GB"), "takes a size"),
    (("--memory", "8GB", "--params", "x"), "takes a number of weights as 0.3M"),
    (("--memory", "8GB", "--batch", "0"), "--batch takes a number of 1 or more"),
    (("--memory", "8GB", "--backbone", "vit_bse"), "vit_bse"), ((), "--memory")])
def test_what_cannot_be_is_one_sentence(words: tuple[str, ...], sentence: str, nothing: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = cli.main([*EMPTY, *words])
    except SystemExit as left:
        status = int(str(left.code))
    told = capsys.readouterr()
    assert status == 2 and sentence in told.err and "Traceback" not in told.err and not told.out, told.err


@pytest.mark.parametrize(("words", "sentence"), [
    (("--set", "image_size=0"), "regatta: image_size must be a whole number of 1 or more, not 0"),
    (("--params", "-1k"), "regatta: argument --params: takes a number of weights as 0.3M, 300k or 300000, not '-1k'"),
    (("--params=-1k",), "regatta: argument --params: takes a number of weights as 0.3M, 300k or 300000, not '-1k'"),
    (("--root", "-x"), "regatta: argument --root: a value that begins with - is written --root=-x")])
def test_one_mistake_is_one_sentence(words: tuple[str, ...], sentence: str, nothing: Path,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = cli.main([*EMPTY, "--memory", "8GB", *words])
    except SystemExit as left:
        status = int(str(left.code))
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert status == 2 and line.startswith(sentence) and not told.out


def test_bounds_leave_out_and_say_why(nothing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("advise", "--datasets", "digits", "--methods", "lora", "vpt", "full", "--memory", "12GiB", "--merged",
             "--params", "20k")
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "left out: vpt_deep: does not merge into the backbone" in out
    assert re.search(r"left out: full: trains [\d,]+ weights", out) and "batch in 12.88 GB" in out
    rows = [line.split()[0] for line in out.splitlines() if line.startswith(("lora ", "vpt_deep ", "full "))]
    assert rows == ["lora"]
    assert registry.get("digits").classes == 10 and "a head of 10 classes" in out


@pytest.mark.parametrize("command", re.findall(r"^python -m bench advise .*--methods .*$",
                                                (DOCS / "advise.md").read_text(), re.M))
def test_the_page_says_what_the_command_prints(command: str, nothing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the row that is quickest to forecast, on both backbones."""
    words = shlex.split(command)[3:]
    first = words.index("--methods")
    last = next(i for i in range(first + 1, len(words)) if words[i].startswith("--"))
    assert cli.main([*words[:first + 1], "linear", *words[last:]]) == 0
    told = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("linear "))
    page = (DOCS / "advise.md").read_text().partition(command)[2]
    wanted = next(line for line in page.splitlines() if line.startswith("linear "))
    assert re.split(r" {2,}", told.strip()) == re.split(r" {2,}", wanted.strip().removesuffix("yes").strip())


def test_the_command_at_the_end_says_what_it_needs_that_is_not_here(
        nothing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed as it stood, it was refused: no data, no weights."""
    monkeypatch.delenv("DATA", raising=False)
    real = ["advise", "--datasets", "svhn", "--methods", "linear", "--memory", "12GB", "--backbone",
            "vit_small_patch16_224.augreg_in21k"]
    monkeypatch.setattr(advice, "memory", lambda *_: None)
    assert cli.main(real) == 0
    told = capsys.readouterr().out
    assert "--root FOLDER --weights FILE\nFOLDER: where the real data lies" in told and "--download" in told
    assert cli.main([*real, "--root", str(nothing)]) == 0
    assert f"--root {nothing} --weights FILE\nFILE: " in capsys.readouterr().out
    assert cli.main([*EMPTY, "--memory", "12GB"]) == 0
    assert "FOLDER" not in capsys.readouterr().out, "drawn images and embedded weights are here"
