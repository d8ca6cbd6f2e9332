"""Suites of real images and real weights that packages bring (`make real`, three Debian packages): on two cores.

A suite whose sets are not all installed runs with those that are and says what brings the others. The ViT is the
embedded one that was distilled from Lite0, under the name VIT alone; the convolutions are EfficientNet-Lite0 with
ImageNet's weights at 96 pixels.
"""

from __future__ import annotations

from typing import Any

from results.spoken import many

from ..engine.backbones import DISTILLED
from .base import DECAYED, SMALL, Suite, Tuning, suite
from .basic import SHELF

VIT = DISTILLED
LITE = "tf_efficientnet_lite0.package"
PROTOCOL = SMALL | dict(epochs=20, batch_size=16, warmup_epochs=2)
AT_96: dict[str, dict[str, Any]] = {LITE: {"image_size": 96}}
HEADS = ("linear", "full", "lp_ft")  # what convolutions carry here
ADAPTERS = ("bitfit", "ln_tune", "vpt", "adapter", "adaptformer(bottleneck=8)", "lora", "dora", "ssf", "fact_tk",
            "convpass")
RATES: dict[str, dict[str, Any]] = {"full": {"lr": 1e-3}, "lp_ft": {"lr": 1e-3}}
LICENCES = ("ELPV's images are CC BY-NC-SA 4.0 (no commercial use), the stamps GPL-2.0-or-later, Fashion-MNIST MIT, "
            "Open Clip Art public domain, Lite0's weights Apache-2.0. clipart, stamps and elpv are told as means over "
            "classes.")
STEPS = {"lr": (1e-3, 3e-3, 1e-2, 3e-4)}  # four learning rates each: equal budgets


@suite
def real() -> Suite:
    """5 real sets x 13 ways on the embedded ViT, 3 of them on EfficientNet-Lite0 too, 3 seeds: 240 runs.

    On the ViT 20 epochs of 300 to 1,000 images at 64 pixels, one to three minutes a run on one core; on Lite0 at 96
    pixels a linear probe one to four minutes, training the whole network about fifteen. Some seven hours of one core;
    without `--backbones tf_efficientnet_lite0.package` four. TUNE=4 adds four learning rates on two sets.
    """
    methods = (*HEADS, *ADAPTERS)
    return Suite(
        name="real", title="Real images: adapters on the embedded ViT, convolutions with ImageNet's weights",
        note=f"1,000 training images at most, tested once. {LICENCES} {DECAYED}",
        datasets=("digits", "fashion_mnist", "clipart", "stamps", "elpv"), methods=methods, backbones=(VIT, LITE),
        seeds=(0, 1, 2), protocol=PROTOCOL, standins=False, rates=RATES, per_backbone=AT_96, carries={LITE: HEADS},
        tuning=Tuning(("fashion_mnist", "clipart"), "grid", STEPS),
        budget="none: one learning rate for adapters, one for the whole network; TUNE=4 searches four each",
        cost="240 runs, seven hours of one core", reference="linear")


@suite
def real_quick() -> Suite:
    """What pip brings (digits, elpv, 5,000 of MNIST), the Debian sets where they are; one seed, under 15 minutes.

    4 methods on the embedded ViT, 5 epochs, and a linear probe on EfficientNet-Lite0: 15 runs of 20 to 90 s on one
    core, 25 with stamps and Fashion-MNIST.
    """
    methods = ("linear", "bitfit", "lora", "full")
    return Suite(
        name="real-quick", title="Real images in a quarter of an hour",
        note=f"One seed, not tuned. {LICENCES} {DECAYED}",
        datasets=("digits", "elpv", "mnist5k", "stamps", "fashion_mnist"), methods=methods, backbones=(VIT, LITE),
        seeds=(0,), protocol=PROTOCOL | dict(epochs=5, warmup_epochs=1), standins=False, rates={"full": {"lr": 1e-3}},
        per_backbone=AT_96, carries={LITE: ("linear",)}, budget="none: one learning rate for adapters, one for full",
        cost="15 to 25 runs of 20 to 90 s on one core", reference="linear")


