"""`check` tells everything that is wrong at once, and one changed byte never escapes a manifest."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from datasets import registry
from datasets.check import check
from datasets.folder import MANIFEST, MARK, write_manifest

EACH_LAYOUT = ("svhn", "cub", "imagenet1k")


def copied(name: str, data_root: Path, root: Path, anonymous: bool = False) -> Path:
    """A copy of a stand-in; `anonymous` takes away what would vouch for it, as if a user had placed it."""
    folder = root / registry.get(name).folder
    shutil.copytree(data_root / registry.get(name).folder, folder)
    if anonymous:
        (folder / MANIFEST).unlink()
        (folder / MARK).unlink()
    return folder


def texts(name: str, root: Path) -> str:
    return "\n".join(problem.text for problem in check(name, root))


@pytest.mark.parametrize("name", [*EACH_LAYOUT, "nabirds", "smallnorb_ele", "digits"])
def test_what_is_whole_has_no_problems(name: str, data_root: Path) -> None:
    assert check(name, data_root) == []


@pytest.mark.parametrize("name", EACH_LAYOUT)
def test_what_is_missing_is_named_with_what_should_lie_there(name: str, tmp_path: Path) -> None:
    said = texts(name, tmp_path)
    assert str(tmp_path / registry.get(name).folder) in said and registry.get(name).layout in said


def test_counts_that_fall_short_of_the_cards_promise_are_all_told(data_root: Path, tmp_path: Path) -> None:
    copied("svhn", data_root, tmp_path, anonymous=True)
    said = texts("svhn", tmp_path)
    for line in ("train has 128 images; expected 800", "val has 32 images; expected 200", "trainval has 160",
                 "test has 200 images; expected 26032"):  # fmt: skip
        assert line in said
    copied("cub", data_root, tmp_path, anonymous=True)
    assert "8 classes have images; expected 200" in texts("cub", tmp_path)


def test_every_problem_is_told_not_the_first(data_root: Path, tmp_path: Path) -> None:
    folder = copied("svhn", data_root, tmp_path)
    rows = (folder / "train800.txt").read_text().splitlines()
    rows[0], rows[3], rows[9] = "nonsense", rows[3].split()[0] + " 44", "../../x.jpg 1"
    (folder / "train800.txt").write_text("\n".join(rows) + "\n")
    (folder / "images/test/000007.jpg").unlink()
    (folder / "images/val200/000001.jpg").write_bytes(b"torn")
    (folder / "test.txt").unlink()
    said = texts("svhn", tmp_path)
    for part in ("train800.txt:1: expected 'path label'", "train800.txt:4: label 44 is out of range",
                 "train800.txt:10: '../../x.jpg' leaves the folder", "test.txt is missing",
                 "images/test/000007.jpg is missing; expected", "000001.jpg cannot be read as an image",
                 "train has 125 images; expected 128", "000001.jpg has 4 bytes; expected",
                 "train800val200.txt is not train800 and val200 in blocks of 16"):  # fmt: skip
        assert part in said, part


def test_a_wrong_interleave_a_repeated_line_and_a_leak_from_test_are_told(data_root: Path, tmp_path: Path) -> None:
    folder = copied("svhn", data_root, tmp_path, anonymous=True)
    rows = (folder / "train800val200.txt").read_text().splitlines()
    leak = (folder / "test.txt").read_text().splitlines()[0]
    (folder / "train800val200.txt").write_text("\n".join([*rows[1:], rows[1], leak]) + "\n")
    said = texts("svhn", tmp_path)
    assert "is not train800 and val200 in blocks of 16" in said
    assert "trainval: 1 image stands twice or more" in said
    assert "000000.jpg is in trainval and in test" in said


def test_a_broken_image_is_found_where_no_manifest_vouches_for_it(data_root: Path, tmp_path: Path) -> None:
    folder = copied("imagenet1k", data_root, tmp_path, anonymous=True)
    victim = next((folder / "val").rglob("*.JPEG"))
    victim.write_bytes(victim.read_bytes()[:200])
    assert f"{victim} cannot be read as an image" in texts("imagenet1k", tmp_path)
    told: list[int] = []
    assert all("cannot be read" not in p.text for p in check("imagenet1k", tmp_path, images=False))
    check("imagenet1k", tmp_path, progress=lambda done, total: told.append(done * 1000 + total))
    assert told[-1] == 360 * 1000 + 360


@pytest.mark.parametrize("name", [*EACH_LAYOUT, "pets_1shot_s0", "domainnet_sketch"])
def test_any_changed_byte_of_a_list_a_label_or_an_image_is_found(
    name: str, data_root: Path, suite_root: Path, tmp_path: Path
) -> None:
    folder = copied(name, data_root if name in EACH_LAYOUT else suite_root, tmp_path)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in (MARK, MANIFEST))
    lists = [file for file in files if file.suffix in (".txt", ".json")]
    dice = random.Random(0)
    for file in [*lists, *dice.sample(files, 6)]:
        data = bytearray(file.read_bytes())
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
        before = file.read_bytes()
        file.write_bytes(bytes(data))
        assert f"{file} has other content; expected {len(before)} bytes, sha256 " in texts(name, tmp_path)
        file.write_bytes(before)
    assert check(name, tmp_path) == []


def test_files_that_appear_and_a_broken_manifest_are_told(data_root: Path, tmp_path: Path) -> None:
    folder = copied("svhn", data_root, tmp_path)
    (folder / "extra.txt").write_text("?")
    assert f"{folder / 'extra.txt'} is not in the manifest" in texts("svhn", tmp_path)
    (folder / MANIFEST).write_text("[]")
    assert f"{folder / MANIFEST} is no manifest" in texts("svhn", tmp_path)


def test_a_user_may_write_a_manifest_of_her_own_data(data_root: Path, tmp_path: Path) -> None:
    folder = copied("svhn", data_root, tmp_path, anonymous=True)
    write_manifest(folder)
    victim = folder / "images/test/000000.jpg"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    assert f"{victim} has other content" in texts("svhn", tmp_path)
    assert json.loads((folder / MANIFEST).read_text())["test.txt"][0] == (folder / "test.txt").stat().st_size


def test_a_stale_standin_is_told(data_root: Path, tmp_path: Path) -> None:
    folder = copied("svhn", data_root, tmp_path)
    mark = json.loads((folder / MARK).read_text())
    (folder / MARK).write_text(json.dumps(mark | {"hash": "0" * 16}))
    assert "of an older generator" in texts("svhn", tmp_path)
