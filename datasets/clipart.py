"""Open Clip Art and Tux Paint's stamps, two Debian packages: each by its folders, and the classes that both have.

`clipart`: 13 folders of drawings, 190 images of each at most, of which 40 % train, 10 % are val. `stamps`: the 9
folders of 19 or more images, mostly cut-out photographs; 60 % train, 15 % are val. `clipart_to_stamps` and
`stamps_to_clipart` train on one collection's images of nine classes that both have (`SHARED`) and are tested on the
rest of these and, for the change of domain, on all of the other's (`shared_stamps`, `shared_clipart`); drawn stamps
(folders named `cartoon`) are left out. Small classes: trees (11 drawings, 7 stamps), insects (49 and 9), fish (17
and 11), music (65 and 11), vehicles (27 and 17): every number is the mean over classes.

Passed over: links, images of more than four million pixels, mirrored ones (`_mirror`, `_flip`), files of equal bytes
after the first, and the files of `clipart_twins.txt`, which show the pixels of another at 64 x 64: all but the first
of a class, and all where they lie in two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from . import door, sameness, stratify
from .card import Card, DataError, Item, Pair, Text
from .packages import PACKAGES, Held, Package, below
from .registry import register

PIXELS = 4_000_000  # of an image at most; some claim 600 million
CLIPART = ("animals", "buildings", "computer", "food", "geography", "office", "people", "plants", "recreation",
           "shapes", "signs_and_symbols", "tools", "transportation")
STAMPS = ("animals", "clothes", "food", "household", "plants", "seasonal", "symbols", "town", "vehicles")
SHARED = {  # class -> its folder of drawings, its folder of stamps
    "birds": ("animals/birds", "animals/birds"), "fish": ("animals/fish", "animals/fish"),
    "flowers": ("plants/flowers", "plants/flowers"), "fruit": ("food/fruit", "food/fruit"),
    "insects": ("animals/bugs", "animals/insects"), "mammals": ("animals/mammals", "animals/mammals"),
    "music": ("recreation/music", "hobbies/music"), "trees": ("plants/trees", "plants/trees"),
    "vehicles": ("transportation/vehicles", "vehicles")}
CAP = 190  # of a folder of clip art, so that the largest (computer, 1,797) does not make the table
SOURCES: dict[str, tuple[Package, str]] = {"clipart": (PACKAGES["openclipart-png"], "png"),
                                           "stamps": (PACKAGES["tuxpaint-stamps-default"], "stamps")}
Lister = Callable[[Path, str], Sequence[Item]]
LAYOUT = "png/<class>/**.png", "stamps/<class>/**.png with a caption in the .txt beside it"


class Found(NamedTuple):
    """What a collection holds: the images to use by path, and how many were passed over for which reason."""

    images: dict[str, Held]
    dropped: dict[str, int]


@cache
def scan(base: Path, name: str) -> Found:
    """Every image of the collection that can be used; of files of equal size alone the bytes are compared."""
    images: dict[str, Held] = {}
    dropped = {"mirrored": 0, "too large": 0, "equal bytes": 0, "equal pixels": 0}
    twins = set(door.ours("clipart_twins.txt").split("\n"))
    sizes: dict[int, list[Held]] = {}
    for path, file in below(base, ".png"):
        if "_mirror" in path or "_flip" in path:
            dropped["mirrored"] += 1
        elif _area(file) > PIXELS:
            dropped["too large"] += 1
        elif f"{name}/{path}" in twins:
            dropped["equal pixels"] += 1
        else:
            image = Held(file, f"{name}/{path}")
            same = sizes.setdefault(file.stat().st_size, [])
            if same and sha256(image.read()).digest() in {sha256(other.read()).digest() for other in same}:
                dropped["equal bytes"] += 1
                continue
            same.append(image)
            images[path] = image
    return Found(images, dropped)


def _area(file: Path) -> int:
    """Width times height, as the head of a PNG says."""
    with door.opened(file, "image") as handle:
        head = handle.read(24)
    if len(head) < 24 or not head.startswith(b"\x89PNG"):
        raise DataError(f"{file} is no PNG")
    return int.from_bytes(head[16:20], "big") * int.from_bytes(head[20:24], "big")


def _held(root: Path, name: str) -> Found:
    package, inner = SOURCES[name]
    base = package.base(root, LAYOUT[name == "stamps"])
    if not (base / inner).is_dir():
        raise DataError(f"{base / inner} is missing; expected there: {LAYOUT[name == 'stamps']}")
    door.settle(base / inner)
    return scan(base / inner, name)


def _classes(found: Found, folders: Mapping[int, str], cartoons: bool = True) -> dict[int, list[Held]]:
    """Label -> the images below its folder."""
    return {label: [image for path, image in found.images.items()
                    if path.startswith(folder + "/") and (cartoons or "/cartoon/" not in path)]
            for label, folder in folders.items()}


def by_folder(root: Path, split: str, name: str, share: int = 100) -> list[Item]:
    """`clipart` or `stamps`: the items of one split, each folder a class."""
    folders = CLIPART if name == "clipart" else STAMPS
    shares, cap = ((0.4, 0.1), CAP) if name == "clipart" else ((0.6, 0.15), 0)
    parts = stratify.cut(name, _classes(_held(root, name), dict(enumerate(folders))), shares, cap)
    return stratify.listed(name, parts, split, share)


def shared(root: Path, split: str, name: str, whole: bool = False) -> list[Item]:
    """The shared classes of one collection: its splits, or all of it as a test set for who trained on the other."""
    own = dict(enumerate(pair[name == "stamps"] for pair in SHARED.values()))
    classes = _classes(_held(root, name), own, cartoons=False)
    if not whole:
        return stratify.listed(f"shared {name}", stratify.cut(f"shared {name}", classes, (0.6, 0.15)), split)
    if split != "test":
        raise DataError(f"no split is called {split!r}; this set is for testing only")
    return stratify.listed(f"shared {name}", {"test": classes}, split)


def caption(image: Held) -> str:
    """The English caption of a stamp: the first line of the text beside it; empty where there is none."""
    file = image.file.with_suffix(".txt")
    return door.rows(file)[0].strip() if file.is_file() else ""


def captioned(root: Path, split: str) -> list[Item]:
    """`stamps_captions`: stamps with their captions, a caption once, the alphabets left out; the label is the place."""
    texts: dict[Text, Held] = {}
    for path, image in _held(root, "stamps").images.items():
        if not path.startswith("symbols/alphabets/") and (words := caption(image)):
            texts[Text(f"{image.name}#0", words, None, image.file.with_suffix(".txt"))] = image
    rows = sameness.kept(stratify.ordered("stamps captions", texts), set())
    parts = stratify.cut("stamps captions", {0: rows}, (0.6, 0.15))
    found = stratify.listed("stamps captions", parts, split)
    chosen = [item.image for item in found if isinstance(item.image, Text)]
    return [Item(Pair(texts[text], text), i) for i, text in enumerate(chosen)]


NOTES = {"clipart": "folders as classes, 190 images of each at most; the mean over classes is told",
         "stamps": "folders as classes, a third of the images symbols: the mean over classes is told; two views of one "
                   "object may lie on both sides"}
TITLES = {"clipart": "Open Clip Art", "stamps": "Tux Paint stamps"}
SPLITS = {"clipart": {"train": 793, "val": 198, "trainval": 991, "test": 988},
          "clipart_10": {"train": 82, "val": 21, "trainval": 103, "test": 988},
          "clipart_50": {"train": 396, "val": 103, "trainval": 499, "test": 988},
          "stamps": {"train": 432, "val": 109, "trainval": 541, "test": 181},
          "clipart_to_stamps": {"train": 258, "val": 64, "trainval": 322, "test": 107},
          "stamps_to_clipart": {"train": 123, "val": 32, "trainval": 155, "test": 51},
          "shared_clipart": {"test": 429}, "shared_stamps": {"test": 206}}
PINNED = {
    "clipart": "b7c6b52ddb9e1ed5",
    "clipart_10": "44fff40659f1cb45",
    "clipart_50": "237bbd8e37b797fe",
    "stamps": "73e57074267e4ba3",
    "clipart_to_stamps": "1e950b27db1a4dc4",
    "shared_clipart": "d5fdf71f7dd858a9",
    "stamps_to_clipart": "ce26dba20af9962d",
    "shared_stamps": "bf6d71c50a966c7e",
}
URLS = {"clipart": "https://openclipart.org/", "stamps": "https://tuxpaint.org/stamps/"}
SMALL = "nine classes that both collections have, trees, insects, fish, music and vehicles small; mean over classes"


def _card(card: str, title: str, name: str, classes: int, items: Lister, note: str, facts: Mapping[str, str]) -> None:
    package = SOURCES[name][0]
    register(Card(
        name=card, title=title, group="real", classes=classes, splits=SPLITS[card], source=URLS[name],
        license=package.license, cite="tuxpaint" if name == "stamps" else "openclipart", folder=package.folder,
        layout=LAYOUT[name == "stamps"], items=items, metric="class_mean", note=note,
        by_hand=f"install the package {package.name}: {package.command}",
        facts={"package": package.name, "pinned": PINNED[card], **facts}))


for _share in (100, 10, 50):
    _card("clipart" + (f"_{_share}" if _share < 100 else ""),
          TITLES["clipart"] + (f", {_share} % of the training images" if _share < 100 else ""), "clipart",
          len(CLIPART), partial(by_folder, name="clipart", share=_share), NOTES["clipart"], {"share": str(_share)})
_card("stamps", TITLES["stamps"], "stamps", len(STAMPS), partial(by_folder, name="stamps"), NOTES["stamps"], {})
for _own, _other in (("clipart", "stamps"), ("stamps", "clipart")):
    _card(f"{_own}_to_{_other}", f"{TITLES[_own]}, shared classes", _own, len(SHARED), partial(shared, name=_own),
          SMALL, {"domain": _own})
    _card(f"shared_{_own}", f"{TITLES[_own]}, shared classes, all images", _own, len(SHARED),
          partial(shared, name=_own, whole=True), f"for who trained on the other collection; {SMALL}",
          {"domain": _own, "train": f"{_other}_to_{_own}"})
register(Card(
    name="stamps_captions", title="Tux Paint stamps and captions", group="captions", classes=1,
    splits={"train": 346, "val": 87, "trainval": 433, "test": 144}, source=URLS["stamps"],
    license=SOURCES["stamps"][0].license, cite="tuxpaint", folder=SOURCES["stamps"][0].folder, layout=LAYOUT[1],
    items=captioned, metric="rmean", by_hand=f"install the package {SOURCES['stamps'][0].name}: "
    f"{SOURCES['stamps'][0].command}", note="one caption of a picture, no caption twice, alphabets left out: 144 pairs "
    "to test, so that a point of recall is little", task="match", input="pair",
    facts={"package": SOURCES["stamps"][0].name, "pinned": "4854dcfbb7d92bbe"}))
