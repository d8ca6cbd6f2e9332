"""DomainNet (Peng et al., ICCV 2019), as TPGM uses it: train on Real, test on Real and on four other domains.

`<domain>_{train,test}.txt` hold `real/aircraft_carrier/real_001_000001.jpg 0`. TPGM's own lists for a share of the
training images (`real_train_<p>_percent_split.txt`, `real_val_<p>_percent_split.txt`) are read where they lie; where
they do not, the share and the validation images are derived here by hash order within each class, which the card says.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from functools import partial
from pathlib import Path

from .card import Card, DataError, Item
from .lists import Problems, Tree, find_folder, read_list
from .registry import register

FOLDERS = ("domainnet", "domain_net", "DomainNet")
LAYOUT = "<domain>_train.txt, <domain>_test.txt and <domain>/<class>/ (the cleaned version)"
CLASSES = 345
TRAIN = {"real": 120_906}
TEST = {"real": 52_041, "sketch": 20_916, "painting": 21_850, "infograph": 15_582, "clipart": 14_604}
SHARES = (1, 5, 10, 20, 50, 100)  # percent of the training images
VAL_SHARE = 10  # percent of each class, where the split has to be derived


def _hashed(item: Item) -> bytes:
    image = item.image
    name = f"{image.parent.name}/{image.name}" if isinstance(image, Path) else image.name
    return hashlib.sha256(f"domainnet|{name}".encode()).digest()


def derive(items: list[Item], share: int) -> tuple[list[Item], list[Item]]:
    """(train, val) of a share: a tenth of each class to val, then the share of the rest; at least one of each."""
    classes: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        classes[int(item.label)].append(item)
    train: set[Item] = set()
    val: set[Item] = set()
    for members in classes.values():
        ordered = sorted(members, key=_hashed)
        held = max(1, len(ordered) * VAL_SHARE // 100)
        val |= set(ordered[:held])
        rest = ordered[held:]
        train |= set(rest[: max(1, len(rest) * share // 100)])
    return [item for item in items if item in train], [item for item in items if item in val]


def items(root: Path, split: str, domain: str, share: int = 100, problems: Problems | None = None) -> list[Item]:
    """The items of one split of one domain."""
    known = ("train", "val", "trainval", "test") if domain in TRAIN else ("test",)
    if split not in known:
        raise DataError(f"no split is called {split!r}; there are: {', '.join(known)}")
    base = find_folder(root, FOLDERS, LAYOUT)
    tree = Tree(base)
    if split == "test":
        return read_list(base / f"{domain}_test.txt", tree, CLASSES, LAYOUT, problems)
    printed = {part: base / f"{domain}_{part}_{share}_percent_split.txt" for part in ("train", "val")}
    if all(file.is_file() for file in printed.values()):
        parts = {part: read_list(file, tree, CLASSES, LAYOUT, problems) for part, file in printed.items()}
        train, val = parts["train"], parts["val"]
    else:
        train, val = derive(read_list(base / f"{domain}_train.txt", tree, CLASSES, LAYOUT, problems), share)
    return {"train": train, "val": val, "trainval": [*train, *val]}[split]


def _card(name: str, domain: str, share: int) -> Card:
    whole = {"trainval": TRAIN[domain]} if domain in TRAIN and share == 100 else {}
    return Card(
        name=name, title=f"DomainNet {domain.title()}" + (f" {share} %" if share < 100 else ""), group="shift",
        classes=CLASSES, splits={**whole, "test": TEST[domain]}, source="http://ai.bu.edu/M3SDA/",
        license="fair-use notice, research (recalled)", cite="peng2019domainnet", folder=FOLDERS[0], layout=LAYOUT,
        items=partial(items, domain=domain, share=share), by_hand="unpack the cleaned archives and the lists",
        note="train and val follow TPGM's lists where they lie, else hash order within each class; cleaned version"
        if domain in TRAIN else "evaluated after training on Real; quickdraw is never evaluated",
        train_transform="crop_flip", facts={"domain": domain, "share": str(share), "train": "domainnet_real"}
        | ({"lists": "train val trainval"} if domain in TRAIN else {}),
    )  # fmt: skip


for _domain in TEST:
    register(_card(f"domainnet_{_domain}", _domain, 100))
for _share in SHARES[:-1]:
    register(_card(f"domainnet_real_{_share}", "real", _share))
