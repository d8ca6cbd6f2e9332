"""The embedded text encoder: its words and grammar, its exercises, its pre-training."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch

from bench.embedded import examine_text, language, text, train_text
from bench.embedded.exercises import LENGTH, NO_LABEL, OTHER, SAME, STATED, UNSTATED, Exercises, draw
from bench.embedded.language import FACTS, MASK, PAD, SEPARATOR, SPECIAL
from datasets.standins import archives, phrases
from datasets.standins.language import DRAWERS, rows
from methods import hf, towers

SHA256 = "0bc56ace6d0bb984ae4687b398d6ee14590781d2efaddc5099367634336be728"
TINY = train_text.Settings(steps=3, seed=5, batch=8, held_out=256)
SLOTS = {form: slot for words in (language.WORDS, phrases.WORDS) for fact, values in words.items()
         for value in values for word in value for slot in ["like" if fact in language.LIKE else fact]
         for form in (word, word + "s")}
SLOTS |= {word: "judged" for words in (*language.KINDS.values(), phrases.PRAISE, phrases.BLAME) for word in words
          if word not in language.NEGATIONS}
SLOTS |= {"lies": "lie", "is": "are", "was": "were", "it": "they"}
LEFT_OUT = {"a", "an", ".", ",", "?", ":", ";", "number", "very", "rather", "so"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def template(words: list[str]) -> str:
    """A sentence without its facts: words of a fact are its name, `small red discs` is `form`."""
    told: list[str] = []
    for word in (SLOTS.get(word, word) for word in words):
        if word in LEFT_OUT or (word == "like" and told[-1:] == ["like"]):
            continue
        if word == "form" and told[-1:] == ["like"]:
            told.pop()
        told.append(word)
    return " ".join(told)


def spoken(seed: int) -> list[language.Said]:
    """A sentence of every sort."""
    chance = Random(seed)
    of = language.scene(chance)
    return [language.sentence(of, language.some(chance), chance, seed % 4 == 0), language.verdict(chance),
            language.card(of, language.some(chance, 1, 4), chance)]


def test_no_template_of_a_stand_in_occurs_in_the_grammar() -> None:
    asked = {template(told.split()) for name in DRAWERS for row in rows(name, {"any": 400}, 7)["any"]
             for told in (row.a, row.b) if told}
    asked |= {template(archives._topic("newsgroups20", 3, "train", number, 0).split()) for number in range(100)}
    known = {template([word for word, _ in said]) for seed in range(8000) for said in spoken(seed)}
    assert len(asked) > 100 and len(known) > 1000
    assert "there are form at the place" in asked
    assert not [(one, other) for one in asked for other in known if f" {one} " in f" {other} "]


def test_every_word_of_the_stand_ins_is_known_and_was_said_in_pre_training() -> None:
    said = {word for seed in range(4000) for told in spoken(seed) for word, _ in told}
    assert said | set(SPECIAL) == set(language.vocabulary())
    asked = {word for name in DRAWERS for row in rows(name, {"any": 200}, 7)["any"] for word in
             f"{row.a} {row.b}".split()}
    assert asked <= said, sorted(asked - said)


def test_the_tokenizer_beside_the_weights_is_that_of_the_words(tmp_path: Path) -> None:
    language.write_tokenizer(tmp_path / "tokenizer.json")
    file = text.weights_path().with_name("tokenizer.json")
    assert file.read_bytes() == (tmp_path / "tokenizer.json").read_bytes()
    assert hf.separator(file) == SEPARATOR == towers.tower(language.TOWER).mark
    assert towers.tower(language.TOWER).words == len(language.vocabulary())
    told = language.tokenizer().encode("Two discs lie .", "a comet .")
    assert told.tokens == ["[CLS]", "two", "discs", "lie", ".", "[SEP]", "a", "[UNK]", ".", "[SEP]"]


def test_noun_and_verb_agree_and_every_fact_word_states_its_fact() -> None:
    for seed in range(2000):
        told = spoken(seed)[0]
        many = any(word.removesuffix("s") != word for word, fact in told if fact == FACTS.index("form"))
        verbs = [word for word, _ in told if word in ("lies", "lie", "were", "are")]
        assert not many or "lies" not in verbs
        for word, fact in told:
            values = [w for value in language.WORDS[FACTS[fact]] for w in value] if fact >= 0 else []
            assert fact < 0 or word in values or word.removesuffix("s") in values


def test_the_same_number_draws_the_same_exercises_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = draw(16, 3), draw(16, 3), draw(16, 4)
    assert all(torch.equal(value, vars(second)[name]) for name, value in vars(first).items())
    assert not torch.equal(first.ids[:, :10], other.ids[:, :10]) and torch.equal(before, torch.get_rng_state())


def test_answers_follow_from_the_sentences() -> None:
    drawn = draw(400, 11)
    assert drawn.ids.shape[1] <= LENGTH and drawn.ids.max() < len(language.vocabulary())
    pairs = (drawn.ids == SEPARATOR).sum(1) == 2
    assert ((drawn.agree != NO_LABEL).any(1) <= pairs).all() and ((drawn.stated != NO_LABEL).any(1) <= ~pairs).all()
    assert {int(v) for v in drawn.agree.unique()} == {NO_LABEL, SAME, OTHER, UNSTATED}
    assert (drawn.stated < torch.tensor(list(STATED.values()))).all()
    hidden = drawn.hidden != NO_LABEL
    assert 0.7 < (drawn.ids[hidden] == MASK).float().mean() < 0.9 and not (drawn.ids[~hidden] == MASK).any()
    swaps = drawn.swapped == 1
    assert (drawn.swapped_at[swaps].clamp(min=0).sum(1) == 2).all() and swaps.float().mean() > 0.15
    assert not (drawn.swapped_at == 1)[~swaps].any() and not hidden[swaps].any()
    assert not (drawn.agree_at[drawn.ids == PAD] != NO_LABEL).any()
    _check_pairs(drawn)


def _check_pairs(drawn: Exercises) -> None:
    """Read from the words alone: the colours of both sentences are the same, or they are not."""
    words, hue = language.vocabulary(), FACTS.index("hue")
    hues = {value[0] for value in language.WORDS["hue"]}
    seen = 0
    for ids, agree, at in zip(drawn.ids, drawn.agree, drawn.agree_at, strict=True):
        told = [words[i] for i in ids]
        if agree[hue] in (SAME, OTHER) and not {"above", "below", "beside", "[MASK]"} & set(told):
            found = [(word, int(mark)) for word, mark in zip(told, at, strict=True) if word in hues]
            assert len(found) == 2 and (found[0][0] == found[1][0]) == (agree[hue] == SAME)
            assert {mark for _, mark in found} == {int(agree[hue])}
            seen += 1
    assert seen > 20


def test_a_tiny_pre_training_that_was_stopped_goes_on_to_the_same_weights(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_text, "CHECKPOINT_S", 0)
    whole, now, scores = train_text.train(TINY, tmp_path / "whole")
    assert now.step == 3 and now.course[-1]["step"] == 3 and set(now.course[-1]["loss"]) == set(train_text.WEIGHTS)
    assert {"agree", "agree.hue", "hidden", "stated.form", "swapped", "kinds"} <= scores.keys()
    real, left = train_text.losses, [2]

    def stop(answers: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(answers)

    monkeypatch.setattr(train_text, "losses", stop)
    with pytest.raises(KeyboardInterrupt):
        train_text.train(TINY, tmp_path / "halves")
    monkeypatch.setattr(train_text, "losses", real)
    again, later, _ = train_text.train(TINY, tmp_path / "halves")
    assert later.course[-1]["loss"] == now.course[-1]["loss"]
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())




def test_shipped_weights_match_their_facts() -> None:
    file = text.weights_path()
    facts = text.sidecar(file)
    assert facts["name"] == text.NAME and facts["sha256"] == text.sha256_of(file) == SHA256
    assert facts["bytes"] == file.stat().st_size < 1_400_000
    assert facts["course"][-1]["step"] == facts["settings"]["steps"], "they come from a finished run"
    model = text.create()
    assert facts["weights"] == sum(p.numel() for p in model.parameters())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert not any(word in file.with_suffix(".json").read_text() for word in ("/home", "/root", "/tmp", "/work"))


@pytest.mark.parametrize("name", ["sst2", "mrpc", "rte"])
def test_shipped_weights_beat_random_ones_under_a_probe(name: str) -> None:
    """And the table in the repository is of these weights."""
    told, labels = examine_text.drawn(name, 7)
    torch.manual_seed(0)
    known, random = (examine_text.score(name, examine_text.features(model, told), labels)
                     for model in (text.create(), text.create(pretrained=False)))
    assert known > random + 0.2 and known > 0.8
    facts = text.sidecar(text.weights_path().with_name("text_probe.json"))
    assert facts["weights"] == SHA256 and abs(facts["table"][name]["pre-trained"] - known) < 0.1
