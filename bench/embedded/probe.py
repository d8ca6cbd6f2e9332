"""Compare embedded backbones and their teacher by a linear probe on real images that none of them has learnt from.

    python -m bench.embedded.probe --out bench/embedded/probe.json      # stamps, fashion_mnist, elpv, digits
    python -m bench.embedded.probe --choose .cache/distil --weights A.safetensors B.safetensors

The images of each card are cut into five parts; each part is tested once, after a logistic regression on standardised
features of at most 1,000 images of the other four (300 of digits, as its card has), C chosen on a quarter of these.
Cuts, grid and images are the same for all. Of Fashion-MNIST only validation and test images are looked at, because
training images were learnt from. The interval of a difference is Student's t over the five parts.

`--choose` answers which of several recipes is best without a look at any test: on the pictures of the collection that
were set apart, drawings by folder and garments by label.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image, Resampling
from scipy import stats
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from bench.embedded import collection as pictures
from bench.embedded import model as backbones
from bench.embedded import teacher
from datasets import fashion, registry
from datasets.images import open_rgb
from datasets.packages import unpacked

CARDS = ("stamps", "fashion_mnist", "elpv", "digits")
PARTS = 5
MOST = {"digits": 300}  # images to learn from; 1,000 of all others
GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
POOL = 5000  # images of a card that are looked at
TEACHER_SIZE = 128
Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pool:
    """Images to probe on; `most` to learn from at a time."""

    name: str
    images: list[Image]
    labels: NDArray[np.int64]
    most: int = 1000


@dataclass(frozen=True)
class Probed:
    """Shares 0..1 for each of the five parts."""

    accuracy: list[float]
    class_mean: list[float]


def of_card(name: str, root: Path = Path()) -> Pool:
    """Every image of the card (Fashion-MNIST: val and test), the first POOL in an order drawn once."""
    splits = ("val", "test") if name == "fashion_mnist" else ("trainval", "test")
    items = [item for split in splits for item in registry.get(name).items(root, split)]
    chosen = [items[i] for i in np.random.default_rng(0).permutation(len(items))[:POOL]]
    return Pool(name, [open_rgb(item.image) for item in chosen], np.array([item.label for item in chosen]),
                MOST.get(name, 1000))


def set_apart(work: Path, root: Path = Path(), least: int = 10) -> list[Pool]:
    """The collection's pictures that were set apart: drawings of folders with ten or more, garments by label."""
    from PIL import Image as pil

    found = pictures.load(work / "collection.npz")
    rows = found.rows(apart=True)
    drawn = [int(row) for row in rows if row < len(found.drawings)]
    folders = [found.names[row].split("/")[1] for row in drawn]
    kept = sorted({folder for folder in folders if folders.count(folder) >= least})
    drawings = [(pil.fromarray(found.drawings[row]), kept.index(folder))
                for row, folder in zip(drawn, folders, strict=True) if folder in kept]
    answers = unpacked(fashion.FASHION.base(root, fashion.LAYOUT) / "train-labels-idx1-ubyte.gz")
    garments = [(pil.fromarray(found.garments[row - len(found.drawings)]).convert("RGB"),
                 answers[fashion.HEAD["labels"] + int(found.names[row].rpartition("/")[2])])
                for row in rows if row >= len(found.drawings)]
    return [Pool(name, [image for image, _ in both], np.array([label for _, label in both]))
            for name, both in (("drawings apart", drawings), ("garments apart", garments))]


@torch.inference_mode()
def features(pool: Pool, size: int, answer: Answer) -> NDArray[np.float64]:
    """(N, D): every image stretched to size x size, as evaluation does, and put through the network."""
    found = []
    for start in range(0, len(pool.images), 64):
        pixels = [np.asarray(image.resize((size, size), Resampling.BICUBIC)) for image in pool.images[start:start + 64]]
        images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
        found.append(answer(images))
    return torch.cat(found).double().numpy()


def probe(values: NDArray[np.float64], pool: Pool) -> Probed:
    """Learn and test once for each part."""
    from sklearn.model_selection import StratifiedKFold

    found = Probed([], [])
    for learnt, tested in StratifiedKFold(PARTS, shuffle=True, random_state=0).split(values, pool.labels):
        learnt = _first(learnt, pool.labels, pool.most)
        right = _fitted(values[learnt], pool.labels[learnt]).predict(values[tested]) == pool.labels[tested]
        found.accuracy.append(float(right.mean()))
        found.class_mean.append(float(np.mean([right[pool.labels[tested] == label].mean()
                                               for label in np.unique(pool.labels[tested])])))
    return found


