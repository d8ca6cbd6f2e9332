"""The other side of test_shelf_peft: Hugging Face's peft alone, in a process of its own.

`python peft_shelf.py IN OUT`: IN holds what each method is given, under `method.layer.`; OUT gets peft's answers.
"""

from __future__ import annotations

import sys

import peft
import torch
from peft.optimizers import create_loraplus_optimizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

Given = dict[str, Tensor]


def layers(given: Given, method: str) -> tuple[nn.Module, list[str]]:
    """The linear layers of a method, side by side in one module."""
    names = sorted({key.split(".")[1] for key in given if key.startswith(f"{method}.")})
    model = nn.Module()
    for name in names:
        weight, bias = given[f"{method}.{name}.W"], given[f"{method}.{name}.b"]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
        model.add_module(name, layer)
    return model, names


def answer(layer: nn.Module, given: Given, key: str, trained: dict[str, nn.Parameter]) -> Given:
    """Output for x, and the gradients that `g` from above gives."""
    x = given[f"{key}.x"].clone().requires_grad_()
    y = layer(x)
    y.backward(given[f"{key}.g"])
    found = {f"{key}.d{name}": p.grad for name, p in trained.items()}
    return {f"{key}.y": y.detach(), f"{key}.dx": x.grad} | found  # type: ignore[dict-item]


def vera(given: Given) -> Given:
    plain, names = layers(given, "vera")
    model = peft.get_peft_model(plain, peft.VeraConfig(r=6, target_modules=names, projection_prng_key=3))  # type: ignore
    found: Given = {}
    for name in names:
        layer, key = model.base_model.model.get_submodule(name), f"vera.{name}"
        b, d = layer.vera_lambda_b["default"], layer.vera_lambda_d["default"]
        found |= {f"{key}.d_start": d.detach().clone(), f"{key}.b_start": b.detach().clone(),
                  f"{key}.A": layer.vera_A["default"].clone(), f"{key}.B": layer.vera_B["default"].clone()}
        b.data, d.data = given[f"{key}.bvec"].clone(), given[f"{key}.dvec"].clone()
        found |= answer(layer, given, key, {"b": b, "d": d})
    return found


def lora(given: Given, method: str, **options: object) -> Given:
    plain, names = layers(given, method)
    model = peft.get_peft_model(plain, peft.LoraConfig(r=4, target_modules=names, **options))  # type: ignore
    found: Given = {}
    for name in names:
        layer, key = model.base_model.model.get_submodule(name), f"{method}.{name}"
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        found |= {f"{key}.start": (layer.scaling["default"] * b @ a).detach(), f"{key}.rest": layer.weight.clone()}
        a.data, b.data = given[f"{key}.A"].clone(), given[f"{key}.B"].clone()
        found |= answer(layer, given, key, {"A": a, "B": b})
    return found


def plus(given: Given) -> Given:
    """A and B after three steps of peft's optimizer for LoRA+."""
    plain, names = layers(given, "plus")
    model = peft.get_peft_model(plain, peft.LoraConfig(r=4, lora_alpha=4, target_modules=names))  # type: ignore
    wanted: Given = {}
    for name in names:
        layer, key = model.base_model.model.get_submodule(name), f"plus.{name}"
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        a.data, b.data = given[f"{key}.A"].clone(), given[f"{key}.B"].clone()
        wanted |= {f"{key}.A3": a, f"{key}.B3": b}
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-2, loraplus_lr_ratio=16.0, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        for name in names:
            y = model.base_model.model.get_submodule(name)(given[f"plus.{name}.x"])
            (y * given[f"plus.{name}.g"]).sum().backward()
        optimizer.step()
    return {key: p.detach().clone() for key, p in wanted.items()}


def main(source: str, target: str) -> None:
    given = load_file(source)
    found = vera(given) | lora(given, "rslora", lora_alpha=12, use_rslora=True)
    found |= lora(given, "pissa", lora_alpha=4, init_lora_weights="pissa") | plus(given)
    save_file({key: value.contiguous() for key, value in found.items()}, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
