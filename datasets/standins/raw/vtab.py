"""Stand-ins in the raw formats of VTAB-1k's tasks, so that readers, label rules and the cut run without a download.

The pools are small (`pools.take(small=True)` cuts them in proportion) but their files have the real structure:
pickles, MATLAB files, HDF5, NORB binaries, TFRecord shards, csv and JSON annotations, class folders.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...vtab import folders, labels, tfrecord
from ...vtab.arrays import DSPRITES
from ..canvas import SIDE, TAU, Dice, box, ellipse, finish, seed_of, spin
from ..structured import _heart, plane
from ..writer import task_of

Bytes = NDArray[np.uint8]
QUALITY = 75  # of JPEG; all raw stand-ins together stay below 15 MB


def draw(name: str, split: str, count: int, seed: int, side: int = SIDE) -> tuple[list[Bytes], list[int]]:
    """Pictures of a task in the sizes of a raw pool, and their labels; classes take turns."""
    task = task_of(name)
    kinds = [i % len(task.labels) for i in range(count)]
    pictures: dict[int, Bytes] = {}
    for kind in range(len(task.labels)):
        places = [i for i in range(count) if kinds[i] == kind]
        if places:
            drawn = task.draw(Dice([seed_of(f"raw/{name}", split, i, seed) for i in places]), kind)
            pictures |= dict(zip(places, drawn, strict=True))
    found = [pictures[i] for i in range(count)]
    if side != SIDE:
        found = [np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BOX)) for p in found]
    return found, [task.labels[kind] for kind in kinds]


def save(file: Path, picture: Bytes | Image.Image, kind: str = "JPEG") -> None:
    """An image file, its folders made as needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, kind, **({"quality": QUALITY} if kind == "JPEG" else {}))


def coarse(picture: Bytes, step: int = 16) -> Bytes:
    """Fewer tones, so that lossless formats stay small."""
    return picture // step * step + step // 2


def text(file: Path, rows: Sequence[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows), newline="\n")


def caltech101(base: Path, seed: int) -> None:
    """Twelve class folders, the clutter class and two Faces among them, junk and two grey files."""
    names = ("BACKGROUND_Google", "Faces", "Faces_easy", "Leopards", "Motorbikes", "accordion", "airplanes", "anchor",
             "ant", "barrel", "bass", "wrench")  # fmt: skip
    pictures, _ = draw("caltech101", "all", 10 * len(names), seed)
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture[8:56])
        file = base / "101_ObjectCategories" / names[i % 12] / f"image_{i // 12 + 1:04d}.jpg"
        save(file, image.convert("L") if i in (5, 40) else image)
    (base / "101_ObjectCategories" / "BACKGROUND_Google" / "tmp").write_bytes(b"not an image")


