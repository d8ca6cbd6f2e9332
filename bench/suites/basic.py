"""The suites of everyday: the demo, the adapter shelf, memory, VTAB-1k, FGVC, and whatever the command line names."""

from __future__ import annotations

from typing import Any

from datasets import registry

from ..engine.backbones import EMBEDDED
from .base import CORE, DECAYED, SMALL, VIT_B, VTAB, Suite, suite

SHELF = ("linear", "full", "partial_k", "bitfit", "ln_tune", "vpt_shallow", "vpt_deep", "adapter_houlsby",
         "adapter_pfeiffer", "adapter_plus", "adaptformer(bottleneck=8)", "lora", "dora", "ssf", "fact_tt", "fact_tk",
         "repadapter", "convpass", "lora_add", "lora_mul", "vpt_add", "lora_mul_vpt_add",
         "lora_mul_vpt_add(prompt_rank='plain')",
         "lora(init='pissa')", "lora(scale='rslora')", "lora(lr_ratio=16)", "lora(experts=True)", "vera", "paca",
         "glora", "oft", "goft", "qgoft", "gps", "spt", "snell", "dtl", "dtl_plus", "vfpt", "e2vpt", "cvpt")


def _standin_sets() -> tuple[str, ...]:
    return tuple(registry.names("natural", "specialized", "structured", "fgvc", "imagenet"))


# Learning rates of the demo, chosen on validation images of five sets alone by tests/perf/tune_demo.py; what each rate
# scored is in results/reference/demo-tuning.json. Those of bitfit, vpt and full+tpgm are the highest that were tried.
DEMO_RATES: dict[str, dict[str, Any]] = {
    "linear": {"lr": 1e-2},
    "full": {"lr": 1e-3},
    "bitfit": {"lr": 3e-2},
    "vpt": {"lr": 3e-2},
    "adapter": {"lr": 1e-2},
    "lora": {"lr": 1e-2},
    "lora+pace": {"lr": 1e-2},
    "full+tpgm(proj_every=2)": {"lr": 2e-3},  # radii learned at every second step: half their price
}


@suite
def demo() -> Suite:
    """25 stand-in data sets and digits x 8 methods on the embedded backbone, one seed: minutes on two cores."""
    return Suite(
        name="demo", title="Demo: 25 stand-in data sets and digits, 8 methods, embedded backbone",
        note="Stand-ins are generated miniatures written in the real formats (128 training, 32 validation, 200 test "
             "images each): they show that the program works and what its tables look like, and say nothing about the "
             "data sets whose names they bear. Digits is real (scikit-learn's 8x8 digits). Learning rates were chosen "
             f"per method on the validation images of five of the sets, never on test. {DECAYED}",
        datasets=(*_standin_sets(), "digits"), methods=CORE, backbones=(EMBEDDED,), seeds=(0,), protocol=SMALL,
        standins=True, rates=DEMO_RATES, budget="3 learning rates, on val of 5 sets",
        pool="tuned for all sets", cost="208 runs of about 5 s: minutes on two cores")


FEW = ("caltech101", "dtd", "svhn", "eurosat", "patch_camelyon", "clevr_count", "dsprites_loc", "cub", "digits")


@suite
def adapters() -> Suite:
    """Every adapter x 8 stand-ins and digits on the embedded backbone, one seed: 369 runs, half an hour on two cores.

    Seconds per run at 160 images x 5 epochs, one of two busy cores: linear 2; bitfit, ln_tune, partial_k 3; the
    adapters, LoRA, SSF, FacT, VPT 4 to 5; DoRA and full 5 to 6; Convpass, lora_mul and lora_mul_vpt_add 6 to 8.
    """
    return Suite(
        name="adapters", title="Adapters: 41 architectures on 8 stand-ins and digits, embedded backbone",
        note="The demo's protocol with one learning rate for all adapters but full fine-tuning and the linear probe, "
             f"not tuned per adapter: a table of what each one costs, and of who works out of the box. {DECAYED}",
        datasets=FEW, methods=SHELF, backbones=(EMBEDDED,), seeds=(0,), protocol=SMALL, standins=True,
        rates={k: v for k, v in DEMO_RATES.items() if k in ("linear", "full")}, budget="none: one rate for all",
        cost="369 runs of about 5 s: half an hour on two cores")


