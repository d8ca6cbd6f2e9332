"""Regional compilation: the blocks of a backbone share one compiled form.

torch.compile keeps what it has made by the code of a function and by what the function read while it was traced. Blocks
have one code; what tells them apart would make a graph each: the rate of DropPath, a number that grows with depth. So
while blocks are compiled their DropPath reads its rate from a tensor, which is an input of the graph (it draws a
uniform number per image in place of a Bernoulli's, so its draws are others than in the plain step). The first block
has a graph of its own where its input asks for no gradient, or where it alone drops nothing.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from methods.families import face_of

MARK = "of_regions"  # on every function that stands in place of a module's forward


class Regions:
    """The compiled blocks of a model at work. Raises TypeError where the model's blocks are not known."""

    def __init__(self, model: nn.Module, images: int, backend: Any) -> None:
        self.model, self.images, self.backend = model, images, backend
        self.touched: list[nn.Module] = []
        self.used = 0  # passes of a block through the compiled form
        device = next(model.parameters()).device
        for block in face_of(model).blocks():
            for inner in block.modules():
                if isinstance(inner, DropPath):
                    drop: Any = inner
                    drop.kept_share = torch.tensor(1.0 - float(drop.drop_prob or 0.0), device=device)
                    self._put(drop, MethodType(_dropping, drop))
            self._put(block, self._compiled(block))

    def close(self) -> None:
        """The model as it was."""
        for module in self.touched:
            vars(module).pop("forward", None)
            vars(module).pop("kept_share", None)
        self.touched = []

    def _put(self, module: Any, forward: Any) -> None:
        module.forward = forward
        self.touched.append(module)

    def _compiled(self, block: Any) -> Any:
        plain = block.forward
        fast: Any = torch.compile(plain, backend=self.backend, dynamic=False)
        model, images = self.model, self.images

        def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            usual = len(x) == images and model.training and torch.is_grad_enabled() and not args and not kwargs
            self.used += usual
            return fast(x) if usual else plain(x, *args, **kwargs)

        setattr(forward, MARK, True)
        return forward


def _dropping(module: Any, x: Tensor) -> Tensor:  # (B, ..., D) -> (B, ..., D)
    """DropPath's forward, its rate a tensor while it is compiled; otherwise its own."""
    if not torch.compiler.is_compiling():
        return type(module).forward(module, x)  # type: ignore[no-any-return]
    if not module.training:
        return x
    keep = module.kept_share.to(x.dtype)
    mask = (torch.rand(x.shape[0], *(1,) * (x.ndim - 1), device=x.device) < module.kept_share).to(x.dtype)
    return x * (mask / keep if module.scale_by_keep else mask)


setattr(_dropping, MARK, True)
