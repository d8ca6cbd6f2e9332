"""What a run's data lack of what was meant, in words, beside every place where its numbers are told."""

from __future__ import annotations

from .schema import RunResult
from .spoken import word


def told(run: RunResult) -> str:
    """A sentence without its full stop where the run was allowed to lack data (`--partial`) and did; else nothing."""
    if not run.spec.partial:
        return ""
    return f"PARTIAL DATA: {left_out(count)}" if (count := run.dataset.left_out if run.dataset else 0) else \
        "PARTIAL DATA: not what the card of the data set promises (run with --partial)"


def left_out(count: int) -> str:
    """What `--partial` did with images of a user's folder."""
    what = word(count, "an image", f"{count:,} images")
    return f"{what} of the folder could not be read and {word(count, 'was', 'were')} left out (run with --partial)"