def _first(rows: NDArray[np.int64], labels: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """So many of the rows, classes in their shares."""
    from sklearn.model_selection import train_test_split

    return rows if len(rows) <= most else train_test_split(rows, train_size=most, stratify=labels[rows],
                                                           random_state=0)[0]


def _fitted(values: NDArray[np.float64], labels: NDArray[np.int64]) -> Any:
    """A logistic regression on standardised features whose C was chosen on a quarter of the images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def model(c: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=400))

    rest, quarter = train_test_split(np.arange(len(labels)), test_size=0.25, random_state=0)
    best = max(GRID, key=lambda c: model(c).fit(values[rest], labels[rest]).score(values[quarter], labels[quarter]))
    return model(best).fit(values, labels)


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """(mean, lower and upper end of the 95 % interval) of paired differences."""
    apart = np.subtract(ours, theirs)
    half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5
    return float(apart.mean()), float(apart.mean() - half), float(apart.mean() + half)


def shape_of(file: Path) -> backbones.Shape:
    """The shape that the facts beside a weights file tell."""
    told = backbones.sidecar(file)["settings"]
    return replace(backbones.DISTILLED, width=told["width"], depth=told["depth"], heads=told["heads"])


def network(file: Path, shape: backbones.Shape) -> VisionTransformer:
    """A backbone with the weights of a file; it answers with its class token."""
    model = shape.build().eval()
    backbones.load_backbone(model, file)
    return model


def compared(pools: Sequence[Pool], networks: Mapping[str, tuple[int, Answer]]) -> dict[str, dict[str, Probed]]:
    """Network -> pool -> shares; each network with the side of its images."""
    return {name: {pool.name: probe(features(pool, size, answer), pool) for pool in pools}
            for name, (size, answer) in networks.items()}


def told(found: Mapping[str, Mapping[str, Probed]], base: str) -> str:
    """A table in percent: accuracy and, in brackets, the mean over classes; the mean over sets against `base`."""
    lines = []
    for name, pools in found.items():
        cells = [f"{pool} {np.mean(one.accuracy) * 100:.1f} ({np.mean(one.class_mean) * 100:.1f})"
                 for pool, one in pools.items()]
        mean, low, high = difference(over_sets(pools), over_sets(found[base]))
        lines.append(f"{name}: {', '.join(cells)}; mean {np.mean(over_sets(pools)) * 100:.1f}"
                     + (f", against {base} {mean * 100:+.1f} [{low * 100:+.1f}, {high * 100:+.1f}]"
                        if name != base else ""))
    return "\n".join(lines)


def over_sets(pools: Mapping[str, Probed]) -> list[float]:
    """Accuracy averaged over the sets, for each of the five parts."""
    return np.mean([one.accuracy for one in pools.values()], axis=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where to write all shares as JSON")
    parser.add_argument("--choose", type=Path, metavar="WORK", help="compare on the pictures set apart in it")
    parser.add_argument("--weights", type=Path, nargs="*", help="files of distilled weights; default: the shipped ones")
    given = parser.parse_args()
    torch.set_num_threads(1)
    old, new, big = backbones.DRAWN, backbones.DISTILLED, teacher.teacher()
    files = {file.stem: file for file in given.weights or ()} or {new.name: backbones.weights_path(new)}
    networks: dict[str, tuple[int, Answer]] = {old.name: (old.image_size, network(backbones.weights_path(old), old))}
    for name, file in files.items():
        networks[name] = new.image_size, network(file, shape_of(file))
    networks["teacher"] = TEACHER_SIZE, lambda images: big(images)["pooled"]
    found = compared(set_apart(given.choose) if given.choose else [of_card(name) for name in CARDS], networks)
    print(told(found, old.name))
    if given.out:
        facts = {"weights": {name: backbones.sha256_of(file) for name, file in files.items()},
                 "shares": {name: {pool: asdict(one) for pool, one in pools.items()} for name, pools in found.items()}}
        given.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
