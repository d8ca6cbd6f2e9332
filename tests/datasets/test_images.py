"""Decoding: every odd file becomes RGB, every broken one is named, and hashes say what a split holds."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import registry
from datasets.card import DataError, Item
from datasets.images import LIMIT, ImageList, content_hash, name_of, open_rgb, split_hash

RED = (200, 30, 40)


def save(file: Path, image: Image.Image, kind: str) -> Path:
    image.save(file, kind)
    return file


def close(image: Image.Image, colour: tuple[int, int, int], within: int = 6) -> bool:
    return bool((abs(np.asarray(image).astype(int) - np.array(colour)) <= within).all())


def test_odd_modes_and_wrong_extensions_become_rgb(tmp_path: Path) -> None:
    red = Image.new("RGB", (20, 10), RED)
    transparent = Image.new("RGBA", (20, 10), (*RED, 0))
    files = {
        "grey.jpg": (Image.new("L", (20, 10), 77), "JPEG", (77, 77, 77)),
        "cmyk.jpg": (red.convert("CMYK"), "JPEG", RED),
        "rgba.jpg": (transparent, "PNG", RED),
        "gif.jpg": (red, "GIF", RED),
        "bmp.jpg": (red, "BMP", RED),
        "palette.jpg": (red.quantize(4), "PNG", RED),
        "bits.JPEG": (Image.new("1", (20, 10), 1), "PNG", (255, 255, 255)),
        "with space.jpg": (red, "JPEG", RED),
    }
    for name, (image, kind, colour) in files.items():
        opened = open_rgb(save(tmp_path / name, image, kind))
        assert (opened.mode, opened.size) == ("RGB", (20, 10)), name
        assert close(opened, colour, 30 if kind == "GIF" or image.mode == "P" else 6), name


def test_sixteen_bits_a_pixel_are_scaled_not_clipped(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((4, 4), 40 * 257, np.uint16))
    assert close(open_rgb(save(tmp_path / "deep.png", deep, "PNG")), (40, 40, 40), 1)


def broken(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"junk" * 50, broken("JPEG")[:900], broken("PNG")[:900], broken("GIF")[:400]]
)
def test_a_broken_or_truncated_file_is_named(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "torn.jpg"
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"torn\.jpg cannot be read as an image: ") as error:
        ImageList([Item(file, 0)])[0]
    assert "<" not in str(error.value), "no object of ours is shown in place of the file"


def test_a_file_that_vanished_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg does not exist"):
        open_rgb(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="is a folder; expected a file"):
        open_rgb(tmp_path)


def test_other_formats_that_pillow_knows_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match="cannot be read as an image"):
        open_rgb(tmp_path / "x.jpg")


@pytest.mark.parametrize("side", [9_460, 60_000])
def test_a_bomb_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    assert side * side > LIMIT
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(DataError, match=r"bomb\.png"):
        open_rgb(tmp_path / "bomb.png")


def test_a_list_gives_image_label_and_index_as_picture_or_array(data_root: Path) -> None:
    items = registry.get("eurosat").items(data_root, "val")
    arrays = ImageList(items, as_array=True)
    image, label, index = arrays[5]
    assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and (label, index) == (items[5].label, 5)
    assert (np.asarray(ImageList(items)[5].image) == image).all()
    assert arrays[-1].index == len(arrays) - 1 == 31
    assert [sample.index for sample in arrays] == list(range(32)) and arrays.labels == [item.label for item in items]
    with pytest.raises(IndexError):
        arrays[32]


def test_a_digit_is_a_source_without_a_file() -> None:
    sample = ImageList(registry.get("digits").items(Path("unused"), "val"))[0]
    assert sample.image.mode == "RGB" and sample.image.size == (8, 8)
    assert np.asarray(sample.image).max() > 200


def test_hashes_tell_order_labels_names_and_pixels(data_root: Path) -> None:
    items = registry.get("dtd").items(data_root, "val")
    relabelled = [items[0]._replace(label=items[0].label + 1), *items[1:]]
    for digest in (lambda found: split_hash(found, data_root), content_hash):
        assert digest(items) == digest(list(items))
        assert len({digest(items), digest(items[::-1]), digest(relabelled), digest(items[1:])}) == 4
    assert name_of(items[3].image, data_root) == "dtd/images/val200/000003.jpg"


def test_content_does_not_depend_on_the_name_and_the_split_hash_opens_nothing(data_root: Path, tmp_path: Path) -> None:
    items = registry.get("dtd").items(data_root, "val")[:4]
    moved = []
    for i, item in enumerate(items):
        (tmp_path / f"{i}.x").write_bytes(Path(str(item.image)).read_bytes())
        moved.append(Item(tmp_path / f"{i}.x", item.label))
    assert content_hash(moved) == content_hash(items)
    assert split_hash([Item(tmp_path / "gone.jpg", 1)], tmp_path) != split_hash(
        [Item(tmp_path / "gone.jpg", 2)], tmp_path
    )
