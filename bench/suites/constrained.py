"""Suites of the learned constraints and of side tuning: under a generated shift, and the source papers' own."""

from __future__ import annotations

from datasets import registry

from ..engine.backbones import EMBEDDED
from .base import DECAYED, SMALL, VIT_B, VTAB, Suite, Tuning, suite

RESNET = "resnet50.a1_in1k"
DOMAINS = ("domainnet_sketch", "domainnet_painting", "domainnet_infograph", "domainnet_clipart")
SHIFTED = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
ROBUST = ("full", "full+l2_sp", "full+mars_sp", "lp_ft", "full+wise", "full+tpgm(proj_every=2)", "full+ftp")


@suite
def robust() -> Suite:
    """In and out of distribution: 7 ways of fine-tuning everything x 2 stand-ins with 8 shifted test sets, 3 seeds.

    42 runs of 4 to 15 s on one core: about four minutes on two cores; TUNE=4 adds 56 shorter ones.
    """
    return Suite(
        name="robust", title="Robust fine-tuning under a generated shift, embedded backbone",
        note="Trained on one rendering of generated objects, tested on it and on others (outlines, few tones, clutter, "
             "blur). No shifted image chooses anything. Stand-ins say nothing about the data sets whose names they "
             f"bear. {DECAYED}",
        datasets=("imagenet1k", "domainnet_real"), methods=("linear", *ROBUST), backbones=(EMBEDDED,), seeds=(0, 1, 2),
        protocol=SMALL, standins=True, rates={m: {"lr": 1e-3} for m in ROBUST},
        also_test={"imagenet1k": SHIFTED, "domainnet_real": DOMAINS},
        tuning=Tuning(("imagenet1k", "domainnet_real"), "grid", {
            "lr": (1e-3, 3e-3, 3e-4, 1e-4), "l2_sp.alpha": (0.1, 0.01), "mars_sp.weight": (1e-3, 1e-2),
            "ftp.kappa": (1.0, 0.0), "wise.alpha": (0.5,), "tpgm.lr": (1e-2, 1e-3)}),
        budget="none: one learning rate for all, each method's defaults",
        cost="48 runs of 2 to 15 s: about four minutes on two cores; TUNE=4 adds 64 shorter ones", reference="full",
        kind="shift")


@suite
def tpgm_domainnet() -> Suite:
    """TPGM's and FTP's DomainNet: ResNet-50 trained on Real, tested on four other domains; 27 runs of 50 epochs.

    5.5 million training images a run; TPGM pays about twice a step. The papers start from CLIP's and MoCo-v3's
    ResNet-50, which timm does not hold under these names; the backbone's weights are yours to choose.
    """
    protocol = VTAB | dict(epochs=50, batch_size=256, optimizer="sgd", lr=1e-2, weight_decay=5e-4, decay="all",
                           warmup_epochs=0, schedule="cosine_epoch", augment="resized_crop_flip", drop_path=0.0,
                           drop_last=False)
    return Suite(
        name="tpgm-domainnet", title="TPGM on DomainNet", datasets=("domainnet_real",),
        note="The recipe of TPGM's code: SGD with Nesterov momentum 0.9, 1e-2, weight decay 5e-4 on every weight, 50 "
             "epochs of 256 images, a cosine that moves once per epoch, crops of 8 % to all of the area, flip. Other "
             "than there: supervised ImageNet weights, the backbone's own normalisation (there Real's), one learning "
             "rate for all rows but lp_ft (there 1e-3 and 5e-2 without TPGM), the last epoch in place of the best on "
             "val, radii learned on a class-balanced tenth of the training list.",
        methods=("linear", *("full+tpgm" if "tpgm" in m else m for m in ROBUST), "full+tpgm_c"), backbones=(RESNET,),
        seeds=(0, 1, 2), protocol=protocol, standins=False,
        rates={"full+ftp": {"weight_decay": 0.0}, "lp_ft": {"lr": 1e-3, "weight_decay": 0.0}},
        also_test={"domainnet_real": DOMAINS}, budget="not tuned: the recipe of TPGM's code for all",
        cost="27 runs of 5.5 million training images at 224 pixels", reference="full", kind="shift")


@suite
def tpgm_imagenet() -> Suite:
    """TPGM's ImageNet: ViT-B/16 fine-tuned, radii learned after training; V2, A, R, Sketch; 6 runs of 10 epochs.

    12.8 million training images a run: days on a GPU. As in the paper all rows start from CLIP with its zero-shot head,
    which the user gives: --head FILE, made by `python -m bench head` from CLIP's folder and a list of class names. Not
    run here.
    """
    protocol = VTAB | dict(epochs=10, batch_size=512, lr=3e-5, weight_decay=0.1, decay="all", warmup_epochs=0,
                           warmup_steps=500, schedule="cosine_zero", augment="resized_crop_90", clip=1.0, drop_path=0.0,
                           drop_last=False)
    return Suite(
        name="tpgm-imagenet", title="TPGM on ImageNet", datasets=("imagenet1k",),
        note="Post-hoc TPGM. Every row starts from CLIP's zero-shot head, class names embedded by its text tower, and "
             "its projection; where they train, their start is their anchor too. LP-FT, whose probe replaces that "
             "head, is left out. Fine-tuning follows WiSE-FT's published recipe, TPGM's is not released: "
             "AdamW, 3e-5, weight decay 0.1 on every weight, 500 steps of warm-up, cosine per step, crops of 90 % to "
             "all of the area without flip. Evaluated on TPGM's centre crop of 256, but with CLIP's normalisation, not "
             "ImageNet's; radii are learned on a tenth of the training list, not on validation images.",
        methods=("linear", "full", "full+l2_sp", "full+wise", "full+tpgm(when='posthoc')",
                 "full+tpgm_c(when='posthoc')"),
        backbones=("vit_base_patch16_clip_quickgelu_224.openai",), seeds=(0,), protocol=protocol, standins=False,
        zero_shot=True,
        rates={"linear": {"lr": 1e-3, "weight_decay": 0.0}}, also_test={"imagenet1k": SHIFTED},
        budget="not tuned: WiSE-FT's published recipe for all", cost="6 runs of 12.8 million training images",
        reference="full", kind="shift")


@suite
def sherl_vtab() -> Suite:
    """SHERL, UniPT, LST, LoRA, full on VTAB-1k: accuracy against memory; 342 runs of 100 epochs on ViT-B/16.

    The papers have no image classification: the suite is ours. 100,000 training images a run.
    """
    return Suite(
        name="sherl-vtab", title="SHERL and side tuning on VTAB-1k",
        note="The source papers measure retrieval and language; image classification is our transfer of them.",
        datasets=tuple(registry.names("natural", "specialized", "structured")),
        methods=("linear", "lora", "sherl", "unipt", "lst", "full"), backbones=(VIT_B,), seeds=(0, 1, 2),
        protocol=VTAB, standins=False, rates={"full": {"lr": 1e-4}}, budget="not tuned: one common recipe",
        cost="342 runs of 100,000 training images at 224 pixels")