def cifar100(base: Path, seed: int) -> None:
    for split, count in (("train", 320), ("test", 40)):
        pictures, fine = draw("cifar100", split, count, seed, 32)
        planes = np.stack(pictures).transpose(0, 3, 1, 2).reshape(count, 3072)
        coarse = [label // 5 for label in fine]
        (base / "cifar-100-python").mkdir(exist_ok=True)
        found = {"data": planes, "fine_labels": fine, "coarse_labels": coarse,
                 "filenames": [f"x_{i}.png" for i in range(count)], "batch_label": f"{split} stand-in"}  # fmt: skip
        (base / "cifar-100-python" / split).write_bytes(pickle.dumps(found, protocol=2))
    (base / "cifar-100-python" / "meta").write_bytes(
        pickle.dumps({"fine_label_names": [f"fine_{i}" for i in range(100)]}, protocol=2)
    )


def dtd(base: Path, seed: int) -> None:
    numbers = dict.fromkeys(folders.DTD, 0)
    for part, count in (("train", 136), ("val", 40), ("test", 40)):
        rows = []
        for picture, label in zip(*draw("dtd", part, count, seed), strict=True):
            name = folders.DTD[label]
            numbers[name] += 1
            rows.append(f"{name}/{name}_{numbers[name]:04d}.jpg")
            save(base / "dtd" / "images" / rows[-1], picture)
        for fold in range(1, 11):
            text(base / "dtd" / "labels" / f"{part}{fold}.txt", sorted(rows))
    for name in folders.DTD:
        (base / "dtd" / "images" / name).mkdir(exist_ok=True)


def flowers(base: Path, seed: int) -> None:
    """Image numbers of the three splits are mixed; labels count from 1."""
    from scipy.io import savemat

    sizes = {"trnid": 136, "valid": 40, "tstid": 40}
    order = np.random.Generator(np.random.PCG64(seed_of("raw/flowers", "order", 0, seed))).permutation(216) + 1
    classes, start, numbers = np.zeros(216, np.uint8), 0, {}
    for name, size in sizes.items():
        numbers[name] = order[start : start + size]
        for number, picture, label in zip(numbers[name], *draw("oxford_flowers102", name, size, seed), strict=True):
            save(base / "jpg" / f"image_{number:05d}.jpg", picture)
            classes[number - 1] = label + 1
        start += size
    savemat(base / "imagelabels.mat", {"labels": classes[None]})
    savemat(base / "setid.mat", {name: found[None].astype(np.uint16) for name, found in numbers.items()})


def pets(base: Path, seed: int) -> None:
    """Names carry the breed; one RGBA picture is called .jpg, one .mat file lies among the images."""
    from scipy.io import savemat

    numbers: dict[int, int] = {}
    for part, count in (("trainval", 168), ("test", 40)):
        rows = ["# stem class species breed"] if part == "trainval" else []
        for i, (picture, label) in enumerate(zip(*draw("oxford_iiit_pet", part, count, seed), strict=True)):
            numbers[label] = numbers.get(label, 0) + 1
            stem = f"Breed_{label}_{numbers[label]}"
            rows.append(f"{stem} {label + 1} {1 if label % 2 else 2} {label // 2 + 1}")
            odd = part == "trainval" and i == 3
            image = Image.fromarray(picture).convert("RGBA") if odd else picture
            save(base / "images" / f"{stem}.jpg", image, "PNG" if odd else "JPEG")
        text(base / "annotations" / f"{part}.txt", rows)
    savemat(base / "images" / "Breed_0_100.mat", {"x": 1})


def svhn(base: Path, seed: int) -> None:
    from scipy.io import savemat

    for split, count in (("train", 320), ("test", 40)):
        pictures, digits = draw("svhn", split, count, seed, 32)
        y = np.array([digit or 10 for digit in digits], np.uint8)[:, None]
        savemat(base / f"{split}_32x32.mat", {"X": np.stack(pictures, axis=-1), "y": y}, do_compression=True)


def sun397(base: Path, seed: int) -> None:
    """One file of each odd kind hides behind the extension .jpg."""
    classes = folders.sun397_classes()
    for part, count in (("tr", 136), ("va", 40), ("te", 40)):
        rows = []
        for i, (picture, label) in enumerate(zip(*draw("sun397", part, count, seed), strict=True)):
            rows.append(f"{classes[label]}/sun_{part}{i:03d}.jpg")
            odd = {1: "PNG", 2: "GIF", 3: "BMP"}.get(i if part == "tr" else 0, "JPEG")
            save(base / "SUN397" / rows[-1][1:], Image.fromarray(picture), odd)
        text(base / f"sun397_tfds_{part}.txt", rows)
    text(base / "SUN397" / "ClassName.txt", classes)


def patch_camelyon(base: Path, seed: int) -> None:
    import h5py

    for split, count in (("train", 130), ("valid", 34), ("test", 34)):
        pictures, marks = draw("patch_camelyon", split, count, seed, 96)
        for axis, data in (("x", coarse(np.stack(pictures))), ("y", np.array(marks, np.uint8).reshape(-1, 1, 1, 1))):
            file = base / f"camelyonpatch_level_2_split_{split}_{axis}.h5"
            with h5py.File(file, "w", track_order=False) as handle:
                handle.create_dataset(
                    axis, data=data, compression="gzip", compression_opts=9, chunks=(min(8, count), *data.shape[1:])
                )


def _class_folders(base: Path, name: str, classes: tuple[str, ...], pattern: str, seed: int) -> None:
    numbers: dict[str, int] = {}
    for picture, label in zip(*draw(name, "all", 220, seed), strict=True):
        scene = classes[label]
        numbers[scene] = numbers.get(scene, 0) + 1
        save(base / scene / (pattern % (scene, numbers[scene])), picture)


def eurosat(base: Path, seed: int) -> None:
    _class_folders(base / "2750", "eurosat", folders.EUROSAT, "%s_%d.jpg", seed)


def resisc45(base: Path, seed: int) -> None:
    """With a `Thumbs.db`, a `._` file and an empty folder, as unpacked by hand."""
    home = base / "NWPU-RESISC45"
    _class_folders(home, "resisc45", folders.RESISC, "%s_%03d.jpg", seed)
    for junk in ("Thumbs.db", "._airplane_001.jpg"):
        (home / "airplane" / junk).write_bytes(b"junk")
    (home / "wetland").mkdir(exist_ok=True)


def retinopathy(base: Path, seed: int) -> None:
    for file, folder, size in (("trainLabels.csv", "train", 136), ("retinopathy_solution.csv", "test", 60)):
        rows: list[list[Any]] = [["image", "level", "Usage"][: 2 if folder == "train" else 3]]
        for i, (picture, level) in enumerate(zip(*draw("diabetic_retinopathy", folder, size, seed), strict=True)):
            key = f"{i // 2 + (10 if folder == 'train' else 1000)}_{('left', 'right')[i % 2]}"
            save(base / folder / f"{key}.jpeg", picture)
            rows.append([key, level] + ([] if folder == "train" else ["Public" if i < 40 else "Private"]))
        with (base / file).open("w", newline="") as handle:
            csv.writer(handle).writerows(rows)


NEAREST = ((6.5, 7.9), (8.05, 8.45), (8.55, 8.95), (9.05, 9.45), (9.55, 9.95), (10.2, 11.5))  # one range a bin


def clevr(base: Path, seed: int) -> None:
    """Every pair of a count and a distance bin; RGBA pictures, complete scene files."""
    rng = np.random.Generator(np.random.PCG64(seed_of("raw/clevr", "objects", 0, seed)))
    for split, count in (("train", 320), ("val", 48)):
        scenes: dict[int, dict[str, Any]] = {}
        for objects in range(labels.CLEVR_FEWEST, labels.CLEVR_MOST + 1):
            places = [i for i in range(count) if i % 8 == objects - labels.CLEVR_FEWEST]
            dice = Dice([seed_of("raw/clevr", split, i, seed) for i in places])
            low, high = np.array([NEAREST[i // 8 % 6] for i in places], np.float32).T.reshape(2, -1, 1, 1)
            picture, depths = plane(dice, dice.uniform(low, high), objects)
            for i, drawn, far in zip(places, finish(dice, picture), depths[:, :, 0].tolist(), strict=True):
                name = f"CLEVR_{split}_{i:06d}.png"
                image = Image.fromarray(drawn).resize((48, 32), Image.Resampling.BOX)
                image = Image.fromarray(coarse(np.asarray(image), 32)).convert("RGBA")
                save(base / "CLEVR_v1.0" / "images" / split / name, image, "PNG")
                scenes[i] = {"image_filename": name, "image_index": i, "split": split, "relationships": {},
                             "directions": {}, "objects": [_solid(rng, z) for z in far]}  # fmt: skip
        file = base / "CLEVR_v1.0" / "scenes" / f"CLEVR_{split}_scenes.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        listed = [scenes[i] for i in reversed(range(count))]  # not in the order of the files
        file.write_text(json.dumps({"info": {"split": split}, "scenes": listed}))


def _solid(rng: np.random.Generator, depth: float) -> dict[str, Any]:
    """An object as CLEVR describes it; only the depth carries a label."""
    x, y = rng.integers(10, 50, 2).tolist()
    return {"size": "large", "color": "red", "material": "metal", "shape": "cube", "rotation": 0.0,
            "3d_coords": [0.0, 0.0, 0.7], "pixel_coords": [x, y, depth]}  # fmt: skip


def dmlab(base: Path, seed: int) -> None:
    for split, count in (("train", 136), ("validation", 40), ("test", 40)):
        payloads = []
        for i, (picture, label) in enumerate(zip(*draw("dmlab", split, count, seed), strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY)
            features: dict[str, bytes | int] = {"filename": f"{split}_{i:05d}".encode(), "image": buffer.getvalue()}
            payloads.append(tfrecord.frame(tfrecord.encode(features | {"label": label})))
        for shard in range(2):
            (base / f"dmlab-{split}.tfrecord-{shard:05d}-of-00002").write_bytes(b"".join(payloads[shard::2]))


DRIVES, FRAMES = 12, 33
DEPTHS = (5.0, 14.0, 35.0)  # of a car in each bin


def kitti(base: Path, seed: int) -> None:
    """Twelve drives whose frames are scattered over the image numbers; a tram in front is a decoy."""
    count = DRIVES * FRAMES
    pictures, bins = draw("kitti", "all", count, seed)
    for i, (picture, label) in enumerate(zip(pictures, bins, strict=True)):
        image = Image.fromarray(picture[18:50]).resize((40, 20), Image.Resampling.BOX)
        save(base / "training" / "image_2" / f"{i:06d}.png", coarse(np.asarray(image)), "PNG")
        place = "0.00 0 -1.57 1 1 9 9 1.5 1.6 3.9 1.0 1.7 %.2f 0.0"
        rows = ["Tram " + place % 3.0, "DontCare -1 -1 -10 1 1 9 9 -1 -1 -1 -1000 -1000 -1000 -10"]
        if label < 3:
            rows += ["Car " + place % (DEPTHS[label] + 0.01 * (i % 50)), "Truck " + place % 60.0]
        text(base / "training" / "label_2" / f"{i:06d}.txt", rows)
    order = np.random.Generator(np.random.PCG64(seed_of("raw/kitti", "order", 0, seed))).permutation(count) + 1
    text(base / "mapping" / "train_rand.txt", [",".join(map(str, order.tolist()))])
    drives = [f"2011_09_26 2011_09_26_drive_{i // FRAMES:04d}_sync {i % FRAMES:010d}" for i in range(count)]
    text(base / "mapping" / "train_mapping.txt", drives)


def dsprites(base: Path, seed: int) -> None:
    """600 rows of the true grid in random order, as npz and as HDF5."""
    import h5py

    rng = np.random.Generator(np.random.PCG64(seed_of("raw/dsprites", "rows", 0, seed)))
    classes = np.stack([rng.integers(0, high, 600) for high in (1, 3, 6, 40, 32, 32)], axis=1)
    _, shape, size, turn, x, y = classes.T.astype(np.float32)[:, :, None, None]
    u, v = spin(TAU * turn / 39, 6 + 52 * x / 31 - 32, 6 + 52 * y / 31 - 32)
    r = 5 + size
    body = np.where(
        shape == 0, box(u, v, r * 0.8, r * 0.8), np.where(shape == 1, ellipse(u, v, r, r * 0.6), _heart(u, v, r))
    )
    pictures = (body > 0.5).astype(np.uint8)
    values = classes.astype(np.float64)
    np.savez_compressed(base / f"{DSPRITES}.npz", imgs=pictures, latents_classes=classes, latents_values=values)
    with h5py.File(base / f"{DSPRITES}.hdf5", "w") as handle:
        handle.create_dataset("imgs", data=pictures, compression="gzip")
        handle.create_dataset("latents/classes", data=classes)
        handle.create_dataset("latents/values", data=values)


def norb_bytes(array: NDArray[Any]) -> bytes:
    """An array in NORB's binary form."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[array.dtype.name]
    sizes = [*array.shape, *[1] * (3 - array.ndim)]
    return (
        struct.pack(f"<ii{len(sizes)}i", magic, array.ndim, *sizes)
        + array.astype(array.dtype.newbyteorder("<")).tobytes()
    )


def smallnorb(base: Path, seed: int) -> None:
    """Stereo pairs (the second camera is shifted); training files are gzipped, testing files plain."""
    for stem, count, toys in (
        ("smallnorb-5x46789x9x18x6x2x96x96-training", 130, (4, 6, 7, 8, 9)),
        ("smallnorb-5x01235x9x18x6x2x96x96-testing", 68, (0, 1, 2, 3, 5)),
    ):
        pictures, azimuths = draw("smallnorb_azi", stem[-8:], count, seed, 96)
        grey = coarse(np.stack(pictures)[..., 0])
        pairs = np.stack([grey, np.roll(grey, 3, axis=2)], axis=1)
        info = [[toys[i % 5], i // 6 % 9, azimuth * 2, i % 6] for i, azimuth in enumerate(azimuths)]
        toy = np.arange(count, dtype=np.int32) % 5
        parts: dict[str, NDArray[Any]] = {"dat": pairs, "cat": toy, "info": np.array(info, np.int32)}
        for part, array in parts.items():
            data = norb_bytes(array)
            if stem.endswith("training"):
                (base / f"{stem}-{part}.mat.gz").write_bytes(gzip.compress(data, mtime=0))
            else:
                (base / f"{stem}-{part}.mat").write_bytes(data)


VTAB_WRITERS: dict[str, tuple[str, Callable[[Path, int], None]]] = {  # data set -> folder, writer
    "caltech101": ("caltech101", caltech101), "cifar100": ("cifar100", cifar100), "dtd": ("dtd", dtd),
    "oxford_flowers102": ("flowers", flowers), "oxford_iiit_pet": ("pets", pets), "svhn": ("svhn", svhn),
    "sun397": ("sun397", sun397), "patch_camelyon": ("pcam", patch_camelyon), "eurosat": ("eurosat", eurosat),
    "resisc45": ("resisc45", resisc45), "diabetic_retinopathy": ("retinopathy", retinopathy),
    "clevr_count": ("clevr", clevr), "clevr_dist": ("clevr", clevr), "dmlab": ("dmlab", dmlab),
    "kitti": ("kitti", kitti), "dsprites_loc": ("dsprites", dsprites), "dsprites_ori": ("dsprites", dsprites),
    "smallnorb_azi": ("smallnorb", smallnorb), "smallnorb_ele": ("smallnorb", smallnorb),
}  # fmt: skip
