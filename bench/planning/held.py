"""Whether a run's held-out images are seen as an evaluation sees images: settled by its spec alone. No torch.

Training images may be cropped at random. What is held out to score something (radii, a curve of interpolations, a
probe's penalty, a fold) must not be: two looks at one image would differ. Images that a part holds out to train on, as
UGR may, keep the training transform.
"""

from __future__ import annotations

from dataclasses import replace

from methods.catalog import catalog
from results.schema import RunSpec


def settled(spec: RunSpec) -> RunSpec:
    """The spec with `held_as` as it must be: unlike what runs used to do only where that makes a difference."""
    scores = bool(spec.fold) or any(catalog()[name].facts.get("wants_holdout") for name in spec.method.split("+"))
    return replace(spec, held_as="evaluation" if scores and spec.augment != "none" else "train")
