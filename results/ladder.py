"""The steps of a ladder: what the rows of one method are called, and which row each is compared with.

    lora                       the suite's common settings
    paper: lora                its published recipe
    tuned: lora                what a search on validation chose
    tuned, ensembled: lora     the configurations of that search, averaged (and "soup" and "mean of seeds" likewise)

The step stands in front, so that the plus signs of a method still part an adapter from what is added to it.
"""

from __future__ import annotations

import re

SUFFIX = "-ladder"  # of the suite that holds a suite's ladders
DEFAULT = "default"
COMBINED = {"ensemble": "ensembled", "seeds": "mean of seeds", "soup_uniform": "uniform soup",
            "soup_greedy": "greedy soup", "model_stock": "Model Stock"}
_WORDS = "|".join(("paper", "tuned", *COMBINED.values()))
_STEP = re.compile(rf"((?:{_WORDS})(?:, (?:{_WORDS}))*): ")


def label(step: str, method: str) -> str:
    """A row's name."""
    return method if step == DEFAULT else f"{step}: {method}"


def of_combination(stage: str, kind: str) -> str:
    """The step of a combination of runs of a stage."""
    return COMBINED[kind] if stage == DEFAULT else f"{stage}, {COMBINED[kind]}"


def parted(row: str) -> tuple[str, str]:
    """(step, method) of a row's name."""
    found = _STEP.match(row)
    return (found.group(1), row[found.end():]) if found else (DEFAULT, row)


def before(step: str) -> str | None:
    """The step that this one is compared with; None for the first."""
    if step == DEFAULT:
        return None
    return step.rpartition(", ")[0] or DEFAULT
