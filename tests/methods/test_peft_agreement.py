"""`lora`, `dora`, `glora` and `oft` against Hugging Face's peft: outputs and gradients for equal weights, within 1e-5.

On proj, fc1 and fc2 directly; lora's and dora's q, k and v against separate linear layers, since peft sees the fused
qkv as one matrix, as glora and oft do here too. lora on convolutions of a ResNet too: 1 x 1 and 3 x 3, stride 1 and 2.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_convs import tiny
from tiny_models import adapted, scramble, tiny_vit
from torch import Tensor, nn

D = 48
LAYERS = {"q": ("attn.qkv", slice(0, D)), "k": ("attn.qkv", slice(D, 2 * D)), "v": ("attn.qkv", slice(2 * D, 3 * D)),
          "o": ("attn.proj", slice(0, D)), "fc1": ("mlp.fc1", slice(0, 4 * D)), "fc2": ("mlp.fc2", slice(0, D))}


CONVS = {"narrow": "layer1.0.conv1", "spatial": "layer1.0.conv2", "strided": "layer2.0.conv2",
         "downsample": "layer2.0.downsample.0"}
KINDS = ("lora", "dora", "glora", "oft", "lora_conv")


def ours_whole(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same for adapters of whole layers: what peft is given, and our answers to it."""
    text, inside = {"glora": ("glora(rank=3)", "supports.by_name"), "oft": ("oft(block=8)", "turn")}[kind]
    _, model = adapted(text, tiny_vit())
    scramble(model, spread=0.3)
    generator = torch.Generator().manual_seed(7)
    given: dict[str, Tensor] = {}
    answers: dict[str, Tensor] = {}
    for name, path in (("qkv", "attn.qkv"), ("o", "attn.proj"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2")):
        layer = model.get_submodule(f"blocks.1.{path}")
        tensors = {n.replace(".", "_"): p for n, p in layer.get_submodule(inside).named_parameters()}
        x = torch.randn(2, 5, layer.in_features, generator=generator).requires_grad_()  # type: ignore[call-overload]
        above = torch.randn(2, 5, layer.out_features, generator=generator)  # type: ignore[call-overload]
        y = layer(x)
        y.backward(above)
        given |= {f"{name}.{n}": t for n, t in {**tensors, "W": layer.weight, "b": layer.bias, "x": x,  # type: ignore
                                                "g": above}.items()}
        answers |= {f"{name}.y": y} | {f"{name}.d{n}": p.grad for n, p in {**tensors, "x": x}.items()}  # type: ignore
    return ({key: t.detach().clone().contiguous() for key, t in given.items()},
            {key: t.detach().clone() for key, t in answers.items()})


def ours_convs() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same for convolutions: what peft is given, and our answers to it."""
    _, model = adapted("lora(rank=4, alpha=12, targets='all')", tiny("resnet"))
    scramble(model)
    generator = torch.Generator().manual_seed(7)
    given: dict[str, Tensor] = {}
    answers: dict[str, Tensor] = {}
    for name, path in CONVS.items():
        layer: nn.Conv2d = model.get_submodule(path)  # type: ignore[assignment]
        pair = model.get_submodule(f"{path}.lora")
        x = torch.randn(2, layer.in_channels, 7, 6, generator=generator).requires_grad_()
        y = layer(x)
        above = torch.randn(y.shape, generator=generator)
        y.backward(above)
        given |= {f"{name}.W": layer.weight, f"{name}.A": pair.down, f"{name}.B": pair.up, f"{name}.x": x,  # type: ignore
                  f"{name}.g": above, f"{name}.at": torch.tensor([layer.stride[0], int(layer.padding[0])])}
        answers |= {f"{name}.y": y, f"{name}.dA": pair.down.grad, f"{name}.dB": pair.up.grad,  # type: ignore
                    f"{name}.dx": x.grad}  # type: ignore[dict-item]
    return ({key: t.detach().clone().contiguous() for key, t in given.items()},
            {key: t.detach().clone() for key, t in answers.items()})


def ours(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What peft is given, and our answers to it."""
    if kind in ("glora", "oft"):
        return ours_whole(kind)
    if kind == "lora_conv":
        return ours_convs()
    _, model = adapted(f"{kind}(rank=4, alpha=12, targets='all')", tiny_vit())
    starts = {name: model.get_submodule(f"blocks.1.{path}.{kind}.{name}") for name, (path, _) in LAYERS.items()}
    answers = {f"{n}.m_start": p.magnitude.detach().clone() for n, p in starts.items() if kind == "dora"}  # type: ignore
    scramble(model)
    generator = torch.Generator().manual_seed(7)
    given: dict[str, Tensor] = {}
    for name, (path, rows) in LAYERS.items():
        layer = model.get_submodule(f"blocks.1.{path}")
        pair = layer.get_submodule(f"{kind}.{name}")
        x = torch.randn(2, 5, layer.in_features, generator=generator).requires_grad_()  # type: ignore[call-overload]
        above = torch.randn(2, 5, rows.stop - rows.start, generator=generator)
        model.zero_grad()
        y = layer(x)[..., rows]
        y.backward(above)
        given |= {f"{name}.W": layer.weight[rows], f"{name}.b": layer.bias[rows], f"{name}.A": pair.down,  # type: ignore
                  f"{name}.B": pair.up, f"{name}.x": x, f"{name}.g": above}
        answers |= {f"{name}.y": y, f"{name}.dA": pair.down.grad, f"{name}.dB": pair.up.grad,  # type: ignore
                    f"{name}.dx": x.grad}  # type: ignore[dict-item]
        if kind == "dora":
            given[f"{name}.m"] = pair.magnitude  # type: ignore[assignment]
            answers[f"{name}.dm"] = pair.magnitude.grad  # type: ignore[union-attr, assignment]
    plain = {key: t.detach().clone().contiguous() for key, t in given.items()}
    return plain, {key: t.detach().clone() for key, t in answers.items()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """peft's answers for every kind, from one process: importing it is what takes time."""
    folder = tmp_path_factory.mktemp("peft")
    arguments = []
    for kind in KINDS:
        save_file(ours(kind)[0], folder / f"{kind}.in")
        arguments += [f"{kind}.in", f"{kind}.out", kind]
    script = Path(__file__).with_name("peft_side.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, str(script), *arguments], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return {kind: load_file(folder / f"{kind}.out") for kind in KINDS}


@pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_agree_with_peft(kind: str, theirs: dict[str, dict[str, Tensor]]) -> None:
    answers = ours(kind)[1]
    assert theirs[kind].keys() == answers.keys()
    for key, value in answers.items():
        other = theirs[kind][key]
        off = (value - other).abs().max() / other.abs().max().clamp_min(1.0)
        assert off <= 1e-5, f"{key} is off by {off:.1e}"
        assert other.abs().max() > 1e-3  # agreement on zeros would prove nothing
