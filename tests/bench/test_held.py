"""Images that are held out to score something are seen as an evaluation sees them, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.engine.build import Built
from bench.engine.cache import ImageCache
from bench.engine.loaders import open_data
from bench.engine.session import Session
from bench.planning.held import settled
from bench.planning.plan import make
from bench.planning.request import Request
from datasets import registry

from . import tiny


@pytest.fixture(autouse=True, scope="module")
def tiny_world() -> Iterator[None]:
    tiny.use()
    yield
    tiny.forget()


@pytest.mark.parametrize(("method", "changes", "held_as"), [
    ("full", {"augment": "crop_flip"}, "train"), ("full+tpgm", {"augment": "crop_flip"}, "evaluation"),
    ("full+wise", {"augment": "crop_flip"}, "evaluation"), ("lp_ft", {"augment": "crop_flip"}, "evaluation"),
    ("full+tpgm", {"augment": "none"}, "train"), ("full", {"augment": "crop_flip", "fold": "1/4"}, "evaluation"),
    ("full", {"augment": "none", "fold": "1/4"}, "train"),
    ("lora+ugr(u_batch='unlabelled')", {"augment": "crop_flip"}, "train")])
def test_only_what_scores_augmented_images_is_told_apart(method: str, changes: dict[str, str], held_as: str) -> None:
    spec = settled(tiny.spec(method, **changes))
    assert spec.held_as == held_as and (spec.id == tiny.spec(method, **changes).id) == (held_as == "train")
    assert settled(replace(spec, augment="none", fold="")).held_as == "train"


def test_a_plan_settles_it_and_rows_stay_comparable(tmp_path: Path) -> None:
    asked = Request(suite="custom", datasets=(tiny.DATASET,), methods=("full", "full+tpgm"), backbones=(tiny.MODEL,),
                    data="/", no_pretrained=True, sets=("image_size=16", "augment=crop_flip"))
    specs = [p.spec for p in make(asked, tmp_path).runs]
    assert [s.held_as for s in specs] == ["train", "evaluation"]
    assert len({s.protocol_id for s in specs}) == 1


def looks(session: Session) -> list[torch.Tensor]:
    """Every held-out image at its first two appearances."""
    assert session.built.holdout is not None
    seen: dict[int, list[torch.Tensor]] = {}
    while len(seen) < 12 or min(map(len, seen.values())) < 2:
        batch = next(session.built.holdout)
        for x, row in zip(batch.x.clone(), batch.index.tolist(), strict=True):
            seen.setdefault(row, []).append(x)
    return [torch.stack(found[:2]) for _, found in sorted(seen.items())]


def built(folder: Path, **changes: str) -> Session:
    spec = tiny.spec("full+tpgm", batch_size=4, **changes)
    session = Session(spec, registry.get(spec.dataset), tiny.where(folder, checkpoints=None))
    session.run()
    return session


def test_radii_are_learned_on_one_view_of_each_image(tmp_path: Path) -> None:
    fixed, random = (built(tmp_path, augment="crop_flip", held_as=h) for h in ("evaluation", "train"))
    assert all(torch.equal(first, again) for first, again in looks(fixed))
    assert not all(torch.equal(first, again) for first, again in looks(random))
    plain, same = (built(tmp_path, augment="none", held_as=h) for h in ("evaluation", "train"))
    assert all(map(torch.equal, looks(plain), looks(same)))
    assert fixed.built.train_pictures.augment == "crop_flip" and plain.built.train_pictures.augment == "none"


def test_the_probe_of_lp_ft_is_fitted_on_plain_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = settled(tiny.spec("lp_ft", augment="crop_flip"))
    session = Session(spec, registry.get(spec.dataset), tiny.where(tmp_path, checkpoints=None))
    session.run()
    seen, kind = [], type(session.built.method)
    monkeypatch.setattr(kind, "prepare", lambda method, fit, batches: seen.extend(b.x for b in batches))
    for _ in range(2):
        data = open_data(registry.get(spec.dataset), tmp_path, spec, ImageCache(None))
        Built(spec, session.card, session.where, data)
    half = len(seen) // 2
    assert half and all(map(torch.equal, seen[:half], seen[half:]))
    direct = open_data(registry.get(spec.dataset), tmp_path, replace(spec, phase="tune"), ImageCache(None)).val
    assert direct is not None and direct.augment == session.built.held.augment  # type: ignore[union-attr]


def test_a_fold_is_scored_as_a_validation_list_is() -> None:
    spec = settled(tiny.spec(phase="tune", fold="2/4", augment="crop_flip"))
    folded = open_data(registry.get(tiny.DATASET), Path(), spec, ImageCache(None))
    listed = open_data(registry.get(tiny.DATASET), Path(), replace(spec, fold=""), ImageCache(None))
    assert folded.val is not None and listed.val is not None
    assert folded.val.augment == listed.val.augment != "crop_flip" and folded.train.augment == "crop_flip"
