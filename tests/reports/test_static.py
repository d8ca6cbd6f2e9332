"""The static site: every link leads somewhere inside it, none leads out, and it tells what the tables tell."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from reports import cli, sheet, static
from results.store import path_of
from results.suites import Column, save_suite, suite_to_json
from tests.reports import browser, fakes
from tests.reports.conftest import Zoo

ROOT = Path(__file__).resolve().parents[2]


class _Page(HTMLParser):
    """What a page points at, and the names inside it that may be pointed at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.names |= {told["id"] or ""} if "id" in told else set()
        if tag == "a":
            self.links.append(told.get("href") or "")
        elif tag != "svg":
            self.loads += [told[key] or "" for key in ("href", "src") if key in told]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def site(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own runs, the same once more as a published suite, and as one that was received."""
    root = tmp_path_factory.mktemp("site")
    for home in (root / "reference" / zoo.suite.name, root / "received" / "0123456789abcdef"):
        shutil.copytree(zoo.records, home)
        (home / "suite.json").write_text(suite_to_json(zoo.suite), encoding="utf-8")
    words = ["site", "--out", str(root / "out"), "--records", str(zoo.records), "--suites", str(zoo.suites),
             "--reference", str(root / "reference"), "--received", str(root / "received")]
    assert cli.main(words) == 0
    before = {p: p.read_bytes() for p in (root / "out").rglob("*") if p.is_file()}
    shutil.rmtree(root / "out")
    assert cli.main(words) == 0
    assert before == {p: p.read_bytes() for p in (root / "out").rglob("*") if p.is_file()}, "equal records, equal bytes"
    return root / "out"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Page]:
    return {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_link_leads_to_a_page_of_the_site(site: Path, pages: dict[Path, _Page]) -> None:
    seen = 0
    for path, page in pages.items():
        for link in page.links:
            target, _, name = link.partition("#")
            found = (path.parent / target).resolve() if target else path
            assert found in pages, f"{path.relative_to(site)} links to {link!r}"
            assert not name or name in pages[found].names, f"{path.relative_to(site)} links to {link!r}"
            seen += 1
    assert seen > 1000


def test_nothing_is_loaded_from_elsewhere_and_all_pages_are_reached(site: Path, pages: dict[Path, _Page]) -> None:
    for path, page in pages.items():
        assert [load for load in page.loads if not (path.parent / load).is_file() and not load.startswith("#")] == []
    reached, todo = set(), [(site / "index.html").resolve()]
    while todo:
        path = todo.pop()
        if path not in reached:
            reached.add(path)
            todo += [(path.parent / link.partition("#")[0]).resolve() for link in pages[path].links if link[0] != "#"]
    assert reached == set(pages)


def test_there_is_a_page_for_each_suite_method_data_set_and_run(site: Path, zoo: Zoo) -> None:
    kinds = Counter(p.relative_to(site).parts[0] for p in site.rglob("*.html"))
    records = len(list(zoo.records.rglob("*.json")))
    assert kinds["suites"] == 3 and kinds["data"] == len(zoo.suite.columns)
    assert kinds["methods"] >= len(zoo.suite.rows)
    assert kinds["runs"] == 3 * records, "one for each record that a suite wants, wherever it came from"


def test_a_method_and_a_data_set_say_of_every_result_whether_its_data_is_real(site: Path) -> None:
    for page, kinds in (("methods/lora", {"CIFAR-100": "stand-in", "Digits": "real"}), ("data/dmlab", {"": "stand-in"}),
                        ("data/digits", {"": "real"})):
        text = (site / f"{page}.html").read_text(encoding="utf-8").partition("Every result")[2]
        place = re.findall(r'<th scope="col">(.*?)</th>', text).index("Data")
        lines = [re.findall(r"<(?:th|td)\b[^>]*>(.*?)</(?:th|td)>", line) for line in re.findall(r"<tr>.*?</tr>", text)]
        for title, kind in kinds.items():
            assert {line[place] for line in lines[1:] if title in line[1]} == {kind}, page


def test_a_method_has_its_card_its_results_and_where_it_is_pareto(site: Path) -> None:
    said = " ".join(_Page((site / "methods" / "lora.html").read_text(encoding="utf-8")).words)
    assert "LoRA: low-rank updates beside frozen linear layers." in said and "arXiv:2106.09685" in said
    assert "61.0 ± 1.0 (3)" in said and "CIFAR-100" in said and "seed 2" in said
    assert "Accuracy against trained parameters, head included, stand-in data" in said
    none = " ".join(_Page((site / "methods" / "chance.html").read_text(encoding="utf-8")).words)
    assert "In no picture" in none


def test_a_suite_s_page_leads_to_each_of_its_runs(site: Path, pages: dict[Path, _Page]) -> None:
    for origin, folder in (("own", "own"), ("received-01234567", "received-01234567")):
        (path,) = (p for p in pages if p.parent.name == "suites" and p.name.startswith(f"{origin}-"))
        found = {(path.parent / link).resolve() for link in pages[path].links if "/runs/" in link}
        assert found == {p.resolve() for p in (site / "runs" / folder).iterdir()}, origin


def test_methods_and_data_sets_say_the_pool_of_each_result(site: Path) -> None:
    for name in ("methods/lora.html", "data/cifar100.html"):
        assert "tuned for all sets" in " ".join(_Page((site / name).read_text(encoding="utf-8")).words)
    assert "adapts at test" in (site / "data" / "cifar100.html").read_text(encoding="utf-8")


def test_a_run_is_told_in_words(site: Path, zoo: Zoo) -> None:
    said = {}
    for entry in zoo.suite.entries:
        path = site / "runs" / "own" / f"{entry.run_id}.html"
        if entry.run_id and path.is_file() and entry.dataset == "cifar100" and entry.seed == 0:
            said[entry.method] = " ".join(_Page(path.read_text(encoding="utf-8")).words)
    assert "regatta_vit_48 was adapted by linear to generated stand-in images of cifar100" in said["linear"]
    assert "Top-1 on test 50.00 % of 200 images; 95 % interval over images 43.14 to 56.86 %" in said["linear"]
    assert "read once, in phase final" in said["linear"] and "4 epochs in batches of 32 by adamw" in said["linear"]
    assert "verdict" not in said["linear"], "own runs are not judged"
    assert "It ran out of memory." in said["oom"] and "it went oom" in said["oom"] and "at step 7" in said["oom"]
    assert "with changes that were not committed" in said["dirty"]
    assert "Its weights move while it reads test images (online)" in said["lora+tent"]


def test_what_was_received_says_what_its_check_found(site: Path) -> None:
    index = " ".join(_Page((site / "index.html").read_text(encoding="utf-8")).words)
    assert "received from elsewhere; not checked here: " in index
    (page,) = (site / "suites").glob("received-*.html")
    text = page.read_text(encoding="utf-8")
    assert '"verdict":"claimed"' in text and "claimed: numbers that nothing supports" in text
    (own,) = (site / "suites").glob("own-*.html")
    assert '"verdict":"own"' in own.read_text(encoding="utf-8") and '"verdict":"claimed"' not in own.read_text()
    run = next((site / "runs" / "received-01234567").iterdir()).read_text(encoding="utf-8")
    assert "verdict of this checkout" in run and "not checked here" in run


def test_too_many_runs_have_no_pages_and_the_index_says_so(zoo: Zoo, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "RUNS", 3)
    static.build(static.sources(zoo.records, zoo.suites, tmp_path, tmp_path), tmp_path / "out")
    assert not (tmp_path / "out" / "runs").exists()
    index = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert f"The runs of own-{zoo.suite.name} have no pages of their own: a site holds 3 at most." in index
    assert "runs/" not in (tmp_path / "out" / "methods" / "lora.html").read_text(encoding="utf-8")


def test_where_there_is_no_suite_a_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = [f"--{name}={tmp_path}" for name in ("records", "suites", "reference", "received")]
    assert cli.main(["site", "--out", str(tmp_path / "out"), *nowhere]) == 2
    assert "there is no suite file" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_names_of_files_are_plain_and_differ_where_methods_do() -> None:
    names = ["lora", "lora(rank=4)", "lora(rank=4)+pace", "LORA", "../../etc", "<script>", "é", "a" * 300]
    made = [sheet.slug(name) for name in names]
    assert len(set(map(str.lower, made))) == len(names) and made[0] == "lora"
    assert all(len(name) < 80 and name.isascii() and "/" not in name and name[0] not in ".-" for name in made)
    assert sheet.relative("runs/own/1.html", "index.html") == "../../index.html"
    link = sheet.Link("<script>", "a.html")
    assert "<script>" not in sheet.table("index.html", ("a", "<script>"), [("<script>", link)])


def test_the_workflows_commands_build_the_published_site(tmp_path: Path) -> None:
    told = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text(encoding="utf-8"))
    lines = [step["run"] for step in told["jobs"]["publish"]["steps"] if "run" in step]
    (upload,) = [step["with"]["path"] for step in told["jobs"]["publish"]["steps"] if "path" in step.get("with", {})]
    assert lines[0] == "make setup" and len(lines) == 2
    program, *words = shlex.split(lines[1])
    assert program == ".venv/bin/python"
    done = subprocess.run([sys.executable, *words, "--suite", "robust-tuned"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert "robust-tuned.html" in (tmp_path / upload / "index.html").read_text(encoding="utf-8")


def test_the_workflow_checks_each_pack_that_a_pull_request_adds(tmp_path: Path) -> None:
    told = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text(encoding="utf-8"))
    setup, find, check = [step["run"] for step in told["jobs"]["check"]["steps"] if "run" in step]
    assert setup == "make setup" and "submissions/*.zip" in told[True]["pull_request"]["paths"], "`on` is true in YAML"
    me = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]

    def shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-e", "-c", line.replace(".venv/bin/python", sys.executable)], cwd=tmp_path,
                              capture_output=True, text=True, timeout=300,
                              env=os.environ | {"PYTHONPATH": str(ROOT), "BASE": "base"})

    def commit(name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
        subprocess.run(["git", "add", name], cwd=tmp_path, check=True)
        subprocess.run(["git", *me, "commit", "-q", "-m", name], cwd=tmp_path, check=True)

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    commit("submissions/old.zip")
    subprocess.run(["git", "branch", "base"], cwd=tmp_path, check=True)
    commit("other.zip")
    assert shell(find).returncode == 0 and shell(check).returncode == 0, "nothing was added, nothing is checked"
    commit("submissions/no pack.zip")
    assert shell(find).returncode == 0 and (tmp_path / "packs").read_text() == "submissions/no pack.zip\0"
    done = shell(check)
    assert done.returncode != 0 and "refused: no pack.zip" in done.stdout and not done.stderr


def test_it_opens_from_a_disk_in_a_browser_with_its_style_and_fits_a_phone(site: Path, tmp_path: Path) -> None:
    browser.require()
    shown = browser.Browser(tmp_path / "profile", 1300, 1000)
    try:
        shown.send("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}})
        for name in ("index.html", "methods/lora.html", "data/cifar100.html",
                     str(next((site / "runs" / "own").iterdir()).relative_to(site))):
            shown.open(site / name)
            assert shown.run("return document.styleSheets.length") == 1
            assert shown.run("return getComputedStyle(document.body).getPropertyValue('--ink')"), "the style is read"
            assert shown.run("return document.documentElement.scrollWidth") <= 400, f"{name} is wider than a phone"
    finally:
        shown.close()


@pytest.mark.parametrize("broken", ["record", "suite", "verdicts"])
def test_what_cannot_be_read_of_a_pack_is_told_and_the_rest_is_built(broken: str, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    column = Column("digits", "Digits", "real", False, 10)
    specs = [fakes.spec("digits", method, data="real:digits") for method in ("linear", "lora")]
    pack = tmp_path / "received" / "0123456789abcdef"
    for root in (tmp_path / "runs", pack):
        for run in specs:
            fakes.store(root, fakes.record(run, 0.5))
    suite = fakes.suite(specs, (column,), ["linear", "lora"])
    save_suite(suite, tmp_path / "suites")
    (pack / "suite.json").write_text(suite_to_json(suite), encoding="utf-8")
    victim = path_of(specs[0], pack) if broken == "record" else pack / f"{broken}.json"
    if broken == "record":
        body = json.loads(victim.read_text())
        body["metrics"]["test.top1"] = float("nan")
        victim.write_text(json.dumps(body))
    else:
        victim.write_text("{")
    assert cli.main(["site", "--out", str(tmp_path / "out"), "--records", str(tmp_path / "runs"), "--suites",
                     str(tmp_path / "suites"), "--reference", str(tmp_path), "--received",
                     str(tmp_path / "received")]) == 1
    said = capsys.readouterr()
    assert "unreadable: received-01234567" in said.out and victim.name in said.out and not said.err
    assert (tmp_path / "out" / "runs" / "own" / f"{specs[0].id}.html").is_file()
    if broken == "record":
        assert (tmp_path / "out" / "runs" / "received-01234567" / f"{specs[1].id}.html").is_file()
        assert victim.name in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
