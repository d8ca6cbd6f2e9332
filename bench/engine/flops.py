"""Floating-point operations by torch's formulas: matrix products, convolutions and attention, 2 per multiply-add.

torch's own counter also tracks modules, which fails on a prompt that is expanded while gradients are off; here only
the operators are looked at. One formula differs from torch's: the backward pass of a fused attention kernel computes
q k' once more instead of having kept it. That is the kernel's affair and not counted, so that fused and plain
attention have equal work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_FUSED_BACKWARD = ("_scaled_dot_product_flash_attention_for_cpu_backward",
                   "_scaled_dot_product_flash_attention_backward",
                   "_scaled_dot_product_efficient_attention_backward",
                   "_scaled_dot_product_cudnn_attention_backward")


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up `total` while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        own = {getattr(torch.ops.aten, name): _attention_backward for name in _FUSED_BACKWARD
               if hasattr(torch.ops.aten, name)}
        self.formulas: dict[Any, Callable[..., int]] = {**flop_registry, **own}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = self.formulas.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                parts = func.decompose(*args, **kwargs)  # a composite operator is counted by what it consists of
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def _attention_backward(grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any,
                        **kwargs: Any) -> int:
    """(B, h, N, d) each -> four products: gradients of the probabilities, of v, of q and of k."""
    batch, heads, tokens, width = query.shape
    return 2 * batch * heads * tokens * key.shape[2] * 2 * (width + value.shape[3])
