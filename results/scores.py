"""Scores beyond the share of right answers, from answers and labels: MCC, F1 with accuracy, Pearson with Spearman.

A score is a fraction in [-1, 1]. Where a formula has no value (constant answers) it is 0, as GLUE's graders take it.
`spread` says how far a score would move with other items: the deviation over a thousand seeded draws of the items with
replacement (Efron's bootstrap), so a wrong score is mended from stored answers like any other metric. Needs numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DRAWS, SEED = 1000, 20
# A card's metric -> the columns that a record has beside it, and whose mean the score is.
PARTS = {"mcc": ("mcc",), "f1_acc": ("f1", "accuracy"), "pearson_spearman": ("pearson", "spearman")}
NAMES = {"top1": "accuracy", "class_mean": "mean per class", "mcc": "MCC", "f1_acc": "F1/acc",
         "pearson_spearman": "r/rho"}


def scored(metric: str) -> bool:
    """Whether a card's metric is told as a score of its own."""
    return metric in PARTS


def metric_of(names: object) -> str:
    """The metric whose parts are all among these names of a split's metrics; "" where there is none."""
    known = set(names)  # type: ignore[call-overload]
    return next((metric for metric, parts in PARTS.items() if parts[0] in known), "")


def values(metric: str, pred: Array, label: Array) -> dict[str, float]:
    """The parts of a metric, its `score`, and `score_se`."""
    found = parts(metric, pred, label)
    return {n: v for n, v in found.items() if n != "accuracy"} | {
        "score": score(metric, pred, label), "score_se": spread(lambda rows: score(metric, pred[rows], label[rows]),
                                                               len(pred))}


def parts(metric: str, pred: Array, label: Array) -> dict[str, float]:
    """Each part by its name."""
    return {name: FORMULAS[name](pred, label) for name in PARTS[metric]}


def score(metric: str, pred: Array, label: Array) -> float:
    """The mean of the metric's parts."""
    found = parts(metric, pred, label)
    return sum(found.values()) / len(found)


def spread(of: Callable[[Array], float], count: int) -> float:
    """The deviation of a score over DRAWS draws of `count` items; the seed is fixed."""
    import numpy as np

    random = np.random.default_rng(SEED)
    return float(np.std([of(random.integers(0, count, count)) for _ in range(DRAWS)], ddof=1))


def accuracy(pred: Array, label: Array) -> float:
    """The share of right answers."""
    return float((pred == label).mean())


def mcc(pred: Array, label: Array) -> float:
    """Matthews' correlation of two classes or more (Gorodkin 2004), 0 where either side has one class only."""
    import numpy as np

    classes = int(max(pred.max(), label.max())) + 1
    answered, present = np.bincount(pred, minlength=classes), np.bincount(label, minlength=classes)
    n, right = float(len(pred)), float((pred == label).sum())
    above = right * n - float(answered @ present)
    below = (n * n - float(answered @ answered)) * (n * n - float(present @ present))
    return above / below**0.5 if below > 0 else 0.0


def f1(pred: Array, label: Array) -> float:
    """Of class 1; an answer that is neither class is a wrong one. 0 where class 1 is neither answered nor there."""
    both = float(((pred == 1) & (label == 1)).sum())
    some = float((pred == 1).sum() + (label == 1).sum())
    return 2 * both / some if some else 0.0


def pearson(pred: Array, label: Array) -> float:
    """Linear correlation; 0 where one side is constant or no number."""
    import numpy as np

    x, y = pred.astype(np.float64), label.astype(np.float64)
    x, y = x - x.mean(), y - y.mean()
    below = float(x @ x) * float(y @ y)
    found = float(x @ y) / below**0.5 if below > 0 else 0.0
    return min(1.0, max(-1.0, found)) if np.isfinite(found) else 0.0


def spearman(pred: Array, label: Array) -> float:
    """Correlation of ranks, ties sharing their mean rank."""
    return pearson(_ranks(pred), _ranks(label))


def _ranks(values: Array) -> Array:
    """Position in order, from 1; equal values have the mean of theirs."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Array = (last - (counts - 1) / 2)[place]
    return found


FORMULAS: dict[str, Callable[[Any, Any], float]] = {"accuracy": accuracy, "mcc": mcc, "f1": f1, "pearson": pearson,
                                                    "spearman": spearman}
