"""100 epochs over 1000 images with the frozen prefix stored, against the loop that runs the backbone every epoch.

`python -m tests.perf.prefix_epochs [--backbone NAME] [--images N] [--repeats N]`, minutes on one core. Targets: linear
probe 80 times, partial-1 15, SHERL 10, LoRA in the last three blocks 2.2. Projected: a measured epoch of `--images`
images (at least 64) scaled to 1000 and taken 100 times, plus what building the store takes, scaled likewise. Epochs of
both sides are run in turns. The stored side uses the class-query form of the last block where it is exact (to float
noise); the ratio of the prefix alone, bit-exact, is stated beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.engine import step
from bench.engine.prefix import Prefix, open_prefix, serving
from bench.perf.rig import Rig, made_up, variant
from bench.perf.timing import Work, clock_for, in_turns, median_interval
from tests.perf.claims import Script, tell

EPOCHS, IMAGES = 100, 1000
FAST = "stored, class query"
# name -> (method, its stored form with the class query, target)
METHODS = {
    "linear": ("linear", "linear", 80.0),
    "partial-1": ("partial_k(k=1)", "partial_k(k=1)@class_query=True", 15.0),
    "sherl": ("sherl", "sherl(class_query=True)", 10.0),
    "lora, last 3 blocks": ("lora_last(k=3)", "lora_last(k=3)@class_query=True", 2.2),
}


def rig_of(text: str, backbone: str, batch: int, images: int) -> Rig:
    one = variant(text, backbone, batch, ["drop_path=0.0"])
    return Rig(one.spec, pictures=made_up(images, one.spec.image_size))


def epoch(rig: Rig, prefix: Prefix | None) -> None:
    """As the loop does it."""
    for batch in rig.batches.epoch(rig.fit.step, lazy=prefix is not None):
        with serving(prefix, batch):
            step.take(rig, rig.course, batch, first=False)
            rig.course.read()
        rig.fit.step += 1


def stored(rig: Rig, folder: Path) -> tuple[Prefix, float]:
    """The prefix, and the processor's seconds that storing it took."""
    rig.training()
    started = time.process_time()
    prefix = open_prefix(rig.fit, folder, rig.train_pictures, rig.normalise, rig.spec)
    if prefix is None:
        raise SystemExit("nothing is stored for this method")
    took = time.process_time() - started
    epoch(rig, prefix)  # the first batch of each size is computed as well, and must be equal
    if not all(prefix.seen.values()):
        raise SystemExit("stored and computed states differ on this machine")
    return prefix, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="vit_small_patch16_224")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2, help="turns of two epochs a side")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS))
    script = Script("prefix-epochs", f"{EPOCHS} epochs of {IMAGES} images, stored prefix against none", parser)
    args, found = script.args, script.found
    scale = IMAGES / args.images
    for name in args.methods:
        text, short, _ = METHODS[name]
        tell(name)
        with tempfile.TemporaryDirectory() as folder:
            plain = rig_of(text, args.backbone, args.batch, args.images)
            exact = rig_of(text, args.backbone, args.batch, args.images)
            fast = rig_of(short, args.backbone, args.batch, args.images)
            kept = {form: stored(rig, Path(folder) / form) for form, rig in (("stored", exact), (FAST, fast))}
            works: dict[str, Work] = {"none": partial(epoch, plain, None),
                                      "stored": partial(epoch, exact, kept["stored"][0]),
                                      FAST: partial(epoch, fast, kept[FAST][0])}
            timed = in_turns(works, args.repeats, warmup=0, clock=clock_for("cpu", 1)[1])
        found.add(name, "epoch of 1000, no prefix", "s", median_interval([s * scale for s in timed.seconds["none"]]))
        for form, (_, built) in kept.items():
            found.add(name, f"building, {form}", "s", built * scale)
            found.add(name, f"epoch of 1000, {form}", "s", median_interval([s * scale for s in timed.seconds[form]]))
            ratios = [EPOCHS * slow / (EPOCHS * quick + built)
                      for slow, quick in zip(timed.seconds["none"], timed.seconds[form], strict=True)]
            found.add(name, f"100 epochs, none / {form}", "ratio", median_interval(ratios))
            tell(f"{name}: 100 epochs, none / {form}: {ratios}")
    script.close({"backbone": args.backbone, "batch_size": args.batch, "images": args.images, "repeats": args.repeats,
                  "clock": "processor"},
                 [(name, f"100 epochs, none / {FAST}", METHODS[name][2], "") for name in args.methods])


if __name__ == "__main__":
    main()
