"""The label rules of the raw sets, one by one against the spec."""

from __future__ import annotations

from collections import Counter

import pytest

from datasets.vtab import labels
from datasets.vtab.folders import EUROSAT, RESISC, caltech101_classes, sun397_classes
from datasets.vtab.scenes import kitti_objects


def test_caltech_has_102_classes_in_the_order_of_lower_cased_names() -> None:
    some = [
        "BACKGROUND_Google",
        "Faces",
        "Faces_easy",
        "Leopards",
        "Motorbikes",
        "accordion",
        "airplanes",
        "anchor",
        "ant",
    ]
    order = caltech101_classes([*some, "barrel"])
    assert order["accordion"] == 0 and order["BACKGROUND_Google"] == 4 and order["barrel"] == 5
    assert order["Faces"] < order["Faces_easy"] < order["Leopards"] < order["Motorbikes"]


def test_svhn_writes_ten_for_zero() -> None:
    assert [labels.svhn(y) for y in range(1, 11)] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    for wrong in (0, 11):
        with pytest.raises(ValueError, match="1 to 10"):
            labels.svhn(wrong)


@pytest.mark.parametrize(
    ("depth", "label"),
    [(0.1, 0), (8.0, 0), (8.01, 1), (8.5, 1), (8.51, 2), (9.0, 2), (9.5, 3), (10.0, 4), (10.01, 5), (100.0, 5)],
)
def test_clevr_distance_bins_are_closed_on_the_right(depth: float, label: int) -> None:
    assert labels.clevr_distance([55.0, depth, 99.0] if depth < 55 else [depth]) == label


@pytest.mark.parametrize("depth", [0.0, -1.0, 100.5])
def test_a_clevr_depth_outside_all_bins_is_refused(depth: float) -> None:
    with pytest.raises(ValueError, match="depth"):
        labels.clevr_distance([depth, 50.0] if depth <= 0 else [depth])


def test_clevr_counts_from_three() -> None:
    assert [labels.clevr_count(n) for n in range(3, 11)] == list(range(8))
    for wrong in (2, 11):
        with pytest.raises(ValueError, match="3 to 10"):
            labels.clevr_count(wrong)


@pytest.mark.parametrize(("z", "label"), [(-3.0, 0), (8.0, 0), (8.01, 1), (20.0, 1), (20.5, 2), (999.0, 2)])
def test_kitti_distance_bins(z: float, label: int) -> None:
    assert labels.kitti_distance([("Pedestrian", 1.0), ("Van", z), ("Car", z + 5)]) == label


def test_kitti_without_a_car_van_or_truck_is_class_3() -> None:
    assert labels.kitti_distance([("Tram", 4.0), ("Cyclist", 2.0), ("Misc", 1.0)]) == 3
    assert labels.kitti_distance([]) == 3


def test_kitti_label_lines_have_15_columns_and_dontcare_is_dropped() -> None:
    car = "Car 0.00 0 -1.5 0 0 10 10 1.5 1.6 3.9 1.0 1.7 13.22 -1.6"
    nothing = "DontCare -1 -1 -10 0 0 10 10 -1 -1 -1 -1000 -1000 -1000 -10"
    assert kitti_objects(f"{nothing}\n{car}\n\n") == [("Car", 13.22)]
    with pytest.raises(ValueError, match="line 1 has 3 columns"):
        kitti_objects("Car 0 0")


def test_dsprites_bins() -> None:
    assert [labels.dsprites_location(x) for x in (0, 1, 2, 30, 31)] == [0, 0, 1, 15, 15]
    widths = Counter(labels.dsprites_orientation(index) for index in range(40))
    assert [widths[label] for label in range(16)] == [3, 2] * 8
    assert (labels.dsprites_orientation(0), labels.dsprites_orientation(39)) == (0, 15)


def test_norb_azimuth_counts_in_steps_of_20_degrees_and_elevation_as_it_stands() -> None:
    assert [labels.norb_azimuth(a) for a in range(0, 35, 2)] == list(range(18))
    assert [labels.norb_elevation(e) for e in range(9)] == list(range(9))
    for wrong in (1, 36, -2):
        with pytest.raises(ValueError, match="azimuth"):
            labels.norb_azimuth(wrong)
    with pytest.raises(ValueError, match="elevation"):
        labels.norb_elevation(9)


def test_class_tables_are_whole_and_in_byte_order() -> None:
    assert len(EUROSAT) == 10 and list(EUROSAT) == sorted(EUROSAT)
    assert len(RESISC) == 45 and list(RESISC) == sorted(RESISC)
    assert RESISC.index("railway") + 1 == RESISC.index("railway_station")
    scenes = sun397_classes()
    assert len(set(scenes)) == 397 and list(scenes) == sorted(scenes)
    assert sum(name.count("/") == 3 for name in scenes) == 126
