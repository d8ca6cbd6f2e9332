"""VSE-infinity's loss of pictures and captions: a hinge on what is nearer than the right one, with a schedule.

Faghri et al., BMVC 2018, arXiv:1707.05612, for the hinge and its hardest negatives; Chen et al., CVPR 2021,
arXiv:2011.04305, for the schedule, which is that of their code: in the first epoch every wrong answer counts, from the
second on the hardest of each query alone, and the second's loss grows from 0 with the share of its steps that are
taken. Nothing of it is kept between steps: where a run stands follows from the number of its step.

That another caption of the same picture is no wrong answer is ours, as in `pair.Match`; the authors' code does not
look.
"""

from __future__ import annotations

from torch import Tensor

from .pair import Match
from .tasks import TASKS, Task

MARGIN = 0.2


class Triplet(Match):
    """[0.2 + s(wrong) - s(right)] where that is positive, both ways, summed over the batch; s are inner products.

    One for each run, which says by `stand` where it is; a new one stands at the first step of the first epoch.
    """

    def __init__(self) -> None:
        self.hardest, self.weight = False, 1.0

    def stand(self, step: int, per_epoch: int) -> None:
        """In front of a step, counted from 0 over the whole run, of so many in an epoch."""
        epoch, within = divmod(step, per_epoch)
        self.hardest, self.weight = epoch > 0, within / per_epoch if epoch == 1 else 1.0

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """(B, 2 E) and the pictures' numbers (B,) -> (). Smoothing is refused before a run begins."""
        image, text = out.chunk(2, 1)
        scores = image @ text.T  # (B, B), picture by caption
        right, same = scores.diagonal(), y[:, None] == y
        captions = (MARGIN + scores - right[:, None]).clamp(min=0).masked_fill(same, 0.0)
        pictures = (MARGIN + scores - right).clamp(min=0).masked_fill(same, 0.0)
        if self.hardest:
            return self.weight * (captions.max(1).values.sum() + pictures.max(0).values.sum())
        return self.weight * (captions.sum() + pictures.sum())


def asked(task: str, loss: str) -> Task:
    """The task of a run whose card asks `task`, with the loss that its spec names."""
    return Triplet() if loss == "triplet" else TASKS[task]
