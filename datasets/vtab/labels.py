"""Label rules of VTAB's structured tasks (and SVHN), as the official task definitions state them. Pure functions."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence

CLEVR_FEWEST, CLEVR_MOST = 3, 10
CLEVR_EDGES = (8.0, 8.5, 9.0, 9.5, 10.0)  # right-closed: a depth of exactly 8.5 falls in class 1
KITTI_EDGES = (8.0, 20.0, 999.0)  # right-closed; beyond the last: no vehicle
KITTI_VEHICLES = ("Car", "Van", "Truck")  # not Tram, Cyclist or Misc
KITTI_NONE = 1000.0
ORIENTATIONS_PER_BIN = 2.5


def svhn(y: int) -> int:
    """The digit; SVHN writes 10 for 0."""
    if not 1 <= y <= 10:
        raise ValueError(f"an SVHN label is 1 to 10, not {y}")
    return y % 10


def clevr_count(objects: int) -> int:
    """3 to 10 objects -> 0 to 7."""
    if not CLEVR_FEWEST <= objects <= CLEVR_MOST:
        raise ValueError(f"a CLEVR scene has 3 to 10 objects, not {objects}")
    return objects - CLEVR_FEWEST


def clevr_distance(depths: Iterable[float]) -> int:
    """The bin of the smallest depth among all objects, hidden ones too."""
    nearest = min(depths)
    if not 0 < nearest <= 100:
        raise ValueError(f"a CLEVR depth lies in (0, 100], not at {nearest}")
    return bisect.bisect_left(CLEVR_EDGES, nearest)


def kitti_distance(objects: Sequence[tuple[str, float]]) -> int:
    """The bin of the nearest vehicle's z; 3 where there is none. A negative z is a vehicle beside the camera."""
    nearest = min((z for kind, z in objects if kind in KITTI_VEHICLES), default=KITTI_NONE)
    return bisect.bisect_left(KITTI_EDGES, nearest)


def dsprites_location(x_index: int) -> int:
    """0 to 31 -> 16 classes; y plays no part."""
    return x_index // 2


def dsprites_orientation(index: int) -> int:
    """0 to 39 -> 16 classes of alternately three and two angles."""
    return int(index / ORIENTATIONS_PER_BIN)


def norb_azimuth(azimuth: int) -> int:
    """0, 2 .. 34 (tens of degrees) -> 18 classes."""
    if azimuth % 2 or not 0 <= azimuth <= 34:
        raise ValueError(f"a NORB azimuth is one of 0, 2 .. 34, not {azimuth}")
    return azimuth // 2


def norb_elevation(elevation: int) -> int:
    """0 to 8: 30 to 70 degrees."""
    if not 0 <= elevation <= 8:
        raise ValueError(f"a NORB elevation is 0 to 8, not {elevation}")
    return elevation
