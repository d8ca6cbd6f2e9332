"""The raw form of each VTAB-1k task: its reader and the slices that the official cut takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from . import arrays, folders, scenes, tfrecord
from .pools import VAL, Cut, Part, Pools, one_pool, two_pools


class Raw(NamedTuple):
    read: Callable[[Path], Pools]
    cut: Cut | None  # None: membership does not follow from the raw data


_CIFAR = one_pool(50_000, 45_000, Part("test", "test", 0, 10_000, 10_000))
_SVHN = one_pool(73_257, 65_931, Part("test", "test", 0, 26_032, 26_032))
_CLEVR = one_pool(70_000, 63_000, Part("validation", "validation", 0, 15_000, 15_000))
_DSPRITES = one_pool(737_280, 589_824, Part("train", "train", 663_552, 737_280, 737_280))
_NORB = Cut(
    Part("train", "train", 0, 800, 24_300),
    Part("test", "test", 0, VAL, 24_300),
    Part("test", "test", 12_150, 24_300, 24_300),
)

RAW: dict[str, Raw] = {
    "caltech101": Raw(folders.caltech101, None),
    "cifar100": Raw(arrays.cifar100, _CIFAR),
    "dtd": Raw(folders.dtd, two_pools(1880, 1880, 1880)),
    "oxford_flowers102": Raw(folders.flowers, two_pools(1020, 1020, 6149)),
    "oxford_iiit_pet": Raw(folders.pets, one_pool(3680, 2944, Part("test", "test", 0, 3669, 3669))),
    "svhn": Raw(arrays.svhn, _SVHN),
    "sun397": Raw(folders.sun397, two_pools(76_128, 10_875, 21_750)),
    "patch_camelyon": Raw(arrays.patch_camelyon, two_pools(262_144, 32_768, 32_768)),
    "eurosat": Raw(folders.eurosat, one_pool(27_000, 16_200, Part("train", "train", 21_600, 27_000, 27_000))),
    "resisc45": Raw(folders.resisc45, one_pool(31_500, 18_900, Part("train", "train", 25_200, 31_500, 31_500))),
    "diabetic_retinopathy": Raw(scenes.retinopathy, two_pools(35_126, 10_906, 42_670)),
    "clevr_count": Raw(partial(scenes.clevr, task="count"), _CLEVR),
    "clevr_dist": Raw(partial(scenes.clevr, task="dist"), _CLEVR),
    "dmlab": Raw(tfrecord.dmlab, two_pools(65_550, 22_628, 22_735)),
    "kitti": Raw(scenes.kitti, two_pools(6347, 423, 711)),
    "dsprites_loc": Raw(partial(arrays.dsprites, task="loc"), _DSPRITES),
    "dsprites_ori": Raw(partial(arrays.dsprites, task="ori"), _DSPRITES),
    "smallnorb_azi": Raw(partial(arrays.smallnorb, task="azi"), _NORB),
    "smallnorb_ele": Raw(partial(arrays.smallnorb, task="ele"), _NORB),
}
