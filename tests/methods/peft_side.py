"""The other side of test_peft_agreement: Hugging Face's peft alone, in a process of its own.

`python peft_side.py IN OUT KIND ...`, the three once per kind: IN holds for each layer W, b, A, B (and m for dora), x
and the gradient g that comes from above; OUT gets its output and the gradients of A, B, m and x. It runs from another
folder, because a package named `datasets` lies in ours and peft's dependencies look for Hugging Face's.
"""

from __future__ import annotations

import sys

from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn


def main(source: str, target: str, kind: str) -> None:
    given = load_file(source)
    names = sorted({key.partition(".")[0] for key in given})
    layers = nn.Module()
    for name in names:
        w = given[f"{name}.W"]
        layer = nn.Linear(w.shape[1], w.shape[0], dtype=w.dtype)
        layer.weight.data, layer.bias.data = w.clone(), given[f"{name}.b"].clone()
        layers.add_module(name, layer)
    rank = given[f"{names[0]}.A"].shape[0]
    config = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=names, use_dora=kind == "dora", lora_dropout=0.0)
    model = get_peft_model(layers, config)  # type: ignore[arg-type]
    answers = {}
    for name in names:
        layer = model.base_model.model.get_submodule(name)
        a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        a.data, b.data = given[f"{name}.A"].clone(), given[f"{name}.B"].clone()
        wanted = {"A": a, "B": b}
        if kind == "dora":
            m = layer.lora_magnitude_vector["default"].weight
            answers[f"{name}.m_start"] = m.detach().clone()
            m.data = given[f"{name}.m"].clone()
            wanted["m"] = m
        x = given[f"{name}.x"].clone().requires_grad_()
        y = layer(x)
        y.backward(given[f"{name}.g"])
        answers[f"{name}.y"] = y.detach()
        answers |= {f"{name}.d{key}": p.grad for key, p in {**wanted, "x": x}.items()}
    save_file({key: value.contiguous() for key, value in answers.items()}, target)


if __name__ == "__main__":
    for start in range(1, len(sys.argv), 3):
        main(*sys.argv[start:start + 3])
