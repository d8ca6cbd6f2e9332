"""Methods, data sets and suites from folders outside the checkout: named, known, hashed, copied, refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import cli, extra
from bench.dispatch import jobs, local, slurm, snapshot
from bench.planning.again import again
from bench.suites import SUITES, outside
from bench.verbs import skeletons
from datasets import registry
from methods.catalog import broken, broken_part, catalog
from methods.compose import create
from methods.grammar import MethodError, parse
from results import store, suites
from results.schema import from_json, to_json

ADAPTER = skeletons.text("adapter", "zz_mine", outside=True)
CARD = skeletons.text("dataset", "zz_slides", outside=True)
SUITE = '''"""A suite of one's own."""

from dataclasses import replace

from bench.suites.base import Suite, find, suite


@suite
def zz_quick() -> Suite:
    """Two methods on one set."""
    return replace(find("demo")(), name="zz-quick", datasets=("svhn",), methods=("linear", "zz_mine"))
'''
FORMER = "multiplies the vector"


def put(folder: Path, **files: str) -> Path:
    """adapters__zz_mine="..." -> folder/adapters/zz_mine.py."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/', 1)}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return put(tmp_path / "mine", adapters__zz_mine=ADAPTER, datasets__zz_slides=CARD, suites__quick=SUITE)


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No folder is named before, none stays known after."""
    monkeypatch.delenv(extra.VARIABLE, raising=False)
    yield
    outside.settle()
    assert extra.VARIABLE not in os.environ and "zz_mine" not in catalog() and "zz-quick" not in SUITES


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(words)
    told = capsys.readouterr()
    return status, told.out, told.err


def test_from_a_clean_folder_to_a_stale_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    """new, check-method, a cell by a worker, and an edit."""
    for name, place in (("RUNS", "results/runs"), ("CLAIMS", "results/claims"), ("CACHE", "cache")):
        monkeypatch.setattr(extra.checkout, name, tmp_path / place)
    monkeypatch.setattr(suites, "ROOT", tmp_path / "results")
    mine = tmp_path / "mine"
    status, out, err = said(capsys, "new", "adapter", "zz_mine", "--into", str(mine))
    assert status == 0 and "mine/adapters/zz_mine.py written" in out and f"--extra {mine}" in out, err
    status, out, err = said(capsys, "check-method", "zz_mine", "--extra", str(mine))
    assert status == 0 and "file mine/adapters/zz_mine.py" in out, out + err
    cell = ("--suite", "demo", "--datasets", "digits", "--methods", "zz_mine", "--epochs", "1", "--batch-size", "64",
            "--extra", str(mine))
    status, out, err = said(capsys, "run", *cell, "--no-report")
    assert status == 0 and "1 ok" in out, err
    (file,) = store.record_files(tmp_path / "results" / "runs")
    record = store.load(file)
    with extra.named(str(mine)):
        source = catalog()["zz_mine"].source_hash
    assert record.method.origin == {"zz_mine": f"mine {source[:12]}"} and str(tmp_path) not in file.read_text()
    assert "1 done, 0 missing" in said(capsys, "plan", *cell)[1]
    assert any("--extra" in word for word in again(record).told)
    path = mine / "adapters" / "zz_mine.py"
    path.write_text(path.read_text().replace(FORMER, "times the vector"))
    assert "0 done, 0 missing, 1 stale" in said(capsys, "plan", *cell)[1]


def test_all_kinds_are_listed_shown_and_planned(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--extra", str(mine))
    assert "zz_mine" in said(capsys, "list", "adapters", *more)[1]
    assert "zz-quick" in said(capsys, "--extra", str(mine), "list", "suites")[1], "before the command too"
    assert "zz_slides" in said(capsys, "list", "datasets", *more)[1]
    assert "d L" in said(capsys, "show", "zz_mine", *more)[1]
    status, out, err = said(capsys, "plan", "--suite", "zz-quick", "--datasets", "svhn", *more)
    assert status == 0 and "2 runs" in out, err
    assert "did you mean" in said(capsys, "show", "zz_mine")[2], "without the folder nobody knows it"


def test_the_variable_names_several_folders(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = put(tmp_path / "other", adapters__zz_two=ADAPTER.replace("zz_mine", "zz_two"))
    monkeypatch.setenv(extra.VARIABLE, os.pathsep.join((str(mine), str(other), str(mine), "")))
    assert {"zz_mine", "zz_two"} <= catalog().keys() and catalog()["zz_two"].folder == "other"
    assert not broken() and not registry.broken()
    monkeypatch.delenv(extra.VARIABLE)


@pytest.mark.parametrize(("made", "sentence"), [
    (None, "there is no such folder"), ("file", "is no folder"), ("empty", "holds none of adapters/"),
    ("same", "another folder is called"), ("checkout", "is of the checkout itself")])
def test_a_folder_that_cannot_be_is_one_sentence(made: str | None, sentence: str, tmp_path: Path, mine: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "twin" / "mine"
    if made == "file":
        put(tmp_path / "twin")
        place.parent.mkdir()
        place.write_text("")
    elif made:
        put(place, **({"adapters__zz_two": ""} if made == "same" else {}))
        place.mkdir(parents=True, exist_ok=True)
    asked = Path(extra.checkout.ROOT) if made == "checkout" else place
    status, out, err = said(capsys, "list", "adapters", "--extra", str(mine), "--extra", str(asked))
    assert status == 2 and not out and len(err.splitlines()) == 1 and sentence in err, err


@pytest.mark.parametrize(("word", "sentence"), [
    ("/", "--extra /: is the whole file system; name the folder that holds adapters/, regularizers/, constraints/, "
          "datasets/ or suites/"),
    ("", "--extra names no folder, its text is empty; give --extra DIR, or leave it out"), (" ", "names no folder")])
def test_a_word_that_names_no_folder_of_parts_is_one_sentence(word: str, sentence: str,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("list", "adapters", "--extra", word), ("--extra", word, "list", "adapters")):
        status, out, err = said(capsys, *words)
        assert status == 2 and not out and len(err.splitlines()) == 1 and sentence in err, err


def test_names_of_ours_are_refused_and_ours_stay(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(mine, adapters__lora=ADAPTER.replace('"zz_mine"', '"lora"'), suites__demo=SUITE.replace("zz_quick", "demo"),
        datasets__digits=CARD.replace('name="zz_slides"', 'name="digits"'))
    status, out, err = said(capsys, "plan", "--suite", "demo", "--datasets", "svhn", "--methods", "lora", "zz_mine",
                            "--extra", str(mine))
    assert status == 0 and "2 runs" in out
    lines = err.splitlines()
    assert len(lines) == 3 and all("everything else goes on" in line for line in lines), err
    assert "mine/adapters/lora.py cannot be used: 'lora' is a name of Regatta's own; take another one" in err
    assert "mine/datasets/digits.py cannot be used: 'digits' is registered twice" in err
    assert "mine/suites/demo.py cannot be used: 'demo' is the name of another suite" in err
    with extra.named(str(mine)):
        assert not catalog()["lora"].folder and not broken_part("lora") and registry.get("digits").group == "real"


@pytest.mark.parametrize(("text", "why"), [
    ("def f(:\n", "line 1: invalid syntax"), (ADAPTER.replace("methods.vit", "methods.vitt"), "no module methods.vitt"),
    (ADAPTER.replace("methods.base", ".base"), "there is no module .base; write from methods.base import"),
    (ADAPTER.replace('@part("zz_mine")', ""), "has no decorator"),
    (ADAPTER.replace("import freeze", "import freez"), "vit.py has no 'freez'")])
def test_a_broken_file_outside_is_told_as_one_inside(text: str, why: str, tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", adapters__zz_mine=text)
    with extra.named(str(mine)):
        assert [b.file for b in broken()] == ["mine/adapters/zz_mine.py"] and why in broken()[0].why, broken()[0].why
        assert "until mine/adapters/zz_mine.py is mended" in broken_part("zz_mine")


def test_a_card_that_asks_its_own_folder_for_ours_is_told_what_to_write(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine", datasets__zz_slides=CARD.replace("datasets.card", ".card"))
    with extra.named(str(mine)):
        assert "write from datasets.card import" in registry.broken()[0].why


def test_a_file_works_inside_and_outside_as_it_is_and_hashes_wherever_it_lies(tmp_path: Path) -> None:
    inside = skeletons.text("adapter", "zz_mine").replace("from ..vit", "from .zz_shared import NOTHING\nfrom ..vit")
    found = []
    for place in ("a", "b/c"):
        mine = put(tmp_path / place / "mine", adapters__zz_mine=inside, adapters__zz_shared='"""S."""\nNOTHING = 0\n')
        with extra.named(str(mine)):
            found.append(catalog()["zz_mine"].source_hash)
            made = create(parse("zz_mine"))
            assert type(made.adapter).__module__ == "methods.x_mine_adapters.zz_mine"
    assert found[0] == found[1]
    put(mine, adapters__zz_shared='"""S."""\nNOTHING = 1\n')
    with extra.named(str(mine)):
        assert catalog()["zz_mine"].source_hash != found[0], "what it builds on counts"


def test_what_it_takes_of_ours_counts_in_its_hash(tmp_path: Path) -> None:
    from methods.catalog import _sources

    mine = put(tmp_path / "mine", adapters__zz_mine=ADAPTER)
    with extra.named(str(mine)):
        names = [path.name for path in _sources(mine / "adapters" / "zz_mine.py")]
    assert names[-1] == "zz_mine.py" and {"insertion.py", "vit.py"} <= set(names) and "base.py" not in names


def test_a_snapshot_holds_the_folder_and_a_job_is_pointed_at_it(mine: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    put(root, bench__a="A = 1\n")
    (mine / "adapters" / "__pycache__").mkdir()
    (mine / "adapters" / "__pycache__" / "x.pyc").write_text("")
    (mine / "big.bin").write_text("data that belongs to no part")
    plain = snapshot.make(root, tmp_path / "snapshots")
    with extra.named(str(mine)):
        first = snapshot.make(root, tmp_path / "snapshots")
        array = jobs.Array(0, "a", jobs.Resources(), (("0" * 12,),))
        lines = slurm.parameters(array, first.folder, 1)["setup"]
        put(mine, adapters__zz_mine=ADAPTER.replace(FORMER, "x"))
        assert snapshot.make(root, tmp_path / "snapshots").hash != first.hash
        with slurm._detached(first.folder, tmp_path / "log"):
            named = os.environ[extra.VARIABLE]
        with extra.named(named):
            assert catalog()["zz_mine"].path.read_text() != (mine / "adapters" / "zz_mine.py").read_text()
    copies = sorted(p.relative_to(first.folder / ".extra").as_posix()
                    for p in (first.folder / ".extra").rglob("*") if p.is_file())
    assert copies == ["mine/adapters/zz_mine.py", "mine/datasets/zz_slides.py", "mine/suites/quick.py"]
    assert named == str(first.folder / ".extra" / "mine") and f"export {extra.VARIABLE}={named}" in lines
    assert plain.hash != first.hash and not (plain.folder / ".extra").exists()
    assert f"unset {extra.VARIABLE}" in slurm.parameters(array, plain.folder, 1)["setup"]


def test_a_submission_remembers_its_folders_for_retry(mine: Path, tmp_path: Path) -> None:
    roots = jobs.Roots(tmp_path, tmp_path, tmp_path)
    with extra.named(str(mine)):
        made = jobs.create(tmp_path / "jobs", "demo", "local", "0", [], [], roots)
    assert jobs.read(made.folder).extra == (str(mine.resolve()),)
    plain = jobs.create(tmp_path / "jobs", "demo", "local", "0", [], [], roots)
    body = json.loads((plain.folder / "submission.json").read_text())
    del body["extra"]  # as ledgers before it
    (plain.folder / "submission.json").write_text(json.dumps(body))
    assert jobs.read(plain.folder).extra == ()


def test_a_fork_server_that_knows_other_folders_is_ended(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(local.forkserver, "_forkserver", SimpleNamespace(_stop=lambda: ended.append(1)))
    monkeypatch.setattr(local, "_served", [""])
    local._renew_server()
    with extra.named(str(mine)):
        local._renew_server()
        local._renew_server()
    local._renew_server()
    assert len(ended) == 2


def test_a_card_outside_says_in_the_record_where_it_came_from(mine: Path) -> None:
    from tests.reports import fakes

    with extra.named(str(mine)):
        origin = registry.origin("zz_slides")
    assert origin.startswith("mine ") and len(origin) == len("mine ") + 12
    assert registry.origin("digits") == "" == registry.origin("zz_slides")
    plain = fakes.record(fakes.spec(), 0.5)
    text = to_json(plain)
    assert '"origin"' not in text, "records of ours stay as they are"
    assert from_json(text) == plain


def test_docs_name_nothing_from_outside(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(extra.VARIABLE, str(mine))
    assert cli.main(["docs", "--check"]) == 0
    monkeypatch.delenv(extra.VARIABLE)


@pytest.mark.parametrize(("into", "sentence"), [("methods", "is of the checkout itself"), ("FILE", "is no folder")])
def test_new_refuses_where_it_cannot_write(into: str, sentence: str, tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "FILE").write_text("")
    place = extra.checkout.ROOT / "methods" if into == "methods" else tmp_path / into
    status, _, err = said(capsys, "new", "adapter", "zz_mine", "--into", str(place))
    assert status == 2 and sentence in err


def test_new_makes_the_first_part_of_a_folder_that_the_variable_names_already(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(extra.VARIABLE, str(tmp_path / "mine"))
    for name in ("zz_one", "zz_two"):
        assert said(capsys, "new", "regularizer", name, "--into", str(tmp_path / "mine"))[0] == 0
    status, _, err = said(capsys, "new", "constraint", "zz_one", "--into", str(tmp_path / "mine"))
    assert status == 2 and "'zz_one' is taken" in err
    monkeypatch.delenv(extra.VARIABLE)


def test_pipes_and_links_to_themselves_are_told_and_the_others_go_on(mine: Path, capsys: pytest.CaptureFixture[str],
                                                                      ) -> None:
    for kind in ("adapters", "datasets", "suites"):
        os.mkfifo(mine / kind / "zz_pipe.py")
        (mine / kind / "zz_loop.py").symlink_to("zz_loop.py")
    status, out, err = said(capsys, "list", "adapters", "--extra", str(mine))
    assert status == 0 and "zz_mine" in out
    assert "mine/adapters/zz_pipe.py cannot be used: it is no plain file" in err
    assert "mine/adapters/zz_loop.py cannot be used: Too many levels of symbolic links" in err
    assert said(capsys, "list", "datasets", "--extra", str(mine))[0] == 0
    assert said(capsys, "list", "suites", "--extra", str(mine))[0] == 0


@pytest.mark.parametrize("end", ["import sys\nsys.exit(0)", "import os\nos._exit(0)", "from os import _exit\n_exit(3)"])
def test_a_file_that_ends_the_program_is_told_as_any_other_fault(end: str, mine: Path,
                                                                 capsys: pytest.CaptureFixture[str]) -> None:
    for kind, name in (("adapters", "zz_mine"), ("datasets", "zz_slides"), ("suites", "quick")):
        with (mine / kind / f"{name}.py").open("a") as file:
            file.write(f"\n{end}\n")
    with extra.named(str(mine)), pytest.raises(MethodError, match=r"mine/adapters/zz_mine.py is mended: .*ends the"):
        create(parse("zz_mine"))
    for kind in ("datasets", "suites"):
        status, out, err = said(capsys, "list", kind, "--extra", str(mine))
        assert status == 0 and "SystemExit" in err and ("svhn" in out or kind == "suites")


def test_a_folder_that_is_a_link_to_itself_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "round").symlink_to("round")
    status, _, err = said(capsys, "list", "adapters", "--extra", str(tmp_path / "round"))
    assert status == 2 and "there is no such folder" in err
