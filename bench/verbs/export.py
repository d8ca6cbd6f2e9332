"""`export`: a stored run as a folder that peft, timm or torch alone can load, with its card."""

from __future__ import annotations

import argparse
from pathlib import Path

from results import store

from .. import checkout
from ..planning.request import UsageError
from . import recorded
from .words import Verb

ORDER = 123  # in the list of commands
KINDS = ("peft", "timm", "state-dict", "hf-eval")


def add(verb: Verb) -> None:
    """The command and its options."""
    made = verb("export", act, "a stored run as a folder that peft or timm alone can load, with its card")
    made.add_argument("run", metavar="RUN", help="its id, or enough of its first digits")
    made.add_argument("--as", dest="kind", choices=KINDS, required=True, help="peft: a folder for PeftModel."
                      "from_pretrained; timm: one checkpoint with the adapter folded in; state-dict: every tensor and "
                      "torch's own form of the computation; hf-eval: the numbers as a model's page on a hub reads them")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    made.add_argument("--weights", type=Path, help="the file of pre-trained weights")
    made.add_argument("--head", type=Path, metavar="FILE", help="the file of class embeddings that its head started "
                      "from, if it did")


def act(args: argparse.Namespace) -> int:
    path = recorded.find(args.run, checkout.RUNS)[0]
    from methods.weights import StoredError

    from ..engine.stored import open_run
    from ..export import folder

    try:
        if args.kind == "hf-eval":
            folder.numbers(store.load(path), args.out)
            checked = ""
        else:
            far = folder.export(open_run(path, args.weights, head=args.head), args.kind, args.out)
            checked = f"; loaded again, its logits differ by {far:.1e} at most"
    except StoredError as error:
        raise UsageError([str(error)]) from None
    print(f"run {path.stem.rpartition('-')[2]} as {args.kind}: {args.out}{checked}")
    return 0
