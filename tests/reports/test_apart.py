"""A cell is one data identity and one weights identity; others stand apart with a note, and partial data are marked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reports.apart import apart, identities
from reports.cells import Grid, grid
from reports.pairs import Predictions
from reports.world import World, worlds
from results.index import read
from results.suites import Column, SuiteView
from tests.reports import fakes
from tests.reports.test_kinds import made
from tests.reports.test_leaderboard import table

SVHN = Column("svhn", "Street View House Numbers", "natural", False, 10)
SETS = (SVHN, Column("dtd", "Textures", "natural", False, 10))
Runs = list[tuple[str, str, int, dict[str, object]]]
DETAIL = "#### Accuracy, Natural (real data"


def suite(root: Path, runs: Runs, columns: tuple[Column, ...] = (SVHN,),
          skill: float = 0.5) -> SuiteView:
    """Runs as (method, data set, seed, what differs in the spec, or `content`)."""
    specs = []
    for method, dataset, seed, given in runs:
        changes = {"data": f"lists:{dataset}", **given}
        content = str(changes.pop("content", "cd"))
        run = fakes.spec(dataset, method, seed, **changes)
        result = fakes.scored(root / "runs", run, skill + 0.02 * seed)
        assert result.dataset is not None
        fakes.store(root / "runs", replace(result, dataset=replace(result.dataset, content_hash=content)))
        specs.append(run)
    return fakes.suite(specs, columns, list(dict.fromkeys(m for m, *_ in runs)), reference="linear")


def grid_of(root: Path, view: SuiteView) -> Grid:
    records = read(root / "runs", index=False)
    return grid(view, records, records.by_run())


def world_of(root: Path, view: SuiteView) -> World:
    found = grid_of(root, view)
    (world,) = worlds(found, Predictions(found.records))
    return world


def shown(found: Grid) -> dict[tuple[str, str], tuple[tuple[int, ...], int]]:
    """(method, backbone without its name) -> (seeds with a number, seeds wanted)."""
    return {(r.method, r.backbone.removeprefix(fakes.BACKBONE).strip()): (found.cell(r, SVHN).seeds,
                                                                          found.cell(r, SVHN).wanted)
            for r in found.suite.rows}


OTHER: list[tuple[str, dict[str, object]]] = [
    ("data", {"data": "lists:other"}), ("data", {"content": "another"}), ("data", {"data": "partial:svhn"}),
    ("weights", {"weights": "bb"}),
]


@pytest.mark.parametrize("kind, changes", OTHER, ids=["lists", "pixels", "partial", "weights"])
def test_seeds_split_over_two_identities_are_no_mean(kind: str, changes: dict[str, object], tmp_path: Path) -> None:
    runs: Runs = [
        ("linear", "svhn", s, {}) for s in (0, 1, 2)] + [
        ("lora", "svhn", 0, {}), ("lora", "svhn", 1, {}), ("lora", "svhn", 2, changes)]
    view = suite(tmp_path, runs)
    found = grid_of(tmp_path, view)
    assert shown(found) == {("linear", ""): ((0, 1, 2), 3), ("lora", ""): ((0, 1), 3),
                            ("lora", f"[other {kind}]"): ((2,), 3)}
    page = (made(tmp_path, view) / "LEADERBOARD.md").read_text()
    page = page.replace("\\", "")
    assert f"lora: stands apart, its runs {'of svhn' if kind == 'data' else 'on ' + fakes.BACKBONE}" in page
    assert str(changes.get("data", changes.get("weights", "pixels another"))) in page


def test_complete_rows_on_other_data_are_not_ranked_with_the_rest(tmp_path: Path) -> None:
    runs: Runs = [(m, "svhn", s, {}) for m in ("linear", "lora") for s in (0, 1)]
    same = world_of(tmp_path / "same", suite(tmp_path / "same", [*runs, ("adapter", "svhn", 0, {}),
                                                                 ("adapter", "svhn", 1, {})]))
    assert {m for m, _ in same.ranked} == {"linear", "lora", "adapter"}
    other = {"data": "lists:other"}
    world = world_of(tmp_path, suite(tmp_path, [*runs, ("adapter", "svhn", 0, other), ("adapter", "svhn", 1, other)]))
    assert {m for m, _ in world.ranked} == {"linear", "lora"}
    assert [r.method for r in world.rows] == ["linear", "lora", "adapter"], "no row of gaps beside the one apart"
    assert world.rows[-1].backbone.endswith("[other data]") and world.grid.complete(world.rows[-1], [SVHN])
    assert not any(m == "adapter" for m, _ in world.against)


def test_rows_that_keep_their_name_are_not_ranked_over_different_columns_data(tmp_path: Path) -> None:
    """The protocol of a row holds its data: whoever fills its cells."""
    a = suite(tmp_path, [("linear", "svhn", 0, {}), ("lora", "svhn", 0, {})])
    found = grid_of(tmp_path, a)
    one, two = found.suite.rows
    assert found.protocol(one, [SVHN]) == found.protocol(two, [SVHN])
    names = [n if r != found.cell(two, SVHN).runs[0] else "lists:else" for r, n in enumerate(found.identities)]
    assert replace(found, identities=names).alike(one, two, [SVHN]) is False


def test_one_identity_leaves_the_very_suite(tmp_path: Path) -> None:
    view = suite(tmp_path, [("linear", d, s, {}) for d in ("svhn", "dtd") for s in (0, 1)] + [
        ("lora", "svhn", 0, {"augment": "crop_flip", "content": ""})], SETS)
    records = read(tmp_path / "runs", index=False)
    assert apart(view, records, records.by_run(), identities(records)) is view


def test_whole_data_keep_the_row_also_where_partial_runs_are_more(tmp_path: Path) -> None:
    partial = {"data": "partial:svhn"}
    found = grid_of(tmp_path, suite(tmp_path, [("lora", "svhn", 0, {}), ("lora", "svhn", 1, partial),
                                               ("lora", "svhn", 2, partial)]))
    assert shown(found) == {("lora", ""): ((0,), 3), ("lora", "[other data]"): ((1, 2), 3)}


def test_three_identities_are_three_rows(tmp_path: Path) -> None:
    found = grid_of(tmp_path, suite(tmp_path, [("lora", "svhn", 0, {}), ("lora", "svhn", 1, {"data": "lists:t"}),
                                               ("lora", "svhn", 2, {"data": "lists:u", "weights": "bb"})]))
    assert sorted(len(seeds) for seeds, _ in shown(found).values()) == [1, 1, 1]


def test_partial_data_are_marked_in_cell_row_title_caption_and_files(tmp_path: Path) -> None:
    runs: Runs = [
        (m, d, 0, {"data": "partial:svhn"} if d == "svhn" else {}) for m in ("linear", "lora") for d in ("svhn", "dtd")]
    out = made(tmp_path, suite(tmp_path, runs, SETS))
    page = (out / "LEADERBOARD.md").read_text()
    title = "real data; PARTIAL DATA of Street View House Numbers, not all that there is"
    assert page.count(title) >= 2 and "protocol" in page
    cells = {method.partition(" ")[0].strip("`"): row for method, row in table(page, DETAIL).items()}
    assert cells["lora"]["Street View House Numbers"].endswith("¶") and "¶" not in cells["lora"]["Textures"]
    assert page.count("(partial data)") >= 4 and "¶: PARTIAL DATA" in page
    captions = [line for line in page.splitlines() if line.startswith("Top-1 accuracy in percent;")]
    assert captions and all("PARTIAL DATA of Street View House Numbers" in line for line in captions)
    assert "PARTIAL DATA" in (out / "site" / "demo-real-accuracy.tex").read_text()
    assert "broken" in (out / "site" / "demo-real-accuracy-natural.csv").read_text()
    assert "PARTIAL DATA" in (out / "site" / "demo.html").read_text()
