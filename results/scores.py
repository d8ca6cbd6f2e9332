"""Scores beyond the share of right answers: MCC, F1 with accuracy, Pearson with Spearman; the recalls of `recall`.

A score is a fraction in [-1, 1]. Where a formula has no value (constant answers) it is 0, as GLUE's graders take it.
`spread` says how far a score would move with other items: the deviation over a thousand seeded draws of the items with
replacement (Efron's bootstrap), so a wrong score is mended from stored answers like any other metric. Of recalls
pictures are drawn, each with its captions: the answers are ranks (N, 2), of a caption's picture and of that picture's
best caption, and the labels the pictures' numbers. Needs numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from . import recall

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DRAWS, SEED = 1000, 20
# A card's metric -> the columns that a record has beside it, and whose mean the score is.
PARTS = {"mcc": ("mcc",), "f1_acc": ("f1", "accuracy"), "pearson_spearman": ("pearson", "spearman"),
         "rmean": tuple(f"{side}_r{k}" for side in ("text", "image") for k in recall.AT)}
NAMES = {"top1": "accuracy", "class_mean": "mean per class", "mcc": "MCC", "f1_acc": "F1/acc",
         "pearson_spearman": "r/rho", "rmean": "mean recall"}


TASKS = {"pearson_spearman": "regress", "rmean": "match"}  # what predictions hold where they are no classes


def task_of(metric: str) -> str:
    """What a file of predictions says of itself that this metric is made of; "" of classes."""
    return TASKS.get(metric, "")


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
    if metric == "rmean":
        each = recall.each(ranks(pred, label))
        return found | {"score": score(metric, pred, label),
                        "score_se": spread(lambda rows: float(each[rows].mean()), len(each))}
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


def ranks(pred: Array, label: Array) -> recall.Ranks:
    """Ranks (N, 2) by caption and the pictures' numbers (N,) -> the ranks by picture and by caption."""
    import numpy as np

    owner = label.astype(np.int64)
    of_text = np.zeros(int(owner.max()) + 1, np.int64)
    of_text[owner] = pred[:, 1]
    return recall.Ranks(of_text, pred[:, 0].astype(np.int64), owner)


def found_among(column: int, most: int, pred: Array, label: Array) -> float:
    """The share of captions whose picture (column 0), or of pictures whose best caption, has a rank below `most`."""
    found = ranks(pred, label)
    return float(((found.of_text if column else found.of_image) < most).mean())


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


FORMULAS: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": accuracy, "mcc": mcc, "f1": f1, "pearson": pearson, "spearman": spearman,
    **{f"{side}_r{k}": partial(found_among, column, k) for column, side in enumerate(("image", "text"))
       for k in recall.AT}}
