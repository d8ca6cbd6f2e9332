"""GLoRA's fixed path against its formula, against the form of PACE that is one of its paths, and what it refuses."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tiny_models import adapted, images, scramble, tiny_vit, trainable
from torch import Tensor, nn

from methods.grammar import MethodError
from methods.insertion import linears

X = images(3, dtype=torch.float64)
WIDE = ("lora", "vector", "constant", "none")


def support(layer: nn.Module, name: str, rows: int, columns: int) -> Tensor:
    """A .. E written out in full, from the stored tensors."""
    tensors = {n: p for n, p in layer.supports.by_name.named_parameters() if n.startswith(f"{name}.")}  # type: ignore
    if not tensors:
        return torch.zeros(rows, columns, dtype=torch.float64)
    left = tensors[f"{name}.left"]
    if f"{name}.right" in tensors:
        return left @ tensors[f"{name}.right"]
    return torch.ones(rows, columns, dtype=torch.float64) * left


@pytest.mark.parametrize("a, c, d", [(a, c, d) for a, c, d in product(WIDE, ("lora", "vector", "none"),
                                                                      ("vector", "constant", "none"))])
def test_every_kind_of_support_changes_weight_and_bias_as_the_paper_says(a: str, c: str, d: str) -> None:
    if (a, c, d) == ("none",) * 3:
        return
    _, model = adapted(f"glora(rank=3, a={a!r}, b={WIDE[WIDE.index(a) - 1]!r}, c={c!r}, d={d!r}, e={d!r})",
                       tiny_vit(depth=1).double())
    scramble(model)
    for path in ("attn.qkv", "mlp.fc2"):
        layer = model.blocks[0].get_submodule(path)  # type: ignore[index]
        o, i = layer.weight.shape  # type: ignore[misc]
        w, bias = layer.weight, layer.bias
        big_a, big_b = (support(layer, n, o, i) for n in "ab")  # type: ignore[arg-type]
        big_c, big_d, big_e = (support(layer, n, r, 1)[:, 0] for n, r in (("c", i), ("d", o), ("e", o)))  # type: ignore
        x = torch.randn(2, 5, i, dtype=torch.float64)  # type: ignore[call-overload]
        wanted = x @ (w + w * big_a + big_b).T + bias + bias * big_d + big_e + w @ big_c  # type: ignore[operator]
        torch.testing.assert_close(layer(x), wanted, rtol=1e-10, atol=1e-10)


def test_multiplied_weight_and_bias_with_a_prompt_are_lora_mul_vpt_add() -> None:
    """The path (lora, none, lora, vector, none) of the spec, tensor by tensor."""
    nets = [tiny_vit().double() for _ in range(2)]
    _, path = adapted("glora(rank=4, a='lora', b='none', c='lora', d='vector', e='none')", nets[0])
    _, form = adapted("lora_mul_vpt_add(rank=4)", nets[1])
    scramble(form)
    with torch.no_grad():
        for site in linears(form):
            change, at = site.linear.change, path.get_submodule(site.path).supports.by_name  # type: ignore[union-attr]
            at["a"].left.copy_(change.up), at["a"].right.copy_(change.down)  # type: ignore
            at["c"].left.copy_(change.prompt_up), at["c"].right.copy_(change.prompt_down)  # type: ignore
            at["d"].left.copy_(change.shift[:, None])  # type: ignore
        path.head.load_state_dict(form.head.state_dict())  # type: ignore[union-attr]
    torch.testing.assert_close(path(X), form(X), rtol=1e-10, atol=1e-10)


def test_layers_without_a_bias_have_no_support_of_it() -> None:
    _, model = adapted("glora", tiny_vit(qkv_bias=False))
    names = {n.partition("by_name.")[2] for n in trainable(model) if "attn.qkv" in n}
    assert names == {"a.left", "a.right", "b.left", "b.right"}


def test_a_path_of_nothing_is_refused_and_a_layer_without_support_stays_plain() -> None:
    nothing = "a='none', b='none', c='none', d='none'"
    with pytest.raises(MethodError, match="nothing is adapted; 'linear' is that method"):
        adapted(f"glora({nothing}, e='none')", tiny_vit())
    _, model = adapted(f"glora({nothing})", tiny_vit(qkv_bias=False))
    assert type(model.blocks[0].attn.qkv) is nn.Linear  # type: ignore[union-attr, index]
    assert type(model.blocks[0].attn.proj) is not nn.Linear  # type: ignore[union-attr, index]
