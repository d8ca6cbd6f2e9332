"""The distilled backbone: its pictures and what they must not be, its lessons, its training in pieces, its weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from bench.embedded import collection, distil, muon, probe, teacher, views
from bench.embedded import model as backbones
from datasets import exclusion, registry
from datasets.card import DataError
from datasets.packages import Grey, Held

SIZES = {"pooled": (), "fine": (8, 8), "coarse": (4, 4)}
TINY = distil.Settings(steps=4, seed=3, width=32, depth=1, heads=1, start="scratch", rounds=1, batch=4)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def picture(seed: int) -> Image.Image:
    """Coloured blocks; no two seeds alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((60, 72), Image.Resampling.NEAREST)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Held | Grey]:
    """Four drawings, a copy of the first in another file, and four garments: what the packages would hold."""
    drawings = []
    for i in (0, 1, 2, 3, 0):
        file = tmp_path / f"{len(drawings)}.png"
        picture(i).save(file, compress_level=1 + len(drawings))
        drawings.append(Held(file, f"clipart/shapes/{file.name}"))
    pixels = np.random.default_rng(9).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    (tmp_path / "idx").write_bytes(pixels.tobytes())
    garments = [Grey(tmp_path / "idx", f"fashion-mnist/train/{i:05d}", i * 784, 28) for i in range(4)]
    monkeypatch.setattr(collection, "_drawings", lambda root: iter(drawings))
    monkeypatch.setattr(collection, "_garments", lambda root, count: iter(garments[:count]))
    return [*drawings, *garments]


def answer(images: Tensor) -> dict[str, Tensor]:
    """A teacher that tells the mean colour, the same in every channel."""
    colour = images.mean((1, 2, 3))
    return {name: colour.reshape(-1, *[1] * (1 + len(side))).expand(-1, teacher.ANSWERS[name], *side)
            for name, side in SIZES.items()}


@pytest.fixture
def lessons(drawn: list[Any], tmp_path: Path) -> distil.Lessons:
    found = collection.collect(set())
    teacher.make_round(found, np.arange(8), 0, answer, tmp_path / "round-00.safetensors")
    return distil.Lessons([distil.load_file(tmp_path / "round-00.safetensors")])


def test_an_image_of_a_test_is_left_out_by_its_bytes_and_by_its_pixels(drawn: list[Any]) -> None:
    by_bytes, by_pixels, garment = exclusion.bytes_of(drawn[1]), exclusion.pixels_of(drawn[2]), drawn[6]
    found = collection.collect({by_bytes, by_pixels, exclusion.pixels_of(garment)})
    assert found.names == [drawn[i].name for i in (0, 3, 5, 7, 8)]
    assert found.counts == {
        "drawings found": 5, "drawings held out by a card": 2, "drawings shown before": 1, "drawings used": 2,
        "garments found": 4, "garments held out by a card": 1, "garments shown before": 0, "garments used": 3}
    assert found.drawings.shape == (2, 160, 160, 3) and found.garments.shape == (3, 28, 28)


def test_a_collection_is_read_as_it_was_written_and_cut_in_two(drawn: list[Any], tmp_path: Path) -> None:
    found = collection.collect(set())
    found.save(tmp_path / "c.npz")
    again = collection.load(tmp_path / "c.npz")
    assert (again.names, again.prints, again.counts) == (found.names, found.prints, found.counts)
    assert (again.drawings == found.drawings).all() and (again.garments == found.garments).all()
    assert sorted([*found.rows(apart=True), *found.rows(apart=False)]) == list(range(8))


