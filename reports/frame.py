"""All records as one pandas frame, one row per run, for questions that no table answers.

    from reports.frame import frame
    runs = frame()                                  # results/runs; names as in the record: "metrics.test.top1"
    runs.pivot_table("metrics.test.top1", "method.text", "spec.dataset")

`python -m reports runs` prints it as CSV.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from results.index import INDEX, read
from results.store import ROOT

if TYPE_CHECKING:
    import pandas as pd

FIRST = ("run_id", "status", "phase", "spec.dataset", "method.text", "spec.model", "spec.seed", "metrics.test.top1")


def frame(records: Path | None = None) -> pd.DataFrame:
    """Texts as categories, numbers as floats with NaN for unknown; strict about unreadable records."""
    import pandas as pd

    base = records if records is not None else ROOT / "runs"
    columns = read(base, index=(base / INDEX).exists())  # uses a cache, makes none
    made: dict[str, object] = {name: np.frombuffer(values) if len(values) else np.empty(0)
                               for name, values in columns.number.items()}
    for name, words in columns.text.items():
        made[name] = pd.Series(words, dtype="str" if name in ("path", "run_id", "sha256") else "category")
    order = [name for name in FIRST if name in made] + sorted(name for name in made if name not in FIRST)
    return pd.DataFrame({name: made[name] for name in order})
