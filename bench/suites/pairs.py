"""Suites of pictures with captions: two towers are trained to find the right one of each other."""

from __future__ import annotations

from .base import SMALL, SMALL_PAIR, VTAB, Suite, suite

SHERL = "sherl(start='identity')"  # the paper's own start throws the stream away, and needs many more steps
WHOLE = {"lr": 3e-4}  # of methods that train the whole towers


@suite
def retrieval_demo() -> Suite:
    """2 stand-ins of pictures with captions x 9 ways on two small towers, 1 seed: 18 runs, not run yet as a whole.

    5 epochs of 160 drawn scenes with five sentences each: linear, full, BitFit, LoRA, an adapter, the side networks
    LST, UniPT and SHERL, whose two starts both stand there. Needs nothing: both towers are embedded.
    """
    return Suite(
        name="retrieval-demo", title="Pictures and captions, stand-ins: adapters and side networks on two towers",
        note="Stand-ins are drawn scenes with true sentences about them: they show that the suite works and say "
             "nothing about Flickr30K and COCO. Both towers were pre-trained on drawings and on sentences like these.",
        datasets=("flickr30k", "coco"),
        methods=("linear", "full", "bitfit", "lora", "adapter", "lst(init='magnitude')", "unipt", "sherl", SHERL),
        backbones=(SMALL_PAIR,), seeds=(0,),
        protocol=SMALL | dict(epochs=5, batch_size=32, lr=3e-3, drop_last=True, decay="timm"),
        standins=True, rates={"full": WHOLE}, budget="none: one learning rate for adapters, one for whole towers",
        cost="18 runs of 20 to 50 s, as linear and LoRA take",
        reference="linear")


@suite
def sherl_retrieval() -> Suite:
    """Flickr30K and COCO x 7 ways on ResNeXt-101 WSL with BERT-base, 3 seeds: 42 runs on a GPU; not run yet.

    The loss and its learning rate are VSE-infinity's. Needs Karpathy's lists with the pictures (DATA), the ResNeXt's
    weights in timm's cache, and BERT's folder (--weights FOLDER).
    """
    return Suite(
        name="sherl-retrieval", title="SHERL's retrieval table, our reading",
        note="Our reading, and not comparable with the paper's table: the loss is the paper's, a triplet hinge with "
             "hardest negatives from the second epoch on, but each side gives one pooled vector of 256 numbers where "
             "the paper has GPO pooling; other captions of a picture are no negatives; 224 pixels, not 512; no crop, "
             "flip or dropped words; the last epoch, not the best on dev; train and val together. COCO is ranked "
             "among all 5,000 test pictures; the mean over five folds of a thousand stands in each record.",
        datasets=("flickr30k", "coco"),
        methods=("linear", "full", "bitfit", "lora", "unipt", "sherl", SHERL),
        backbones=("resnext101_32x8d.fb_wsl_ig1b_ft_in1k:bert_base",), seeds=(0, 1, 2),
        protocol=VTAB | dict(epochs=25, batch_size=112, eval_batch_size=256, lr=5e-4, weight_decay=1e-2,
                             warmup_epochs=1, clip=2.0, drop_path=0.0, text_length=32,
                             loss="triplet"),
        standins=False, rates={"full": {"lr": 5e-5}}, budget="none: one learning rate for adapters, one for the towers",
        cost="42 runs of 25 epochs on 150,000 or 590,000 captions, not measured", reference="linear")
