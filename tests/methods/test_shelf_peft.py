"""The shelf against Hugging Face's peft: VeRA, rsLoRA, PiSSA and LoRA+'s optimizer, within 1e-5, for equal weights."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from robust_kit import setup
from safetensors.torch import load_file, save_file
from tiny_models import adapted, scramble, tiny_vit
from torch import Tensor, nn

from bench.engine.optim import make_optimizer

LAYERS = {"o": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}  # whole layers, which peft sees as they are
TEXTS = {"vera": "vera(rank=6, targets='o,fc1,fc2', key=3)", "rslora": "lora(rank=4, alpha=12, scale='rslora', "
         "targets='o,fc1,fc2')", "pissa": "lora(rank=4, alpha=4, init='pissa', targets='o,fc1,fc2')"}
SPEC: Any = SimpleNamespace(decay="matrices", head_lr_scale=1.0, weight_decay=0.0, lr=1e-2, optimizer="adamw")


def layer_of(model: nn.Module, name: str) -> Any:
    return model.get_submodule(f"blocks.1.{LAYERS[name]}")


def answers_of(method: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What peft is given, and our answers to it."""
    _, model = adapted(TEXTS[method], tiny_vit())
    generator = torch.Generator().manual_seed(7)
    given: dict[str, Tensor] = {}
    answers: dict[str, Tensor] = {}
    for name in LAYERS:
        layer, key = layer_of(model, name), f"{method}.{name}"
        pair = layer.lora[name]
        if method == "vera":
            shared = model.vera
            answers |= {f"{key}.d_start": pair.d.clone(), f"{key}.b_start": pair.b.clone(),
                        f"{key}.A": shared.down.clone(), f"{key}.B": shared.up.clone()}  # type: ignore[union-attr, operator]
        else:
            start = pair.scale * pair.up @ pair.down
            rest = layer.weight - start if method == "pissa" else layer.weight
            answers |= {f"{key}.start": start, f"{key}.rest": rest}
    scramble(model)
    for name in LAYERS:
        layer, key = layer_of(model, name), f"{method}.{name}"
        pair = layer.lora[name]
        x = torch.randn(2, 5, layer.in_features, generator=generator).requires_grad_()
        above = torch.randn(2, 5, layer.out_features, generator=generator)
        layer(x).backward(above)
        trained = {"b": pair.b, "d": pair.d} if method == "vera" else {"A": pair.down, "B": pair.up}
        words = {"b": "bvec", "d": "dvec"}
        given |= {f"{key}.W": layer.weight, f"{key}.b": layer.bias, f"{key}.x": x, f"{key}.g": above}
        given |= {f"{key}.{words.get(n, n)}": p for n, p in trained.items()}
        answers |= {f"{key}.y": layer(x), f"{key}.dx": x.grad} | {f"{key}.d{n}": p.grad for n, p in trained.items()}
    return ({k: t.detach().clone().contiguous() for k, t in given.items()},
            {k: t.detach().clone() for k, t in answers.items()})


def three_steps() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """LoRA+ of ratio 16, three steps on three layers, as peft's script takes them."""
    _, fit = setup("lora(rank=4, alpha=4, lr_ratio=16, targets='o,fc1,fc2')", tiny_vit(), size=32)
    scramble(fit.model)
    optimizer, generator = make_optimizer(fit, SPEC), torch.Generator().manual_seed(8)
    given: dict[str, Tensor] = {}
    for name in LAYERS:
        layer, key = layer_of(fit.model, name), f"plus.{name}"
        given |= {f"{key}.W": layer.weight, f"{key}.b": layer.bias, f"{key}.A": layer.lora[name].down,
                  f"{key}.B": layer.lora[name].up, f"{key}.x": torch.randn(5, layer.in_features, generator=generator),
                  f"{key}.g": torch.randn(5, layer.out_features, generator=generator)}
    given = {k: t.detach().clone().contiguous() for k, t in given.items()}
    for _ in range(3):
        for group in optimizer.param_groups:  # as the loop does it
            group["lr"] = SPEC.lr * group["scale"]
        optimizer.zero_grad()
        for name in LAYERS:
            (layer_of(fit.model, name)(given[f"plus.{name}.x"]) * given[f"plus.{name}.g"]).sum().backward()
        optimizer.step()
    moved = {f"plus.{n}.A3": layer_of(fit.model, n).lora[n].down.detach() for n in LAYERS}
    return given, moved | {f"plus.{n}.B3": layer_of(fit.model, n).lora[n].up.detach() for n in LAYERS}


@pytest.fixture(scope="module")
def ours() -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
    return {method: answers_of(method) for method in TEXTS} | {"plus": three_steps()}


@pytest.fixture(scope="module")
def theirs(ours: dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]],
           tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """peft's answers, from one process: importing it is what takes time."""
    folder = tmp_path_factory.mktemp("peft")
    save_file({k: t for given, _ in ours.values() for k, t in given.items()}, folder / "in")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("peft_shelf.py")), "in", "out"], cwd=folder,
                          env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(folder / "out")


@pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
@pytest.mark.parametrize("method", [*TEXTS, "plus"])
def test_outputs_gradients_starts_and_steps_agree_with_peft(method: str, ours: Any, theirs: dict[str, Tensor]) -> None:
    answers = ours[method][1]
    other = {k: t for k, t in theirs.items() if k.startswith(f"{method}.")}
    if method == "rslora":  # A is random, B zero: nothing to compare before both are given
        answers = {k: t for k, t in answers.items() if not k.endswith(".start")}
        other = {k: t for k, t in other.items() if not k.endswith(".start")}
    assert answers.keys() == other.keys() and answers
    for key, value in answers.items():
        off = (value - other[key]).abs().max() / other[key].abs().max().clamp_min(1.0)
        assert value.shape == other[key].shape and off <= 1e-5, f"{key} is off by {off:.1e}"
        assert other[key].abs().max() > 1e-3 or key.endswith(".b_start")  # agreement on zeros would prove nothing