def test_views_follow_from_the_seed_and_student_and_teacher_see_the_same(drawn: list[Any]) -> None:
    found = collection.collect(set())
    large = views.draw(found, np.arange(8), np.random.default_rng(1))
    assert large.shape == (8, 3, 128, 128) and large.dtype == torch.uint8
    assert torch.equal(large, views.draw(found, np.arange(8), np.random.default_rng(1)))
    assert not torch.equal(large, views.draw(found, np.arange(8), np.random.default_rng(2)))
    small = views.halved(large)
    assert small.shape == (8, 3, 64, 64)
    assert torch.allclose(small.float().mean((2, 3)), large.float().mean((2, 3)), atol=1.5)
    assert views.normalised(torch.tensor([0, 255])).tolist() == [-1, 1]


def test_every_round_holds_all_drawings_and_the_next_garments(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [f"{1 + 10 * i:08x}" for i in range(7)]  # none set apart
    found = collection.Collection([""] * 7, marks, np.zeros((2, 1, 1, 3), np.uint8), np.zeros((5, 1, 1), np.uint8), {})
    monkeypatch.setattr(teacher, "GARMENTS", 2)
    assert [teacher.turn(found, n).tolist() for n in range(3)] == [[0, 1, 2, 3], [0, 1, 4, 5], [0, 1, 6, 2]]


def test_answers_are_standardised_and_a_mirrored_view_has_mirrored_maps(lessons: distil.Lessons) -> None:
    _, wanted = lessons.batch(torch.arange(8))
    for name, values in wanted.items():
        over = (0, 2, 3) if values.ndim == 4 else (0,)
        assert torch.allclose(values.mean(over), torch.zeros(teacher.ANSWERS[name]), atol=1e-2), name
    lessons.answers["fine"][0, :, :, 0] = 9
    plain, marked = lessons.batch(torch.arange(2)), lessons.batch(torch.arange(2), torch.tensor([True, False]))
    assert torch.equal(marked[0][0], plain[0][0].flip(2)) and torch.equal(marked[0][1], plain[0][1])
    assert torch.equal(marked[1]["fine"][0, :, :, 7], plain[1]["fine"][0, :, :, 0])
    assert torch.equal(marked[1]["pooled"], plain[1]["pooled"])


def test_a_run_that_is_stopped_ends_at_the_weights_of_one_that_is_not(
        lessons: distil.Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "CHECKPOINT_S", -1.0)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole, told = distil.train(TINY, lessons, lessons, tmp_path / "whole")
    assert [line["step"] for line in told.course] == [1, 2, 3, 4]
    calls = iter(range(10))

    def stops(found: dict[str, Tensor]) -> Tensor:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return total(found)

    total = distil.total
    monkeypatch.setattr(distil, "total", stops)
    with pytest.raises(KeyboardInterrupt):
        distil.train(TINY, lessons, lessons, tmp_path / "parts")
    monkeypatch.setattr(distil, "total", total)
    again, told_again = distil.train(TINY, lessons, lessons, tmp_path / "parts")
    assert told_again.course == told.course and told_again.step == 4
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_teacher_that_is_met_costs_nothing_and_a_blind_guess_costs_one() -> None:
    torch.manual_seed(0)
    wanted = {name: torch.randn(64, teacher.ANSWERS[name], *side) for name, side in SIZES.items()}
    assert max(distil.losses(wanted, wanted).values()) < 1e-6
    blind = distil.losses({name: torch.full_like(value, 1e-9) for name, value in wanted.items()}, wanted)
    assert all(value == pytest.approx(1, abs=0.05) for value in blind.values())


def test_twice_the_width_starts_with_the_smaller_backbones_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distil, "PARTING", 0.0)
    small = backbones.create().eval()
    large = backbones.Shape("large", "", 48, 192, 6, 6).build().eval()
    distil.start_from_drawn(large, small)
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(large(images), small(images).repeat(1, 2), atol=1e-4)


def test_muons_steps_keep_the_directions_of_a_matrix_and_even_its_stretches() -> None:
    torch.manual_seed(0)
    given = torch.randn(2, 12, 5)
    u, _, vt = torch.linalg.svd(given, full_matrices=False)
    inside = u.mT @ muon.orthogonal(given) @ vt.mT
    stretch = inside.diagonal(dim1=1, dim2=2)
    assert stretch.min() > 0.6 and stretch.max() < 1.3
    assert (inside - torch.diag_embed(stretch)).abs().max() < 1e-4


