"""What `new` writes: the smallest part or card that does something, passes its battery, and is changed from there.

`NAME` stands for the name, `Class` for the class, `Title` for the title. For a folder outside the checkout the imports
are spelt with our packages' names.
"""

from __future__ import annotations

import re

ADAPTER = '''"""Title: a trained vector is added before every block (a skeleton: say what yours does, whose it is)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from ..base import Adapter, Delta, Feature
from ..compose import part
from ..insertion import blocks, require, stream, zeros
from ..vit import freeze, replace_head


class Added(Delta):
    """What is added to the tokens of a block."""

    def __init__(self, like: Tensor, depth: int, scale: float) -> None:
        super().__init__()
        self.depth, self.scale = depth, scale
        self.shift = zeros(like, *like.shape)  # (D,), on the device and in the type of the backbone

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        return self.scale * self.shift.expand_as(x)


class Block(nn.Module):
    """A block of the backbone behind what is added to its input."""

    def __init__(self, block: nn.Module, delta: Added) -> None:
        super().__init__()
        self.block, self.delta = block, delta

    def forward(self, x: Tensor, **kwargs: object) -> Tensor:  # (B, N, D) -> (B, N, D)
        out: Tensor = self.block(x + self.delta(x), **kwargs)
        return out


@part("NAME")
class Class(Adapter):
    """Title: one trained vector before every block."""

    title = "Title"
    ours = "a skeleton"  # a method of the literature names its `paper` here: authors, venue, arXiv number
    recipe_from = "no paper: a skeleton of ours"
    formula = "d L"
    offers: ClassVar[frozenset[Feature]] = frozenset({"delta", "tokens"})

    scale: Annotated[float, ">= 0", "multiplies the vector"] = 1.0

    def build(self, backbone: nn.Module, classes: int) -> nn.Module:
        require(self, backbone)
        freeze(backbone)
        for depth, block in enumerate(blocks(backbone)):
            backbone.blocks[depth] = Block(block, Added(stream(block), depth, self.scale))  # type: ignore
        return replace_head(backbone, classes)
'''

REGULARIZER = '''"""Title: a penalty on large logits (a skeleton: say what yours does, whose it is)."""

from __future__ import annotations

from typing import Annotated

from ..base import Batch, Fit, Objective, Regularizer, Terms
from ..compose import part


@part("NAME")
class Class(Regularizer):
    """Title: the mean square of the logits joins the loss."""

    title = "Title"
    ours = "a skeleton"  # a method of the literature names its `paper` here: authors, venue, arXiv number
    search = {"NAME.weight": (1e-4, 1.0, "log")}

    weight: Annotated[float, ">= 0", "of the penalty"] = 0.01

    def loss(self, fit: Fit, batch: Batch, base: Objective) -> Terms:
        terms = base(fit, batch)  # "loss" () and "logits" (B, C); what else is in it is logged
        penalty = terms["logits"].square().mean()
        return {**terms, "loss": terms["loss"] + self.weight * penalty, "NAME": penalty.detach()}
'''

CONSTRAINT = '''"""Title: trained tensors stay in a ball (a skeleton: say what yours does, whose it is)."""

from __future__ import annotations

from typing import Annotated

import torch

from ..base import Constraint, Fit
from ..compose import part


@part("NAME")
class Class(Constraint):
    """Title: after each step every trained tensor is scaled back into a ball around zero."""

    title = "Title"
    ours = "a skeleton"  # a method of the literature names its `paper` here: authors, venue, arXiv number
    search = {"NAME.radius": (1.0, 100.0, "log")}

    radius: Annotated[float, "> 0", "of the ball"] = 10.0

    @torch.no_grad()
    def after_step(self, fit: Fit) -> None:
        for weight in fit.peft.values():  # without the head
            length = weight.norm()
            if length > self.radius:
                weight.mul_(self.radius / length)
'''

DATASET = '''"""Title (a skeleton: say here what the images show, and where they come from)."""

from __future__ import annotations

from functools import partial

from .card import Card
from .registry import register
from .vtab import export

register(Card(
    name="NAME", title="Title", group="other", classes=2,
    splits={"train": 800, "val": 200, "trainval": 1000, "test": 500},  # promises that `data check` verifies
    source="https://example.org/NAME", license="unknown", cite="NAME",
    folder="NAME", layout=export.LAYOUT, items=partial(export.items, folders=("NAME",), classes=2),
))
'''

TEXTS = {"adapter": ADAPTER, "regularizer": REGULARIZER, "constraint": CONSTRAINT, "dataset": DATASET}
FOLDERS = {"adapter": "methods/adapters", "regularizer": "methods/regularizers", "constraint": "methods/constraints",
           "dataset": "datasets"}
OUTSIDE = {kind: folder.rpartition("/")[2] for kind, folder in FOLDERS.items()}


def text(kind: str, name: str, outside: bool = False) -> str:
    """The file for a new part or card of this name; `outside` the checkout."""
    words = name.split("_")
    title = " ".join([words[0].capitalize(), *words[1:]])
    made = TEXTS[kind].replace("NAME", name).replace("Title", title)
    made = made.replace("class Class(", f"class {''.join(w.capitalize() for w in words)}(")
    return _moved(made, "datasets" if kind == "dataset" else "methods") if outside else made


def _moved(text: str, package: str) -> str:
    """With `from methods.base` in place of `from ..base`."""
    return re.sub(r"^from \.+", f"from {package}.", text, flags=re.MULTILINE)
