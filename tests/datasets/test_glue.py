"""GLUE's tables as they are distributed: columns by name, quotes as text, faults by line, and the papers' splits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from datasets import registry
from datasets.card import DataError, Text
from datasets.check import check, remarks
from datasets.shuffle import permutation

HEADERS = {  # of the distributed files, typed from the specification of the formats
    "SST-2": "sentence\tlabel",
    "MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "QQP": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "STS-B": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "MNLI": "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
            "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
    "QNLI": "index\tquestion\tsentence\tlabel",
    "RTE": "index\tsentence1\tsentence2\tlabel",
}


def write(root: Path, folder: str, part: str, rows: list[str], header: bool = True) -> None:
    file = root / "glue" / folder / f"{part}.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in ([HEADERS[folder]] if header else []) + rows), encoding="utf-8")


def read(name: str, root: Path, split: str) -> list[tuple[str, str | None, float]]:
    found = []
    for item in registry.get(name).items(root, split):
        assert isinstance(item.image, Text)
        found.append((item.image.a, item.image.b, item.label))
    return found


def test_the_shuffle_is_torchs_at_the_sizes_of_the_sets() -> None:
    assert permutation(277, 42)[:4] == (207, 84, 253, 243)
    for size in (1, 2, 71, 277, 408, 1043, 1500, 67_349):
        generator = torch.Generator()
        generator.manual_seed(42)
        assert permutation(size, 42) == tuple(torch.randperm(size, generator=generator).tolist())


def test_a_quote_is_text_and_colas_first_line_is_data(tmp_path: Path) -> None:
    rows = ['gj04\t1\t\t"One more pseudo generalization and I\'m giving up.', "gj04\t0\t*\tThey drank the pub.",
            'bc01\t1\t\tShe said "no', 'bc01\t0\t*\tthen "left']
    write(tmp_path, "CoLA", "train", rows, header=False)
    assert read("cola", tmp_path, "train") == [
        ('"One more pseudo generalization and I\'m giving up.', None, 1), ("They drank the pub.", None, 0),
        ('She said "no', None, 1), ('then "left', None, 0)]


def test_columns_are_found_by_their_names_and_a_mark_before_them_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "MRPC", "train", ["1\t7\t8\tOne.\tUno.", "0\t9\t10\tTwo.\tThree."])
    file = tmp_path / "glue/MRPC/train.tsv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read("mrpc", tmp_path, "train") == [("One.", "Uno.", 1), ("Two.", "Three.", 0)]
    row = "\t".join(["0", "1", "1n", "fiction", "( a )", "( b )", "(S a)", "(S b)", "Prem", "Hyp", "neutral", "LABEL"])
    for part, label in (("dev_matched", "contradiction"), ("dev_mismatched", "entailment"), ("train", "neutral")):
        write(tmp_path, "MNLI", part, [row.replace("LABEL", label)])
    assert [read("mnli", tmp_path, split)[0][2] for split in ("val", "test", "train")] == [0, 2, 1]
    assert read("mnli", tmp_path, "trainval") == [("Prem", "Hyp", 1), ("Prem", "Hyp", 0)]
    write(tmp_path, "QNLI", "dev", ["0\tWho?\tHe.\tnot_entailment", "1\tWhen?\tNow.\tentailment"])
    assert read("qnli", tmp_path, "test") == [("Who?", "He.", 1), ("When?", "Now.", 0)]


def test_a_score_is_a_number_from_0_to_5(tmp_path: Path) -> None:
    row = "0\tmain\tfile\t2012\t1\ta\tb\tA plane.\tAn air plane.\t"
    write(tmp_path, "STS-B", "train", [row + "5.000", row + "3.8"])
    assert [label for *_, label in read("stsb", tmp_path, "train")] == [5.0, 3.8]
    assert (registry.get("stsb").task, registry.get("stsb").metric) == ("regress", "pearson_spearman")
    for wrong, says in (("5.2", "out of range; scores are 0 to 5"), ("nan", "out of range"), ("high", "is no number")):
        write(tmp_path, "STS-B", "train", [row + "1", row + wrong])
        with pytest.raises(DataError, match=rf"train\.tsv:3: the score '{wrong}' .*{says}"):
            registry.get("stsb").items(tmp_path, "train")


def test_small_sets_halve_the_shuffled_development_set(tmp_path: Path) -> None:
    write(tmp_path, "RTE", "train", ["0\ta\tb\tentailment"])
    write(tmp_path, "RTE", "dev", [f"{i}\tp{i}\th{i}\tentailment" for i in range(277)])
    val, test = (read("rte", tmp_path, split) for split in ("val", "test"))
    assert [a for a, *_ in val[:4]] == ["p207", "p84", "p253", "p243"]  # torch's, from the specification
    assert (len(val), len(test)) == (138, 139)
    assert {a for a, *_ in val} | {a for a, *_ in test} == {f"p{i}" for i in range(277)}
    assert [a for a, *_ in read("rte", tmp_path, "trainval")] == ["a", *(a for a, *_ in val)]


def test_large_sets_hold_out_the_first_thousand_of_the_shuffled_training_set(tmp_path: Path) -> None:
    write(tmp_path, "SST-2", "train", [f"s{i}\t{i % 2}" for i in range(6000)])
    write(tmp_path, "SST-2", "dev", ["fine\t1", "dull\t0"])
    generator = torch.Generator()
    generator.manual_seed(42)
    order = torch.randperm(6000, generator=generator).tolist()
    assert [a for a, *_ in read("sst2", tmp_path, "val")] == [f"s{i}" for i in order[:1000]]
    assert [a for a, *_ in read("sst2", tmp_path, "train")] == [f"s{i}" for i in order[1000:]]
    assert read("sst2", tmp_path, "test") == [("fine", None, 1), ("dull", None, 0)]


def test_the_cards_promise_the_sizes_of_the_papers_splits() -> None:
    sizes = {card.name: (card.splits["train"], card.splits["val"], card.splits["test"])
             for card in registry.cards("glue")}
    assert sizes == {
        "cola": (8551, 521, 522), "sst2": (66349, 1000, 872), "mrpc": (3668, 204, 204), "qqp": (362846, 1000, 40430),
        "stsb": (5749, 750, 750), "mnli": (392702, 9832, 9815), "qnli": (103743, 1000, 5463), "rte": (2490, 138, 139),
        "wnli": (635, 35, 36)}
    assert {card.name: card.metric for card in registry.cards("glue") if card.metric != "top1"} == {
        "cola": "mcc", "mrpc": "f1_acc", "qqp": "f1_acc", "stsb": "pearson_spearman"}


def test_a_short_row_of_qqp_is_named_and_passed_over_and_no_other(tmp_path: Path) -> None:
    good = "1\t2\t3\tIs it?\tIs it so?\t1"
    write(tmp_path, "QQP", "train", [good, "4\t5\t6\tTorn", good.replace("Is it?", 'Is "it?')])
    write(tmp_path, "QQP", "dev", [good.replace("so", "thus")])
    assert len(read("qqp", tmp_path, "trainval")) == 2
    assert "1 row of train.tsv with too few fields is passed over, at line 3" in remarks("qqp", tmp_path)
    write(tmp_path, "QQP", "dev", [good, "", good.replace("so", "thus"), "", "7\t8"])
    told = remarks("qqp", tmp_path)
    assert "2 empty lines of dev.tsv are passed over, at line 3, 5" in told
    assert "1 row of dev.tsv with too few fields is passed over, at line 6" in told
    write(tmp_path, "QNLI", "train", ["0\tWho?\tHe.\tentailment", "1\tWho?\tHe."])
    with pytest.raises(DataError, match=r"QNLI/train\.tsv:3: 3 fields; expected 4: index, question, sentence, label"):
        registry.get("qnli").items(tmp_path, "train")


def test_every_fault_is_told_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, "SST-2", "train", ["fine\t1", "dull\t2", "torn", "good\t1"])
    write(tmp_path, "SST-2", "dev", ["well\tpositive"])
    told = "\n".join(map(str, check("sst2", tmp_path)))
    for says in ("train.tsv:3: the label '2' is none of 0, 1", "train.tsv:4: 1 fields; expected 2",
                 "dev.tsv:2: the label 'positive' is none of 0, 1", "test has 0 texts; expected 872"):
        assert says in told


@pytest.mark.parametrize(("data", "says"), [
    (b"text\tlabel\nx\t1\n", r"train\.tsv:1: there is no column 'sentence'; its columns are text, label"),
    (b"sentence\tlabel\tlabel\nx\t1\t0\n", r"train\.tsv:1: 2 columns are called 'label'; its columns are sentence, "
                                           r"label, label; expected there: train\.tsv"),
    (b"", r"train\.tsv is empty; expected there: train\.tsv"),
    (b"\xef\xbb\xbf", r"train\.tsv is empty; expected there: train\.tsv"),
    (b"sentence\tlabel\n\xff\t1\n", r"train\.tsv is not a text file: byte 15 is not UTF-8"),
    (b"sentence\tlabel\n", r"train\.tsv holds no rows; expected there: train\.tsv"),
    (None, r"train\.tsv is missing; expected there: train\.tsv, dev\.tsv \(columns sentence, label\)"),
])
def test_a_table_that_is_none_is_refused(data: bytes | None, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "glue_data/SST-2"
    folder.mkdir(parents=True)
    if data is not None:
        (folder / "train.tsv").write_bytes(data)
    with pytest.raises(DataError, match=says):
        registry.get("sst2").items(tmp_path, "train")
    with pytest.raises(DataError, match=r"glue/CoLA \(or .*\) is missing; expected there: train\.tsv"):
        registry.get("cola").items(tmp_path, "train")
    with pytest.raises(DataError, match="no split is called 'dev'"):
        registry.get("cola").items(tmp_path, "dev")


def test_a_development_text_that_is_trained_on_is_told_and_breaks_nothing(tmp_path: Path) -> None:
    rows = [f"{i}\tp{i}\th{i}\tentailment" for i in range(4)]
    write(tmp_path, "RTE", "dev", rows)
    write(tmp_path, "RTE", "train", [*rows, "9\tP0 \t h0\tentailment"])
    told = remarks("rte", tmp_path)
    assert any(text.startswith("2 of 2 test texts are in trainval too, first glue/RTE/dev:") for text in told)
    assert "3 of 7 texts of trainval stand there before" in told
    assert not any("trainval too" in problem.text for problem in check("rte", tmp_path))


def test_a_text_has_no_picture() -> None:
    with pytest.raises(DataError, match="x is a text and no image"):
        Text("x", "a").open()
