"""compare and check: what differs is found, what does not is not, and regressions come first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reports import check, cli, compare, leaderboard
from results.store import load, path_of, write_text
from results.suites import suite_to_json
from tests.reports import fakes
from tests.reports.conftest import COLUMNS


def fill(root: Path, skills: dict[str, float], seeds: tuple[int, ...] = (0,), **changes: object) -> Path:
    for dataset, skill in skills.items():
        for seed in seeds:
            fakes.scored(root, fakes.spec(dataset, seed=seed, **changes), skill)
    return root


SKILLS = {"cifar100": 0.6, "eurosat": 0.7, "dmlab": 0.5}


def run(*argv: Path | str) -> int:
    return cli.main(["compare", *map(str, argv)])


def test_equal_sides_have_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = fill(tmp_path / "a", SKILLS, (0, 1)), fill(tmp_path / "b", SKILLS)
    assert run(a, b) == 0
    out = capsys.readouterr().out
    assert "3 cells on both sides with 3 runs a side, 3 of them with the very same answers" in out
    assert "Verdict: the same, every answer of every run." in out
    assert "Only in" in out and "seed 1" in out


def test_a_regression_is_found_and_stands_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = fill(tmp_path / "a", SKILLS)
    b = fill(tmp_path / "b", {"cifar100": 0.9, "eurosat": 0.3, "dmlab": 0.51})
    assert run(a, b) == 1
    out = capsys.readouterr().out
    assert "2 differ after Holm's correction at 5 % (1 worse, 1 better" in out
    assert out.index("eurosat") < out.index("cifar100")
    assert "−40.0 [" in out and "dmlab" not in out.split("mean difference")[0].split("p (Holm)")[1]


def test_a_small_change_on_few_items_is_no_difference(tmp_path: Path) -> None:
    assert run(fill(tmp_path / "a", SKILLS), fill(tmp_path / "b", {k: v + 0.01 for k, v in SKILLS.items()})) == 0


def test_a_run_that_fails_on_one_side_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = fill(tmp_path / "a", SKILLS), fill(tmp_path / "b", {"eurosat": 0.7, "dmlab": 0.5})
    fakes.store(b, fakes.record(fakes.spec("cifar100"), None, status="oom"))
    assert run(a, b) == 1
    assert "oom" in capsys.readouterr().out


def test_specs_that_differ_are_paired_by_data_set_method_and_seed(tmp_path: Path,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    a, b = fill(tmp_path / "a", SKILLS), fill(tmp_path / "b", {**SKILLS, "eurosat": 0.2}, lr=0.5)
    assert run(a, b) == 1
    assert "specs differ" in capsys.readouterr().out


def test_nothing_in_common_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = fill(tmp_path / "a", {"cifar100": 0.5}), fill(tmp_path / "b", {"eurosat": 0.5})
    assert run(a, b) == 1
    assert "nothing to compare" in capsys.readouterr().out


def test_a_folder_that_does_not_exist_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "no", tmp_path) == 2
    assert "no such folder; give runs, reference" in capsys.readouterr().err


def test_without_predictions_shares_are_compared_and_it_is_said(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    fakes.store(a, fakes.record(fakes.spec(), 0.5))
    fakes.store(b, fakes.record(fakes.spec(), 0.7))
    found = compare.compare(compare.load([a]), compare.load([b]))
    one = found.pairs[0].found
    assert one is not None and one.note == "not on the same items" and one.of_runs
    # difference 0.2, error sqrt(2 * 0.25 / 200) = 0.05: about four standard errors
    assert one.p == pytest.approx(1e-4, abs=1e-4)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A published suite with its tables."""
    root = tmp_path / "reference"
    specs = [fakes.spec(c.name, m, data=("standin:" if c.standin else "real:") + c.name)
             for c in COLUMNS for m in ("linear", "lora")]
    for spec in specs:
        fakes.scored(root / "demo", spec, 0.5 if spec.method == "linear" else 0.6)
    write_text(root / "demo" / "suite.json", suite_to_json(fakes.suite(specs, COLUMNS, ["linear", "lora"])))
    for path, text in leaderboard.build_reference(root, tmp_path / "tables").items():
        leaderboard.put(path, text)
    return root


def findings(reference: Path) -> list[str]:
    return list(check.findings(reference, reference.parent / "tables"))