def test_the_probe_finds_what_is_there_and_its_interval_is_students() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 20)
    pool = probe.Pool("made", [], labels, most=30)
    seen = probe.probe(np.eye(3)[labels] + random.normal(0, 0.05, (60, 3)), pool)
    assert seen.accuracy == [1.0] * 5 and seen.class_mean == [1.0] * 5
    assert np.mean(probe.probe(random.normal(0, 1, (60, 3)), pool).accuracy) < 0.6
    ours, theirs = [0.7, 0.72, 0.69, 0.75, 0.71], [0.66, 0.7, 0.66, 0.7, 0.65]
    mean, low, high = probe.difference(ours, theirs)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((0.04, expected.low, expected.high))


def test_the_shipped_weights_are_those_of_their_sidecar() -> None:
    file = backbones.weights_path(backbones.DISTILLED)
    facts = backbones.sidecar(file)
    assert facts["name"] == backbones.DISTILLED.name and facts["sha256"] == backbones.sha256_of(file)
    assert facts["course"][-1]["step"] == facts["settings"]["steps"], "the shipped weights come from a finished run"
    assert facts["course"][-1]["apart"]["pooled"] < facts["course"][0]["apart"]["pooled"]
    shape = facts["settings"]["width"], facts["settings"]["depth"], facts["settings"]["heads"]
    assert shape == (backbones.DISTILLED.width, backbones.DISTILLED.depth, backbones.DISTILLED.heads)
    assert not any(word in json.dumps(facts) for word in ("/home", "/root", "/tmp", "/work"))


def test_the_distilled_backbone_loads_and_its_features_are_finite_and_its_own() -> None:
    model = timm.create_model(backbones.DISTILLED.name, pretrained=True, num_classes=7).eval()
    weights = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("head."))
    assert weights == backbones.sidecar(backbones.weights_path(backbones.DISTILLED))["weights"] <= 3_000_000
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        features = model.forward_features(images)[:, 0]
        random = backbones.DISTILLED.build().eval()(images)
    assert features.shape == (4, backbones.DISTILLED.width) and features.isfinite().all()
    assert not torch.allclose(features, random)
    assert model(images).shape == (4, 7)


def test_the_committed_probe_is_of_these_weights_and_shows_the_lead_it_must_have() -> None:
    told = json.loads(backbones.weights_path().with_name("probe.json").read_text(encoding="utf-8"))
    name, old = backbones.DISTILLED.name, backbones.DRAWN.name
    assert told["weights"] == {name: backbones.sha256_of(backbones.weights_path(backbones.DISTILLED))}
    means = {one: np.mean([told["shares"][one][card]["accuracy"] for card in probe.CARDS], axis=0)
             for one in (name, old)}
    lead = stats.ttest_rel(means[name], means[old])
    assert (means[name] - means[old]).mean() >= 0.04 and lead.confidence_interval(0.95).low > 0


def test_no_picture_that_was_used_is_a_validation_or_test_image_of_any_card() -> None:
    file = backbones.weights_path(backbones.DISTILLED).with_suffix(".txt")
    used = file.read_text(encoding="ascii").split()
    told = backbones.sidecar(file)["pictures"]
    assert used == sorted(set(used)) and len(used) == told["drawings used"] + told["garments used"]
    # shared_clipart holds all drawings that the cards of a shift test on; smaller shares test on the same images
    for name in ("clipart", "shared_clipart", "fashion_mnist", "stamps", "digits", "mnist5k"):
        try:
            tested = {one.pixels[:collection.PRINT] for one in exclusion.prints(registry.get(name), Path())}
        except DataError:  # its package is not installed; those that are here are looked at all the same
            assert name != "digits"
            continue
        assert len(tested) > 200 and not tested & set(used), name
