"""Names that papers use, under one name each: methods, benchmarks, data sets, backbones, units.

Papers write `Camelyon`, `PCam` and `patch_camelyon` for one data set and `Full FT` for full fine-tuning. A name that
is not here is kept as it is written and said to be unknown: nothing is guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

VTAB = {
    "natural": ("cifar100", "caltech101", "dtd", "oxford_flowers102", "oxford_iiit_pet", "svhn", "sun397"),
    "specialized": ("patch_camelyon", "eurosat", "resisc45", "diabetic_retinopathy"),
    "structured": ("clevr_count", "clevr_dist", "dmlab", "kitti", "dsprites_loc", "dsprites_ori", "smallnorb_azi",
                   "smallnorb_ele"),
}
TASKS = tuple(name for names in VTAB.values() for name in names)
METHODS = {"fulltuning": "full", "fullfinetuning": "full", "fullfinetune": "full", "fullft": "full", "fft": "full",
           "finetuning": "full", "fullyfinetuning": "full", "fullyft": "full", "linearprobe": "linear",
           "linearprobing": "linear", "linearprob": "linear", "lp": "linear", "head": "linear", "bias": "bitfit",
           "biastuning": "bitfit", "vpt": "vptdeep", "vptd": "vptdeep", "vpts": "vptshallow", "fact": "facttk",
           "adapterpfeiffer": "adapter", "adapterp": "adapter", "pfeiffer": "adapter", "houlsby": "adapterhoulsby",
           "adapterh": "adapterhoulsby"}
BACKBONES = {
    "ViT-B/16 (ImageNet-21k supervised)": ("vitb16imagenet21k", "vitb16in21k", "vitb16supervisedimagenet21k",
                                           "vitb16in21ksupervised", "vitb16imagenet21kaugreg", "vitb16augregin21k",
                                           "vitbase16imagenet21k", "vitbasepatch16224augregin21k"),
    "ViT-L/16 (ImageNet-21k supervised)": ("vitl16imagenet21k", "vitl16in21k", "vitlarge16imagenet21k"),
    "Swin-B (ImageNet-21k)": ("swinbimagenet21ksupervised", "swinbin21k", "swinbaseimagenet21k", "swinbimagenet22k"),
    "CLIP ViT-B/16": ("clipvitbase16", "vitb16clip", "openaiclipvitb16"),
    "CLIP ViT-B/32": ("vitb32clip", "clipvitbase32"), "CLIP ViT-L/14": ("vitl14clip",),
    "ConvNeXt-B (ImageNet-21k)": ("convnextbin21k",), "RoBERTa-base": (), "RoBERTa-large": (),
    "Llama-3.2-3B (bf16)": (), "FLUX.2-klein-base-4B": (), "Phi-3-mini-4k-instruct": (),
    "ResNet-50, CLIP or MoCoV3": (),
    "CLIP ViT-B/16 (zero-shot head), full fine-tuning": (), "ViT-B (LAION-2B, then ImageNet-12k)": (),
    "ViT-B/16, MAE or DINO on ImageNet-1k": (), "ViT-B/16, Swin-B; batch 64; one H100": (),
    "ViT-B/16, Swin-B; one H100": (), "VSE-infinity, CLIP-ViL, MDETR": (), "T5-base / T5-large": (), "T5-base": (),
    "T5-large": (), "ViT-B (VideoMAE) / Video Swin-B, Kinetics-400": (), "Swin-B (ImageNet-22k)": (),
    "Swin-L (ImageNet-22k)": ("swinlin22k", "swinlimagenet21k"), "several": (),
}
BENCHMARKS = {"vtab1k": ("vtab", "vtab1000"), "vtab1k-groups": (), "vtab1k-mean-only": (), "vtab1k-part": (),
              "fgvc": ("finegrained",), "fgvc-part": (), "fewshot": ("fewshots",), "memory": ("cost",),
              "imagenet-shift": ("imagenetood", "imagenetrobustness"), "domainnet": (), "glue": (), "gsm8k": (),
              "video": (), "retrieval": (), "retrieval-vqa": (), "vqa": (), "grounding": ()}
_FLOWERS = ("flowers", "flower102", "flowers102", "oxfordflowers", "vggflowers", "vggflowers102")
COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "vtab1k": {
        "cifar100": ("cifar",), "caltech101": ("caltech",), "dtd": ("textures", "describabletextures"),
        "oxford_flowers102": _FLOWERS, "oxford_iiit_pet": ("pets", "pet", "oxfordpets", "oxfordpet", "oxfordiiitpets"),
        "svhn": (), "sun397": ("sun",), "patch_camelyon": ("camelyon", "pcam"), "eurosat": (),
        "resisc45": ("resisc", "nwpuresisc45"),
        "diabetic_retinopathy": ("retinopathy", "retino", "diabetic", "kaggleretinopathy", "dr"),
        "clevr_count": ("clevrcounting", "clevrcountall", "clevrcnt", "clevrc", "clevrcounts"),
        "clevr_dist": ("clevrdistance", "clevrd", "clevrclosestobjectdistance"), "dmlab": ("dmlabframes",),
        "kitti": ("kittidist", "kittidistance", "kitticlosestvehicledistance"),
        "dsprites_loc": ("dspriteslocation", "dspritesposition", "dspritespos", "dsprloc", "dsprlocation",
                         "dspritesxposition", "dspritelocation", "dspriteloc"),
        "dsprites_ori": ("dspritesorientation", "dspritesorient", "dsprori", "dsprorientation", "dsprorient",
                         "dspriteorientation", "dspriteori"),
        "smallnorb_azi": ("snorbazi", "snorbazim", "snorbazimuth", "smallnorbazim", "smallnorbazimuth", "norbazi",
                          "norbazim", "norbazimuth"),
        "smallnorb_ele": ("snorbele", "snorbelev", "snorbelevation", "smallnorbelev", "smallnorbelevation", "norbele",
                          "norbelev", "norbelevation"),
        "natural": ("nat", "naturalmean", "meannatural", "naturalavg"),
        "specialized": ("specialised", "spec", "specializedmean", "meanspecialized", "specializedavg"),
        "structured": ("struct", "structuredmean", "meanstructured", "structuredavg")},
    "fgvc": {"cub200": ("cub", "cub2002011", "cubbirds"), "nabirds": ("nabird",),
             "flowers102": ("oxfordflowers102", *(n for n in _FLOWERS if n != "flowers102")),
             "stanford_dogs": ("dogs", "stanforddog"), "stanford_cars": ("cars", "stanfordcar")},
    "imagenet-shift": {"imagenet": ("imagenet1k", "in1k", "in", "imagenetval"), "imagenet_v2": ("inv2",),
                       "imagenet_sketch": ("insketch", "ins", "imagenets"), "imagenet_a": ("ina",),
                       "imagenet_r": ("inr",), "vtab_cifar100": ()},
    "domainnet": {"real": ("domainnetreal",), "sketch": ("domainnetsketch",), "painting": ("domainnetpainting",),
                  "infograph": ("domainnetinfograph",), "clipart": ("domainnetclipart",), "quickdraw": ()},
    "glue": dict.fromkeys(("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"), ()),
    "fewshot": {"fgvc_aircraft": ("aircraft",), "oxford_pets": ("pets", "oxfordiiitpet"), "food101": ("food",),
                "stanford_cars": ("cars",),
                "oxford_flowers102": tuple(n for n in _FLOWERS)},
}
CLOSED = frozenset({"vtab1k", "vtab1k-groups", "fgvc", "domainnet"})  # a further column there is a slip
SHIFTED = {"imagenet-shift": ("imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
           "domainnet": ("sketch", "painting", "infograph", "clipart")}
PERCENT = "percent"
WORDS = {"GB": "gb gib", "MB": "mb mib", "memory": "mem memory vram storage disk", "size": "size",
         "count": "epochs epoch rank lr steps", "time": "s sec secs second seconds min minutes hours ms time latency",
         "energy": "energy wh kwh co2", "parameters": "params param parameters tunable trainable trained",
         "rate": "tokens throughput fps speed images samples", "operations": "flops gflops tflops macs gmacs",
         "score": "ppt pe", "sum": "rsum rsums", "loss": "loss nll ppl perplexity ece error err rmse",
         "distance": "drift similarity forgetting fid psnr ssim lpips", "words": "cider bleu nist meteor rouge rougel"}
UNITS = {word: unit for unit, words in WORDS.items() for word in words.split()}
PERCENTS = frozenset({"percent", "%", "pct", "acc", "accuracy", "top1", "percentage"})
_ACCURATE = ("acc accuracy top1 top5 ap map miou iou r1 r5 r10 dev std testa testb val test vqav2 gsm8k hmdb51 ssv2 "
             "voc voc2007 coco cifar10 camelyon mnist gtsrb fer2013 country211 hatefulmemes")
ACCURATE = frozenset(_ACCURATE.split())
TOTALS = frozenset({"mean", "avg", "average", "overall"})


def squeezed(name: str) -> str:
    """Letters and digits alone, in lower case: how names are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def plain(method: str) -> str:
    """One name for one method: `Full fine-tuning` and `full` are the same, `Adapter+` and `Adapter` are not."""
    text = re.sub(r"(?<=[\w)+])\+(?=\s*(?:$|[+(\[,;/]))", "plus", method.lower())
    text = squeezed(text)
    return METHODS.get(text, text)


