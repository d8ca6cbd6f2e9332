"""`head`: class names embedded by CLIP's text tower, and by that of a run on pairs; logits are those of two towers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from bench import checkout, cli
from bench.dispatch import jobs
from bench.engine import classnames, zeroshot
from bench.engine.backbones import EMBEDDED, BackboneError, find_weights
from bench.engine.build import Built
from bench.engine.cache import ImageCache
from bench.engine.loaders import open_data
from bench.engine.projected import put_in, start
from bench.engine.record import execute
from bench.engine.stored import open_pair
from bench.planning.plan import make
from bench.planning.request import Request
from datasets import registry
from methods.pair import TEMPERATURE, Inputs, Towers
from methods.vit import replace_head
from methods.weights import StoredError
from results import store

from . import tiny, tiny_heads, tiny_pairs, tiny_texts
from .tiny_heads import END, NAMES, SCALE


@pytest.fixture(autouse=True)
def tiny_world() -> Iterator[None]:
    tiny.use()
    tiny_pairs.use()
    yield
    tiny_pairs.forget()
    tiny.forget()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    pytest.importorskip("transformers")
    at = tmp_path_factory.mktemp("clip") / "tiny-clip"
    return at, tiny_heads.clip(at)


def as_timm(theirs: Any) -> VisionTransformer:
    """Theirs image tower in timm's form, name by name."""
    from functools import partial

    from methods.text import QuickGELU

    net = VisionTransformer(img_size=tiny.SIZE, patch_size=8, embed_dim=24, depth=2, num_heads=4, mlp_ratio=40 / 24,
                            num_classes=0, pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5),  # type: ignore[arg-type]
                            act_layer=QuickGELU).eval()
    told = theirs.vision_model.state_dict()

    def put(own: nn.Module, name: str) -> None:
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" in told:
                getattr(own, kind).copy_(told[f"{name}.{kind}"])

    with torch.no_grad():
        net.patch_embed.proj.weight.copy_(told["embeddings.patch_embedding.weight"])
        net.cls_token.copy_(told["embeddings.class_embedding"].view(1, 1, -1))  # type: ignore[union-attr]
        net.pos_embed.copy_(told["embeddings.position_embedding.weight"][None])  # type: ignore[union-attr]
        put(net.norm_pre, "pre_layrnorm")
        put(net.norm, "post_layernorm")
        for i, block in enumerate(net.blocks):
            at, own = f"encoder.layers.{i}", dict(block.named_modules())
            for kind in ("weight", "bias"):
                parts = [told[f"{at}.self_attn.{n}_proj.{kind}"] for n in "qkv"]
                getattr(own["attn.qkv"], kind).copy_(torch.cat(parts))
            for ours, name in (("attn.proj", "self_attn.out_proj"), ("norm1", "layer_norm1"), ("norm2", "layer_norm2"),
                               ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):
                put(own[ours], f"{at}.{name}")
    return net


@torch.no_grad()
def test_the_start_is_clips_own_zero_shot_answer(clip: tuple[Path, Any]) -> None:
    """Against transformers' CLIPModel on pictures and texts: `logits_per_image` is the reference."""
    at, theirs = clip
    head = classnames.made(classnames.of_folder(at), NAMES, NAMES, ["a photo of a {}"])
    assert head.logit_scale == pytest.approx(SCALE) and head.shift is None and head.reads == 24
    ids = torch.tensor([[1, 3, 4, 5, 3, 6 + i, END] for i in range(4)])  # <start> a photo of a NAME <end>
    x = torch.randn(5, 3, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(0))
    wanted = theirs(input_ids=ids, pixel_values=x).logits_per_image  # (5, 4)
    net = as_timm(theirs)
    put_in(net, head, "tiny")
    replace_head(net, 4)
    start(net, head)
    torch.testing.assert_close(net(x), wanted, atol=1e-4, rtol=1e-5)
    assert float(wanted.std()) > 0.1


