"""Whatever bytes lie in a list, a split file or a TFRecord: the named error or a result, never another crash."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from datasets import registry
from datasets.card import DataError, Pair
from datasets.fgvc import read_json
from datasets.folder import MANIFEST, compare_manifest
from datasets.raw import fewshot, fgvc
from datasets.vtab import scenes, tfrecord
from datasets.vtab.arrays import read_norb

few = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

PATHS = st.sampled_from(
    ["images/train800/000000.jpg", "../x", "/etc/passwd", "images", "", ".", "a\0b", "images/../images"]
)
LINES = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda path, label: f"{path} {label}".encode(), PATHS, st.integers(-5, 300)),
    st.builds(lambda path, label: f"{path} {label}".encode(), st.text(max_size=20), st.text(max_size=5)),
)


@pytest.fixture(scope="module")
def fuzz_root() -> Path:
    root = Path(tempfile.mkdtemp())
    (root / "svhn/images/train800").mkdir(parents=True)
    (root / "svhn/images/train800/000000.jpg").write_bytes(b"x")
    (root / "nabirds").mkdir()
    return root


@few
@given(rows=st.lists(LINES, max_size=6), end=st.sampled_from([b"\n", b"\r\n", b"\r", b""]))
def test_list_files(rows: list[bytes], end: bytes, fuzz_root: Path) -> None:
    (fuzz_root / "svhn/train800.txt").write_bytes(end.join(rows))
    with contextlib.suppress(DataError):
        for item in registry.get("svhn").items(fuzz_root, "train"):
            assert isinstance(item.image, Path) and item.image.resolve().is_relative_to(fuzz_root.resolve() / "svhn")
            assert 0 <= item.label < 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@few
@given(data=st.one_of(st.binary(max_size=80), JSON.map(lambda value: json.dumps(value).encode())))
@example(data=b'{"":[Infinity,null]}')
def test_split_files_and_manifests(data: bytes, fuzz_root: Path) -> None:
    file = fuzz_root / "nabirds/train.json"
    file.write_bytes(data)
    with contextlib.suppress(DataError):
        assert all(isinstance(label, int) and label >= 0 for label in read_json(file).values())
    (fuzz_root / "nabirds" / MANIFEST).write_bytes(data)
    assert isinstance(compare_manifest(fuzz_root / "nabirds"), list)
    (fuzz_root / "nabirds" / MANIFEST).unlink()


@few
@given(data=st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode()),
                      JSON.map(lambda value: json.dumps({"scenes": value, "apple_pie": value}).encode())))
@example(data=b'{"scenes": 5}')
@example(data=b'{"scenes": [{"image_filename": "x", "objects": [{"pixel_coords": [1, 2, null]}]}]}')
@example(data=b'{"apple_pie": ["../x", null]}')
@example(data=b"[" * 100_000)
def test_raw_tables_in_json(data: bytes, fuzz_root: Path) -> None:
    for part in ("food-101/meta", "food-101/images", "CLEVR_v1.0/scenes", "CLEVR_v1.0/images/train"):
        (fuzz_root / part).mkdir(parents=True, exist_ok=True)
    (fuzz_root / "food-101/meta/classes.txt").write_text("apple_pie\nwaffles\n")
    for split in ("train", "test"):
        (fuzz_root / f"food-101/meta/{split}.json").write_bytes(data)
    for split in ("train", "val"):
        (fuzz_root / f"CLEVR_v1.0/scenes/CLEVR_{split}_scenes.json").write_bytes(data)
    with contextlib.suppress(DataError):
        fewshot.food101(fuzz_root)
    for task in ("count", "dist"):
        with contextlib.suppress(DataError):
            scenes.clevr(fuzz_root, task)


@few
@given(rows=st.lists(LINES, max_size=4))
def test_raw_tables_in_text(rows: list[bytes], fuzz_root: Path) -> None:
    data = b"\n".join(rows)
    (fuzz_root / "CUB_200_2011").mkdir(exist_ok=True)
    for name in ("images", "image_class_labels", "train_test_split"):
        (fuzz_root / f"CUB_200_2011/{name}.txt").write_bytes(data)
    (fuzz_root / "data/images").mkdir(parents=True, exist_ok=True)
    for name in ("variants", "images_variant_train", "images_variant_val", "images_variant_test"):
        (fuzz_root / f"data/{name}.txt").write_bytes(data)
    with contextlib.suppress(DataError):
        fgvc.cub(fuzz_root)
    with contextlib.suppress(DataError):
        fewshot.aircraft(fuzz_root)
    (fuzz_root / "food-101/meta").mkdir(parents=True, exist_ok=True)
    for name, text in (("classes.txt", data), ("train.json", b"{}"), ("test.json", b"{}")):
        (fuzz_root / "food-101/meta" / name).write_bytes(text)
    with contextlib.suppress(DataError):
        fewshot.food101(fuzz_root)


FIELDS = st.sampled_from(["a text", "", "0", "1", "5.0", "nan", "1e400", "entailment", "a\0b", '"quoted', "x\u2028y"])


@few
@given(data=st.one_of(st.binary(max_size=80), st.lists(st.lists(FIELDS, max_size=5), max_size=5).map(
    lambda rows: "\n".join("\t".join(row) for row in rows).encode())),
    head=st.sampled_from([b"", b"index\tsentence1\tsentence2\tlabel\n", b"sentence2\tsentence1\tscore\n"]))
def test_tables_of_texts(data: bytes, head: bytes, fuzz_root: Path) -> None:
    for name, folder in (("cola", "CoLA"), ("rte", "RTE"), ("stsb", "STS-B"), ("qqp", "QQP")):
        (fuzz_root / "glue" / folder).mkdir(parents=True, exist_ok=True)
        card = registry.get(name)
        for part in ("train", "dev"):
            (fuzz_root / f"glue/{folder}/{part}.tsv").write_bytes(head + data)
        for split in card.splits:
            with contextlib.suppress(DataError):
                for item in card.items(fuzz_root, split):
                    assert 0 <= item.label < card.classes if card.task == "classify" else 0 <= item.label <= 5


@few
@given(rows=st.lists(st.one_of(JSON, st.fixed_dictionaries({
    "filename": st.sampled_from(["a.jpg", "../a.jpg", "", "a\0b"]), "split": st.sampled_from(["train", "val", "x"]),
    "filepath": JSON, "sentences": st.one_of(JSON, st.just([{"raw": "words"}] * 6))})), max_size=3))
def test_lists_of_pictures_with_captions(rows: list[object], fuzz_root: Path) -> None:
    (fuzz_root / "coco").mkdir(exist_ok=True)
    (fuzz_root / "coco/a.jpg").write_bytes(b"x")
    (fuzz_root / "coco/dataset_coco.json").write_text(json.dumps({"images": rows}))
    with contextlib.suppress(DataError):
        for item in registry.get("coco").items(fuzz_root, "train"):
            assert isinstance(item.image, Pair) and item.image.image == fuzz_root / "coco/a.jpg"


RECORD = tfrecord.encode({"image": b"picture" * 3, "filename": b"name", "label": 3})


def read_dmlab(data: bytes, folder: Path) -> None:
    for split in ("train", "validation", "test"):
        (folder / f"dmlab-{split}.tfrecord").write_bytes(data)
    with contextlib.suppress(DataError):
        for records in tfrecord.dmlab(folder).values():
            for record in records:
                assert 0 <= record.label < 6


@few
@given(data=st.binary(max_size=120))
def test_any_bytes_as_tfrecord_file_and_as_payload(data: bytes, fuzz_root: Path) -> None:
    read_dmlab(data, fuzz_root)
    read_dmlab(tfrecord.frame(data), fuzz_root)
    with contextlib.suppress(ValueError, UnicodeDecodeError):
        tfrecord.example(data)


@few
@given(at=st.integers(0, len(RECORD) - 1), value=st.integers(0, 255))
def test_any_altered_byte_of_a_payload(at: int, value: int, fuzz_root: Path) -> None:
    altered = bytearray(RECORD)
    altered[at] = value
    read_dmlab(tfrecord.frame(bytes(altered)), fuzz_root)


def test_any_altered_byte_of_a_record_is_noticed_by_its_checksums(tmp_path: Path) -> None:
    data, file = tfrecord.frame(RECORD), tmp_path / "x.tfrecord"
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 0x10
        file.write_bytes(bytes(altered))
        with pytest.raises(DataError, match=r"x\.tfrecord"):
            list(tfrecord.records(file))
    for length in range(1, len(data)):
        file.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"x\.tfrecord.* is cut off"):
            list(tfrecord.records(file))


def test_the_checksum_is_castagnolis_and_examples_read_back() -> None:
    assert tfrecord.crc32c(b"123456789") == 0xE3069283 and tfrecord.crc32c(bytes(32)) == 0x8A9136AA
    found = tfrecord.example(tfrecord.encode({"image": b"abc", "filename": b"", "label": 300}))
    (image,) = found["image"]
    assert isinstance(image, tfrecord.Span) and image.stop - image.start == 3 and found["label"] == [300]


def test_a_packed_list_of_integers_and_a_negative_one_are_read() -> None:
    inner = b"\x0a\x0c" + b"\x05" + b"\xff" * 9 + b"\x01" + b"\x07"
    feature = b"\x1a" + bytes([len(inner)]) + inner
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert tfrecord.example(b"\x0a" + bytes([len(features)]) + features) == {"x": [5, -1, 7]}


@few
@given(data=st.binary(max_size=64))
def test_norb_files(data: bytes, fuzz_root: Path) -> None:
    (fuzz_root / "x.mat").write_bytes(b"\x55\x4c\x3d\x1e" + data)
    with contextlib.suppress(DataError):
        read_norb(fuzz_root / "x.mat")
