"""An epoch of JPEGs from the warm image cache, against torch's DataLoader that decodes them with two workers.

`python -m tests.perf.image_epochs [--count N] [--turns N]`, under a minute. Target: 20 times. 1000 JPEGs of 500 x 375
pixels and quality 90 (some 64 kB each) are drawn once into a temporary folder; both sides resize to 224 by Pillow's
bicubic, normalise alike, and give shuffled float32 batches of 64. The DataLoader's workers persist. The cache is read
by one thread, and again by two, since the loader has two processes; the target is judged by the one thread and the
wall's clock, which on a busy machine favours the side with more processes. Beside it stands the ratio of the
processor's seconds, the loader's halved as if its two workers shared the work perfectly.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.engine.cache import ImageCache
from bench.engine.loaders import IMAGENET, Batches, Normaliser
from bench.engine.pictures import Pictures
from bench.perf.timing import Work, in_turns
from datasets.card import Item
from tests.perf.claims import Script, tell

SIZE, BATCH = 224, 64


def draw(folder: Path, count: int) -> list[Item]:
    """Soft shapes with some noise: JPEG files of a photograph's size in bytes."""
    random = np.random.default_rng(0)
    items = []
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Resampling.BICUBIC), dtype=np.int16)
        pixels = smooth + random.integers(-12, 13, (375, 500, 3), dtype=np.int16)
        path = folder / f"{i:05d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        items.append(Item(path, i % 10))
    return items


class Decoded(Dataset[tuple[Tensor, int]]):
    """What a user writes today."""

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self.mean, self.std = (torch.tensor(v).view(3, 1, 1) for v in IMAGENET)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        path, label = self.items[row]
        with Image.open(path) as image:  # type: ignore[arg-type]
            small = image.convert("RGB").resize((SIZE, SIZE), Resampling.BICUBIC)
        x = torch.from_numpy(np.asarray(small).transpose(2, 0, 1).copy()).float().div_(255)
        return (x - self.mean) / self.std, label


def epoch_of(loader: DataLoader[tuple[Tensor, int]]) -> int:
    return sum(len(y) for _, y in loader)


def from_cache(batches: Batches, number: list[int], threads: int = 1) -> int:
    number[0] += 1
    torch.set_num_threads(threads)
    found = sum(len(b.y) for b in batches.epoch(number[0]))
    torch.set_num_threads(1)
    return found


def processor_seconds(pid: int) -> float:
    """User and system time of a living process."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def loaders_seconds(loader: DataLoader[tuple[Tensor, int]]) -> float:
    """The processor's seconds so far of this process and the loader's persistent workers."""
    workers: Any = loader._iterator._workers if loader._iterator is not None else []  # type: ignore[attr-defined]
    return time.process_time() + sum(processor_seconds(w.pid) for w in workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    script = Script("image-epochs", "an epoch of JPEGs: warm image cache against torch's DataLoader", parser)
    args, found = script.args, script.found
    with tempfile.TemporaryDirectory() as name:
        tell("drawing")
        items = draw(Path(name), args.count)
        kilobytes = sum(Path(i.image).stat().st_size for i in items) / args.count / 1e3  # type: ignore[arg-type]
        cache, started = ImageCache(Path(name) / "cache"), time.perf_counter()
        pixels = cache.pixels("jpegs", items, SIZE)
        found.add("image cache", "building", "images/s", args.count / (time.perf_counter() - started))
        assert pixels is not None
        labels = torch.tensor([i.label for i in items])
        batches = Batches(Pictures(items, labels, pixels, SIZE, "none"),
                          Normaliser(*IMAGENET, torch.device("cpu")), BATCH, 0)
        loader = DataLoader(Decoded(items), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
        works: dict[str, Work] = {"cache": partial(from_cache, batches, [0]), "loader": partial(epoch_of, loader),
                                  "cache, 2 threads": partial(from_cache, batches, [0], 2)}
        timed = in_turns(works, args.turns, warmup=1, report=lambda n: tell(f"turn {n}"))
        begun = loaders_seconds(loader)
        epoch_of(loader)
        halved = (loaders_seconds(loader) - begun) / 2
        begun = time.process_time()
        from_cache(batches, [0])
        found.add("image cache", "epoch / DataLoader, processor", "ratio", halved / (time.process_time() - begun),
                  "the loader's seconds halved")
        del loader
    found.add("DataLoader, 2 workers", "epoch", "images/s", timed.rate("loader", args.count))
    found.add("image cache", "epoch", "images/s", timed.rate("cache", args.count))
    found.add("image cache, 2 threads", "epoch", "images/s", timed.rate("cache, 2 threads", args.count))
    found.add("image cache", "epoch / DataLoader", "ratio", timed.ratio("cache", "loader"))
    found.add("image cache, 2 threads", "epoch / DataLoader", "ratio", timed.ratio("cache, 2 threads", "loader"))
    script.close({"count": args.count, "kilobytes_per_image": round(kilobytes, 1), "turns": args.turns,
                  "clock": "wall"},
                 [("image cache", "epoch / DataLoader", 20.0, ""), ("image cache", "epoch", 5000.0, "per core")])


if __name__ == "__main__":
    main()
