"""Exported folders compute what the run computed, without Regatta; what cannot be exported says why."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

from bench import checkout, cli
from bench.engine import backbones
from bench.engine.record import execute
from bench.engine.stored import Stored, open_run
from bench.export import folder, plain
from methods.weights import StoredError
from reports.stats import wilson
from results import store

from . import tiny

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
# What a reader does: the code of the card in a folder of its own, in a Python that knows nothing of this repository.
READER = """
import os, re, sys
import torch
far = {}
for place in sys.argv[1:]:
    os.chdir(place)
    code = re.search(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1]
    assert len(code.splitlines()) <= 10
    world = {}
    exec(code, world)
    kept = torch.load("../kept.pt", weights_only=True)
    with torch.no_grad():
        logits = world["model"](kept["x"])
    assert torch.equal(logits.argmax(1), kept["logits"].argmax(1)), place
    print(os.path.basename(place), float((logits - kept["logits"]).abs().max()))
assert not {"bench", "methods", "results"} & set(sys.modules)
"""


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


def stored(root: Path, method: str, model: str = backbones.EMBEDDED, size: int = 0) -> Stored:
    """A run of one epoch on an embedded backbone, or on another one of random weights."""
    file = backbones.find_weights(model, None, model not in backbones.SHIPPED)
    spec = tiny.spec(method, model=model, weights=file.sha256, image_size=size or backbones.image_size(model),
                     epochs=1, lr=0.01)
    record = execute(spec, {}, tiny.where(root, checkpoints=None, keep_weights="all", weights_file=file.file),
                     root / "runs")
    assert record.status == "ok", record.failure
    return open_run(store.path_of(spec, root / "runs"))


def kept(run: Stored, place: Path) -> None:
    """All test images as the model reads them, and the run's logits."""
    from bench.engine.transforms import transformed

    size, facts = run.record.spec.image_size, run.record.backbone
    assert facts is not None
    raw = torch.stack([transformed(i.image.open(), "none", size, 0) for i in tiny.items(place, "test")])
    x = (raw.float() / 255 - torch.tensor(facts.mean)[:, None, None]) / torch.tensor(facts.std)[:, None, None]
    with torch.no_grad():
        logits = run.model(x)
    assert torch.allclose(run.asked()(raw), logits, atol=1e-6)
    torch.save({"x": x, "logits": logits}, place / "kept.pt")


def exported(root: Path, kind: str, methods: list[str], model: str = backbones.EMBEDDED, size: int = 0) -> list[Path]:
    """A folder for each method, each beside what the run said."""
    made = []
    for i, method in enumerate(methods):
        place = root / f"{model}-{kind}-{i}"
        place.mkdir()
        run = stored(place, method, model, size)
        kept(run, place)
        folder.export(run, kind, place / kind)
        made.append(place / kind)
    return made


def read_elsewhere(folders: list[Path], cwd: Path) -> list[float]:
    """How far the logits are from the run's on all test images, in a process without this repository."""
    done = subprocess.run([sys.executable, "-I", "-c", READER, *map(str, folders)], cwd=cwd, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(line.split()[1]) for line in done.stdout.splitlines()]


@needs_peft
def test_peft_alone_computes_what_the_run_computed(tmp_path: Path) -> None:
    methods = ["lora(rank=2)", "lora(rank=2, targets='all', shared_a=True, scale='rslora')",
               "lora(rank=2, init='pissa')", "lora(rank=2, experts=True)",
               "dora(rank=2, targets='v,fc1')", "vera(rank=8, targets='all')",
               "vera(rank=8, shared=True)", "peft(type='ia3')", "peft(type='vera', r=8, key=3)",
               "peft(type='lora', r=2, options='use_dora=True')"]
    far = read_elsewhere(exported(tmp_path, "peft", methods), tmp_path)
    assert len(far) == len(methods) and max(far) < 1e-5, dict(zip(methods, far, strict=True))


def test_timm_alone_computes_what_the_run_computed(tmp_path: Path) -> None:
    made = exported(tmp_path, "timm", ["ssf", "lora(rank=2)+l2_sp", "linear", "full"])
    far = read_elsewhere(made, tmp_path)
    assert len(far) == 4 and max(far) < 1e-5, far
    # whoever may read the card may read the weights: `save_file` of safetensors keeps them for their owner
    assert len({p.stat().st_mode for p in made[0].iterdir() if p.is_file()}) == 1
    import timm

    again = timm.create_model(f"local-dir:{made[0]}", pretrained=True).eval()
    told = torch.load(made[0].parent / "kept.pt", weights_only=True)
    with torch.no_grad():
        assert torch.allclose(again(told["x"]), told["logits"], atol=1e-5)
    assert again.pretrained_cfg["mean"] == [0.5, 0.5, 0.5]


def test_each_backbone_of_the_repository_is_a_plain_vit_of_timm(tmp_path: Path) -> None:
    for model in backbones.SHIPPED:
        (tmp_path / model).mkdir()
        folder.export(stored(tmp_path / model, "linear", model), "timm", tmp_path / model / "out")
        said = (tmp_path / model / "out" / "README.md").read_text()
        assert f"img_size={backbones.image_size(model)}, patch_size=8" in said


