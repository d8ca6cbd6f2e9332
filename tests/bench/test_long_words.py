"""Very long or very many words on the command line: exit 2 and sentences that can be read, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import checkout, cli
from bench.telling import few, short

DEEP = "(" * 400 + "1" + ",)" * 400
CASES: dict[str, tuple[list[str], str]] = {
    "epochs below 0": (["--datasets", "svhn", "--methods", "lora", "--epochs", "-1"],
                       "epochs must be a whole number of 1 or more, not -1"),
    "no batch": (["--batch-size", "0"], "batch_size must be a whole number of 1 or more, not 0"),
    "a batch below 0": (["--batch-size", "-1"], "batch_size must be a whole number of 1 or more, not -1"),
    "many signs": (["--set", "lr=" + "-" * 50000 + "1"], "lr must be a number of 0 or more, not '----"),
    "some signs": (["--set", "lr=" + "-" * 990 + "1"], "lr must be a number of 0 or more, not '----"),
    "brackets in a value": (["--set", "lr=" + DEEP[:999]], "lr must be a number of 0 or more, not '(((("),
    "signs in an option": (["--methods", "lora", "--set", "lora.rank=" + "-" * 50000], "option 'rank' of 'lora' must"),
    "brackets": (["--methods", "(" * 5000], "a method has at most 2000 characters, not 5000: '(((("),
    "signs in a method": (["--methods", f"lora(rank={'-' * 1900}1)"], "lora(rank=---"),
    "deep method": (["--methods", f"lora(rank={DEEP})"], "lora(rank=(((("),
    "a long choice": (["--set", "precision=" + "x" * 9000], "precision must be one of fp32, bf16, tf32, not 'xxx"),
    "a long suite": (["--suite", "x" * 9000], "no suite is called 'xxx"),
    "a long backbone": (["--suite", "vtab1k", "--backbones", "x" * 9000], "'xxx"),
    "a long word": (["--sweet", "x" * 9000], "unrecognized arguments: --sweet xxx"),
    "many words": (["--sweet", *["word"] * 9000], "unrecognized arguments: --sweet word"),
    "many data sets": (["--datasets", *(f"nowhere{n}" for n in range(2000))], "and 1995 more like this"),
    "many settings": (["--set", *(f"nothing{n}=1" for n in range(2000))], "and 1995 more like this"),
    "a long folder": (["--suite", "vtab1k", "--no-pretrained", "--root", "x" * 5000],
                      "xxx ...' cannot be read: File name too long"),
    "a long file": (["--config", "x" * 5000], "File name too long"),
    "long weights": (["--weights", "x" * 5000, "--suite", "vtab1k", "--root", "standin"], "xxx"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_answers(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checkout, "CLAIMS", tmp_path / "claims")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    words, sentence = CASES[case]
    try:
        status = cli.main(["plan", *words])
    except SystemExit as end:
        status = int(end.code or 0)
    told = capsys.readouterr().err
    assert status == 2 and sentence in told, told[:500]
    assert len(told) < 3000 and "finished" not in told and "stored" not in told


def test_a_message_is_cut_where_it_is_long_and_only_there() -> None:
    path = "'/home/someone/" + "deep/" * 20 + "data'"
    for kept in (f"the folder {path} does not exist", "LoRA's count + " + "a magnitude per row " * 20 + "of it's rows",
                 "('a') or ('b'), " * 40):
        assert short(kept) == kept
    assert short(f"no {'x' * 500!r} here, {'y' * 500} there") == f"no '{'x' * 79} ...' here, {'y' * 80} ... there"
    assert short('a "' + "it's " * 100 + '" b').endswith(' ..." b')


def test_problems_of_several_kinds_are_all_told() -> None:
    told = few([*(f"no part is called 'x{n}'; did you mean {n}?" for n in range(7)), "lr must be 1",
                "epochs must be 1"])
    assert len(told) == 8 and told[5] == "and 2 more like this" and told[6:] == ["lr must be 1", "epochs must be 1"]
    assert len(few([f"{'ab' * n} is no name" for n in range(100)])) < 50
    assert few([f"{n} is odd" for n in "12345"]) == [f"{n} is odd" for n in "12345"]
