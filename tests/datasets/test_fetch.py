"""Archives are verified and unpacked inside their folder, or refused with nothing left behind."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from datasets import fetch
from datasets.card import DataError
from datasets.fetch import unpack, verify


def tar(file: Path, entries: list[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return file


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.name.endswith(".lock")}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_plain_archive_is_unpacked_whole(mode: str, tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", [("x/one.txt", b"1"), ("x/y/two words.txt", b"22")], mode)
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out/x/y/two words.txt").read_bytes() == b"22" and (tmp_path / "out/x/one.txt").exists()
    with pytest.raises(DataError, match="exists already"):
        unpack(archive, tmp_path / "out")


def test_a_zip_is_unpacked_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/", "")
        archive.writestr("x/one.txt", "1")
    assert (unpack(tmp_path / "a.zip", tmp_path / "out") / "x/one.txt").read_bytes() == b"1"


BAD_NAMES = ("../escaped", "x/../../escaped", "/tmp/escaped", "C:/escaped", "x\\..\\escaped", "a\nb")


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_path_that_escapes_is_refused_and_nothing_is_left(name: str, kind: str, tmp_path: Path) -> None:
    archive = tmp_path / f"evil.{kind}"
    if kind == "tar":
        tar(archive, [("good.txt", b"1"), (name, b"2")])
    else:
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("good.txt", "1")
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would mend it
            made.writestr(info, "2")
    before = everything(tmp_path)
    with pytest.raises(DataError, match=rf"evil\.{kind}: the entry .* leaves the folder; nothing was unpacked"):
        unpack(archive, tmp_path / "deep" / "out")
    assert everything(tmp_path) - before <= {"deep"} and not (tmp_path / "deep" / "out").exists()
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    "entry", [link("l", "/etc"), link("l", "../.."), link("l", "good.txt"), link("l", "good.txt", tarfile.LNKTYPE),
              link("l", "", tarfile.FIFOTYPE), link("l", "", tarfile.CHRTYPE)]
)  # fmt: skip
def test_links_and_devices_are_refused(entry: tarfile.TarInfo, tmp_path: Path) -> None:
    archive = tar(tmp_path / "evil.tar", [("good.txt", b"1"), entry, ("l/inside", b"2")])
    with pytest.raises(DataError, match="'l' is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("l")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(info, "/etc")
    with pytest.raises(DataError, match="is a link or a device"):
        unpack(tmp_path / "evil.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_bomb_is_refused_while_it_unpacks(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FREE_BYTES", 1 << 20)
    zeros, archive = bytes(8 << 20), tmp_path / f"bomb.{kind}"
    if kind == "tar":
        tar(archive, [("zeros", zeros)])
    else:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("zeros", zeros)
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    with pytest.raises(DataError, match="unpacks to more than"):
        unpack(archive, tmp_path / "out", limit=1 << 20)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LIMIT_FILES", 5)
    with pytest.raises(DataError, match="more than 5 files"):
        unpack(tar(tmp_path / "a.tar", [(f"f{i}", b"") for i in range(6)]), tmp_path / "out")


def test_two_entries_in_one_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two entries in one place"):
        unpack(tar(tmp_path / "a.tar", [("x", b"1"), ("x", b"2")]), tmp_path / "out")


def test_a_torn_archive_leaves_nothing_half_unpacked(tmp_path: Path) -> None:
    data = tar(tmp_path / "a.tar", [(f"f{i}", os.urandom(5000)) for i in range(20)]).read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 40):
        (tmp_path / "torn.tar").write_bytes(data[:length])
        with pytest.raises(DataError, match=r"torn\.tar is (broken|neither a tar nor a zip)"):
            unpack(tmp_path / "torn.tar", tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_verify_names_the_expected_digest_and_size(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    with pytest.raises(DataError, match=r"x\.bin is missing; expected a file with md5 abc"):
        verify(file, "abc", "md5")
    file.write_bytes(b"abc")
    verify(file, "900150983cd24fb0d6963f7d28e17f72", "md5", size=3)
    with pytest.raises(DataError, match="has 3 bytes; expected 4"):
        verify(file, "900150983cd24fb0d6963f7d28e17f72", "md5", size=4)
    with pytest.raises(DataError, match=r"has sha256 ba7816bf.*; expected 00"):
        verify(file, "00")
