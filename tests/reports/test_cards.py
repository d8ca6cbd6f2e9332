"""What a method is, in lines: told by the suite's file, and by docs/methods.md for files that lack it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bench.planning.about import about
from reports import told
from reports.cards import DOCS, cards_for, cards_of, parts_of
from reports.cells import grid
from reports.kept import records_hash
from reports.pairs import Predictions
from reports.world import World, worlds
from results.columns import Columns
from results.index import read
from results.published import PrintedRow, load_published
from results.suites import suite_from_json, suite_to_json
from tests.reports import fakes
from tests.reports.conftest import COLUMNS

LINES = ("LoRA: low-rank updates beside frozen linear layers.", "Paper: Hu et al., ICLR 2022, arXiv:2106.09685.")


def test_the_suite_s_lines_are_the_part_s_docstring_paper_and_options() -> None:
    found = about(["lora(rank=4)+pace", "linear"])
    assert list(found) == ["linear", "lora", "pace"] and found["lora"][:2] == LINES
    assert "Option rank = 8 (int >= 1): rank of each update" in found["lora"]
    assert "Merges into the backbone." in found["lora"] and "No paper: ours." in found["linear"]
    assert any(line.startswith("Ours, not the paper's: ") for line in found["pace"])
    assert about(["no_such_part", "lora"]).keys() == {"lora"}, "a row of a part that is gone keeps its place"


def test_the_page_of_methods_says_the_same_of_options() -> None:
    for part, lines in about(["lora+pace", "adapter_pfeiffer+tpgm"]).items():
        page = cards_of(DOCS)[part]
        assert [line for line in page if line.startswith("Option ")] == [line for line in lines if
                                                                        line.startswith("Option ")], part
        assert any("arXiv:" in line for line in page)


def test_a_file_without_lines_is_read_and_written_as_before_and_they_move_no_hash() -> None:
    plain = fakes.suite([fakes.spec()], COLUMNS, ["lora"])
    text = suite_to_json(plain)
    assert "about" not in json.loads(text) and suite_from_json(text) == plain
    told_of = replace(plain, about={"lora": LINES})
    assert suite_from_json(suite_to_json(told_of)) == told_of
    assert records_hash(plain, Columns(Path(), {}, {}), {}) == records_hash(told_of, Columns(Path(), {}, {}), {})
    assert cards_for(told_of) == {"lora": LINES} and cards_for(plain) is cards_of(DOCS)


def test_parts_of_a_method_are_named_without_their_options() -> None:
    assert parts_of("lora(targets='q+v', rank=4)+pace+tpgm(proj_every=2)") == ["lora", "pace", "tpgm"]


def world_of(root: Path) -> World:
    specs = [fakes.spec(column.name, "lora", data=f"standin:{column.name}") for column in COLUMNS[:3]]
    for run in specs:
        fakes.scored(root, run, 0.6)
    records = read(root, index=False)
    predictions = Predictions(records)
    (world,) = worlds(grid(fakes.suite(specs, COLUMNS[:3], ["lora"], about={"lora": LINES}), records, records.by_run(),
                           predictions.luck), predictions)
    return world


def test_a_row_tells_its_parts_and_what_papers_print_of_it(tmp_path: Path) -> None:
    papers = load_published()
    said = told.about(world_of(tmp_path), papers)
    ((parts, sections),) = said["rows"]
    assert said["parts"] == {"lora": list(LINES)} and parts == ["lora"]
    printed = dict(sections)["Printed in papers"]
    wanted = [row for table in papers for row in table.rows if is_lora(row)]
    assert len(printed) == len(wanted) > 3
    assert "PACE 2024, Table 1 (vtab1k), ViT-B/16 (ImageNet-21k supervised): mean 74.5" in printed


def is_lora(row: PrintedRow) -> bool:
    return row.method.lower() == "lora" and bool(row.printed)
