"""What the embedded text encoder knows of the stand-ins' questions: a linear probe, pre-trained against random weights.

    python -m bench.embedded.examine_text --out bench/embedded/text_probe.json

Of each of GLUE's nine stand-ins 160 texts to learn from and 200 to be tested on are drawn, five times, from seeds of
their own. The first token's feature is standardised; a logistic regression, or ridge regression of a score, is fitted
with the strength that is best on a quarter of the 160. Scores are those of the cards: MCC, the mean of F1 and accuracy,
the mean of Pearson and Spearman, accuracy. The interval is Student's t over the five drawings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.embedded import language, probe, text
from datasets.glue import TASKS
from datasets.standins.language import Row, rows
from methods.text import TextTransformer

LEARNT, TESTED, TIMES = 160, 200, 5
FIRST_SEED = 1000
RIDGE = (1.0, 10.0, 100.0, 1000.0)
Values = NDArray[np.float64]


def numbers(told: Sequence[Row]) -> Tensor:
    """(N, L) int64, padded."""
    words = language.tokenizer()
    words.enable_truncation(40, strategy="longest_first")
    words.enable_padding(pad_id=language.PAD)
    return torch.tensor([e.ids for e in words.encode_batch([(row.a, row.b) if row.b else row.a for row in told])])


@torch.inference_mode()
def features(model: TextTransformer, told: Sequence[Row]) -> Values:
    """(N, 96): what a head would read."""
    model.eval()
    return np.concatenate([model(part).double().numpy() for part in torch.split(numbers(told), 200)])


def score(name: str, values: Values, labels: Values, learnt: int = LEARNT) -> float:
    """The card's score on all but the first `learnt` rows, after learning from these."""
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import f1_score, matthews_corrcoef

    rest = labels[learnt:]
    if name == "stsb":
        guess = _line(values[:learnt], labels[:learnt], values[learnt:])
        return 0.0 if np.ptp(guess) == 0 else float(pearsonr(guess, rest)[0] + spearmanr(guess, rest)[0]) / 2
    guess = probe._fitted(values[:learnt], labels[:learnt].astype(np.int64)).predict(values[learnt:])
    right = float((guess == rest).mean())
    if TASKS[name].metric == "mcc":
        return float(matthews_corrcoef(rest, guess))
    return (right + float(f1_score(rest, guess))) / 2 if TASKS[name].metric == "f1_acc" else right


def _line(values: Values, labels: Values, asked: Values) -> Values:
    """Ridge regression on standardised features, its strength chosen on a quarter."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    guess: Values = make_pipeline(StandardScaler(), RidgeCV(RIDGE)).fit(values, labels).predict(asked)
    return guess


def drawn(name: str, seed: int) -> tuple[list[Row], Values]:
    """(texts, labels): those to learn from first."""
    found = rows(name, {"learn": LEARNT, "asked": TESTED}, seed)
    told = [*found["learn"], *found["asked"]]
    kinds = sorted({row.label for row in told})
    return told, np.array([float(row.label) if name == "stsb" else kinds.index(row.label) for row in told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="table to write (.json)")
    parser.add_argument("--weights", type=Path, help="other weights than those in this repository")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {"pre-trained": text.create(weights=given.weights), "random": text.create(pretrained=False)}
    table: dict[str, Any] = {}
    for name in TASKS:
        sets = [drawn(name, FIRST_SEED + i) for i in range(TIMES)]
        found = {kind: [score(name, features(model, told), labels) for told, labels in sets]
                 for kind, model in models.items()}
        lead, low, high = probe.difference(found["pre-trained"], found["random"])
        table[name] = {"metric": TASKS[name].metric, **{kind: round(float(np.mean(v)), 4) for kind, v in found.items()},
                       "lead": round(lead, 4), "interval": [round(low, 4), round(high, 4)]}
        print(name, json.dumps(table[name]), flush=True)
    if given.out:
        settings = {"learnt": LEARNT, "tested": TESTED, "times": TIMES}
        facts = {"settings": settings, "weights": text.sha256_of(given.weights or text.weights_path()), "table": table}
        given.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
