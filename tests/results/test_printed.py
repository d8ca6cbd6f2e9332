"""Files of printed numbers: each way of forming a mean is followed, each slip in a file is named.

The tables are made up in the shape of papers' tables. Means stand as literals, worked out beside each table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from results.published import TOLERANCE, Finding, convention, findings, load_published, means, plain, strangers
from results.schema import RecordError

BACKBONE = "ViT-B/16 (ImageNet-21k supervised)"
GROUPS = ["natural", "specialized", "structured"]
ROWS = {"a": [80.0, 85.0, 60.0], "b": [78.0, 84.0, 58.0], "c": [70.0, 80.0, 50.0]}  # by task 72.63, 70.84, 63.68


def put(tmp_path: Path, table: dict[str, Any], **file: Any) -> Path:
    body = {"paper": "Made up", "arxiv": "1", "year": 2030, "venue": "x", "tables": [{
        "name": "T", "benchmark": "other", "backbone": BACKBONE, "mean_convention": "other", "source": "s",
        "verified": "yes", **table}], **file}
    (tmp_path / "made.json").write_text(json.dumps(body))
    return tmp_path


def rows(columns: list[str], cells: dict[str, list[float]], printed: dict[str, Any]) -> dict[str, Any]:
    return {"columns": columns, "rows": [
        {"method": m, "params_m": 1.0, "values": dict(zip(columns, v, strict=True)),
         "printed": printed[m] if isinstance(printed[m], dict) else {"mean": printed[m]}} for m, v in cells.items()]}


def accused(folder: Path) -> list[str]:
    return [f.method for f in findings(load_published(folder)) if f.kind in ("mean", "group")]


def found(folder: Path) -> list[Finding]:
    return findings(load_published(folder))


TASKS = {"Cifar": 70.0, "Caltech101": 90.0, "DTD": 70.0, "Flowers102": 99.0, "Pets": 90.0, "SVHN": 90.0, "Sun397": 51.0,
         "Camelyon": 85.0, "EuroSAT": 95.0, "Resisc45": 85.0, "Retinopathy": 75.0, "Clevr-Count": 80.0,
         "Clevr-Dist": 60.0, "DMLab": 50.0, "KITTI-Dist": 80.0, "dSpr-Loc": 80.0, "dSpr-Ori": 50.0,
         "sNORB-Azim": 30.0, "sNORB-Ele": 40.0}  # natural 80, specialized 85, structured 58.75; over tasks 72.105
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # table, right means, wrong means
    "groups weighed by their tasks": (
        {"benchmark": "vtab1k-groups", "group_weights": {"natural": 7, "specialized": 4, "structured": 8}},
        {"a": 72.6, "b": 70.8, "c": 63.7}, {"a": 75.0, "b": 70.8, "c": 63.7}),
    "weights as a list": (
        {"benchmark": "vtab1k-groups", "group_weights": [7, 4, 8]},
        {"a": 72.6, "b": 70.8, "c": 63.7}, {"a": 72.9, "b": 70.8, "c": 63.7}),
    "weights as shares": (
        {"benchmark": "vtab1k-groups", "group_weights": {"natural": 0.368, "specialized": 0.211, "structured": 0.421}},
        {"a": 72.6, "b": 70.8, "c": 63.7}, {"a": 75.0, "b": 73.3, "c": 66.7}),
    "weights against a declared group3": (
        {"benchmark": "vtab1k-groups", "group_weights": [7, 4, 8], "mean_convention": "group3"},
        {"a": 72.6, "b": 70.8, "c": 63.7}, {"a": 73.4, "b": 70.8, "c": 63.7}),
    "weights that are neither": (
        {"benchmark": "vtab1k-groups", "group_weights": {"natural": 2, "specialized": 1, "structured": 1}},
        {"a": 76.25, "b": 74.5, "c": 67.5}, {"a": 76.25, "b": 74.5, "c": 66.7}),
    "groups and mean19 said": (
        {"benchmark": "vtab1k-groups", "mean_convention": "mean19"},
        {"a": 72.6, "b": 70.8, "c": 63.7}, {"a": 75.0, "b": 73.3, "c": 66.7}),
    "groups and group3 said": (
        {"benchmark": "vtab1k-groups", "mean_convention": "group3"},
        {"a": 75.0, "b": 73.3, "c": 66.7}, {"a": 72.6, "b": 70.8, "c": 63.7}),
    "groups and nothing said": (
        {"benchmark": "vtab1k-groups"}, {"a": 75.0, "b": 73.3, "c": 66.7}, {"a": 74.0, "b": 73.3, "c": 66.7}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mean_of_group_columns_follows_what_the_file_says_of_their_weights(shape: str, tmp_path: Path) -> None:
    table, right, wrong = SHAPES[shape]
    assert accused(put(tmp_path, {**table, **rows(GROUPS, ROWS, right)})) == []
    assert accused(put(tmp_path, {**table, **rows(GROUPS, ROWS, wrong)})) == [m for m in right if right[m] != wrong[m]]


UNLIKE = ["sst2", "mrpc", "memory_gb", "train_minutes", "glue_ppt", "rsum"]
COSTS = {"a": [90.0, 80.0, 17.6, 40.0, 0.8, 546.6], "b": [92.0, 88.0, 5.5, 80.0, 0.9, 537.4],
         "c": [60.0, 51.0, 7.1, 20.0, 0.4, 300.0]}  # means of the first two: 85, 90, 55.5


def test_only_columns_of_one_unit_are_averaged(tmp_path: Path) -> None:
    assert accused(put(tmp_path, rows(UNLIKE, COSTS, {"a": 85.0, "b": 90.0, "c": 55.5}))) == []
    assert accused(put(tmp_path, rows(UNLIKE, COSTS, {"a": 85.0, "b": 90.5, "c": 55.5}))) == ["b"]


def test_units_that_the_file_gives_come_before_those_of_the_names(tmp_path: Path) -> None:
    columns = ["sst2", "mrpc", "price"]
    cells = {"a": [90.0, 80.0, 7.0], "b": [92.0, 88.0, 60.0]}
    units = {"units": {"price": "dollars", "sst2": "percent", "mrpc": "%"}}
    assert accused(put(tmp_path, {**rows(columns, cells, {"a": 85.0, "b": 90.0}), **units})) == []
    assert accused(put(tmp_path, {**rows(columns, cells, {"a": 85.0, "b": 89.0}), **units})) == ["b"]
    assert accused(put(tmp_path, {**rows(columns, cells, {"a": 85.0, "b": 90.0})})) == ["a", "b"]


def test_a_column_of_no_known_name_with_other_sizes_is_not_averaged_with_percentages(tmp_path: Path) -> None:
    columns = ["sst2", "mrpc", "joules", "dust"]
    cells = {"a": [90.0, 80.0, 700.0, 0.3], "b": [92.0, 88.0, 6000.0, 0.9], "c": [60.0, 51.0, 90.0, 0.1]}
    assert accused(put(tmp_path, rows(columns, cells, {"a": 85.0, "b": 90.0, "c": 55.5}))) == []
    assert accused(put(tmp_path, rows(columns, cells, {"a": 85.0, "b": 90.0, "c": 56.5}))) == ["c"]


@pytest.mark.parametrize(("says", "mean"), [("group3", 74.6), ("mean19", 72.1)])
def test_a_vtab_table_may_use_any_of_the_field_s_names_for_its_tasks(says: str, mean: float, tmp_path: Path) -> None:
    for printed, wrong in ((mean, []), (mean + 0.3, ["a"])):
        table = rows(list(TASKS), {"a": list(TASKS.values())}, {"a": printed})
        put(tmp_path, {**table, "benchmark": "VTAB-1k", "mean_convention": says})
        assert accused(tmp_path) == wrong
    (read,) = load_published(tmp_path)
    assert read.benchmark == "vtab1k" and strangers([read]) == []
    assert "patch_camelyon" in read.columns and read.written["patch_camelyon"] == "Camelyon"


def test_a_vtab_task_of_unknown_name_is_named_and_its_table_s_means_are_not_judged(tmp_path: Path) -> None:
    cells = {("Cifra" if c == "Cifar" else c): v for c, v in TASKS.items()}
    folder = put(tmp_path, {**rows(list(cells), {"a": list(cells.values())}, {"a": 74.6}), "benchmark": "vtab1k"})
    assert accused(folder) == []
    assert [f.text for f in found(folder) if f.kind == "column"] == \
        ["'Cifra' is no column of vtab1k; did you mean 'cifar100'?"]


SHIFT = ["imagenet", "imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"]
SHIFTED = {"a": [80.0, 70.0, 40.0, 30.0, 50.0], "b": [82.0, 72.0, 42.0, 20.0, 46.0]}  # ood 47.5, 45.0; all 54.0, 52.4


@pytest.mark.parametrize("over", [None, SHIFT[1:]])
def test_a_mean_out_of_distribution_is_taken_over_its_own_columns(over: list[str] | None, tmp_path: Path) -> None:
    extra = {"benchmark": "imagenet-shift", "mean_over": SHIFT} | ({"ood_over": over} if over else {})
    right = {"a": {"mean": 54.0, "ood": 47.5}, "b": {"mean": 52.4, "ood": 45.0}}
    wrong = {"a": {"mean": 54.0, "ood": 47.5}, "b": {"mean": 52.4, "ood": 46.5}}
    assert accused(put(tmp_path, {**extra, **rows(SHIFT, SHIFTED, right)})) == []
    assert accused(put(tmp_path, {**extra, **rows(SHIFT, SHIFTED, wrong)})) == ["b"]
    again = {"a": {"avg": 54.0, "OOD avg": 47.5}, "b": {"Average": 54.0, "mean_ood": 45.0}}
    assert accused(put(tmp_path, {**extra, **rows(SHIFT, SHIFTED, again)})) == ["b"]


def test_a_printed_number_of_unknown_meaning_is_no_mean(tmp_path: Path) -> None:
    table = rows(SHIFT, SHIFTED, {"a": {"mean": 54.0, "harmonic": 1.0}, "b": {"mean": 52.4, "rank": 2}})
    assert accused(put(tmp_path, {"benchmark": "imagenet-shift", **table})) == []


def test_means_that_follow_nothing_known_are_one_question_and_no_accusation_of_each_row(tmp_path: Path) -> None:
    cells = {m: [90.0 - i, 80.0 + i] for i, m in enumerate("abcde")}
    table = rows(["x_acc", "y_acc"], cells, dict.fromkeys("abcde", 71.0))
    assert [(f.kind, f.method) for f in found(put(tmp_path, table))] == [("convention", "")]
    assert accused(put(tmp_path, {**table, "mean_over": ["x_acc", "y_acc"]})) == list("abcde")


def test_what_a_file_says_against_its_own_numbers_is_told(tmp_path: Path) -> None:
    table = rows(GROUPS, ROWS, {"a": 75.0, "b": 73.3, "c": 66.7})
    table["rows"][1]["suspect"] = "read off a figure"
    table["rows"][2]["suspect"] = ["natural"]
    folder = put(tmp_path, {**table, "kind": "best epoch on the test set", "notes": "300 epochs", "suspect": True})
    words = [(f.method, f.text) for f in found(folder)]
    assert words == [("", "the file says: best epoch on the test set; marked suspect"),
                     ("b", "the file says: suspect: read off a figure"), ("c", "the file says: suspect: natural")]
    (read,) = load_published(folder)
    assert read.notes == "300 epochs" and read.kind == "best epoch on the test set"


def test_a_trade_off_that_its_mean_and_parameters_do_not_give_is_found(tmp_path: Path) -> None:
    table = rows(GROUPS, ROWS, {"a": 75.0, "b": 73.3, "c": 66.7})
    table["rows"][0]["ppt"] = 0.72  # 0.75 * exp(-log10(1.1)) = 0.75 * 0.95944 = 0.7196
    table["rows"][1]["ppt"] = 0.73  # 0.733 * 0.95944 = 0.7033
    table["rows"][2]["ppt"] = None
    assert [(f.method, f.kind) for f in found(put(tmp_path, table))] == [("b", "ppt")]


def test_a_method_that_stands_twice_with_two_numbers_is_found(tmp_path: Path) -> None:
    table = rows(GROUPS, ROWS, {"a": 75.0, "b": 73.3, "c": 66.7})
    table["rows"][2]["method"] = "A"
    assert [f.text for f in found(put(tmp_path, table))] == ["stands twice: natural is 80 and 70"]
    table["rows"][2]["params_m"] = 9.0  # another size of it is another row
    assert found(put(tmp_path, table)) == []


def test_a_plus_behind_a_name_is_part_of_it_and_one_between_names_is_not() -> None:
    assert len({plain(n) for n in ("Adapter", "Adapter+", "Adapter++")}) == 3
    assert plain("Adapter+ + PACE") == plain("adapter_plus+pace") != plain("Adapter + PACE")
    assert plain("LoRA+ (rank 8)") != plain("LoRA (rank 8)") == plain("lora+(rank 8)").replace("plus", "")
    assert plain("Adapter + PACE") == plain("adapter+pace")


def test_a_single_share_among_percentages_and_a_cell_beyond_them_are_found(tmp_path: Path) -> None:
    cells = {"a": [80.0, 85.0, 60.0], "b": [0.78, 84.0, 58.0], "c": [70.0, 227.9, 50.0], "d": [70.0, 80.0, -1.0]}
    table = rows(GROUPS, cells, {m: {} for m in cells})
    table["columns"] = columns = ["sst2", "mrpc", "cola"]
    for row, values in zip(table["rows"], cells.values(), strict=True):
        row["values"] = dict(zip(columns, values, strict=True))
    assert [(f.method, f.text) for f in found(put(tmp_path, {**table, "benchmark": "glue"}))] == [
        ("b", "sst2 is 0.78, which looks like a share: the other rows hold 70 to 80"),
        ("c", "mrpc is 227.9, which is no percentage")]  # Matthews' correlation of cola may be negative


def cells_of(**row: Any) -> dict[str, Any]:
    return {"columns": ["sst2", "mrpc", "cola"], "rows": [
        {"method": "a", "params_m": 1.0, "values": {"sst2": 90.0, "mrpc": 80.0, "cola": 60.0}, "printed": {}, **row}]}


@pytest.mark.parametrize(("table", "words"), [
    (cells_of(values={"sst2": 0.9, "mrpc": 0.8, "cola": 0.6}), "its 3 cells are shares from 0 to 1"),
    (cells_of(params_m="0.3M"), r"rows\[0\]: field 'params_m' has the value '0.3M', which is no number"),
    (cells_of(ppt=[1]), r"field 'ppt' has the value \[1\]"),
    (cells_of(note={"a": 1}), "field 'note' must be words, not {'a': 1}"),
    (cells_of(values=["sst2"]), "field 'values' must be a dict"),
    (cells_of(method=3), "field 'method' must be a str, not 3"),
    (cells_of(values={"sst2": True}), "'sst2' has the value True, which is no number"),
    ({**cells_of(), "mean_over": "sst2"}, "mean_over must be a list of columns, not 'sst2'"),
    ({**cells_of(), "mean_over": ["sst3"]}, "mean_over names 'sst3', which is no column"),
    ({**cells_of(), "ood_over": [1]}, "a name must be words, not 1"),
    ({**cells_of(), "columns": "sst2"}, "field 'columns' must be a list, not 'sst2'"),
    ({**cells_of(), "columns": ["sst2", "mrpc", "cola", "sst2"]}, "'columns' has 'sst2' twice"),
    ({**cells_of(), "columns": ["sst2", "mrpc", "cola", None]}, "a name must be words, not None"),
    ({**cells_of(), "group_weights": 7}, "'group_weights' must hold a number for each group, not 7"),
    ({**cells_of(), "group_weights": {"sst2": -1}}, "a weight is a number from 0 on"),
    ({**cells_of(), "group_weights": [1, 2]}, "has 2 weights for 3 columns"),
    ({**cells_of(), "units": 7}, "'units' must hold a word for each column, not 7"),
    ({**cells_of(), "mean_convention": "mean of some"}, "it is one of mean19, group3, other, unknown"),
    ({**cells_of(), "rows": [1]}, r"rows\[0\]: field 'values' must be a dict"),
])
def test_a_fault_of_form_is_one_sentence_with_file_and_field(table: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=words) as error:
        load_published(put(tmp_path, table))
    assert str(error.value).startswith("made.json")


def test_shares_said_to_be_shares_are_no_percentages_and_pass(tmp_path: Path) -> None:
    table = cells_of(values={"sst2": 0.9, "mrpc": 0.8, "cola": 0.6}, printed={"mean": 0.5})
    assert found(put(tmp_path, {**table, "unit": "share"})) == []


def test_double_keys_and_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    text = (put(tmp_path, cells_of()) / "made.json").read_text()
    for old, new, words in (
            ('"sst2": 90.0', '"sst2": 90.0, "sst2": 91.0', r"the key 'sst2' stands 2 times .*90.0, 91.0"),
            ('"sst2": 90.0', '"sst2": NaN', "NaN is no number that a paper prints"),
            ('"sst2": 90.0', '"sst2": Infinity', "Infinity is no number that a paper prints"),
            ('"sst2": 90.0', '"sst2": 1e999', "'sst2' has the value inf, which is no number"),
            ('"params_m": 1.0', '"params_m": 1.0, "params_m": 2', "'params_m' of the row 'a' stands 2")):
        (tmp_path / "made.json").write_text(text.replace(old, new))
        with pytest.raises(RecordError, match=words):
            load_published(tmp_path)


def test_one_faulty_file_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    put(tmp_path, cells_of())
    (tmp_path / "broken.json").write_text("[")
    errors: list[RecordError] = []
    assert [t.file for t in load_published(tmp_path, errors.append)] == ["made.json"]
    assert [str(e) for e in errors] == ["broken.json: not valid JSON (JSONDecodeError)"]


def test_names_that_nobody_knows_are_told_with_the_nearest(tmp_path: Path) -> None:
    table = cells_of()
    table["columns"][0] = "sst2x"
    table["rows"][0]["values"] = {}
    names = {"benchmark": "vtab2k", "backbone": "ViT-L/16 (ImageNet-21k supervisd)"}
    (read,) = load_published(put(tmp_path, {**table, **names}))
    assert strangers([read]) == [
        "made.json: T: benchmark 'vtab2k' is not known here; did you mean 'vtab1k'?",
        "made.json: T: backbone 'ViT-L/16 (ImageNet-21k supervisd)' is not known here; did you mean "
        "'ViT-L/16 (ImageNet-21k supervised)'?",
        "made.json: T: column 'sst2x' is not known here; did you mean 'sst2'?"]


def test_convention_and_tolerance_are_those_of_the_format(tmp_path: Path) -> None:
    (read,) = load_published(put(tmp_path, {**SHAPES["weights as a list"][0],
                                            **rows(GROUPS, ROWS, SHAPES["weights as a list"][1])}))
    assert convention(read) == "mean19"
    assert means(read, read.rows[0])["mean19"] == pytest.approx((7 * 80 + 4 * 85 + 8 * 60) / 19)
    assert 0.1 <= TOLERANCE < 0.11
