"""The other side of test_peft_agreement: Hugging Face's peft alone, in a process of its own.

`python peft_side.py IN OUT KIND ...`, the three once per kind: IN holds for each layer W, b, what its adapter trains
(A and B; m too for dora; the factors of glora, the skew entries of oft), x and the gradient g that comes from above;
OUT gets its output and the gradients of all that trains and of x. A W of four axes (`lora_conv`) is a convolution's,
without bias, and comes with its stride and padding. It runs from another folder, because a package named
`datasets` lies in ours and peft's dependencies look for Hugging Face's.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from peft import GloraConfig, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def config(kind: str, names: list[str], given: dict[str, Tensor]) -> Any:
    """What peft is asked for, with the sizes of the given tensors."""
    first = names[0]
    if kind == "glora":
        return GloraConfig(r=given[f"{first}.a_right"].shape[0], target_modules=names, config_A_B="lora",
                           config_C="lora", config_D_E="vector")
    if kind == "oft":  # b (b - 1) / 2 entries per block; the series of five terms is only near the Cayley transform
        block = (1 + math.isqrt(1 + 8 * given[f"{first}.skew"].shape[1])) // 2
        return OFTConfig(r=0, oft_block_size=block, target_modules=names, use_cayley_neumann=False)
    rank = given[f"{first}.A"].shape[0]
    return LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=names, use_dora=kind == "dora", lora_dropout=0.0)


def plain(name: str, given: dict[str, Tensor]) -> nn.Module:
    """The layer that peft adapts."""
    w = given[f"{name}.W"]
    layer: nn.Linear | nn.Conv2d
    if w.ndim == 4:
        stride, padding = given[f"{name}.at"].tolist()
        layer = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2], stride, padding, bias=False, dtype=w.dtype)
    else:
        layer = nn.Linear(w.shape[1], w.shape[0], dtype=w.dtype)
        layer.bias.data = given[f"{name}.b"].clone()
    layer.weight.data = w.clone()
    return layer


def trained(layer: Any, kind: str) -> dict[str, nn.Parameter]:
    """What trains in a layer of peft's, by our names."""
    if kind == "oft":
        return {"skew": layer.oft_R["default"].weight}
    if kind == "glora":
        at = {name: getattr(layer, f"glora_{name.upper()}")["default"] for name in "abcde"}
        return {f"{n}_left": at[n].Xd for n in "abc"} | {f"{n}_right": at[n].Xu for n in "abc"} | {
            f"{n}_left": at[n].X for n in "de"}
    found = {"A": layer.lora_A["default"].weight, "B": layer.lora_B["default"].weight}
    return found | ({"m": layer.lora_magnitude_vector["default"].weight} if kind == "dora" else {})


def main(source: str, target: str, kind: str) -> None:
    given = load_file(source)
    names = sorted({key.partition(".")[0] for key in given})
    layers = nn.Module()
    for name in names:
        layers.add_module(name, plain(name, given))
    model = get_peft_model(layers, config(kind, names, given))  # type: ignore[arg-type]
    answers = {}
    for name in names:
        layer = model.base_model.model.get_submodule(name)
        wanted = trained(layer, kind)
        if kind == "dora":
            answers[f"{name}.m_start"] = wanted["m"].detach().clone()
        for key, p in wanted.items():
            p.data = given[f"{name}.{key}"].clone().reshape(p.shape)
        x = given[f"{name}.x"].clone().requires_grad_()
        y = layer(x)
        y.backward(given[f"{name}.g"])
        answers[f"{name}.y"] = y.detach()
        answers |= {f"{name}.d{key}": p.grad.reshape(given[f"{name}.{key}"].shape)  # type: ignore[union-attr]
                    for key, p in {**wanted, "x": x}.items()}
    save_file({key: value.contiguous() for key, value in answers.items()}, target)


if __name__ == "__main__":
    for start in range(1, len(sys.argv), 3):
        main(*sys.argv[start:start + 3])
