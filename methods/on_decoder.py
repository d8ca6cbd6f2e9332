"""Which parts run on T5 with its decoder, and why the others do not. No torch.

There is no new head: the table of words answers. So what trains a head, or reads the tokens of a pooled feature, has no
place; what is tried there is listed.
"""

from __future__ import annotations

from .grammar import MethodText

RUNS = ("full", "lora", "lst_t5", "sherl_t5")
BESIDE = ("pace", "sam", "l2_sp", "wise", "ema")
WHY = {"linear": "there is no head to train", "lp_ft": "there is no head to train",
       "sherl": "its form there is sherl_t5", "lst": "its form there is lst_t5"}


def refusals(text: MethodText) -> list[str]:
    """Why a method cannot run there, a sentence each."""
    found = []
    for part in text.parts:
        adapter = part.info.kind == "adapter"
        if part.name in (RUNS if adapter else BESIDE):
            continue
        fit = f"adapters that do: {', '.join(RUNS)}" if adapter else f"what does: {', '.join(BESIDE)}"
        why = WHY.get(part.name, "it is not tried there")
        found.append(f"{part.name!r} does not run on T5 with its decoder: {why}; {fit}")
    return found