ROBUST = ("full", "full+l2_sp", "full+mars_sp", "lp_ft", "full+wise", "full+tpgm(proj_every=2)",
          "full+tpgm(when='posthoc')", "full+ftp", "full+spd", "full+ema")


@suite
def real_shift() -> Suite:
    """Drawings to photographs and back from ImageNet's weights: 11 ways x 2 directions, in and out of distribution.

    3 seeds: 66 runs of 10 epochs over 322 drawings or 155 photographs at 96 pixels, one to five minutes each on one
    core: some three hours of one core. TUNE=4 adds 88 shorter ones. Nine classes, some small: balanced accuracy.
    """
    return Suite(
        name="real-shift", title="A real shift: Open Clip Art and Tux Paint's photographs, EfficientNet-Lite0",
        note="Trained on one collection, tested on the rest of it and on all of the other. No image of the other "
             "chooses anything. Trees, insects, fish, music and vehicles are small classes; drawn stamps are left out. "
             f"{LICENCES}",
        datasets=("clipart_to_stamps", "stamps_to_clipart"), methods=("linear", *ROBUST), backbones=(LITE,),
        seeds=(0, 1, 2), protocol=PROTOCOL | dict(epochs=10, warmup_epochs=1), standins=False, per_backbone=AT_96,
        rates={m: {"lr": 1e-3} for m in ROBUST},
        also_test={"clipart_to_stamps": ("shared_stamps",), "stamps_to_clipart": ("shared_clipart",)},
        tuning=Tuning(("clipart_to_stamps", "stamps_to_clipart"), "grid", {
            "lr": (1e-3, 3e-3, 3e-4, 1e-4), "l2_sp.alpha": (0.1, 0.01), "mars_sp.weight": (1e-3, 1e-2),
            "ftp.kappa": (1.0, 0.0), "wise.alpha": (0.5,), "tpgm.lr": (1e-2, 1e-3)}),
        budget="none: one learning rate for all, each method's defaults", cost="66 runs, three hours of one core",
        reference="full", kind="shift")


PLAIN = ("lora", "adapter", "vpt")
FORMS = ("", "+pace", "+pace(variant='lazy_half')", "+pace(variant='fast')", *(
    f"+ugr(objective='{o}')" for o in ("con", "ent", "rec", "rot", "agr")), "+ugr(objective='ent', control='random')",
    "+ugr(objective='ent', tta='episodic')")
SHARES = ("digits_10", "digits", "fashion_mnist_3", "fashion_mnist_30", "fashion_mnist_10", "fashion_mnist_50",
          "fashion_mnist", "clipart_10", "clipart_50", "clipart")


