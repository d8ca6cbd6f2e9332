"""Stand-ins in the raw formats of the fine-grained and few-shot sets and of ImageNet-1k, for their readers.

Tables of CUB and NABirds (rows of different tables in different orders), MATLAB cells of Dogs, both forms of Cars,
Food-101's `meta/`, Aircraft's variant lists, ImageNet with its flat validation folder and development kit. Pets and
Flowers are those of `vtab`. The sets under shift and DomainNet are read as they are distributed: `suites` writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...imagenet import GROUND_TRUTH, wnids
from ..canvas import Dice, seed_of
from ..finegrained import TASKS
from ..suites import FEWSHOT
from ..task import Task
from .vtab import flowers, pets, save, text

Bytes = NDArray[np.uint8]
SIDE = 48
TRAIN, TEST = 12, 6  # images of each class; sets that shots are drawn from have more
POOL = 20
FOOD = (
    "apple_pie", "baby_back_ribs", "baklava", "beef_carpaccio", "beef_tartare", "beet_salad", "beignets", "bibimbap",
    "bread_pudding", "breakfast_burrito", "bruschetta", "caesar_salad", "cannoli", "caprese_salad", "carrot_cake",
    "ceviche", "cheese_plate", "cheesecake", "chicken_curry", "chicken_quesadilla", "chicken_wings", "chocolate_cake",
    "chocolate_mousse", "churros", "clam_chowder", "club_sandwich", "crab_cakes", "creme_brulee", "croque_madame",
    "cup_cakes", "deviled_eggs", "donuts", "dumplings", "edamame", "eggs_benedict", "escargots", "falafel",
    "filet_mignon", "fish_and_chips", "foie_gras", "french_fries", "french_onion_soup", "french_toast",
    "fried_calamari", "fried_rice", "frozen_yogurt", "garlic_bread", "gnocchi", "greek_salad",
    "grilled_cheese_sandwich", "grilled_salmon", "guacamole", "gyoza", "hamburger", "hot_and_sour_soup", "hot_dog",
    "huevos_rancheros", "hummus", "ice_cream", "lasagna", "lobster_bisque", "lobster_roll_sandwich",
    "macaroni_and_cheese", "macarons", "miso_soup", "mussels", "nachos", "omelette", "onion_rings", "oysters",
    "pad_thai", "paella", "pancakes", "panna_cotta", "peking_duck", "pho", "pizza", "pork_chop", "poutine",
    "prime_rib", "pulled_pork_sandwich", "ramen", "ravioli", "red_velvet_cake", "risotto", "samosa", "sashimi",
    "scallops", "seaweed_salad", "shrimp_and_grits", "spaghetti_bolognese", "spaghetti_carbonara", "spring_rolls",
    "steak", "strawberry_shortcake", "sushi", "tacos", "takoyaki", "tiramisu", "tuna_tartare", "waffles",
)  # fmt: skip


def pictures(name: str, task: Task, split: str, count: int, seed: int) -> Iterator[tuple[Bytes, int, int]]:
    """(picture, label of the stand-in, number in the class): classes take turns, as in no real set's tables."""
    drawn = [task.draw(Dice([seed_of(f"raw/{name}", split, kind * 1000 + i, seed) for i in range(count)]), kind)
             for kind in range(len(task.labels))]  # fmt: skip
    for i in range(count):
        for kind, label in enumerate(task.labels):
            small = Image.fromarray(drawn[kind][i]).resize((SIDE, SIDE), Image.Resampling.BOX)
            yield np.asarray(small), label, i


Rows = list[tuple[str, str, int, bool]]  # id, path, class id, whether it is trained on


def _tables(base: Path, rows: Rows, uuid: bool) -> None:
    """images.txt and the tables beside it, each in an order of its own."""
    text(base / "images.txt", [f"{key} {path}" for key, path, _, _ in rows])
    text(base / "image_class_labels.txt", [f"{key} {identifier}" for key, _, identifier, _ in reversed(rows)])
    text(base / "train_test_split.txt", [f"{key} {int(train)}" for key, _, _, train in sorted(rows)])
    text(base / "bounding_boxes.txt", [f"{key} 4 4 40 40" for key, _, _, _ in rows])
    if uuid:
        text(base / "sizes.txt", [f"{key} {SIDE} {SIDE}" for key, _, _, _ in rows])
        text(base / "photographers.txt", [f"{key} Some One" for key, _, _, _ in rows])


