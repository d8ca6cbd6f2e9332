"""Stored adapters: exact round trips, refusals in one sentence, nothing written by halves; the weight-decay rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import ADAPTERS, adapted, images, scramble, step, tiny_vit, trainable
from torch import nn

from methods.vit import head_names
from methods.weights import Header, StoredError, load, no_decay, read_header, save

HEADER = Header(backbone="tiny_vit.test", backbone_hash="a" * 64, method="lora(rank=8)", card="digits", classes=5)
SAME = {"backbone": HEADER.backbone, "backbone_hash": HEADER.backbone_hash, "method": HEADER.method}


def stored_lora(folder: Path) -> tuple[Path, nn.Module]:
    _, model = adapted("lora", tiny_vit())
    scramble(model)
    path = folder / "adapter.safetensors"
    save(path, model, HEADER)
    return path, model


@pytest.mark.parametrize("name", ADAPTERS)
def test_stored_adapter_reproduces_the_logits_exactly(name: str, tmp_path: Path) -> None:
    _, model = adapted(name, tiny_vit())
    model.train()
    step(model, steps=2)
    path = tmp_path / "adapter.safetensors"
    size = save(path, model, HEADER)
    _, fresh = adapted(name, tiny_vit())
    model.eval(), fresh.eval()
    with torch.no_grad():
        expected = model(images())
        assert not torch.equal(fresh(images()), expected)
        load(path, fresh, **SAME)
        assert torch.equal(fresh(images()), expected)
    assert size == path.stat().st_size and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ADAPTERS)
def test_only_what_was_trained_and_where_it_stands_is_stored(name: str, tmp_path: Path) -> None:
    _, model = adapted(name, tiny_vit())
    path = tmp_path / "adapter.safetensors"
    save(path, model, HEADER)
    with safe_open(path, framework="pt") as file:
        tensors = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    assert head_names(model) <= tensors.keys()
    assert sum(t.numel() for t in tensors.values() if t.is_floating_point()) == sum(
        p.numel() for p in trainable(model).values())
    chosen = {n for n, t in tensors.items() if not t.is_floating_point()}
    assert chosen <= {n for n, _ in model.named_buffers()}  # which entries of a frozen weight train


def test_header_says_backbone_method_and_card(tmp_path: Path) -> None:
    path, _ = stored_lora(tmp_path)
    assert read_header(path) == HEADER


@pytest.mark.parametrize("change, words", [
    ({"backbone": "vit_base.other"}, "was trained on tiny_vit.test (aaaaaaaaaaaa), not on vit_base.other"),
    ({"backbone_hash": "b" * 64}, "was trained on tiny_vit.test (aaaaaaaaaaaa), not on tiny_vit.test (bbbbbbbbbbbb)"),
    ({"method": "lora(rank=4)"}, "was trained by lora(rank=8), not by lora(rank=4)")])
def test_wrong_backbone_or_method_is_refused(tmp_path: Path, change: dict[str, str], words: str) -> None:
    path, _ = stored_lora(tmp_path)
    _, fresh = adapted("lora", tiny_vit())
    before = {n: p.detach().clone() for n, p in fresh.named_parameters()}
    with pytest.raises(StoredError) as caught:
        load(path, fresh, **(SAME | change))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert all(torch.equal(p, before[n]) for n, p in fresh.named_parameters())


def test_weights_of_another_shape_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path, _ = stored_lora(tmp_path)
    for text in ("lora(rank=4)", "bitfit"):
        _, fresh = adapted(text, tiny_vit())
        before = {n: p.detach().clone() for n, p in fresh.named_parameters()}
        with pytest.raises(StoredError, match="does not fit the model"):
            load(path, fresh, **SAME)
        assert all(torch.equal(p, before[n]) for n, p in fresh.named_parameters())


def test_files_that_are_none_of_ours_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoredError, match="there is no stored adapter"):
        read_header(tmp_path / "absent.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(stored_lora(tmp_path)[0].read_bytes()[:200])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    text = tmp_path / "text.safetensors"
    text.write_text("not tensors")
    odd = tmp_path / "odd.safetensors"
    save_file({"x": torch.zeros(1)}, odd, metadata={"regatta": json.dumps({"backbone": 1})})
    for path in (cut, foreign, text, odd):
        with pytest.raises(StoredError, match=path.name):
            read_header(path)


def test_newer_format_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    facts = {"backbone": "b", "backbone_hash": "h", "method": "m", "card": "c", "classes": 2, "format": 99}
    save_file({"x": torch.zeros(1)}, path, metadata={"regatta": json.dumps(facts)})
    with pytest.raises(StoredError, match="format 99"):
        read_header(path)


def test_vectors_and_prompts_are_not_decayed_matrices_are() -> None:
    assert no_decay("blocks.0.norm1.weight", torch.ones(4)) and no_decay("head.bias", torch.ones(4))
    assert no_decay("blocks.0.prompts", torch.ones(2, 4)) and no_decay("a.dora.q.magnitude", torch.ones(4))
    assert no_decay("a.change.prompt_up", torch.ones(4, 2))
    assert not no_decay("a.lora.q.up", torch.ones(4, 2)) and not no_decay("head.weight", torch.ones(2, 4))
