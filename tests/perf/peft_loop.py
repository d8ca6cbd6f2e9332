"""Hugging Face's peft with a plain training loop, one step at a time: the other side of against_peft.

`python peft_loop.py BACKBONE BATCH SIZE RANK [DEVICE]` reads a line `train fp32`, `train bf16` or `eval fp32` from
stdin, does that once (`train bf16 10`: ten times) on one thread and answers with the processor's seconds, on a GPU with
the wall's until it is done. It runs from another folder, in a process of its own:
a package named `datasets` lies in ours, and peft's dependencies look for Hugging Face's.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import Any

import timm
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model


def main(backbone: str, batch: int, size: int, rank: int, device: str = "cpu") -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain: Any = timm.create_model(backbone, num_classes=100)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["qkv"], modules_to_save=["head"])
    model: Any = get_peft_model(plain, config).to(device)
    clock = time.perf_counter if device == "cuda" else time.process_time
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=1e-4)
    x, y = torch.randn(batch, 3, size, size, device=device), torch.randint(100, (batch,), device=device)

    def train(precision: str) -> None:
        model.train()
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext():
            loss = F.cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()

    def evaluate(precision: str) -> None:
        model.eval()
        with torch.no_grad(), torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext():
            model(x).argmax(1)

    print("ready", sum(p.numel() for p in model.parameters() if p.requires_grad), flush=True)
    for line in sys.stdin:
        what, precision, *count = line.split()
        started = clock()
        for _ in range(int(count[0]) if count else 1):
            (train if what == "train" else evaluate)(precision)
        if device == "cuda":
            torch.cuda.synchronize()
        print(clock() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), *sys.argv[5:])
