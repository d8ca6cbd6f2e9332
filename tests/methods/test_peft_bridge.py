"""`peft`: the battery over every type that it takes, each trap of the library, and what is refused with a reason.

One process imports peft once. Counts on ViT-B/16 are the table's, measured with peft alone; the list of types is
written out here, so that none comes or goes unseen.
"""

from __future__ import annotations

import copy
import json
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from robust_kit import data, setup
from tiny_models import (
    CLASSES,
    adapted,
    features,
    images,
    scramble,
    step,
    tiny_swin,
    tiny_vit,
    trainable,
)
from torch import Tensor, nn

from methods.base import Adapter
from methods.catalog import catalog
from methods.compose import create
from methods.grammar import MethodError, parse
from methods.insertion import family, linears
from methods.vit import head_names
from methods.weights import Header, load, merged_copy, no_decay, save, trained

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")

TAKEN = ("adamss", "beft", "boft", "c3a", "deft", "delora", "fourierft", "frod", "glora", "gralora", "hira", "hra",
         "ia3", "lily", "loha", "lokr", "lora", "miss", "oft", "osf", "peanut", "psoft", "pvera", "randlora", "road",
         "shira", "supertuning", "tinylora", "unilora", "vblora", "vera", "waveft")
REFUSED = ("adalora", "adaption_prompt", "cartridge", "cpt", "ln_tuning", "multitask_prompt_tuning", "p_tuning",
           "poly", "prefix_tuning", "prompt_tuning", "shadow", "trainable_tokens", "xlora")
SMALL = {"c3a": "r=16", "oft": "r=16", "miss": "r=8", "road": "r=16", "shira": "r=4", "waveft": "r=100",
         "boft": "r=4", "fourierft": "r=100", "vblora": "options='vector_length=16'", "lora": "alpha=16",
         "vera": "r=16, key=3"}
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}
NEAR, FAR = ("c3a", "unilora", "vblora"), ("fourierft",)
TABLE = json.loads((Path(__file__).parents[1] / "data" / "counts_peft_vit_b16.json").read_text())
each = pytest.mark.parametrize("kind", TAKEN)


def text(kind: str, more: str = "") -> str:
    return f"peft({', '.join(filter(None, (f'type={kind!r}', SMALL.get(kind, ''), more)))})"


@cache
def _ready(kind: str) -> tuple[Adapter, nn.Module, nn.Module]:
    net = tiny_vit(**TINY)
    plain = copy.deepcopy(net)
    return *adapted(text(kind), net), plain


def ready(kind: str) -> tuple[Adapter, nn.Module, nn.Module]:
    """(adapter, a fresh copy of its model, the plain backbone); each type is built once for all tests."""
    adapter, model, plain = _ready(kind)
    return adapter, copy.deepcopy(model), copy.deepcopy(plain)


def logits(model: nn.Module) -> Tensor:
    model.eval()
    with torch.no_grad():
        out: Tensor = model(images())
    return out


def test_the_types_are_those_of_the_table_and_every_other_type_of_peft_has_a_reason() -> None:
    from peft import PeftType

    options = {o.name: o for o in catalog()["peft"].options}
    assert sorted(options["type"].choices) == sorted(TAKEN)
    assert sorted(catalog()["peft"].facts["refused"]["type"]) == sorted(REFUSED)
    assert {t.value.lower() for t in PeftType} == {*TAKEN, *REFUSED}


@each
def test_the_start_is_the_pretrained_function_or_what_the_table_says(kind: str) -> None:
    adapter, model, plain = ready(kind)
    got, expected = features(model, images()), features(plain, images())
    off = float((got - expected).norm() / expected.norm())
    said = "never" if kind in FAR else "near" if kind in NEAR else "exact"
    assert adapter.at_start == said
    assert off > 0.1 if said == "never" else 1e-6 < off < 0.1 if said == "near" else off < 1e-5


@each
def test_frozen_names_places_and_modes_are_the_plain_backbones(kind: str) -> None:
    _, model, plain = ready(kind)
    names, frozen = dict(model.named_parameters()), dict(plain.named_parameters())
    assert frozen.keys() <= names.keys()
    assert all(torch.equal(names[n], p) and not names[n].requires_grad for n, p in frozen.items())
    new = names.keys() - frozen.keys() - head_names(model)
    assert new and all(n.startswith("blocks.") and ".tuner." in n and "base_layer" not in n for n in new)
    assert all(names[n].requires_grad for n in new)
    assert type(model.patch_embed.proj) is nn.Conv2d and type(model.head) is nn.Linear  # type: ignore[union-attr]
    assert head_names(model) == {"head.weight", "head.bias"} <= trainable(model).keys()
    assert family(model) == "vit" and [s.path for s in linears(model)] == [s.path for s in linears(plain)]
    assert all(m.training == plain.training for m in model.modules())


