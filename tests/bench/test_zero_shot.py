"""Heads that start from class names: the formula, the anchors, the file, the run's name, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from bench.dispatch import jobs
from bench.dispatch.jobs import Roots
from bench.engine import backbones, zeroshot
from bench.engine.backbones import BackboneError
from bench.engine.build import Built
from bench.engine.cache import ImageCache
from bench.engine.forecast import forecast
from bench.engine.loaders import open_data
from bench.engine.projected import put_in
from bench.engine.record import execute
from bench.engine.stored import open_run
from bench.export import folder
from bench.planning.again import again
from bench.planning.plan import make
from bench.planning.request import Request, UsageError
from bench.verbs.verify import check, place
from datasets import registry
from methods.weights import StoredError
from results import store
from results.schema import RunSpec, from_json, to_json
from results.strict import sound
from tests.reports import fakes

from . import tiny, tiny_heads
from .tiny_heads import NAMES, WIDTH, naive


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    zeroshot.write(tiny_heads.head(), tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


def built(spec: RunSpec, file: Path) -> Built:
    where = tiny.where(file.parent, head_file=file)
    card = registry.get(spec.dataset)
    return Built(spec, card, where, open_data(card, where.data_root, spec, ImageCache(None)))


def run(spec: RunSpec, file: Path, **changes: Any) -> Any:
    found = execute(spec, {"head": "nowhere"}, tiny.where(file.parent, head_file=file, keep_weights="all", **changes),
                    file.parent / "runs")
    assert found.status == "ok", found.failure
    return found


# The formula.

@torch.no_grad()
@pytest.mark.parametrize("method", ["linear", "full", "lora", "bitfit", "ln_tune"])
@pytest.mark.parametrize("shape", ["projected", "shifted", "plain"])
def test_logits_at_the_start_are_scaled_cosines_of_projected_features_and_names(method: str, shape: str,
                                                                                tmp_path: Path) -> None:
    dice = np.random.default_rng(1)
    plain = dict(projection=None, embeddings=dice.normal(size=(4, tiny_heads.FEATURE)).astype(np.float32))
    head = tiny_heads.head(shift=shape == "shifted", **plain if shape == "plain" else {})
    zeroshot.write(head, tmp_path / "head.safetensors")
    spec = tiny_heads.spec(tmp_path / "head.safetensors", method)
    one = built(spec, tmp_path / "head.safetensors")
    torch.manual_seed(0)
    x = torch.randn(3, 3, tiny.SIZE, tiny.SIZE)
    net: Any = built(tiny.spec(method, drop_path=0.0), tmp_path).fit.model.eval()  # same seed: the same backbone
    feature = net.forward_head(net.forward_features(x), pre_logits=True)
    assert feature.shape == (3, tiny_heads.FEATURE)
    found = one.fit.model.eval()(x)
    np.testing.assert_allclose(found, naive(feature, head), atol=1e-4)
    assert float(np.abs(naive(feature, head)).max()) > 1, "no row of zeros is compared"


def test_the_head_and_the_projection_that_train_have_their_start_as_anchor(file: Path) -> None:
    fit = built(tiny_heads.spec(file, "full"), file).fit
    assert fit.trainable.keys() == fit.anchor.keys()
    assert {n for n in fit.anchor if n.startswith("head")} == {
        "head.weight", "head.bias", "head_drop.1.weight", "head_drop.1.shift"}
    assert fit.head == {"head.weight", "head.bias"} and all(torch.equal(fit.anchor[n], p.detach())
                                                            for n, p in fit.trainable.items())
    plain = built(tiny.spec("full"), file).fit
    assert not plain.head & plain.anchor.keys()
    alone = built(tiny_heads.spec(file, "linear"), file).fit
    assert alone.trainable.keys() == alone.anchor.keys() == {"head.weight", "head.bias"}


@pytest.mark.parametrize("method", ["full+wise(alpha=0.0, points=0)", "lora+wise(alpha=0.0, points=0)",
                                    "full+tpgm(gamma=0.0)", "full+tpgm(when='posthoc', gamma=0.0)"])
def test_who_goes_all_the_way_back_has_the_zero_shot_model_bit_for_bit(method: str, file: Path) -> None:
    spec = tiny_heads.spec(file, method, epochs=2, drop_path=0.0)
    start: Any = built(spec, file).fit.model.eval()
    run(spec, file)
    stored = open_run(store.path_of(spec, file.parent / "runs"), head=file)
    x = torch.randn(5, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(stored.model(x), start(x))


def test_radii_reach_the_head_and_its_distance_counts(file: Path) -> None:
    one = built(tiny_heads.spec(file, "full+tpgm"), file)
    assert {"head.weight", "head.bias", "head_drop.1.weight"} <= {v.name for v in one.fit.views}
    assert not {v.name for v in built(tiny.spec("lora+tpgm"), file).fit.views} & one.fit.head
    penalty = built(tiny_heads.spec(file, "full+l2_sp"), file).method.regularizers[0]
    assert penalty.new == []  # type: ignore[attr-defined]


# The run.

def test_a_run_is_made_verified_asked_and_its_memory_forecast(file: Path) -> None:
    spec = tiny_heads.spec(file, "lora", epochs=2, drop_path=0.0)
    found = run(spec, file)
    path = store.path_of(spec, file.parent / "runs")
    assert found.params.trained_head == 4 * WIDTH + 4
    assert forecast(spec, tiny.CLASSES, 64, file).memory == found.memory
    plain = execute(replace(spec, zero_shot=""), {}, tiny.where(file.parent), file.parent / "runs")
    assert found.backbone.params == plain.backbone.params + WIDTH * tiny_heads.FEATURE + WIDTH  # type: ignore[union-attr]
    assert check(path, None, None, place("cpu", file))[0], check(path, None, None, place("cpu", file))
    good, told = check(path, None, None, place("cpu"))
    assert not good and "give it with --head FILE" in told
    with pytest.raises(BackboneError, match=spec.zero_shot):
        open_run(path)
    zeroshot.write(tiny_heads.head(seed=1), file.with_name("other.safetensors"))
    with pytest.raises(BackboneError, match="is another file"):
        open_run(path, head=file.with_name("other.safetensors"))
    with pytest.raises(StoredError, match="did not start from class embeddings; leave --head out"):
        open_run(store.path_of(replace(spec, zero_shot=""), file.parent / "runs"), head=file)
    stored = open_run(path, head=file)
    for kind in ("timm", "peft"):
        with pytest.raises(StoredError, match="export it --as state-dict"):
            folder.export(stored, kind, file.parent / kind)
    assert any("add --head with it" in line and "nowhere" in line for line in again(found).told)


def test_a_linear_probe_from_names_is_served_from_what_is_stored(file: Path) -> None:
    spec = tiny_heads.spec(file, "linear", epochs=2, drop_path=0.0)
    found = run(spec, file, cache_root=file.parent / "cache")
    assert list((file.parent / "cache").glob("prefix/*"))
    other = run(spec, file, checkpoints=None)
    assert other.metrics == found.metrics


# The run's name.

def test_unset_it_is_neither_hashed_nor_written_and_set_it_is_another_protocol() -> None:
    plain, own, other = (replace(fakes.spec(), zero_shot=h) for h in ("", "0" * 12, "1" * 12))
    assert plain.id == fakes.spec().id and "zero_shot" not in plain.written()
    assert len({s.id for s in (plain, own, other)}) == len({s.protocol_id for s in (plain, own, other)}) == 3
    for spec in (plain, own):
        text = to_json(fakes.record(spec, 0.5))
        assert from_json(text).spec == spec and sound(json.loads(text))


ASKED = Request(suite="custom", datasets=(tiny.DATASET,), methods=("full", "full+wise"), backbones=(tiny.MODEL,),
                data="/", no_pretrained=True, sets=("image_size=16",))


def test_planned_runs_name_the_file_and_carry_it_to_a_cluster(file: Path, tmp_path: Path) -> None:
    plan = make(replace(ASKED, head=file), tmp_path)
    digits = zeroshot.read(file).digits
    assert {p.spec.zero_shot for p in plan.runs} == {digits} and {p.head for p in plan.runs} == {file}
    assert plan.runs[0].passed["head"] == "nowhere, 'a picture of a {}.', scale 20.09"
    assert plan.view.name.endswith("-zero_shot") and "class names" in plan.view.protocol
    before = make(ASKED, tmp_path)
    assert not {p.spec.id for p in plan.runs} & {p.spec.id for p in before.runs}
    sent = [jobs.job_of(p, tiny.where(tmp_path), again=False) for p in (*plan.runs, *before.runs)]
    made = jobs.create(tmp_path / "jobs", "custom", "slurm", "", (), sent, Roots(tmp_path, tmp_path, tmp_path))
    assert [j.where.head_file for j in jobs.jobs_of(made)] == [file, file, None, None]


def test_the_suite_of_tpgm_on_imagenet_asks_for_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.planning.resolve import lacking_head, without_inputs
    from bench.suites import find

    asked = Request(suite="tpgm-imagenet")
    assert [p.text for p in without_inputs(asked)] == ["linear", "full", "full+l2_sp", "full+wise",
                                                       "full+tpgm(when='posthoc')", "full+tpgm_c(when='posthoc')"]
    (told,) = lacking_head(asked)
    assert "give --head FILE" in told and "bench head imagenet1k" in told
    with pytest.raises(UsageError) as error:
        make(asked, tmp_path)
    assert told in error.value.problems
    small = make(replace(asked, data="standin"), tmp_path)
    assert small.lacking == () and "heads are new ones" in small.view.note
    suite = find("tpgm-imagenet")
    assert suite is not None and backbones.family(suite().backbones[0]) == "vit"


def test_a_plan_without_the_file_is_told_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.suites import base

    made = replace(base.SUITES["custom"](), zero_shot=True)
    monkeypatch.setitem(base.SUITES, "custom", lambda: made)
    plan = make(ASKED, tmp_path)
    assert len(plan.runs) == 2 and "give --head FILE" in plan.lacking[0]
    with pytest.raises(UsageError, match="give --head FILE"):
        plan.check()


# What is refused.

@pytest.mark.parametrize(("asked", "told"), [
    (dict(methods=("lp_ft",)), "its head starts from the probe that it fits; leave one of them out"),
    (dict(methods=("sherl",)), "reads features of its own"),
    (dict(backbones=("resnet50",), sets=()), "are put behind a plain ViT"),
    (dict(sets=("image_size=16", "head_seed=0")), "head_seed=0 and --head exclude each other"),
    (dict(backbones=("deit_tiny_distilled_patch16_224",), sets=()), "not a DistilledViT"),
    (dict(backbones=("vit_tiny_patch16_224",), sets=()), "its projection reads 24 numbers and the feature has 192"),
])
def test_what_does_not_fit_is_told_while_planning(asked: dict[str, Any], told: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        make(replace(ASKED, head=file, **{"methods": ("full",)} | asked), tmp_path)
    assert any(told in problem for problem in error.value.problems), error.value.problems


def test_classes_of_another_number_order_or_name_are_refused() -> None:
    card, head = replace(registry.get(tiny.DATASET), class_names=NAMES), tiny_heads.head(file=Path("head.safetensors"))
    assert zeroshot.misfit(head, card) == "" and zeroshot.misfit(head, registry.get(tiny.DATASET)) == ""
    assert "holds 4 classes, 'tiny_test' has 5" in zeroshot.misfit(head, replace(card, classes=5))
    turned = zeroshot.misfit(head, replace(card, class_names=("dark", "black", "pale", "white")))
    assert "in another order: label 0 is 'black' there and 'dark' in the data set" in turned
    assert "by other names: label 3 is 'white' there and 'snow'" in zeroshot.misfit(
        head, replace(card, class_names=(*NAMES[:3], "snow")))
    assert "no classes of images" in zeroshot.misfit(head, replace(card, input="text"))


def put(at: Path, told: dict[str, str] | None = None, **changes: Any) -> Path:
    """A file, written by hand."""
    one = tiny_heads.head()
    tensors = {"embeddings": one.embeddings, "projection": one.projection, "shift": one.shift} | changes
    facts = {"classes": json.dumps(NAMES), "logit_scale": "3.0"} if told is None else told
    save_file({n: t for n, t in tensors.items() if t is not None}, at / "odd.safetensors", facts)
    return at / "odd.safetensors"


def test_a_file_by_hand_is_read_and_one_that_was_written_is_read_as_it_was(tmp_path: Path) -> None:
    found = zeroshot.read(put(tmp_path, embeddings=np.ones((4, WIDTH), np.float16)))
    assert found.classes == NAMES and found.templates == () and found.width == WIDTH and found.reads == 24
    assert found.embeddings.dtype == np.float32 and found.told == "embeddings of class names, scale 20.09"
    one = tiny_heads.head(words=("a", "b", "c", "ü"))
    digits = zeroshot.write(one, tmp_path / "whole.safetensors")
    back = zeroshot.read(tmp_path / "whole.safetensors")
    assert (back.words, back.templates, back.origin, back.digits) == (one.words, one.templates, "nowhere", digits)
    for name in ("embeddings", "projection", "shift"):
        assert np.array_equal(getattr(one, name), getattr(back, name))


@pytest.mark.parametrize(("told", "changes", "problem"), [
    ({"classes": json.dumps(NAMES)}, {}, "says no logit_scale"),
    ({"classes": json.dumps(NAMES), "logit_scale": "100.0"}, {}, "says logit_scale '100.0'; it is the logarithm"),
    ({"classes": json.dumps(NAMES), "logit_scale": "nan"}, {}, "it is the logarithm"),
    ({"classes": json.dumps(NAMES), "logit_scale": "abc"}, {}, "says logit_scale 'abc'; it is the logarithm"),
    ({"logit_scale": "3.0"}, {}, "must say classes"),
    ({"logit_scale": "3.0", "classes": '{"a": 1}'}, {}, "must say classes"),
    ({"logit_scale": "3.0", "classes": '["a"]'}, {}, "names 1 class and holds 4 embeddings"),
    ({"logit_scale": "3.0", "classes": json.dumps(NAMES), "words": '["a"]'}, {}, "holds words for 1 of its 4 classes"),
    (None, {"embeddings": None}, "a file of class embeddings holds 'embeddings'"),
    (None, {"more": np.ones(3, np.float32)}, "may hold 'projection' and 'shift'"),
    (None, {"embeddings": np.ones(4, np.float32)}, "a row for each class"),
    (None, {"embeddings": np.full((4, WIDTH), np.inf, np.float32)}, "not finite"),
    (None, {"embeddings": np.eye(4, WIDTH, k=1, dtype=np.float32) * [[1], [0], [1], [1]]}, "the class 'dark'"),
    (None, {"projection": np.ones((7, 24), np.float32)}, "does not end in the 10 numbers"),
    (None, {"shift": np.ones(3, np.float32)}, "holds a shift of the form"),
    (None, {"projection": None}, "holds a shift of the form"),
])
def test_a_file_that_is_none_is_refused_in_a_sentence(told: dict[str, str] | None, changes: dict[str, Any],
                                                      problem: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"^--head 'odd\.safetensors' ") as error:
        zeroshot.read(put(tmp_path, told, **changes))
    assert problem in str(error.value)


def test_a_file_that_is_not_there_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="cannot be read"):
        zeroshot.read(tmp_path / "no.safetensors")
    with pytest.raises(BackboneError, match="is no file"):
        zeroshot.read(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of that")
    with pytest.raises(BackboneError, match="cannot be read as safetensors"):
        zeroshot.read(tmp_path / "bad.safetensors")


def test_a_head_of_another_form_is_refused_when_it_is_built(file: Path) -> None:
    model = backbones.create("vit_tiny_patch16_224")
    with pytest.raises(BackboneError, match="24 numbers and the feature has 192"):
        put_in(model, zeroshot.read(file), "vit_tiny_patch16_224")