@torch.no_grad()
def test_several_templates_are_averaged_at_length_one(clip: tuple[Path, Any]) -> None:
    at, theirs = clip
    templates = ("a photo of a {}", "drawing of a {}", "{}")
    head = classnames.made(classnames.of_folder(at), NAMES, NAMES, templates)
    for c in range(4):
        rows = []
        for template in ([1, 3, 4, 5, 3, 6 + c, END], [1, 10, 5, 3, 6 + c, END], [1, 6 + c, END]):
            pooled = theirs.text_model(input_ids=torch.tensor([template])).pooler_output[0].double().numpy()
            row = theirs.text_projection.weight.double().numpy() @ pooled
            rows.append(row / np.sqrt(row @ row))
        mean = sum(rows) / 3
        np.testing.assert_allclose(head.embeddings[c], mean / np.sqrt(mean @ mean), atol=1e-5)


def pair_run(root: Path, at: Path, method: str = "linear") -> Path:
    spec = tiny_pairs.spec(method, at, epochs=2)
    assert tiny_texts.run(spec, at, root, keep_weights="all").status == "ok"
    return store.path_of(spec, root / "runs")


def test_the_classifier_answers_as_the_two_towers_of_a_run_on_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                    ) -> None:
    """Its logits are the inner products of the towers' embeddings over the temperature: by the towers themselves."""
    at = tiny_texts.folder(tmp_path / "checkpoint")
    path = pair_run(tmp_path, at)
    words = ["good", "bad", "fine", "poor"]
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    file, names = tmp_path / "head.safetensors", tmp_path / "names.txt"
    names.write_text("\n".join(words))
    assert cli.main(["head", tiny.DATASET, "--run", path.stem.rpartition("-")[2], "--weights", str(at), "--names",
                     str(names), "--template", "the {}", "--out", str(file)]) == 0
    towers = open_pair(path, at).model
    assert isinstance(towers, Towers)
    plain = find_weights(EMBEDDED)
    spec = tiny_heads.spec(file, "full", model=EMBEDDED, weights=plain.sha256, image_size=48, drop_path=0.0)
    where = tiny.where(tmp_path, weights_file=plain.file, head_file=file)
    card = registry.get(tiny.DATASET)
    model = Built(spec, card, where, open_data(card, tmp_path, spec, ImageCache(None))).fit.model.eval()
    x = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    ids = torch.zeros(4, 8, dtype=torch.int64)  # the pad is 0
    for i in range(4):
        ids[i, :4] = torch.tensor([1, 12, 4 + i, 2])  # [CLS] the NAME [SEP]
    with torch.no_grad():
        image, text = towers(Inputs(x, ids)).chunk(2, dim=1)
        torch.testing.assert_close(model(x), image @ text.T / TEMPERATURE, atol=1e-5, rtol=1e-5)


def test_a_run_that_moved_its_tower_for_pictures_gives_no_head(tmp_path: Path) -> None:
    at = tiny_texts.folder(tmp_path / "checkpoint")
    with pytest.raises(StoredError, match="trained its tower for pictures too"):
        classnames.of_run(pair_run(tmp_path, at, "lora"), at)
    done = execute(tiny.spec(epochs=1), {}, tiny.where(tmp_path), tmp_path / "runs")
    with pytest.raises(StoredError, match="has no text tower"):
        classnames.of_run(store.path_of(done.spec, tmp_path / "runs"))


def test_words_that_the_tower_cannot_tell_apart_are_refused(clip: tuple[Path, Any]) -> None:
    source = classnames.of_folder(clip[0])
    with pytest.raises(BackboneError, match="'zebra' and 'yak' have the same embedding"):
        classnames.made(source, NAMES, ["black", "zebra", "pale", "yak"], ["a {}"])
    with pytest.raises(BackboneError, match="14 tokens long, the tower reads 12"):
        classnames.made(source, NAMES, NAMES, ["a " * 11 + "{}"])