@needs_peft
def test_both_heads_of_a_distilled_deit_go_along_under_timm_s_names(tmp_path: Path) -> None:
    name = "deit_tiny_distilled_patch16_224"
    made = {kind: exported(tmp_path, kind, ["lora(rank=2)"], name, 32) for kind in ("timm", "peft", "state-dict")}
    far = read_elsewhere([place for places in made.values() for place in places], tmp_path)
    assert len(far) == 3 and max(far) < 1e-5, far
    import timm
    from safetensors.torch import load_file

    names = {n for n in load_file(made["timm"][0] / "model.safetensors") if "head" in n}
    assert names == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    again = timm.create_model(f"local-dir:{made['timm'][0]}", pretrained=True).eval()
    told = torch.load(made["timm"][0].parent / "kept.pt", weights_only=True)
    with torch.no_grad():
        assert torch.allclose(again(told["x"]), told["logits"], atol=1e-5)
    assert list(again.pretrained_cfg["classifier"]) == ["head", "head_dist"]


@needs_peft
def test_peft_alone_computes_a_low_rank_convolution(tmp_path: Path) -> None:
    made = [*exported(tmp_path, "peft", ["lora(rank=2, targets='conv1,conv2,downsample')"], "test_resnet", 32),
            *exported(tmp_path, "peft", ["lora(rank=2, scale='rslora')"], "test_convnext", 32),
            *exported(tmp_path, "timm", ["lora(rank=2)"], "test_resnet", 32)]
    far = read_elsewhere(made, tmp_path)
    assert len(far) == 3 and max(far) < 1e-5, far
    saved = (made[0] / "adapter_config.json").read_text()
    assert "conv2" in saved and "downsample" in saved


@needs_peft
def test_a_convolution_that_pads_by_the_image_s_size_has_no_pair_in_peft(tmp_path: Path) -> None:
    run = stored(tmp_path, "lora(rank=2, targets='conv_exp')", "tf_efficientnetv2_b0", 32)
    with pytest.raises(StoredError, match=r"conv_exp pads by the image's size, which.*does not; export it --as timm"):
        folder.export(run, "peft", tmp_path / "out")
    folder.export(run, "timm", tmp_path / "out")


def test_what_cannot_be_folded_goes_as_tensors_and_a_computation_of_torch(tmp_path: Path) -> None:
    far = read_elsewhere(exported(tmp_path, "state-dict", ["vpt_deep(prompts=2)", "adapter"]), tmp_path)
    assert len(far) == 2 and max(far) < 1e-5, far


def test_what_has_no_such_form_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    run = stored(tmp_path, "vpt_deep(prompts=2)")
    with pytest.raises(StoredError, match=r"cannot be folded into its backbone.*--as state-dict"):
        folder.export(run, "timm", tmp_path / "out")
    if find_spec("peft") is not None:
        with pytest.raises(StoredError, match="no form that peft knows; export it --as state-dict"):
            folder.export(run, "peft", tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    with pytest.raises(StoredError, match="is there already"):
        folder.export(run, "state-dict", tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "runs"]


def test_what_computes_something_else_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored(tmp_path, "ssf")
    monkeypatch.setattr(folder, "merged_copy", lambda adapter, model: _disturbed(adapter, model))
    with pytest.raises(StoredError, match="was not exported: loaded again, its logits differ by"):
        folder.export(run, "timm", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _disturbed(adapter: object, model: torch.nn.Module) -> torch.nn.Module:
    from methods.weights import merged_copy

    made = merged_copy(adapter, model)  # type: ignore[arg-type]
    with torch.no_grad():
        made.get_parameter("head.bias").add_(0.1)
    return made


def test_the_card_tells_method_data_numbers_licences_and_how_to_load(tmp_path: Path) -> None:
    run = stored(tmp_path, "linear")
    folder.export(run, "timm", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    top1, n = run.record.metrics["test.top1"], run.record.metrics["test.n"]
    assert top1 is not None and n == 40
    low, high = wilson(round(top1 * n), int(n))
    assert f"test top-1 {100 * top1:.2f} %, 95 % interval {100 * low:.2f} to {100 * high:.2f} % over 40" in text
    for said in ("`linear`", "Tiny", "Apache-2.0", f"run {run.record.run_id}", "checkpoint_path='model.safetensors'",
                 "48 x 48", "the data: "):
        assert said in text, said
    head = yaml.safe_load(text.split("---")[1])
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(top1, abs=1e-6)
    assert plain.of(run).code(4).startswith("timm.create_model('vit_tiny_patch16_224', img_size=48, patch_size=8")


def test_a_committed_runs_numbers_are_what_a_hub_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    path = store.record_files(checkout.REFERENCE / "demo")[0]
    record = store.load(path)
    assert cli.main(["export", record.run_id, "--as", "hf-eval", "--out", str(tmp_path / "numbers")]) == 0
    told = yaml.safe_load((tmp_path / "numbers" / "eval.yaml").read_text())
    name, results = model_index_to_eval_results(told["model-index"])
    assert record.method.text in name and record.run_id in name
    assert results[0].metric_value == pytest.approx(record.metrics["test.top1"], abs=1e-6)
    assert "stand-in" in results[0].dataset_name or not record.spec.standin
    assert cli.main(["export", record.run_id, "--as", "timm", "--out", str(tmp_path / "weights")]) == 2
    said = capsys.readouterr().err
    assert re.search("stored no weights|come without theirs", said) and "Traceback" not in said
