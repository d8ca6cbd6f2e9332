"""LoRA on a ViT at 224: a training step and evaluation against Hugging Face's peft in a plain loop, in turns.

`python -m tests.perf.against_peft [--backbone NAME] [--batch N] [--turns N]`, minutes on one core for ViT-B/16.
Targets: training at least 1.05 times peft in float32 and 1.25 times in bf16; evaluation merged and in bf16 at least
twice peft's unmerged float32. Both sides adapt the fused qkv with rank 8 (`shared_a`), train a head for 100 classes
with AdamW, on one thread. `equal work` is our step with everything off that peft does not do either. Our process takes
large pages as those of the runner do, the plain loop does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from bench.dispatch.local import LARGE_PAGES
from bench.engine.forecast import forecast
from bench.perf.machine import DTYPES, fastest_product
from bench.perf.measure import attention_shape
from bench.perf.rig import CLASSES, Rig, variant
from bench.perf.timing import Work, clock_for, in_turns, scaled
from tests.perf.claims import Script, tell

LORA = "lora(targets='q,k,v',shared_a=True)"
FORMS = {"equal work fp32": "precision=fp32", "equal work bf16": "precision=bf16",
         "ours fp32": "precision=fp32,class_query=True",
         "ours bf16": "precision=bf16,class_query=True,attention=plain"}


class Other:
    """The peft process: does one thing when told, and says how many seconds of the processor it took."""

    def __init__(self, words: list[str]) -> None:
        left_out = ("PYTHONPATH", LARGE_PAGES[0])  # the runner's own: a plain loop does not have it
        environment = {k: v for k, v in os.environ.items() if k not in left_out} | {"HF_HUB_OFFLINE": "1"}
        self.folder = tempfile.TemporaryDirectory()
        script = Path(__file__).with_name("peft_loop.py")
        self.process = subprocess.Popen([sys.executable, "-W", "ignore", str(script), *words], cwd=self.folder.name,
                                        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.trained = int(self._line().split()[1])

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peft process ended; is peft installed?")
        return line

    def does(self, what: str) -> Work:
        def once() -> float:
            assert self.process.stdin is not None
            print(what, file=self.process.stdin, flush=True)
            return float(self._line())
        return once

    def close(self) -> None:
        self.process.communicate()
        self.folder.cleanup()


def main() -> None:
    if LARGE_PAGES[0] not in os.environ:  # ours is measured as the runner starts its runs
        os.environ[LARGE_PAGES[0]] = LARGE_PAGES[1]
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="vit_base_patch16_224")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=1)
    script = Script("against-peft", "LoRA against peft with a plain loop", parser)
    args, found = script.args, script.found
    settings = ["drop_path=0.0"]
    variants = {name: variant(f"{LORA}@{fields}", args.backbone, args.batch, settings)
                for name, fields in FORMS.items()}
    size = variants["ours fp32"].spec.image_size
    tell("building")
    rigs = {name: Rig(v.spec) for name, v in variants.items()}
    evaluated = Rig(variant(f"{LORA}@precision=bf16,class_query=True,attention=plain,merged_eval=True", args.backbone,
                            args.batch, settings).spec)
    evaluated.evaluating()
    evaluated.merge()
    other = Other([args.backbone, str(args.batch), str(size), "8"])
    ours = sum(p.numel() for p in rigs["ours fp32"].fit.trainable.values())
    if ours != other.trained:
        raise SystemExit(f"unequal work: {ours} trained weights here, {other.trained} in peft")
    shape = attention_shape(variants["ours fp32"].spec)
    assert shape is not None
    peaks = {p: fastest_product(args.batch * shape[2], shape[1] * shape[3], d, torch.device("cpu"))
             for p, d in DTYPES.items() if p != "tf32"}
    clock = clock_for("cpu", 1)[1]
    works: dict[str, Work] = {f"matmul {p}": y.work for p, y in peaks.items()}
    works |= {"peft fp32": other.does("train fp32"), "peft bf16": other.does("train bf16")}
    works |= {name: rig.train_once for name, rig in rigs.items()}
    timed = in_turns(works, args.turns, args.warmup, clock, lambda n: tell(f"training: turn {n}"))
    for p, y in peaks.items():
        found.add(f"matmul {p}", "rate", "FLOP/s", timed.rate(f"matmul {p}", y.flops), " x ".join(map(str, y.shape)))
    nominal = forecast(variants["equal work fp32"].spec, CLASSES).step_flops or 0.0
    found.add("equal work fp32", "step per image", "FLOP", nominal)
    for name in ("peft fp32", "peft bf16", *FORMS):
        precision = name.rpartition(" ")[2]
        found.add(name, "train", "images/s", timed.rate(name, args.batch))
        share = nominal * args.batch / peaks[precision].flops
        found.add(name, "train of peak, nominal", "ratio", scaled(timed.ratio(name, f"matmul {precision}"), share),
                  "the full step's operations over the time")
        if not name.startswith("peft"):
            found.add(name, "train / peft", "ratio", timed.ratio(name, f"peft {precision}"))
    timed = in_turns({"peft": other.does("eval fp32"), "merged": evaluated.predict_merged}, args.turns, args.warmup,
                     clock, lambda n: tell(f"evaluation: turn {n}"))
    found.add("peft fp32", "eval unmerged", "images/s", timed.rate("peft", args.batch))
    found.add("ours bf16", "eval merged", "images/s", timed.rate("merged", args.batch))
    found.add("ours bf16", "eval merged / peft fp32 unmerged", "ratio", timed.ratio("merged", "peft"))
    other.close()
    script.close({"backbone": args.backbone, "batch_size": args.batch, "turns": args.turns, "clock": "processor"},
                 [("ours fp32", "train / peft", 1.05, "class query"),
                  ("ours bf16", "train / peft", 1.25, "class query, plain attention, frozen weights stored in bf16"),
                  ("ours bf16", "eval merged / peft fp32 unmerged", 2.0, "")])


if __name__ == "__main__":
    main()
