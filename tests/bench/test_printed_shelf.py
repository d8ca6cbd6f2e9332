"""What papers print beside the shelf: what it lacks, and the figures of what it has for VTAB-1k."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import cli
from bench.verbs.printed import known_as, missing, names_of, pieces, vtab_figures
from methods.catalog import catalog
from results.printed import PrintedTable, load_published


@pytest.mark.parametrize(("row", "names"), [
    ("Full fine-tuning", ["Full fine-tuning"]), ("Adapter+", ["Adapter+"]), ("+PACE (100 epochs)", ["PACE"]),
    ("LoRA_mul+VPT_add + PACE", ["LoRA_mul", "VPT_add", "PACE"]), ("Convpass [Swin-B]", ["Convpass"]),
    ("FacT-TK, as published", ["FacT-TK"]), ("lora/llama-3.2-3B-rank32", ["lora"]),
    ("trainable_tokens/llama-3.2-3B-sos+eos", ["trainable_tokens"]), ("MP-ISMoE+ (T5-base)", ["MP-ISMoE+"]),
    ("+PACE_fast 1/2 batch, 1/2 epochs", ["PACE_fast 1/2 batch"])])
def test_a_printed_row_names_its_methods(row: str, names: list[str]) -> None:
    assert pieces(row) == names


def test_a_variant_is_known_and_a_longer_name_is_not() -> None:
    names = names_of(catalog()["lora"]) | names_of(catalog()["pace"]) | names_of(catalog()["full"])
    assert all(known_as(n, names) for n in ("LoRA", "PACE_fast", "PACE_half_lazy N=2", "FT", "Fully-FT", "Vanilla FT"))
    assert not any(known_as(n, names) for n in ("LoRA-FA", "LoRand", "SPT-LoRA", "AdaLoRA"))


def _table(folder: Path, *methods: str) -> list[PrintedTable]:
    rows = [{"method": m, "params_m": 1.0, "values": {"cifar100": 50.0}, "printed": {}} for m in methods]
    table = {"name": "T", "benchmark": "vtab1k", "backbone": "ViT-B/16 (ImageNet-21k supervised)",
             "columns": ["cifar100"], "mean_convention": "unknown", "rows": rows, "source": "", "verified": ""}
    (folder / "a.json").write_text(json.dumps({"paper": "Made up: a test", "arxiv": "", "year": 2026, "venue": "",
                                               "tables": [table]}))
    return load_published(folder)


def test_missing_is_what_a_table_names_and_the_shelf_has_not(tmp_path: Path) -> None:
    tables = _table(tmp_path, "Full", "LoRA + PACE", "Frobnicator", "Frobnicator (again)", "Adapter + Gizmo", "Frozen")
    assert missing(tables) == [{"name": "Frobnicator", "about": "Made up (vtab1k)"},
                               {"name": "Gizmo", "about": "Made up (vtab1k)"}]


def test_the_committed_tables_name_methods_that_the_shelf_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "methods", "--missing"]) == 0
    told = capsys.readouterr().out.splitlines()
    names = [line.split("  ")[0] for line in told]
    assert {"NOAH", "Consolidator", "RLRR"} <= set(names) and not {"LoRA", "Full", "SSF", "DTL", "Frozen"} & set(names)
    assert names.index("NOAH") < names.index("loha"), "images first"
    assert not {n for n in names for p in catalog().values() if n == p.name}
    assert cli.main(["list", "adapters", "--missing"]) == 2
    assert capsys.readouterr().err.strip().endswith("--missing goes with methods, not with adapters")


def test_the_page_prints_each_figure_with_what_it_is_a_mean_of() -> None:
    lines = [tuple(c.strip() for c in line.strip("| ").split(" | ")) for line in vtab_figures()[2:]]
    by = {(cells[0].partition("]")[0][1:], cells[1], cells[6].partition(",")[0]): cells[2:5] for cells in lines}
    # As the files hold them, and as the README of results/published says that means are formed.
    assert by["full", "Full fine-tuning", "V-PETL Bench"] == ("65.57", "19 sets", "85.8")
    assert by["vpt_deep", "VPT", "Consolidator"][:2] == ("71.97", "3 groups")
    assert by["pace", "LoRA_mul+VPT_add + PACE", "PACE"][:2] == ("79", "3 groups")
    assert by["lora_mul_vpt_add", "LoRA_mul+VPT_add (baseline)", "PACE"][:2] == ("76.4", "3 groups")
    assert by["lora", "LoRA", "Neural Prompt Search"][:2] == ("74.5", "3 groups (stated)")  # its cells give 74.6
    assert ("adapter_plus", "Adapter+", "Adapters Strike Back") in by
    assert {name for name, _, _ in by} <= catalog().keys() and len(lines) >= 60
