"""The pools of entrants: how a row came by its settings, and what it did with the test images. Ranks stay inside one.

A row that was tuned for each data set beside one that was not, or one that has seen test images beside one that has
not, is no comparison of methods. `Row.pool` says the pool; of suite files from before it was written there, the words
in which the tuning was told say it (`told`).
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Pool = Literal["plain", "tuned for all sets", "tuned per set", "adapts at test", "ensembled"]
POOLS: tuple[Pool, ...] = get_args(Pool)
ADAPTS: Pool = "adapts at test"
ENSEMBLED: Pool = "ensembled"
MEANS: dict[Pool, str] = {
    "plain": "settings that no search chose for the row: a common or a published recipe, or typed by hand",
    "tuned for all sets": "one setting for all data sets, chosen on validation data of some of them",
    "tuned per set": "a setting for each data set, chosen on its validation data",
    "adapts at test": "the weights move on unlabelled test images",
    "ensembled": "the answers of several runs put together, or their weights",
}


def told(budget: str, note: str) -> Pool:
    """The pool of a row that names none, from the words of its tuning (`Row.budget`) and of what was chosen.

    A search begins with its size: `4 configurations by grid on val; rule best_val`. Its rule has a name where `select`
    chose, whose note says when one setting holds for all data sets; a rate that a suite brings along holds for all.
    """
    if not re.match(r"\d", budget):
        return "plain"
    alone = "rule " in budget and "one setting for all data sets" not in note
    return "tuned per set" if alone else "tuned for all sets"