def words(column: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", column.lower())


def unit_of(column: str) -> str:
    """The unit that a column's name speaks of; percent where it speaks of none."""
    return next((UNITS[w] for w in words(column) if w in UNITS), PERCENT)


def is_total(column: str) -> bool:
    """A column that is itself a mean of others: `avg`, `vtab_mean`, or one of VTAB's three groups."""
    return column in VTAB or any(w in TOTALS for w in words(column))


def family(benchmark: str) -> str:
    """`vtab1k-part` has the columns of `vtab1k`."""
    return next((name for name in COLUMNS if benchmark == name or benchmark.startswith(f"{name}-")), "")


def benchmark_of(text: str) -> str:
    return _one(text, BENCHMARKS)


def backbone_of(text: str) -> str:
    return _one(text, BACKBONES)


def _one(text: str, known: Mapping[str, Iterable[str]]) -> str:
    wanted = squeezed(text)
    return next((name for name, others in known.items() if squeezed(name) == wanted or wanted in others), text)


def column_of(text: str, benchmark: str) -> str:
    """A column under its one name within a benchmark; `@shots` stays; an unknown name stays as it is."""
    known = COLUMNS.get(family(benchmark), {})
    name, at, shots = text.partition("@")
    if benchmark == "fewshot" and not at:  # other few-shot benchmarks have data sets of equal names
        return text
    return _one(name, known) + at + shots if known else text


def known_column(column: str, benchmark: str) -> bool:
    """Whether a column is a data set of its benchmark, or of any where the benchmark is open, or names its unit."""
    own, name = COLUMNS.get(family(benchmark), {}), column.partition("@")[0]
    if name in own or unit_of(column) != PERCENT or is_total(column):
        return True
    if benchmark in CLOSED:
        return False
    every = {squeezed(c) for columns in COLUMNS.values() for c, others in columns.items() for c in (c, *others)}
    return any(w in ACCURATE or w in every for w in words(column)) or any(
        squeezed(name).endswith(known) for known in every if len(known) > 3 or known == squeezed(name))


def near(text: str, known: Iterable[str] | Mapping[str, Iterable[str]]) -> str:
    """`; did you mean 'cifar100'?`, or nothing when no name, nor another name of one, is near."""
    names = {squeezed(name): name for name in known}
    if isinstance(known, Mapping):
        names |= {other: name for name, others in known.items() for other in others}
    found = difflib.get_close_matches(squeezed(text), names, 1, 0.7)
    return f"; did you mean {names[found[0]]!r}?" if found else ""
