"""Which parts run on a text tower, and why the others do not. No torch.

To an adapter a text tower is a plain ViT, so what is tried there runs; what was written for pictures is refused with a
sentence. Parts that act on weights or on branches alone fit any input.
"""

from __future__ import annotations

from .catalog import PartInfo
from .grammar import MethodText

RUNS = ("linear", "full", "lp_ft", "lora", "lora_last", "lora_add", "lora_mul", "dora", "fact_tt", "fact_tk",
        "repadapter", "adapter_pfeiffer", "adapter_houlsby", "adapter_plus", "adaptformer", "bitfit", "ln_tune",
        "partial_k", "oft", "goft", "qgoft", "paca", "glora", "lst", "unipt", "sherl")
PROMPTS = "its prompts lengthen the sequence, and neither the mask nor the pooling of a text would know them"
GRID = "it needs a grid of patches"
WHY = {"vpt_deep": PROMPTS, "vpt_shallow": PROMPTS, "vpt_add": PROMPTS, "lora_mul_vpt_add": PROMPTS, "cvpt": PROMPTS,
       "e2vpt": PROMPTS, "vfpt": PROMPTS, "convpass": GRID, "dtl_plus": GRID, "ssf": "it scales the patch projection",
       "sherl_t5": "it reads T5's decoder, as t5.decoder has it",
       "lst_t5": "it reads T5's decoder, as t5.decoder has it",
       "gps": "it chooses filters of the patch projection", "side_tuning": "its side network reads pixels",
       "augment": "it turns and crops pictures", "ldifs": "it takes padding for tokens of a picture"}
FITS_CLASSES = {"lp_ft": "its probe is fitted to classes", "tpgm": "its radii are learned by the classes of held-out "
                "texts", "tpgm_c": "its radii are learned by the classes of held-out texts",
                "ugr": "its objective is the entropy over classes", "fpa": "it compares the answers for classes"}


def refusals(text: MethodText, task: str = "classify") -> list[str]:
    """Why a method cannot run on a text tower for a data set's task, a sentence each."""
    found = []
    for part in text.parts:
        why = _why(part.info, dict(part.options))
        if not why and task != "classify":
            why = FITS_CLASSES.get(part.name, "")
            why += ", and this set has none" if why else ""
        if why:
            fits = [name for name in RUNS if task == "classify" or name not in FITS_CLASSES]
            found.append(f"{part.name!r} does not run on text: {why}; adapters that do: {', '.join(fits)}"
                         if part.info.kind == "adapter" else f"{part.name!r} does not run on text: {why}; leave it out")
    return found


def _why(info: PartInfo, options: dict[str, object]) -> str:
    if info.kind == "adapter":
        return "" if info.name in RUNS else WHY.get(info.name, "it is not tried there")
    if info.name == "ugr":
        return "" if options.get("objective") == "ent" else "only objective='ent' asks nothing of pictures"
    reads = bool(info.facts.get("reads_images"))
    return WHY.get(info.name, "it makes views of pictures") if reads else ""