@each
def test_training_moves_what_trains_and_nothing_else_and_is_stored_and_loaded(kind: str, tmp_path: Path) -> None:
    _, model, plain = ready(kind)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    step(model, steps=4, decay=0.01)
    for n, p in model.named_parameters():
        assert torch.equal(p.detach(), before[n]) != p.requires_grad, n
    expected, path = logits(model), tmp_path / "adapter.safetensors"
    save(path, model, Header("tiny", "0" * 64, text(kind), "digits", CLASSES))
    assert not {n for n in trained(model) if "base_layer" in n} and not trained(model).keys() & set(
        dict(plain.named_parameters()))
    _, fresh = adapted(text(kind), copy.deepcopy(plain))
    assert not torch.equal(logits(fresh), expected)
    load(path, fresh, backbone="tiny", backbone_hash="0" * 64, method=text(kind))
    assert torch.equal(logits(fresh), expected)


@each
def test_merging_happens_on_a_copy_and_leaves_the_plain_backbone(kind: str) -> None:
    adapter, model, plain = ready(kind)
    scramble(model, spread=0.02)
    expected = logits(model)
    assert not torch.allclose(expected, logits(_ready(kind)[1]), atol=1e-4)
    if kind == "lily":
        assert not adapter.mergeable and not parse(text(kind)).adapter.mergeable
        with pytest.raises(MethodError, match="cannot be merged"):
            merged_copy(adapter, model)
        return
    merged = merged_copy(adapter, model)
    assert (logits(merged) - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert torch.equal(logits(model), expected)
    plain = copy.deepcopy(plain)
    plain.reset_classifier(CLASSES)  # type: ignore[operator]
    assert {n: p.shape for n, p in merged.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert not {type(m).__module__ for m in merged.modules()} & {"methods.adapters.peft_bridge", "methods.insertion"}
    assert not [m for m in merged.modules() if type(m).__module__.startswith("peft.")]


@each
def test_evaluation_draws_nothing_and_bf16_stays_near(kind: str) -> None:
    _, model, _ = ready(kind)
    scramble(model, spread=0.01)
    model.eval()
    state = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images())
    nn.functional.cross_entropy(half.float(), torch.arange(4) % CLASSES).backward()
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trainable(model).values())
    full = logits(model)
    assert (half.float() - full).norm() < 0.1 * full.norm().clamp_min(1.0)


@each
def test_nothing_whose_neutral_value_is_one_is_decayed(kind: str) -> None:
    """Zero would silence IA3's and BOFT's scales; a decay of them pulls away from the pre-trained function."""
    _, model, _ = ready(kind)
    ones = [n for n, p in trainable(model).items() if torch.equal(p.detach(), torch.ones_like(p))]
    assert all(no_decay(n, trainable(model)[n]) for n in ones)
    assert no_decay("blocks.0.attn.qkv.tuner.randlora_gamma.default", torch.ones(32, 2)) and not no_decay(
        "blocks.0.attn.qkv.tuner.randlora_lambda.default", torch.ones(32, 2))
    assert bool(ones) == (kind in ("ia3", "boft", "psoft", "road"))


@pytest.mark.parametrize("kind", [k for k in TAKEN if k not in (*NEAR, *FAR)])
def test_weights_at_their_anchors_are_the_start(kind: str) -> None:
    adapter, model, plain = ready(kind)
    anchors = adapter.anchors(model)
    assert anchors.keys() == trainable(model).keys() - head_names(model)
    scramble(model)
    with torch.no_grad():
        for n, value in anchors.items():
            trainable(model)[n].copy_(value)
    torch.testing.assert_close(features(model, images()), features(plain, images()), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["vera", "lora", "ia3", "vblora", "psoft", "hra"])