def test_untouched_tables_follow_from_their_records(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = reference.parent / "tables"
    assert findings(reference) == []
    assert (tables / "demo.md").exists() and list((tables / "img").glob("*.svg"))
    assert cli.main(["check", "--reference", str(reference), "--tables", str(tables)]) == 0
    (tables / "demo.md").write_text("")
    assert cli.main(["check", "--reference", str(reference), "--tables", str(tables)]) == 1
    assert "1 finding" in capsys.readouterr().out


def test_an_edited_table_a_lost_file_and_a_stray_one_are_found(reference: Path) -> None:
    tables = reference.parent / "tables"
    page = tables / "demo.md"
    page.write_text(page.read_text().replace("60.0", "66.0"))
    (tables / "img" / "demo-real-accuracy.csv").unlink()
    (tables / "img" / "old.svg").write_text("<svg/>")
    found = findings(reference)
    assert any(f.startswith("tables/demo.md: does not follow from the records (first in line") for f in found)
    assert any("demo-real-accuracy.csv: missing" in f for f in found)
    assert any("old.svg: no record stands behind this file" in f for f in found)
    assert len(found) == 3


def test_a_record_that_its_predictions_do_not_support_is_found(reference: Path) -> None:
    record = fakes.record(fakes.spec("cifar100", "linear", data="standin:cifar100"), 0.99, artifacts=load(path_of(
        fakes.spec("cifar100", "linear", data="standin:cifar100"), reference / "demo")).artifacts)
    fakes.store(reference / "demo", record)
    assert any("'metrics.test.top1' is 0.99, but the stored predictions give 0.500000" in f
               for f in findings(reference))


def test_an_artifact_with_another_hash_is_found(reference: Path) -> None:
    victim = sorted((reference / "demo").glob("*/*.npz"))[0]
    shutil.copy(sorted((reference / "demo").glob("*/*.npz"))[1], victim)
    assert any(f"artifact '{victim.name}' has another hash" in f for f in findings(reference))


def test_a_picture_of_another_matplotlib_is_judged_by_its_records(reference: Path) -> None:
    picture = sorted((reference.parent / "tables" / "img").glob("*.svg"))[0]
    text = picture.read_text()
    picture.write_text(text.replace("matplotlib 3", "matplotlib 2").replace("<path", "<path "))
    assert findings(reference) == []
    picture.write_text(text.replace("<path", "<path "))
    assert len(findings(reference)) == 1


def test_a_commit_s_reference_can_be_compared(tmp_path: Path) -> None:
    import subprocess

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], cwd=tmp_path, check=True,
                       capture_output=True)

    results = tmp_path / "results"
    fill(results / "reference" / "demo", SKILLS)
    (results / "reference" / "demo" / "suite.json").write_text("{}")
    git("init", "-q")
    git("add", "-f", ".")
    git("commit", "-q", "-m", "x")
    shutil.rmtree(results / "reference" / "demo" / "cifar100")
    fill(results / "reference" / "demo", {"cifar100": 0.1})
    sides = [compare.load(compare.roots_of(what, results, tmp_path / "scratch")) for what in ("git:HEAD", "reference")]
    found = compare.compare(*sides)
    assert len(found.pairs) == 3 and [p.key[0] for p, _ in found.changed()] == ["cifar100"]
    with pytest.raises(FileNotFoundError, match="git:nothing"):
        compare.roots_of("git:nothing", results, tmp_path / "scratch")


def test_other_seeds_of_the_same_cells_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = tmp_path / "a"
    for seed, skill in enumerate((0.59, 0.60, 0.61)):
        fakes.scored(a, fakes.spec("cifar100", seed=seed), skill)
    b, c = tmp_path / "b", tmp_path / "c"
    for seed, skill in enumerate((0.60, 0.62, 0.61), 3):
        fakes.scored(b, fakes.spec("cifar100", seed=seed), skill)
        fakes.scored(c, fakes.spec("cifar100", seed=seed), skill - 0.3)
    assert run(a, b) == 0
    out = capsys.readouterr().out
    assert "1 cell on both sides with 3 runs a side" in out and "Only in" not in out and "one seed" not in out
    assert run(a, c) == 1
    assert "0,1,2 / 3,4,5" in capsys.readouterr().out


def test_a_verdict_on_one_seed_is_one_of_these_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fill(tmp_path / "a", SKILLS), fill(tmp_path / "b", {**SKILLS, "eurosat": 0.3})) == 1
    out = capsys.readouterr().out
    assert "these runs" in out and "no promise is made about a repetition" in out


def test_a_rerun_with_equal_answers_is_told_without_a_test(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = fill(tmp_path / "a", SKILLS, (0, 1)), fill(tmp_path / "b", SKILLS, (0, 1))
    monkeypatch.setattr(compare, "differences", lambda cells: [] if not cells else 1 / 0)
    assert run(a, b) == 0
    assert "the same, every answer of every run" in capsys.readouterr().out