def _regularizers(name: str, epochs: int, cost: str) -> Suite:
    methods = tuple(a + r for a in PLAIN for r in FORMS)
    return Suite(
        name=name, title=f"Regularizers on real images: {many(epochs, 'epoch')} of a tenth, half, all of the training "
                          "images",
        note="The same rows at 5, 20 and 60 epochs are three suites (real-regularizers-5, real-regularizers, "
             "real-regularizers-60): the gain over the plain adapter against epochs and images. UGR is our reading of "
             "an abstract. Rows that adapt at test time see a batch of test images, without labels: not like for like. "
             f"{LICENCES} {DECAYED}",
        datasets=SHARES, methods=methods, backbones=(VIT,), seeds=(0, 1, 2),
        protocol=PROTOCOL | dict(epochs=epochs, warmup_epochs=max(1, epochs // 10)), standins=False,
        rates={m: {"lr": 3e-2 if m.startswith("vpt") else 1e-2} for m in methods},
        tuning=Tuning(("fashion_mnist_10", "clipart_10"), "grid", {
            "lr": (1e-2, 5e-3, 2e-2, 2e-3, 3e-3, 7e-3, 1.5e-2, 3e-2, 1e-3), "pace.weight": (0.5, 0.1, 0.01),
            "ugr.rho": (0.1, 0.02, 0.0)}),
        budget="none: one learning rate for each adapter; TUNE=9: nine rates, or three times three strengths down to "
               "nothing", cost=cost, reference="lora")


@suite
def real_regularizers() -> Suite:
    """LoRA, Adapter, VPT x (plain, PACE in 3 forms, UGR with 5 objectives, a control, at test), 20 epochs, 3 seeds.

    30 and 300 images of the digits and of Fashion-MNIST; 10, 50 and 100 % of 1,000 of Fashion-MNIST and of clip art:
    990 runs of 5 s to 10 min on one core. The part that says most is `--methods lora lora+pace
    "lora+ugr(objective='con')" "lora+ugr(objective='ent')" --datasets digits_10 digits fashion_mnist_3
    fashion_mnist_30`: 48 runs, some fifty minutes of one core.
    """
    return _regularizers("real-regularizers", 20, "990 runs; the named part 48 runs, fifty minutes of one core")


@suite
def real_regularizers_5() -> Suite:
    """The rows of real-regularizers at 5 epochs: a quarter of its cost."""
    return _regularizers("real-regularizers-5", 5, "990 runs; the named part 48 runs, a quarter of an hour of one core")


@suite
def real_regularizers_60() -> Suite:
    """The rows of real-regularizers at 60 epochs, the regime that the papers speak of: three times its cost."""
    return _regularizers("real-regularizers-60", 60, "990 runs; the named part 48 runs, two hours of one core")


@suite
def real_memory() -> Suite:
    """Accuracy against bytes kept for backward: 7 methods x stamps, clip art, Fashion-MNIST, 3 seeds: 63 runs.

    10 epochs of 541 to 991 images at 64 pixels, half a minute to two minutes each: some ninety minutes of one core.
    """
    return Suite(
        name="real-memory", title="Memory on real images: side networks, LoRA, the last blocks, a linear probe",
        note=f"What is kept for the backward pass against what it buys. {LICENCES} {DECAYED}",
        datasets=("stamps", "clipart", "fashion_mnist"),
        methods=("linear", "partial_k", "lora", "side_tuning", "lst", "unipt", "sherl"), backbones=(VIT,),
        seeds=(0, 1, 2), protocol=PROTOCOL | dict(epochs=10, warmup_epochs=1), standins=False,
        tuning=Tuning(("stamps", "clipart"), "grid", STEPS),
        budget="none: one learning rate for all; TUNE=4 searches four each", cost="63 runs, 90 minutes of one core",
        reference="linear")


EIGHT_RATES = {"lr": (1e-3, 1e-2, 1e-4, 3e-3, 3e-2, 3e-4, 1e-1, 2e-3)}


@suite
def real_shelf() -> Suite:
    """The whole shelf on two real sets: 41 architectures x (stamps, digits), 10 epochs, 3 seeds: 246 runs.

    300 to 541 images at 64 pixels, 15 to 60 s a run on one core: some two hours of one core. Ladders (`LADDER=1
    TUNE=8`) search eight learning rates for each method and set. The part that asks whether a form of LoRA is told
    apart once its rate is searched: `--methods linear full bitfit adapter lora dora vera "lora(scale='rslora')"
    "lora(init='pissa')" "lora(lr_ratio=16)"`, another two hours.
    """
    return Suite(
        name="real-shelf", title="The whole shelf on real images: 41 architectures, embedded ViT",
        note="One learning rate for all but full fine-tuning, not tuned per method: what each one costs, and who works "
             f"out of the box. {LICENCES} {DECAYED}",
        datasets=("stamps", "digits"), methods=SHELF, backbones=(VIT,), seeds=(0, 1, 2),
        protocol=PROTOCOL | dict(epochs=10, warmup_epochs=1), standins=False, rates={"full": RATES["full"]},
        tuning=Tuning((), "grid", EIGHT_RATES),
        budget="none: one learning rate for adapters, one for the whole network; TUNE=8 searches eight each",
        cost="246 runs, two hours of one core", reference="lora")