def test_swin_is_served_and_merges(kind: str) -> None:
    net = tiny_swin()
    plain = {n: p.detach().clone() for n, p in net.named_parameters()}
    adapter, model = adapted(text(kind, "r=8" if "r=" not in text(kind) and kind != "ia3" else ""), net)
    assert family(model) == "swin" and plain.keys() <= dict(model.named_parameters()).keys()
    scramble(model, spread=0.02)
    expected = logits(model)
    merged = merged_copy(adapter, model)
    assert (logits(merged) - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("settings", [{"qkv_bias": False}, {"class_token": False, "global_pool": "avg"}], ids=str)
@pytest.mark.parametrize("kind", ["lora", "vera", "glora"])
def test_other_forms_of_vit_merge_too(kind: str, settings: dict[str, Any]) -> None:
    adapter, model = adapted(text(kind), tiny_vit(**TINY, **settings))
    scramble(model, spread=0.02)
    expected = logits(model)
    assert (logits(merged_copy(adapter, model)) - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_a_bias_is_not_added_where_there_is_none() -> None:
    with pytest.raises(MethodError, match="has none"):
        adapted("peft(type='beft')", tiny_vit(**TINY, qkv_bias=False))


# The traps of the library.

def test_targets_are_whole_paths_never_the_patch_embedding_and_never_a_head() -> None:
    for words, roles in (("proj", {"attn.proj"}), ("qkv,fc2", {"attn.qkv", "mlp.fc2"})):
        _, model = adapted(f"peft(type='lora', targets={words!r})", tiny_vit(**TINY))
        places = {n.partition(".tuner.")[0].split(".", 2)[2] for n in trainable(model) if n.startswith("blocks")}
        assert places == roles
        assert {n for n in trainable(model) if not n.startswith("blocks")} == {"head.weight", "head.bias"}


def test_shared_state_is_one_tensor_counted_stored_and_copied_once() -> None:
    for kind, word in (("unilora", "theta_d"), ("vblora", "vector_bank"), ("lily", "lily_B")):
        _, model, _ = ready(kind)
        shared = [n for n, _ in model.named_parameters(remove_duplicate=False) if word in n]
        assert len(shared) > len([n for n in trainable(model) if word in n]) >= 1
        assert len([n for n in trained(model) if word in n]) == len([n for n in trainable(model) if word in n])
    _, model, _ = ready("vera")
    layers = [model.get_submodule(f"blocks.{i}.attn.qkv.tuner") for i in (0, 1)]
    assert layers[0].vera_A is layers[1].vera_A  # type: ignore[union-attr]
    assert not [n for n in trained(model) if "vera_A" in n or "vera_B" in n], "the key gives them back"


def test_the_key_and_not_the_seed_decides_the_projections() -> None:
    def projection(key: str, seed: int) -> Tensor:
        _, model = adapted(f"peft(r=8{key})", tiny_vit(**TINY), seed)
        found: Tensor = model.get_submodule("blocks.0.attn.qkv.tuner").vera_A["default"]  # type: ignore[union-attr, index]
        return found

    assert torch.equal(projection("", 1), projection("", 2))
    assert torch.equal(projection("", 1), projection(", key=0", 2))
    assert not torch.equal(projection("", 1), projection(", key=7", 1))


def test_the_layer_below_a_tuner_is_never_rounded() -> None:
    from bench.engine.forms import store_frozen_in_bf16

    _, model, _ = ready("hira")  # which multiplies by the weight
    store_frozen_in_bf16(model)
    assert model.blocks[0].attn.qkv.weight.dtype == torch.float32  # type: ignore[union-attr, index]
    assert model.patch_embed.proj.weight.dtype == torch.bfloat16  # type: ignore[union-attr]


def test_importing_peft_leaves_our_datasets_and_the_random_stream_alone() -> None:
    import datasets as loaded
    from methods.adapters.peft_bridge import library

    state = torch.get_rng_state()
    assert library().__name__ == "peft" and torch.equal(state, torch.get_rng_state())
    assert sys.modules["datasets"] is loaded
    assert Path(str(loaded.__file__)).is_relative_to(Path(__file__).parents[2])


def test_another_package_called_datasets_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = type(sys)("datasets")
    other.__file__ = str(tmp_path / "datasets" / "__init__.py")
    monkeypatch.setitem(sys.modules, "datasets", other)
    with pytest.raises(MethodError, match="another package called 'datasets'"):
        adapted("peft", tiny_vit(**TINY))


@pytest.mark.parametrize("given, words", [
    ("peft(type='adalora')", "ranks set anew in every step"), ("peft(type='ln_tuning')", "ln_tune"),
    ("peft(type='prefix_tuning')", "vpt_deep is ours"), ("peft(type='nothing')", "must be one of 'vera'"),
    ("peft(targets='q,v')", "q, k and v are one layer to peft"), ("peft(type='ia3', r=4)", "has no rank"),
    ("peft(type='beft', alpha=1.0)", "has no scale"), ("peft(type='hira', key=1)", "seed of its own"),
    ("peft+pace", "needs 'delta'"), ("peft(type='fourierft')+l2_sp", "does not offer with these options"),
    ("peft(type='lora', options='init_lora_weights=False')+ftp", "does not offer with these options")])
def test_what_the_words_tell_is_refused_before_anything_is_imported(given: str, words: str) -> None:
    with pytest.raises(MethodError, match=words) as caught:
        parse(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given, words", [
    ("options='task_type=\"SEQ_CLS\"'", "cannot set 'task_type'"),
    ("options='modules_to_save=[\"head\"]'", "head is ours"),
    ("options='bias=\"all\"'", "cannot set 'bias'"), ("options='nonsense'", "written name=value"),
    ("type='lora', options='init_lora_weights=\"eva\"'", "it needs data"), ("options='nope=1'", "has no option 'nope'"),
    ("r=4, options='r=8'", "told r twice"), ("type='road', r=7", "peft refuses type 'road'"),
    ("type='miss', r=1000", "peft refuses type 'miss'.*in_features")])
def test_what_the_build_cannot_take_is_refused_with_a_sentence(given: str, words: str) -> None:
    with pytest.raises(MethodError, match=words) as caught:
        adapted(f"peft({given})", tiny_vit(**TINY))
    assert "\n" not in str(caught.value)


def test_words_of_ranks_scales_and_keys_agree_with_the_rules_of_the_catalog() -> None:
    from dataclasses import fields

    from peft import PeftType
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    from methods.adapters.peft_words import WORDS

    assert sorted(WORDS) == sorted(TAKEN)
    for kind, words in WORDS.items():
        known = {f.name for f in fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[kind.upper()]])}
        for option, word in zip(("r=4", "alpha=2.0", "key=5"), words, strict=True):
            assert not word or word in known
            if word:
                parse(f"peft(type={kind!r}, {option})")
            else:
                with pytest.raises(MethodError, match="leave"):
                    parse(f"peft(type={kind!r}, {option})")