def test_a_folder_that_is_no_whole_clip_is_refused(clip: tuple[Path, Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(BackboneError, match="tower of kind 'bert', which no pictures were trained with"):
        classnames.of_folder(tiny_texts.folder(tmp_path / "bert"))
    with pytest.raises(BackboneError, match=r"has no config\.json"):
        classnames.of_folder(tmp_path)
    (tmp_path / "half").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "half" / name).write_bytes((clip[0] / name).read_bytes())
    kept: dict[str, Tensor] = load_file(clip[0] / "model.safetensors")
    del kept["visual_projection.weight"]
    save_file(kept, tmp_path / "half" / "model.safetensors")
    with pytest.raises(BackboneError, match=r"holds no 'visual_projection\.weight'; give the folder of a whole CLIP"):
        classnames.of_folder(tmp_path / "half")


# Through the command line.

def test_a_file_is_made_run_with_and_asked(clip: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checkout, "RUNS", tmp_path / "runs")
    out, names = tmp_path / "head.safetensors", tmp_path / "names.txt"
    names.write_text("".join(f"{name}\n" for name in NAMES))
    assert cli.main(["head", tiny.DATASET, "--weights", str(clip[0]), "--names", str(names), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "4 classes of tiny_test in 10 numbers behind a projection of 24, 1 template, scale 20.09" in told
    assert zeroshot.read(out).classes == NAMES and zeroshot.read(out).templates == ("a photo of a {}.",)
    (planned,) = make(Request(suite="custom", datasets=(tiny.DATASET,), methods=("full+wise",), head=out, data="/",
                              backbones=(tiny.MODEL,), no_pretrained=True, epochs=1, batch_size=16,
                              sets=("image_size=16", "drop_path=0.0")), tmp_path / "runs").runs
    assert planned.spec.zero_shot in told
    job = jobs.job_of(planned, tiny.where(tmp_path, keep_weights="all"), again=False)
    record = execute(job.spec, job.passed, job.where, tmp_path / "runs")
    assert record.status == "ok", record.failure
    assert record.passed["head"] == "tiny-clip, 'a photo of a {}.', scale 20.09"
    image = tmp_path / "white.png"
    Image.new("RGB", (16, 16), (240, 240, 240)).save(image)
    assert cli.main(["predict", record.run_id, str(image)]) == 2
    assert "give it with --head FILE" in capsys.readouterr().err
    assert cli.main(["predict", record.run_id, str(image), "--head", str(out)]) == 0
    assert "%" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "told"), [
    (["digits"], "known here by number alone; give --names FILE, a name on each of its 10 lines"),
    ([tiny.DATASET, "--names", "three.txt"], "has 3 lines, 'tiny_test' has 4 classes"),
    ([tiny.DATASET, "--names", "gap.txt"], "line 2 is empty"),
    ([tiny.DATASET, "--names", "none.txt"], "cannot be read"),
    ([tiny.DATASET, "--names", "four.txt"], "name a text tower that was trained with pictures"),
    ([tiny.DATASET, "--names", "four.txt", "--weights", "four.txt"], "is no folder; give the one that holds CLIP's"),
    ([tiny.DATASET, "--names", "four.txt", "--run", "0123", "--template", "a photo"], "with one {} for the class"),
    (["tiny_film", "--names", "two.txt", "--run", "0123"], "holds texts and no classes of images"),
])
def test_words_that_cannot_be_are_answered_by_a_sentence(words: list[str], told: str, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("three", "a\nb\nc\n"), ("gap", "a\n\nc\nd\n"), ("four", "a\nb\nc\nd\n"), ("two", "a\nb\n")):
        Path(f"{name}.txt").write_text(text)
    assert cli.main(["head", *words, "--out", "head.safetensors"]) == 2
    assert told in capsys.readouterr().err
    assert not Path("head.safetensors").exists()
    assert cli.main(["head", tiny.DATASET, "--names", "four.txt", "--run", "0123", "--out", "no/head.bin"]) == 2
    problems = capsys.readouterr().err
    assert "must end in .safetensors" in problems and "there is no such folder" in problems
