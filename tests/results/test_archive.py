"""One file of runs: equal gives equal, what goes in comes out, and nothing else ever does."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from results import archive, packs, received, store
from results.schema import RecordError
from results.suites import load_suite

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "demo"
Members = dict[str, bytes]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Four committed runs with their predictions, packed with their suite."""
    paths = store.record_files(REFERENCE)[:4]
    told = archive.write(paths, tmp_path / "some.zip", load_suite(REFERENCE / "suite.json"))
    assert (told.records, told.adapters, len(told.left_out)) == (4, 0, 4), "weights are not published"
    return tmp_path / "some.zip"


def _members(path: Path) -> Members:
    with zipfile.ZipFile(path) as held:
        return {name: held.read(name) for name in held.namelist()}


def _rewritten(path: Path, members: Members, listed: bool = True,
               change: Callable[[zipfile.ZipInfo], None] | None = None) -> Path:
    """The archive again with other members; `listed`: its list of hashes is made to fit."""
    if listed and archive.NOTE in members:
        note = json.loads(members[archive.NOTE])
        note["files"] = {n: sha256(c).hexdigest() for n, c in members.items() if n != archive.NOTE}
        members = members | {archive.NOTE: json.dumps(note).encode()}
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            if change is not None and name not in (archive.NOTE, archive.SUITE):
                change(info)
            out.writestr(info, content)
    return path


def _left(root: Path) -> list[str]:
    """What lies below, but for the file that unpackers lock."""
    return sorted(p.name for p in root.iterdir() if p.name != ".lock")


def test_equal_runs_give_equal_bytes_in_whatever_order(made: Path, tmp_path: Path) -> None:
    paths = store.record_files(REFERENCE)[3::-1]
    archive.write(paths, tmp_path / "again.zip", load_suite(REFERENCE / "suite.json"))
    assert (tmp_path / "again.zip").read_bytes() == made.read_bytes()


def test_what_goes_in_comes_out_once_and_reads_like_a_folder(made: Path, tmp_path: Path) -> None:
    folder = archive.unpack(made, tmp_path / "received")
    assert folder.name == sha256(made.read_bytes()).hexdigest()[:16]
    for path in store.record_files(REFERENCE)[:4]:
        here = folder / path.parent.name / path.name
        assert here.read_bytes() == packs.read(path)
        assert here.with_suffix(".npz").read_bytes() == packs.read(path.with_suffix(".npz"))
    mine = folder / received.VERDICTS
    mine.write_text("kept")
    assert archive.unpack(made, tmp_path / "received") == folder and mine.read_text() == "kept"
    assert _left(tmp_path / "received") == [folder.name]


def _added(name: str, content: bytes = b"{}") -> Callable[[Members], Members]:
    return lambda members: members | {name: content}


def _moved(members: Members) -> Members:
    name = next(n for n in members if n.startswith("records/") and n.endswith(".json"))
    return {n.replace(name, "records/elsewhere/" + name.rpartition("/")[2]): c for n, c in members.items()}


def _dotted(members: Members) -> Members:
    """A record whose data set is called `..`, lying where that leads."""
    name = next(n for n in members if n.startswith("records/") and n.endswith(".json"))
    return {n.replace(name, "records/../" + name.rpartition("/")[2]): c for n, c in members.items()}


@pytest.mark.parametrize(("change", "words"), [
    (_added("../evil.json"), "no name of a pack"), (_added("/etc/evil.json"), "no name of a pack"),
    (_added("records/svhn/../../evil.json"), "no name of a pack"), (_added("records\\svhn\\evil.json"), "no name"),
    (_added("records/svhn/evil.pkl"), "no name of a pack"), (_added("records/svhn/.hidden.json"), "no name of a pack"),
    (_added("verdicts.json"), "no name of a pack"), (_added("records/svhn/"), "no name of a pack"),
    (_added("records/svhn/evil.npz"), "no record names"), (_added("records/svhn/evil.json"), "field 'schema'"),
    (_moved, "holds the record of"), (_dotted, "no name of a pack"),
    (lambda members: {n: c for n, c in members.items() if n != "pack.json"}, "it has no pack.json"),
    (lambda members: {n: c for n, c in members.items() if not n.startswith("records/")}, "holds no record"),
    (lambda members: members | {"pack.json": b'{"format": 2, "files": {}}'}, "not of format 1"),
    (lambda members: members | {"suite.json": b"{"}, "not valid JSON"),
])
def test_what_is_no_pack_is_a_sentence_and_leaves_nothing(made: Path, tmp_path: Path, words: str,
                                                          change: Callable[[Members], Members]) -> None:
    _rewritten(made, change(_members(made)))
    with pytest.raises(RecordError, match=words):
        archive.unpack(made, tmp_path / "received")
    assert _left(tmp_path / "received") == []
    assert not list(tmp_path.rglob("evil*"))


