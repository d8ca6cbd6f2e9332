"""The embedded backbone: its scenes, its pre-training and the weights that are shipped."""

import json
from pathlib import Path

import pytest
import timm
import torch

from bench.embedded import drawing, pretrain, scenes
from bench.embedded import model as backbones

STAND_IN_TEXTURES = ("zigzag", "spiral", "marble", "woven", "cracked", "honeycomb", "scaly", "blotchy")
TINY = pretrain.Settings(steps=3, seed=5, batch=4, chunk=8, held_out=16)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _draw(seed: int, count: int = 24) -> scenes.Scenes:
    return scenes.draw(count, torch.Generator().manual_seed(seed))


def test_same_seed_draws_the_same_scenes() -> None:
    first, second = _draw(3), _draw(3)
    assert torch.equal(first.images, second.images)
    assert all(torch.equal(first.labels[name], second.labels[name]) for name in scenes.IMAGE_HEADS)


def test_another_seed_draws_other_scenes() -> None:
    assert not torch.equal(_draw(3).images, _draw(4).images)


def test_scenes_leave_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    _draw(0)
    assert torch.equal(before, torch.get_rng_state())


def test_every_label_is_a_class_of_its_head_or_unknown() -> None:
    drawn = _draw(1, 256)
    for heads, labels in ((scenes.IMAGE_HEADS, drawn.labels), (scenes.PATCH_HEADS, drawn.patch_labels)):
        assert set(heads) == set(labels)
        for name, classes in heads.items():
            known = labels[name][labels[name] != drawing.NO_LABEL]
            assert len(known) and known.min() >= 0 and known.max() < classes, name


def test_images_lie_between_black_and_white_and_are_finite() -> None:
    images = _draw(2, 64).images
    assert images.shape == (64, 3, scenes.SIZE, scenes.SIZE)
    assert images.isfinite().all() and images.min() >= 0 and images.max() <= 1


def test_an_empty_scene_answers_no_question_about_objects() -> None:
    drawn = _draw(7, 256)
    empty = drawn.labels["count"] == 0
    assert empty.any()
    assert (drawn.labels["hue"][empty] == drawing.NO_LABEL).all()
    assert drawn.layout[empty].sum() == 0 and drawn.silhouette[empty].isnan().all()


def test_vocabulary_shares_no_word_with_the_stand_in_textures() -> None:
    assert not set(scenes.VOCABULARY) & set(STAND_IN_TEXTURES)
    assert len(set(scenes.VOCABULARY)) == len(scenes.VOCABULARY)


def test_a_tiny_pretraining_writes_weights_that_match_their_sidecar(tmp_path: Path) -> None:
    out = tmp_path / "tiny.safetensors"
    pretrain.pretrain(TINY, out, torch.device("cpu"))
    facts = backbones.sidecar(out)
    assert facts["sha256"] == backbones.sha256_of(out)
    assert facts["steps_done"] == TINY.steps and facts["image_passes"] == TINY.steps * TINY.batch
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]
    model = backbones.create(pretrained=False)
    backbones.load_backbone(model, out)


def test_the_same_seed_makes_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    hashes = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        settings = pretrain.Settings(steps=2, seed=seed, batch=4, chunk=8, held_out=8)
        pretrain.pretrain(settings, tmp_path / f"{name}.safetensors", torch.device("cpu"))
        hashes.append(backbones.sidecar(tmp_path / f"{name}.safetensors")["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_learning_rate_warms_up_stays_flat_and_falls_to_zero() -> None:
    shares = [pretrain.learning_rate_share(step, 1000) for step in (0, 99, 400, 750, 999)]
    assert shares == pytest.approx([0.01, 1.0, 1.0, 0.5, 0.002])


def test_shipped_weights_match_the_shipped_sidecar() -> None:
    facts = backbones.sidecar()
    assert facts["sha256"] == backbones.sha256_of(backbones.weights_path())
    assert facts["steps_done"] == facts["settings"]["steps"], "the shipped weights come from a finished run"


def test_the_sidecar_names_no_folder() -> None:
    text = json.dumps(backbones.sidecar())
    assert not any(word in text for word in ("/home", "/root", "/tmp", "/work"))


def test_pretrained_features_are_finite_and_differ_from_a_random_start() -> None:
    images = _draw(9, 4).images * 2 - 1
    with torch.no_grad():
        features = backbones.create(pretrained=True).eval()(images)
        random = backbones.create(pretrained=False).eval()(images)
    assert features.shape == (4, backbones.WIDTH) and features.isfinite().all()
    assert not torch.allclose(features, random)


def test_timm_knows_the_backbone_and_gives_it_a_head() -> None:
    model = timm.create_model(backbones.NAME, pretrained=True, num_classes=7)
    assert model(torch.zeros(2, 3, 48, 48)).shape == (2, 7)
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert torch.equal(model.blocks[0].attn.qkv.weight, backbones.create().blocks[0].attn.qkv.weight)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"stranger": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        backbones.load_backbone(backbones.create(pretrained=False), tmp_path / "other.safetensors")
