"""In what a run multiplies matrices: float32 exactly, float32 through a GPU's tensor cores (TF32), or bfloat16.

TF32 rounds the factors of each product to 10 bits of mantissa and sums in float32: numbers of its own, so a value of
its own in the protocol. Left alone, torch would let convolutions (the patch embedding) take it on a GPU; `fp32` means
float32 there too. The CPU's flags stay as they are.
"""

from __future__ import annotations

import torch

from methods.grammar import MethodError

TF32_SINCE = (8, 0)  # compute capability (Ampere): older GPUs ignore the wish


def settle(precision: str, device: torch.device) -> None:
    """Let this process multiply so from now on. Raises MethodError where TF32 is asked for and is not there."""
    if precision == "tf32" and device.type != "cuda":
        raise MethodError("precision=tf32 exists on GPUs alone and this run is on the CPU; leave it out or use bf16")
    if device.type != "cuda":
        return
    if precision == "tf32" and torch.cuda.get_device_capability(device) < TF32_SINCE:
        raise MethodError(f"precision=tf32 needs a GPU of compute capability 8.0, not {_name(device)}; leave it out")
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _name(device: torch.device) -> str:
    return str(torch.cuda.get_device_name(device))
