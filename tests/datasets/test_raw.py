"""Raw stand-ins through raw readers, the cut and the list layout: the same images, labels and order at both ends."""

from __future__ import annotations

import io
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from datasets import registry
from datasets.card import DataError, Item
from datasets.images import ImageList, name_of, open_rgb, to_array
from datasets.standins.raw import VTAB_WRITERS, write_raw
from datasets.vtab import scenes
from datasets.vtab.cut import members, vtab1k
from datasets.vtab.pools import Cut, Part, Record, in_hash_order, take
from datasets.vtab.raw import RAW

CUTTABLE = [name for name in RAW if RAW[name].cut is not None]


@pytest.fixture(autouse=True)
def small_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The retina at a fifth of its size, for speed."""
    monkeypatch.setattr(scenes, "RADIUS", 60)


def raw_of(name: str, root: Path) -> Path:
    return root / VTAB_WRITERS[name][0]


def train_step(items: list[Item]) -> float:
    """One step of a linear classifier on shrunken pictures."""
    pictures = [sample.image.resize((16, 16)) for sample in ImageList(items)]
    x = torch.stack([torch.from_numpy(to_array(picture).copy()) for picture in pictures]).flatten(1) / 255.0
    model = nn.Linear(768, 397)
    loss = nn.functional.cross_entropy(model(x), torch.tensor([item.label for item in items]))
    loss.backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    return loss.item()


@pytest.mark.parametrize("name", CUTTABLE)
def test_raw_to_list_layout_to_loader_equals_the_raw_reader(name: str, raw_root: Path, tmp_path: Path) -> None:
    chosen = members(name, raw_of(name, raw_root))
    vtab1k(name, raw_of(name, raw_root), tmp_path, codec="png")
    card = registry.get(name)
    for split, records in chosen.items():
        items = card.items(tmp_path, split)
        assert [item.label for item in items] == [record.label for record in records]
        for item, record in list(zip(items, records, strict=True))[::7]:
            assert (to_array(open_rgb(item.image)) == to_array(open_rgb(record.image))).all()
    assert (len(chosen["train"]), len(chosen["val"])) == (128, 32) and len(chosen["test"]) >= 20
    names = [{name_of(record.image) for record in records} for records in chosen.values()]
    assert len(names[0] | names[1] | names[2]) == sum(map(len, names)), "no image is in two splits"
    assert len(card.items(tmp_path, "trainval")) == 160
    from_raw = train_step([Item(record.image, record.label) for record in chosen["train"][:8]])
    assert np.isfinite([from_raw, train_step(card.items(tmp_path, "train")[:8])]).all()


def test_the_jpeg_codec_writes_what_pillow_writes_by_default(raw_root: Path, tmp_path: Path) -> None:
    vtab1k("svhn", raw_of("svhn", raw_root), tmp_path)
    record = members("svhn", raw_of("svhn", raw_root))["train"][5]
    buffer = io.BytesIO()
    open_rgb(record.image).save(buffer, "JPEG")
    assert (tmp_path / "svhn/images/train800/000005.jpg").read_bytes() == buffer.getvalue()
    assert "jpeg75" in (tmp_path / "svhn/ORIGIN.txt").read_text()


def test_caltech_is_read_but_cannot_be_cut(raw_root: Path, tmp_path: Path) -> None:
    pool = RAW["caltech101"].read(raw_of("caltech101", raw_root))["all"]
    assert len(pool) == 120 and not any("tmp" in str(record.key) for record in pool)
    label = {str(record.key).partition("/")[0]: record.label for record in pool}
    assert label["accordion"] == 0 and label["BACKGROUND_Google"] == 4
    assert all(open_rgb(record.image).mode == "RGB" for record in pool[::9])
    with pytest.raises(DataError, match=r"cannot be cut from raw data.*community's VTAB-1k export"):
        vtab1k("caltech101", raw_of("caltech101", raw_root), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pool_of_another_size_than_the_official_one_is_refused_unless_it_is_a_standin(raw_root: Path) -> None:
    pools = RAW["svhn"].read(raw_of("svhn", raw_root))
    cut = RAW["svhn"].cut
    assert cut is not None
    with pytest.raises(DataError, match="'train' holds 320 images; the exact cut needs all 73257"):
        take(cut, pools)


def test_slices_are_taken_from_the_hash_order_of_their_salt() -> None:
    pool = [Record(str(i), i % 3, Path(str(i))) for i in range(50)]
    cut = Cut(Part("p", "a", 0, 20, 50), Part("p", "a", 30, 40, 50), Part("p", "b", 0, 50, 50))
    chosen = take(cut, {"p": pool})
    ordered = in_hash_order(pool, "a")
    assert chosen["train"] == ordered[:20] and chosen["val"] == ordered[30:40]
    assert chosen["test"] == in_hash_order(pool, "b") != ordered


def test_existing_folders_are_not_overwritten(raw_root: Path, tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "mine").write_text("precious")
    with pytest.raises(DataError, match="exists already"):
        vtab1k("svhn", raw_of("svhn", raw_root), tmp_path)
    assert (tmp_path / "svhn" / "mine").read_text() == "precious"


def test_unknown_codec_unknown_task_and_missing_raw_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no codec is called 'webp'; there are: jpeg75, png"):
        vtab1k("svhn", tmp_path, tmp_path, codec="webp")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cub is no VTAB-1k task"):
        vtab1k("cub", tmp_path, tmp_path)
    with pytest.raises(DataError, match="gone is missing; expected there: the raw form of CIFAR-100"):
        vtab1k("cifar100", tmp_path / "gone", tmp_path)
    for name in CUTTABLE:
        with pytest.raises(DataError, match=f"{tmp_path}.* is missing; expected there: "):
            vtab1k(name, tmp_path, tmp_path)


def test_cifars_binary_form_equals_its_pickles(raw_root: Path, tmp_path: Path) -> None:
    pickled = RAW["cifar100"].read(raw_of("cifar100", raw_root))
    (tmp_path / "cifar-100-binary").mkdir()
    for split in ("train", "test"):
        rows = [bytes([0, r.label]) + to_array(r.image.open()).transpose(2, 0, 1).tobytes() for r in pickled[split]]
        (tmp_path / "cifar-100-binary" / f"{split}.bin").write_bytes(b"".join(rows))
    binary = RAW["cifar100"].read(tmp_path)
    for split in ("train", "test"):
        assert [(r.key, r.label) for r in binary[split]] == [(r.key, r.label) for r in pickled[split]]
        assert (to_array(binary[split][7].image.open()) == to_array(pickled[split][7].image.open())).all()


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "pwned",)  # type: ignore[return-value]

    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "train").write_bytes(pickle.dumps({"data": Evil()}, protocol=2))
    with pytest.raises(DataError, match="which no CIFAR file does"):
        RAW["cifar100"].read(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_smallnorb_uses_camera_0_and_tells_a_wrong_magic(raw_root: Path, tmp_path: Path) -> None:
    from datasets.vtab.arrays import read_norb

    base = raw_of("smallnorb_azi", raw_root)
    pairs = read_norb(base / "smallnorb-5x01235x9x18x6x2x96x96-testing-dat.mat")
    assert pairs.shape == (68, 2, 96, 96)
    record = RAW["smallnorb_azi"].read(base)["test"][4]
    seen = to_array(open_rgb(record.image))[..., 0]
    assert (seen == pairs[4, 0]).all() and not (seen == pairs[4, 1]).all()
    (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 50)
    with pytest.raises(DataError, match=r"x\.mat cannot be read as a NORB binary matrix.*first four bytes are 0x"):
        read_norb(tmp_path / "x.mat")
    whole = (base / "smallnorb-5x01235x9x18x6x2x96x96-testing-info.mat").read_bytes()
    (tmp_path / "x.mat").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"should be {len(whole)} bytes long .* and is {len(whole) - 1}"):
        read_norb(tmp_path / "x.mat")


def test_dsprites_forms_agree_and_pixels_are_black_or_white(raw_root: Path, tmp_path: Path) -> None:
    base = raw_of("dsprites_loc", raw_root)
    npz = next(base.glob("*.npz"))
    (tmp_path / npz.name).write_bytes(npz.read_bytes())
    for name in ("dsprites_loc", "dsprites_ori"):
        one, other = RAW[name].read(base)["train"], RAW[name].read(tmp_path)["train"]
        assert [record.label for record in one] == [record.label for record in other]
        pixels = to_array(open_rgb(one[11].image))
        assert set(np.unique(pixels)) == {0, 255} and (pixels == to_array(open_rgb(other[11].image))).all()


def test_patch_camelyon_may_be_gzipped_and_its_keys_say_valid(raw_root: Path, tmp_path: Path) -> None:
    import gzip

    base = raw_of("patch_camelyon", raw_root)
    for file in base.glob("*.h5"):
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))
    zipped, plain = RAW["patch_camelyon"].read(tmp_path), RAW["patch_camelyon"].read(base)
    assert [r.key for r in zipped["validation"]][:2] == ["valid_0", "valid_1"]
    assert (to_array(zipped["test"][3].image.open()) == to_array(plain["test"][3].image.open())).all()


def test_kitti_pools_are_whole_drives(raw_root: Path) -> None:
    base = raw_of("kitti", raw_root)
    drives = scenes.kitti_drives(base)
    pools = scenes.kitti_pools(drives)
    assert [len(pools[pool]) for pool in ("train", "validation", "test")] == [330, 33, 33]
    assert all(sorted(set(images) & set(pools["test"])) in ([], sorted(images)) for images in drives.values())
    labels = Counter(record.label for record in RAW["kitti"].read(base)["train"])
    assert set(labels) == {0, 1, 2, 3}, "the tram in front is a decoy"


def test_the_retina_is_scaled_masked_and_cropped(raw_root: Path) -> None:
    record = RAW["diabetic_retinopathy"].read(raw_of("diabetic_retinopathy", raw_root))["train"][0]
    eye = to_array(open_rgb(record.image))
    assert eye.shape == (108, 108, 3), "0.9 of a radius of 60, both ways"
    assert abs(eye[0, 0].astype(int) - 128).max() <= 4, "grey outside the disc"
    assert abs(float(eye.mean()) - 128) < 12, "the local mean is taken away"


def test_sun397_reads_odd_files_behind_jpg_and_needs_the_lists(raw_root: Path, tmp_path: Path) -> None:
    pools = RAW["sun397"].read(raw_of("sun397", raw_root))
    assert all(open_rgb(record.image).mode == "RGB" for record in pools["train"][:5])
    (tmp_path / "SUN397").mkdir()
    with pytest.raises(DataError, match=r"sun397_tfds_tr\.txt .*is missing; expected there: the split lists"):
        RAW["sun397"].read(tmp_path)


def test_all_raw_standins_are_small_and_identical_when_written_again(
    raw_root: Path, suite_root: Path, tmp_path: Path
) -> None:
    roots = [raw_root, *(suite_root / card.folder for card in registry.cards("shift") if card.folder != "imagenet")]
    sizes = {file: file.stat().st_size for root in roots for file in root.rglob("*") if file.is_file()}
    assert sum(sizes.values()) < 15_000_000
    for name in ("dmlab", "clevr_count", "svhn"):
        again = RAW[name].read(write_raw(name, tmp_path))
        before = RAW[name].read(raw_of(name, raw_root))
        for pool, records in before.items():
            assert [(r.key, r.label) for r in records] == [(r.key, r.label) for r in again[pool]]
            assert (to_array(open_rgb(records[3].image)) == to_array(open_rgb(again[pool][3].image))).all()
