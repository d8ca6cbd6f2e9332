"""What naive re-typings of the adapters' formulas share: a scrambled model beside the plain one, in float64."""

from __future__ import annotations

import copy

import torch
from tiny_models import adapted, images, scramble, tiny_vit
from torch import Tensor, nn

D = 48
X = images(3, dtype=torch.float64)


def built(text: str, **settings: object) -> tuple[nn.Module, nn.Module]:
    """(plain ViT, adapted and scrambled model), both float64 and in eval mode."""
    return built_on(tiny_vit(**settings), text)


def built_on(net: nn.Module, text: str) -> tuple[nn.Module, nn.Module]:
    """The same of any backbone."""
    net = net.double()
    plain = copy.deepcopy(net).eval()
    _, model = adapted(text, net)
    scramble(model)
    return plain, model.eval()


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def tokens(count: int = 17, width: int = D, seed: int = 5) -> Tensor:
    return torch.randn(3, count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
