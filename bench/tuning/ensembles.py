"""Greedy ensembles: which trials of a search are averaged, chosen on the probabilities they stored for validation.

Caruana, Niculescu-Mizil, Crew & Ksikes, ICML 2004: start from nothing, add the run that makes the mean of probabilities
best, again and again, the same run more than once if it helps; keep the best of all these ensembles. Best is by top-1,
or by the data set's own score where it has one; equals go to the lower NLL, then to the run that was given first; of
equal ensembles the smallest is kept. No torch.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import evidence, store
from results.schema import RunResult

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

ROUNDS = 25  # runs in an ensemble at most, repetitions counted
LEAST = 1e-12  # a probability, before its logarithm: float16 rounds small ones to nothing


def stored(record: RunResult, runs: Path) -> tuple[Array, Array] | None:
    """((N, C) float16 probabilities on validation, (N,) labels), or None where the run stored none.

    Raises PredictionError for a file that is not the one it stored.
    """
    import numpy as np

    found = next((a for a in record.artifacts if a.kind == "probabilities"), None)
    if found is None:
        return None
    content = evidence.stored(store.path_of(record.spec, runs).parent, found.path, found.sha256)
    with np.load(io.BytesIO(content), allow_pickle=False) as held:
        return held["probabilities"], held["label"]


def judged(mean: Array, label: Array, metric: str = "top1") -> tuple[float, float]:
    """(top-1 or the metric's score, minus NLL) of (N, C) mean probabilities."""
    import numpy as np

    from results import scores

    own, pred = np.maximum(mean[np.arange(len(label)), label], LEAST), mean.argmax(1)
    value = scores.values(metric, pred, label)["score"] if scores.scored(metric) else float((pred == label).mean())
    return (-1.0 if value is None else value), float(np.log(own).mean())


def choose(found: Sequence[Array], label: Array, rounds: int = ROUNDS, metric: str = "top1"
           ) -> tuple[dict[int, int], float]:
    """(position -> how often it is taken, score of their mean on validation)."""
    import numpy as np

    total = np.zeros(found[0].shape)
    taken: list[int] = []
    best, size = -2.0, 0  # below every score: a correlation may be -1
    for count in range(1, rounds + 1):
        scores = [judged((total + one) / count, label, metric) for one in found]
        pick = max(range(len(found)), key=lambda i: (scores[i], -i))
        total += found[pick]
        taken.append(pick)
        if scores[pick][0] > best:
            best, size = scores[pick][0], count
    return dict(Counter(taken[:size])), best
