"""What a user may get wrong, and the sentence that answers it. Nothing is written, nothing is a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import checkout, cli
from bench.planning import plan
from bench.planning.request import Request, UsageError
from bench.verbs.words import request_of, words_of
from methods.grammar import MethodError, from_record, parse

VIT = "vit_base_patch16_224.augreg_in21k"

REFUSED: list[tuple[list[str], list[str]]] = [
    (["plan", "--suite", "demoo"], ["no suite is called 'demoo'; did you mean demo?"]),
    (["plan", "--datasets", "cifr"], ["no data set is called 'cifr'; did you mean cifar100?"]),
    (["plan", "--methods", "lorra"], ["no part is called 'lorra'; did you mean lora"]),
    (["plan", "--methods", "linear,lora"], ["names are separated by spaces, not by commas: linear lora"]),
    (["plan", "--datasets", "dtd,svhn"], ["names are separated by spaces, not by commas: dtd svhn"]),
    (["plan", "--methods", "lora(ranks=4)"], [
        "'lora' has no option 'ranks' (did you mean rank?); it has: rank=8, alpha=8.0, targets='q,v'"]),
    (["plan", "--methods", "lora(rank=0)"], ["option 'rank' of 'lora' must be >= 1, not 0"]),
    (["plan", "--methods", "lora(4)"], ["options are written name=value, as in lora(rank=4)"]),
    (["plan", "--methods", "lora(rank=4"], ["has an open bracket"]),
    (["plan", "--methods", "lora(rank=__import__('os'))"], ["must be a number, a text in quotes"]),
    (["plan", "--methods", "pace"], ["'pace' must begin with an adapter; 'pace' is a regularizer. Try '"]),
    (["plan", "--methods", "lora+full"], ["'lora+full' has 2 adapters: lora, full"]),
    (["plan", "--methods", "lora+pace+pace"], ["names 'pace' twice"]),
    (["plan", "--methods", "lora++pace"], ["has an empty part beside a '+'"]),
    (["plan", "--methods", "linear+pace"], [
        "'pace' needs 'delta' (marked residual branches to perturb), which 'linear' does not offer. Adapters that do"]),
    (["plan", "--methods", "vpt+tpgm"], ["'tpgm' needs 'anchor' (a state that is the pre-trained function), which "
                                         "'vpt_deep' does not offer. Adapters that do: "]),
    (["plan", "--set", "lr=abc"], ["lr must be a number of 0 or more, not 'abc'"]),
    (["plan", "--set", "foo=1"], ["--set knows no 'foo'; there are: lr, "]),
    (["plan", "--set", "lora.rank"], ["--set takes name=value, as in lr=1e-3 or lora.rank=4, not 'lora.rank'"]),
    (["plan", "--set", "precision=fp8"], ["precision must be one of fp32, bf16, tf32, not 'fp8'"]),
    (["plan", "--set", "compiled=1"], ["compiled must be True, False, blocks or graph, not 1"]),
    (["plan", "--methods", "lora+pace", "--set", "compiled=True"], [
        "compiled=True does not fit 'lora+pace': pace reads, moves or repeats what happens inside a step"]),
    (["plan", "--methods", "lora+ugr(tta='episodic')", "--set", "eval_batch_size=0"], [
        "eval_batch_size=0 (by memory) does not fit 'lora+ugr': ugr adapts to each test batch"]),
    (["plan", "--methods", "linear", "--set", "lora.rank=4"], ["none of the methods has the part 'lora'"]),
    (["plan", "--epochs", "0"], ["epochs must be a whole number of 1 or more, not 0"]),
    (["plan", "--seeds", "-1"], ["seeds are whole numbers of 0 or more, not -1"]),
    (["plan", "--jobs", "-1"], ["--jobs must be 1 or more, not -1"]),
    (["plan", "--backbones", "resnet50", "--suite", "demo"], ["runs on the embedded backbone 'regatta_vit_48' alone"]),
    (["plan", "--backbones", "resnet50.a1_in1k", "--methods", "vpt", "--datasets", "svhn", "--no-pretrained", "--root",
      "standin"], ["'vpt' cannot run on 'resnet50.a1_in1k' (family resnet); adapters that can: bitfit, bn_tune, "]),
    (["plan", "--config", "absent.yaml"], ["--config absent.yaml: No such file or directory"]),
    (["show", "lra"], ["nothing is called 'lra'; did you mean lora"]),
    (["show", "abcdef012345"], ["no run is called 'abcdef012345'"]),
    (["run", "--datasets", "cifar100", "--methods", "lora", "lora+pace", "--backbones", VIT, "--root", "/elsewhere"],
     [f"the weights of backbone '{VIT}' are not on this machine", "the data folder '/elsewhere' does not exist; it "
      "should hold cifar/"]),
    (["plan", "--datasets", "svhn", "--methods", "linear", "--backbones", "ViT-L/16", "--root", "."],
     ["timm has no backbone 'ViT-L/16'; did you mean vit_large_patch16_224.augreg_in21k?"]),
    (["plan", "--suite", "vtab1k", "--no-pretrained"], ["real data is needed for caltech101, cifar100, dtd"]),
    (["data", "check", "svhn"], ["say which folder to check with --root DIR"]),
    (["data", "check", "svhn", "--root", "/elsewhere"], ["the data folder '/elsewhere' does not exist"]),
]


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATA", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(checkout, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(checkout, "CLAIMS", tmp_path / "claims")


@pytest.mark.parametrize("words, sentences", REFUSED, ids=[" ".join(w)[:60] for w, _ in REFUSED])
def test_a_mistake_is_answered_by_a_sentence_and_exit_2(words: list[str], sentences: list[str], tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert all(line.startswith("regatta: ") for line in lines)
    for sentence in sentences:
        assert sum(sentence in line for line in lines) == 1, err
    assert not (tmp_path / "cache").exists() and not (tmp_path / "hub").exists()


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(UsageError) as error:
        plan.make(Request(datasets=("cifr", "svnh"), methods=("lorra", "lora+full"), sets=("lr=x",)))
    assert len(error.value.problems) == 5


def test_argparse_mistakes_exit_2_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["list", "nothing"], ["nonsense"], ["plan", "--epochs", "two"], []):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("words, sentence", [
    (["rnu"], "argument VERB: invalid choice 'rnu'; did you mean run?"),
    (["list", "method"], "argument kind: invalid choice 'method'; did you mean methods?"),
    (["tune", "--budget", "2", "--prune", "halve"], "argument --prune: invalid choice 'halve'; did you mean halving?"),
    (["list", "nothing"], "(choose from 'methods', ")])
def test_a_misspelt_word_of_a_few_is_answered_with_the_near_one(words: list[str], sentence: str,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(words)
    assert sentence in capsys.readouterr().err


def test_a_config_file_says_the_same_and_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("datasets: [svhn, dtd]\nmethods: lora(rank=2)\nseeds: [3, 4]\nepochs: 2\nset: {lr: 0.5}\n")
    args = cli._parser().parse_args(["plan", "--config", str(config), "--seeds", "7", "--set", "clip=2"])
    request = request_of(args)
    assert request.datasets == ("svhn", "dtd") and request.methods == ("lora(rank=2)",)
    assert request.seeds == (7,) and request.epochs == 2 and request.sets == ("lr=0.5", "clip=2")


@pytest.mark.parametrize("text, sentence", [
    ("dataset: svhn\n", "has the key 'dataset'; did you mean datasets?"), ("- a\n", "must hold key: value lines"),
    ("a: [\n", "is not YAML"), ("seeds: [one]\n", "seeds takes numbers"), ("set: lr\n", "set must be a map")])
def test_a_wrong_config_file_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(text)
    with pytest.raises(UsageError, match=sentence.replace("?", r"\?")):
        request_of(cli._parser().parse_args(["plan", "--config", str(config)]))


def test_one_variable_can_hold_several_methods() -> None:
    assert words_of("lora(rank=4, alpha=8)+pace  full+tpgm") == ["lora(rank=4, alpha=8)+pace", "full+tpgm"]
    assert words_of("adapter+ugr(objective='ent') vpt") == ["adapter+ugr(objective='ent')", "vpt"]
    assert words_of("lora(rank") == ["lora(rank"]


@pytest.mark.parametrize("text, same", [("lora(targets='v,q')", "lora"), ("lora(alpha=8)", "lora(alpha=8.0)"),
                                        ("vpt", "vpt_deep"), ("lora(targets='q,k,v,o,fc1,fc2')", "lora(targets='all')"),
                                        ("adapter+pace", "adapter_pfeiffer + pace")])
def test_one_meaning_has_one_spelling(text: str, same: str) -> None:
    assert parse(text) == parse(same)


def test_lists_in_options_and_rules_between_options_are_checked_while_planning() -> None:
    for text, sentence in (("lora(targets='z')", "must be some of q, k, v, o, fc1, fc2, conv1, .*, joined by commas"),
                           ("repadapter(bottleneck=7)", "bottleneck must be a multiple of groups")):
        with pytest.raises(MethodError, match=sentence):
            parse(text)


def test_the_part_that_owns_the_forward_comes_first_so_that_two_orders_are_one_method() -> None:
    assert parse("lora+ugr(objective='ent')+pace").text() == parse("lora+pace+ugr(objective='ent')").text()


def test_names_and_options_give_the_method_back() -> None:
    for text in ("lora(rank=4)+pace(sigma=0.5)", "full+tpgm", "vpt(prompts=3)"):
        method = parse(text)
        assert from_record(method.name, method.options) == method
