"""Recall against a naive sort, ties and no numbers against the model, folds, chance by counting, a printed RSUM."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from results import recall
from results.recall import Ranks, chance, each, folded, ranks, recalls, rsum

OWNER = np.repeat(np.arange(40), 5)


def embeddings(seed: int, pictures: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    image = random.normal(size=(pictures, 6))
    return image, np.repeat(image, 5, 0) + 1.5 * random.normal(size=(5 * pictures, 6))


def test_ranks_are_those_of_a_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "CHUNK", 7)  # the last piece is shorter
    image, text = embeddings(0)
    found = ranks(image, text, OWNER)
    for i in range(40):
        order = list(np.argsort(-(image[i] @ text.T)))
        assert found.of_text[i] == min(order.index(c) for c in range(5 * i, 5 * i + 5))
    for c in range(200):
        assert found.of_image[c] == list(np.argsort(-(text[c] @ image.T))).index(c // 5)
    told = recalls(found)
    assert told["text_r5"] == np.mean(found.of_text < 5) and told["image_r10"] == np.mean(found.of_image < 10)
    assert told["rmean"] == pytest.approx(sum(v for k, v in told.items() if k != "rmean") / 6)
    assert 0.2 < told["rmean"] < 0.98


def test_captions_in_any_order_and_number_belong_to_their_pictures() -> None:
    image, text = embeddings(1)
    shuffled = np.random.default_rng(2).permutation(200)
    found, turned = ranks(image, text, OWNER), ranks(image, text[shuffled], OWNER[shuffled])
    assert (turned.of_text == found.of_text).all() and (turned.of_image == found.of_image[shuffled]).all()
    few = ranks(image[:2], text[[0, 1, 5]], np.array([0, 0, 1]))
    assert few.of_text.shape == (2,) and few.of_image.shape == (3,)


def test_equal_embeddings_and_no_numbers_find_nothing() -> None:
    for value in (1.0, 0.0, np.nan, np.inf):
        told = recalls(ranks(np.full((40, 6), value), np.full((200, 6), value), OWNER))
        assert set(told.values()) == {0.0}, value
    image, text = embeddings(3)
    text[7] = np.nan  # one caption has no score: its picture's rank is the worst, and it finds no picture
    found = ranks(image, text, OWNER)
    assert found.of_image[7] == 39 and found.of_text[1] == 195


def test_a_tie_counts_against() -> None:
    image = np.eye(3)
    text = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = ranks(image, text, np.arange(3))
    assert found.of_image.tolist() == [1, 0, 0]  # the first caption likes two pictures as much
    assert found.of_text.tolist() == [0, 1, 0]  # the second picture likes its own caption no more than the first


def test_folds_are_ranked_alone_and_part_the_pictures() -> None:
    image, text = embeddings(4)
    found = folded(image, text, OWNER, 4)
    parts = [recalls(ranks(image[i:i + 10], text[5 * i:5 * i + 50], OWNER[:50])) for i in range(0, 40, 10)]
    for name, value in recalls(found).items():
        assert value == pytest.approx(np.mean([part[name] for part in parts]))
    assert recalls(found)["rmean"] > recalls(ranks(image, text, OWNER))["rmean"]
    one = folded(image, text, OWNER, 1)
    assert (one.of_text == ranks(image, text, OWNER).of_text).all()


def test_what_each_picture_adds_has_the_mean_of_the_six() -> None:
    image, text = embeddings(5)
    found = ranks(image, text, OWNER)
    assert each(found).mean() == pytest.approx(recalls(found)["rmean"]) and each(found).shape == (40,)


@pytest.mark.parametrize(("row", "printed"), [  # percent, of VSE-infinity (Chen et al., CVPR 2021), table 2
    ((88.4, 98.3, 99.5, 74.2, 93.7, 96.8), 550.9), ((84.5, 98.1, 99.4, 72.0, 93.9, 97.5), 545.4),
    ((80.9, 96.6, 98.9, 65.2, 89.5, 93.7), 524.8)])
def test_rsum_is_that_of_printed_rows(row: tuple[float, ...], printed: float) -> None:
    assert rsum([value / 100 for value in row]) == pytest.approx(printed, abs=0.05)
    with pytest.raises(ValueError, match="sum of 6 recalls; there are 5"):
        rsum(row[1:])


def test_chance_is_counted_over_every_order() -> None:
    orders = list(permutations(range(6)))  # three pictures, two captions each: 0 and 1 belong to the first
    texts = [np.mean([bool({0, 1} & set(order[:k])) for order in orders]) for k in (1, 5, 10)]
    images = [np.mean([order[0] < k for order in permutations(range(3))]) for k in (1, 5, 10)]
    assert chance(3, 2) == pytest.approx(sum([*texts, *images]) / 6)
    random = np.random.default_rng(6)
    drawn = [recalls(ranks(random.normal(size=(30, 8)), random.normal(size=(150, 8)),
                           np.repeat(np.arange(30), 5)))["rmean"] for _ in range(40)]
    assert np.mean(drawn) == pytest.approx(chance(30), abs=0.02)


def test_what_does_not_fit_is_refused() -> None:
    image, text = embeddings(7)
    for owner in (OWNER[:-1], np.zeros(200, int), OWNER + 1):
        with pytest.raises(ValueError, match="do not fit"):
            ranks(image, text, owner)
    assert isinstance(ranks(image, text, OWNER), Ranks)