def cub(base: Path, seed: int) -> None:
    """Class ids from 1, eight of the 200 with images; one of them grey."""
    home, rows = base / "CUB_200_2011", Rows()
    for split, count in (("train", TRAIN), ("test", TEST)):
        for picture, label, i in pictures("cub", TASKS["cub"], split, count, seed):
            path = f"{label + 1:03d}.Bird_{label + 1}/Bird_{label + 1}_{split}_{i:04d}.jpg"
            grey = Image.fromarray(picture).convert("L") if len(rows) == 5 else picture
            save(home / "images" / path, grey)
            rows.append((str(len(rows) + 1), path, label + 1, split == "train"))
    _tables(home, rows, uuid=False)
    text(home / "classes.txt", [f"{i} {i:03d}.Bird_{i}" for i in range(1, 201)])


def nabirds(base: Path, seed: int) -> None:
    """Ids with gaps, because the inner nodes of the tree share the numbering; names with spaces and brackets."""
    home, rows = base / "nabirds", Rows()
    for split, count in (("train", TRAIN), ("test", TEST)):
        for picture, identifier, _ in pictures("nabirds", TASKS["nabirds"], split, count, seed):
            digits = hashlib.md5(f"{split}{len(rows)}".encode()).hexdigest()
            key = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
            path = f"{identifier:04d}/{digits}.jpg"
            save(home / "images" / path, picture)
            rows.append((key, path, identifier, split == "train"))
    _tables(home, rows, uuid=True)
    leaves = TASKS["nabirds"].labels
    text(home / "classes.txt", [f"{i} Some Bird (Adult Male, number {i})" for i in range(1011)])
    text(home / "hierarchy.txt", [f"{leaf} {1 + leaf // 3 % 4}" for leaf in leaves] + [f"{i} 0" for i in range(1, 5)])


def cells(values: Sequence[str]) -> NDArray[Any]:
    """A column of MATLAB cells."""
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = values
    return column


def dogs(base: Path, seed: int) -> None:
    """`{train,test,file}_list.mat`; breeds with hyphens in their names; one PNG that is called .jpg."""
    from scipy.io import savemat

    listed: dict[str, tuple[list[str], list[int]]] = {"file": ([], [])}
    for split, count in (("train", TRAIN), ("test", TEST)):
        paths, labels = listed[split] = [], []
        for picture, label, i in pictures("stanford_dogs", TASKS["stanford_dogs"], split, count, seed):
            wnid = f"n{2085620 + label:08d}"
            paths.append(f"{wnid}-Some-Breed_{label}/{wnid}_{split}{i}.jpg")
            labels.append(label + 1)
            save(base / "Images" / paths[-1], picture, "PNG" if len(paths) == 4 and split == "train" else "JPEG")
        listed["file"][0].extend(paths)
        listed["file"][1].extend(labels)
    for name, (paths, labels) in listed.items():
        savemat(base / f"{name}_list.mat", {
            "file_list": cells(paths), "annotation_list": cells([path.removesuffix(".jpg") for path in paths]),
            "labels": np.array(labels, np.float64)[:, None]})  # fmt: skip


BOX: list[tuple[str, Any]] = [(f"bbox_{side}", object) for side in ("x1", "y1", "x2", "y2")]


def cars(base: Path, seed: int) -> None:
    """The development kit, whose file names start anew in each folder; and the older form, in `older/`."""
    from scipy.io import savemat

    older: list[tuple[Any, ...]] = []
    for split, count in (("train", POOL), ("test", TEST)):
        rows: list[tuple[Any, ...]] = []
        for picture, label, _ in pictures("stanford_cars", TASKS["stanford_cars"], split, count, seed):
            name = f"{len(rows) + 1:05d}.jpg"
            save(base / f"cars_{split}" / name, picture)
            rows.append((1, 1, 40, 40, label + 1, name))
            if len(rows) <= 12 * 8:
                older.append((f"car_ims/{len(older) + 1:06d}.jpg", 1, 1, 40, 40, label + 1, int(split == "test")))
                save(base / "older" / str(older[-1][0]), picture)
        kind = [*BOX, ("class", object), ("fname", object)]
        table = np.array([rows], dtype=kind)
        (base / "devkit").mkdir(exist_ok=True)
        place = "devkit/cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
        savemat(base / place, {"annotations": table})
        if split == "test":  # the kit's own test table has no classes
            bare = np.array([[(*row[:4], row[5]) for row in rows]], dtype=[*BOX, ("fname", object)])
            savemat(base / "devkit" / "cars_test_annos.mat", {"annotations": bare})
    names = cells([f"Make Model {i} 2012" for i in range(196)]).T
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    kind = [("relative_im_path", object), *BOX, ("class", object), ("test", object)]
    savemat(base / "older" / "cars_annos.mat", {"annotations": np.array([older], dtype=kind), "class_names": names})