def test_options_in_pefts_own_words_reach_the_tuner() -> None:
    adapter, model = adapted("peft(type='lora', r=4, alpha=8, options='use_dora=True, lora_dropout=0.1')",
                             tiny_vit(**TINY))
    layer: Any = model.get_submodule("blocks.0.attn.qkv.tuner")
    assert layer.scaling["default"] == 2.0 and layer.lora_dropout["default"].p == 0.1
    assert "blocks.0.attn.qkv.tuner.lora_magnitude_vector.default.weight" in trainable(model)
    scramble(model, spread=0.02)
    expected = logits(model)
    assert (logits(merged_copy(adapter, model)) - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("part", ["l2_sp", "ftp", "tpgm", "wise", "sam", "ema", "spd"])
@pytest.mark.parametrize("kind", ["vera", "lora", "unilora"])
def test_three_steps_with_regularizers_and_constraints(kind: str, part: str) -> None:
    given = f"{text(kind)}+{part}"
    if "anchor" in catalog()[part].needs and kind == "unilora":
        with pytest.raises(MethodError, match="with these options"):
            parse(given)
        return
    method, fit = setup(given, tiny_vit(**TINY), size=32, train_size=20)
    before = {n: p.detach().clone() for n, p in fit.model.named_parameters()}
    optimizer = torch.optim.AdamW(fit.trainable.values(), lr=1e-2)
    fit.model.train()
    batch = data(4, 32, dtype=torch.float32)
    for _ in range(3):
        optimizer.zero_grad()
        assert method.grads(fit, batch)["loss"].isfinite()
        optimizer.step()
        method.after_step(fit)
        fit.step += 1
    method.finish(fit, lambda: 0.5)
    after = dict(fit.model.named_parameters())
    assert all(torch.equal(before[n], after[n]) for n in before if n not in fit.trainable)
    assert any(not torch.equal(before[n], after[n]) for n in fit.trainable)


@cache
def _vit_b16() -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(TABLE["backbone"], num_classes=0)


@pytest.mark.parametrize("given", TABLE["counts"])
def test_counts_on_vit_b16_are_the_tables(given: str) -> None:
    expected = TABLE["counts"][given]
    if "shira" in given or "unilora" in given:  # they draw places at the start, so this needs numbers: of one block
        model = create(parse(given)).adapter.build(timm.create_model(TABLE["backbone"], num_classes=0, depth=1), 100)
        expected //= 12 if "shira" in given else 1  # unilora has one vector for all blocks
    else:
        with torch.device("meta"):
            model = create(parse(given)).adapter.build(copy.deepcopy(_vit_b16()), 100)
    head = head_names(model)
    assert sum(p.numel() for n, p in trainable(model).items() if n not in head) == expected