@suite
def memory() -> Suite:
    """Accuracy against bytes kept for backward: 7 methods x 8 stand-ins and digits, one seed: 63 runs, minutes."""
    return Suite(
        name="memory", title="Memory: side networks, adapters, full fine-tuning on the embedded backbone",
        note=f"What is kept for the backward pass against what it buys; the pictures mark the Pareto rows. {DECAYED}",
        datasets=FEW, methods=("linear", "lora", "adaptformer(bottleneck=8)", "sherl", "unipt", "lst", "full"),
        backbones=(EMBEDDED,), seeds=(0,), protocol=SMALL, standins=True,
        rates={k: v for k, v in DEMO_RATES.items() if k in ("linear", "full", "lora")},
        budget="none beyond the demo's", cost="63 runs of about 5 s: minutes on two cores")


@suite
def vtab1k() -> Suite:
    """19 tasks x 8 methods x 3 seeds on ViT-B/16 at 224: 456 runs, about 100,000 training images each."""
    return Suite(
        name="vtab1k", title="VTAB-1k", note="19 tasks of 1000 training images each; trained on train800val200, tested "
        "once.", datasets=tuple(registry.names("natural", "specialized", "structured")), methods=CORE,
        backbones=(VIT_B,), seeds=(0, 1, 2), protocol=VTAB, standins=False,
        rates={"full": {"lr": 1e-4}, "full+tpgm": {"lr": 1e-4}}, budget="not tuned: one common recipe",
        cost="456 runs of 100,000 training images at 224 pixels: hours on a GPU, weeks on a CPU")


@suite
def fgvc() -> Suite:
    """Five fine-grained sets x 8 methods x 3 seeds on ViT-B/16 at 224: 120 runs of up to 2.1 M training images."""
    return Suite(
        name="fgvc", title="FGVC", note="Five fine-grained data sets on VPT's 90 % training lists; resize 256, random "
        "crop and flip, centre crop at evaluation.", datasets=tuple(registry.names("fgvc")), methods=CORE,
        backbones=(VIT_B,), seeds=(0, 1, 2), protocol=VTAB | dict(augment="crop_flip"), standins=False,
        rates={"full": {"lr": 1e-4}, "full+tpgm": {"lr": 1e-4}}, budget="not tuned: one common recipe",
        cost="120 runs of 100,000 to 2.1 million training images at 224 pixels")


@suite
def folder() -> Suite:
    """Your own images (--datasets folder:PATH): 8 methods x 3 seeds on the embedded backbone, minutes on two cores."""
    return Suite(
        name="folder", title="Your own images", note="Images of your own folder, resized to the embedded backbone's 48 "
        "pixels; every method has 20 epochs and the rate that suited it on the demo's sets, nothing is tuned on "
        f"yours. {DECAYED}", datasets=(),
        methods=("linear", "full", "bitfit", "ssf", "vpt", "adapter", "lora", "lora+pace"), backbones=(EMBEDDED,),
        seeds=(0, 1, 2), protocol=SMALL | dict(epochs=20, batch_size=16), standins=False, rates=DEMO_RATES,
        budget="none on these images: the demo's rates", cost="24 runs; some minutes for a thousand images")


@suite
def custom() -> Suite:
    """Whatever --datasets, --methods and --backbones name, on your data, with VTAB's common recipe."""
    return Suite(
        name="custom", title="Custom", note="Chosen on the command line.", datasets=(), methods=(), backbones=(VIT_B,),
        seeds=(0,), protocol=VTAB, standins=False, budget="not tuned: one common recipe",
        cost="depends on what you name")