def food101(base: Path, seed: int) -> None:
    """`meta/` names every class; eight have images, and a tenth of the training labels is wrong."""
    home = base / "food-101"
    listed: dict[str, dict[str, list[str]]] = {split: {name: [] for name in FOOD} for split in ("train", "test")}
    labels = FEWSHOT["food101"][0].labels
    for split, count in (("train", POOL + 6), ("test", 8)):
        drawn = pictures("food101", FEWSHOT["food101"][0], split, count, seed)
        for n, (picture, label, i) in enumerate(drawn):
            wrong = split == "train" and n % 10 == 9
            name = FOOD[labels[(labels.index(label) + 3) % len(labels)] if wrong else label]
            listed[split][name].append(f"{name}/{label * 1000 + i + (500 if split == 'test' else 0)}")
            save(home / "images" / f"{listed[split][name][-1]}.jpg", picture)
    for split, found in listed.items():
        file = home / "meta" / f"{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found))
        text(home / "meta" / f"{split}.txt", [path for paths in found.values() for path in paths])
    text(home / "meta" / "classes.txt", FOOD)


def aircraft(base: Path, seed: int) -> None:
    """Variants in the order of `variants.txt`; names with spaces and a slash, which are never folders."""
    data, listed = base / "fgvc-aircraft-2013b" / "data", {}
    names = [{40: "F/A-18", 54: "Spitfire", 99: "Yak-42"}.get(i, f"Some Plane {i}-200") for i in range(100)]
    number = 1_000_000
    for split, count in (("train", POOL), ("val", 4), ("test", TEST)):
        rows = []
        for picture, label, _ in pictures("aircraft", FEWSHOT["fgvc-aircraft"][0], split, count, seed):
            number += 37
            save(data / "images" / f"{number:07d}.jpg", picture)
            rows.append(f"{number:07d} {names[label]}")
        listed[split] = rows
    listed["trainval"] = listed["train"] + listed["val"]
    for split, rows in listed.items():
        text(data / f"images_variant_{split}.txt", rows)
    text(data / "variants.txt", names)


def imagenet(base: Path, seed: int) -> None:
    """Class folders of training images; the validation images in one flat folder, labelled by the development kit."""
    from scipy.io import savemat

    task = TASKS["imagenet1k"]
    for picture, label, i in pictures("imagenet1k", task, "train", POOL, seed):
        save(base / "train" / wnids()[label] / f"{wnids()[label]}_{i}.JPEG", picture)
    ids = {label: 1000 - label for label in range(1000)}  # of the kit: another order than the ranks
    truth = []
    for n, (picture, label, _) in enumerate(pictures("imagenet1k", task, "val", TEST, seed), 1):
        save(base / "val" / f"ILSVRC2012_val_{n:08d}.JPEG", picture)
        truth.append(str(ids[label]))
    kit = base / "ILSVRC2012_devkit_t12" / "data"
    text(kit / GROUND_TRUTH, truth)
    rows = [(ids[label], wnid, "some words") for label, wnid in enumerate(wnids())]
    kind = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    savemat(kit / "meta.mat", {"synsets": np.array([rows], dtype=kind).T})


FINE_WRITERS: dict[str, tuple[str, Callable[[Path, int], None]]] = {  # data set or few-shot set -> folder, writer
    "cub": ("cub", cub), "nabirds": ("nabirds", nabirds), "flowers_fgvc": ("flowers", flowers),
    "stanford_dogs": ("stanford_dogs", dogs), "stanford_cars": ("stanford_cars", cars),
    "imagenet1k": ("imagenet", imagenet), "food101": ("food101", food101), "aircraft": ("aircraft", aircraft),
    "cars": ("stanford_cars", cars), "flowers102": ("flowers", flowers), "pets": ("pets", pets),
}  # fmt: skip