def test_links_compressed_members_and_repeated_ones_are_refused(made: Path, tmp_path: Path) -> None:
    members = _members(made)

    def link(info: zipfile.ZipInfo) -> None:
        info.external_attr = (stat.S_IFLNK | 0o777) << 16

    def squeezed(info: zipfile.ZipInfo) -> None:
        info.compress_type = zipfile.ZIP_DEFLATED

    for change, words in ((link, "no regular file"), (squeezed, "compressed or locked")):
        with pytest.raises(RecordError, match=words):
            archive.unpack(_rewritten(tmp_path / "odd.zip", members, change=change), tmp_path / "received")
    with zipfile.ZipFile(made, "a") as out, pytest.warns(UserWarning, match="Duplicate"):
        out.writestr("suite.json", members["suite.json"])
    with pytest.raises(RecordError, match="a member twice"):
        archive.unpack(made, tmp_path / "received")


def test_sizes_are_limited_before_anything_is_read(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive.evidence, "FILE_BYTES", 10)
    with pytest.raises(RecordError, match="larger than 10 bytes"):
        archive.unpack(made, tmp_path / "received")
    monkeypatch.setattr(archive, "ALL_BYTES", 1000)
    with pytest.raises(RecordError, match="cannot be read"):
        archive.unpack(made, tmp_path / "received")


def test_a_changed_member_and_a_damaged_file_are_refused(made: Path, tmp_path: Path) -> None:
    members = _members(made)
    name = next(n for n in members if n.endswith(".npz"))
    with pytest.raises(RecordError, match="its hash is another"):
        archive.unpack(_rewritten(tmp_path / "a.zip", members | {name: members[name][:-1] + b"!"}, listed=False),
                       tmp_path / "received")
    content = made.read_bytes()
    for broken in (b"", b"PK", content[:-30], content[:1000] + b"\0" + content[1001:], b"\x80\x04K\x01."):
        (tmp_path / "b.zip").write_bytes(broken)
        with pytest.raises(RecordError):
            archive.unpack(tmp_path / "b.zip", tmp_path / "received")
    assert _left(tmp_path / "received") == []


def test_larger_weights_and_lost_predictions_are_told_and_others_than_stored_refused(tmp_path: Path) -> None:
    source = store.record_files(REFERENCE)[0]
    path = tmp_path / "runs" / source.parent.name / source.name
    path.parent.mkdir(parents=True)
    path.write_bytes(packs.read(source))
    told = archive.write([path], tmp_path / "out.zip")
    assert told.records == 1 and any("npz is not here" in line for line in told.left_out)
    path.with_suffix(".npz").write_bytes(b"other")
    with pytest.raises(RecordError, match="not the file that was stored"):
        archive.write([path], tmp_path / "no.zip")
    assert not (tmp_path / "no.zip").exists()


def test_a_file_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(archive.PackError, match=r"gone\.zip: there is no such file"):
        archive.unpack(tmp_path / "gone.zip", tmp_path / "received")


def test_two_who_take_out_the_same_archive_at_once_both_have_it(made: Path, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    whole = archive._take_out

    def slow(*given: Any) -> None:
        whole(*given)
        time.sleep(0.3)  # so that each is there while the other is

    monkeypatch.setattr(archive, "_take_out", slow)
    root = tmp_path / "received"
    with ThreadPoolExecutor(2) as pool:
        found = set(pool.map(lambda _: archive.unpack(made, root), range(2)))
    assert len(found) == 1 and len(store.record_files(found.pop())) == 4
    assert _left(root) == [archive.digest_of(made)]


KILLED = """
import os, signal, sys
from pathlib import Path
from results import archive
left, real = int(sys.argv[3]), os.fsync
def fsync(handle):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(handle)
os.fsync = fsync
archive.unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_one_that_is_killed_leaves_nothing_that_counts_and_the_next_cleans_up(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "received"
    clean = archive.unpack(made, tmp_path / "clean")
    wanted = {p.relative_to(clean): p.read_bytes() for p in clean.rglob("*") if p.is_file()}
    for after in (0, 3, len(wanted) - 1):
        done = subprocess.run([sys.executable, "-c", KILLED, made, root, str(after)], check=False,
                              cwd=Path(__file__).parents[2])
        assert done.returncode == -signal.SIGKILL
        assert list(root.glob(".tmp-*/pack")) and received.folders(["all"], root) == []
    folder = archive.unpack(made, root)
    assert {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == wanted
    assert sorted(p.name for p in root.iterdir()) == [".lock", folder.name]


def test_verdicts_are_void_when_the_record_is_another(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "received"
    folder = archive.unpack(made, root)
    paths = store.record_files(folder)
    levels: list[received.Verdict] = ["verified", "consistent", "claimed", "refused"]
    judged = {received.run_of(p): received.Judged(level, "as the test wants it", received.sha_of(p))
              for p, level in zip(paths, levels, strict=True)}
    with pytest.raises(RecordError, match="has not been checked here"):
        received.accepted(["all"], root=root)
    received.save(folder, judged)
    runs = [received.run_of(p) for p in paths]
    for least, count in (("verified", 1), ("consistent", 2), ("claimed", 3)):
        for name in ("all", folder.name[:8], str(made)):
            assert list(received.accepted([name], least, root)) == runs[:count]  # type: ignore[arg-type]
    paths[0].write_bytes(paths[0].read_bytes() + b"\n")
    assert runs[0] not in received.accepted(["all"], root=root)
    for unknown in ("abc123", folder.name[:3]):
        with pytest.raises(RecordError, match="no received packs begin so"):
            received.accepted([unknown], root=root)
