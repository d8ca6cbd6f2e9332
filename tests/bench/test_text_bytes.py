"""Bytes kept for backward on text towers of the published sizes, without a weight of them; and a real checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bench.engine import backbones
from bench.engine.forecast import forecast
from bench.engine.packaged import TEXT_WHEELS
from bench.engine.wording import Wording
from datasets.card import Item, Text
from methods.adapters import unipt
from methods.grammar import parse
from results.schema import RunSpec

NAME = "minilm.package"
here = pytest.mark.skipif(TEXT_WHEELS[NAME].path() is None, reason=f"{TEXT_WHEELS[NAME].project} is not installed")
GLU = "sherl(n_late=0, squeeze='glu', taps='0 2 3 4 6 7 8 10 11')"  # of 2.1 in the paper's encoder: no late layer


def spec(model: str, method: str) -> RunSpec:
    text = parse(method)
    return RunSpec(
        dataset="x", model=model, method=text.name, options=text.options, seed=0, epochs=1, batch_size=8,
        eval_batch_size=8, lr=1e-3, weight_decay=0.0, warmup_epochs=0, image_size=0, augment="none", normalise="none",
        precision="fp32", phase="final", select="last", data="x", weights="random", optimizer="adamw",
        schedule="cosine", clip=0.0, drop_path=0.0, head_lr_scale=1.0, drop_last=False, attention="fused", threads=1,
        holdout=0.1, text_length=128)


@pytest.mark.parametrize(("model", "method", "mib"), [
    ("bert_base", "lora", 49.7), ("bert_base", "lst(init='random')", 15.2), ("bert_base", "sherl(reduction=2)", 17.6),
    ("bert_base", "sherl", 11.0), ("t5_base", "lora(rank=32)", 50.7), ("t5_base", GLU, 7.0),
    ("bert_base", "full", 72.5), ("bert_base", "adapter", 46.8), ("bert_base", "bitfit", 45.5),
    ("t5_base", "full", 72.8), ("t5_base", "lst(init='random', drop_every=4)", 11.4),
    ("t5_base", "sherl(squeeze='glu')", 12.8)])
def test_what_a_step_keeps_of_a_text_of_128_tokens(model: str, method: str, mib: float) -> None:
    """Measured beside the transformers classes before this code was written, dropout 0, to the digit given."""
    memory = forecast(spec(model, method), 2).memory
    assert memory is not None and memory.saved_bytes_per_image is not None
    assert memory.saved_bytes_per_image / 2**20 == pytest.approx(mib, rel=0.01)


@pytest.mark.parametrize(("model", "method", "mib"), [
    ("bert_base", "unipt(reduction=2)", 14.1), ("t5_base", "unipt(reduction=8)", 8.3)])
def test_unipt_keeps_its_masked_scores_beside_what_was_measured_without_a_mask(
        model: str, method: str, mib: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured form had no mask, so padding moved its answers: relu's output and the masked one are both kept."""

    def kept() -> float:
        memory = forecast(spec(model, method), 2).memory
        assert memory is not None and memory.saved_bytes_per_image is not None
        return memory.saved_bytes_per_image / 2**20

    masked, attention = kept(), unipt.attention
    monkeypatch.setattr(unipt, "attention", lambda query, x, real=None: attention(query, x))
    plain = kept()
    assert plain == pytest.approx(mib, rel=0.01) and masked - plain == pytest.approx(12 * 128**2 / 2**18, rel=0.05)


@here
@torch.no_grad()
def test_minilm_is_transformers_minilm_on_real_sentences() -> None:
    kit = pytest.importorskip("transformers")
    file = backbones.find_weights(NAME).file
    assert file is not None
    words = Wording(backbones.tokenizer_file(NAME, file), pad=0)
    items = [Item(Text("a", "A man is eating food.", None), 0), Item(Text("b", "The girl carries a baby", "yes"), 0)]
    ids = torch.from_numpy(words.numbers(items, 24)[0]).long()
    model = kit.BertModel.from_pretrained(file.parent, add_pooling_layer=False, local_files_only=True).eval()
    kinds = torch.tensor(kit.AutoTokenizer.from_pretrained(file.parent, local_files_only=True)(
        [i.image.a for i in items], [i.image.b or "" for i in items], padding="max_length",  # type: ignore[union-attr]
        max_length=24)["token_type_ids"])
    real = ids != 0
    kinds = kinds * torch.tensor([[0], [1]])  # the first is no pair
    expected = model(ids, attention_mask=real.long(), token_type_ids=kinds).last_hidden_state
    net = backbones.load(NAME, backbones.find_weights(NAME)).model.eval()
    found = net.forward_features(ids)  # type: ignore[operator]
    torch.testing.assert_close(found[real], expected[real], atol=1e-5, rtol=0)
    mean = (expected * real[..., None]).sum(1) / real.sum(1, keepdim=True)
    torch.testing.assert_close(net.forward_head(found, pre_logits=True), mean, atol=1e-5, rtol=0)  # type: ignore


@here
def test_a_package_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXT_WHEELS, NAME, replace(TEXT_WHEELS[NAME], sha256="0" * 64))
    with pytest.raises(backbones.BackboneError, match=r"is not the file of version 0\.1\.0"):
        backbones.find_weights(NAME)
