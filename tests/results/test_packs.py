"""Packs: what goes in comes out byte for byte, equal gives equal, and readers do not tell them from folders."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from reports import cli
from results import bundling, evidence, index, metrics, packs, store
from results.schema import RecordError

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def _folder(out: Path) -> Path:
    """Some committed runs as a folder of files, as a user's own runs lie."""
    source = REFERENCE / "robust-tuned"
    for path in store.record_files(source)[:6]:
        target = out / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(packs.read(path))
        for artifact in store.load(path).artifacts:
            if artifact.kind.startswith("predictions"):
                (target.parent / artifact.path).write_bytes(packs.read(path.with_name(artifact.path)))
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _folder(tmp_path / "folder")


@pytest.fixture
def pack(folder: Path, tmp_path: Path) -> Path:
    bundling.pack(store.record_files(folder), tmp_path / "pack")
    return tmp_path / "pack"


def _files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_every_file_comes_out_as_it_went_in(folder: Path, pack: Path) -> None:
    before = _files(folder)
    assert len(before) > 6
    assert {name: packs.read(pack / name) for name in before} == before
    assert set(_files(pack)) == {"records.jsonl", "predictions.zip"}


def test_members_have_the_hashes_that_their_records_name(pack: Path) -> None:
    lines = (pack / "records.jsonl").read_bytes().splitlines()
    named = [(body["spec"]["dataset"], a["path"], a["sha256"]) for body in map(json.loads, lines)
             for a in body["artifacts"] if a["kind"].startswith("predictions")]
    with zipfile.ZipFile(pack / "predictions.zip") as archive:
        assert sorted(archive.namelist()) == sorted(f"{folder}/{path}" for folder, path, _ in named)
        assert all(sha256(archive.read(f"{folder}/{path}")).hexdigest() == digest for folder, path, digest in named)


def test_packing_again_and_packing_a_pack_give_the_same_bytes(folder: Path, pack: Path, tmp_path: Path) -> None:
    bundling.pack(list(reversed(store.record_files(folder))), tmp_path / "again")
    bundling.pack(store.record_files(pack), tmp_path / "of-a-pack")
    assert _files(pack) == _files(tmp_path / "again") == _files(tmp_path / "of-a-pack")


def test_readers_do_not_tell_a_pack_from_a_folder(folder: Path, pack: Path) -> None:
    names = [p.relative_to(folder) for p in store.record_files(folder)]
    assert [p.relative_to(pack) for p in store.record_files(pack)] == names
    assert list(store.load_all(pack)) == list(store.load_all(folder))
    one, other = index.read(folder, index=False), index.read(pack, index=False)
    assert one.text == other.text and {n: c.tobytes() for n, c in one.number.items()} == {
        n: c.tobytes() for n, c in other.number.items()}
    assert not any(name.startswith((evidence.UNPROVEN, evidence.CONTRADICTED)) for name in other.text)
    index.read(pack)
    assert index.read(pack).text == one.text, "from the cache"


def test_a_changed_pack_is_read_anew(folder: Path, pack: Path) -> None:
    assert len(index.read(pack)) == 6
    bundling.pack(store.record_files(folder)[:4], pack)
    assert len(index.read(pack)) == 4


def test_changed_predictions_in_a_pack_are_found(pack: Path) -> None:
    with zipfile.ZipFile(pack / "predictions.zip") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    victim = sorted(held)[0]
    np.savez(pack / "other.npz", pred=np.arange(5), label=np.arange(5))
    held[victim] = (pack / "other.npz").read_bytes()
    with zipfile.ZipFile(pack / "predictions.zip", "w") as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    found = index.read(pack, index=False)
    told = [why for name, words in found.text.items() if name.startswith(evidence.UNPROVEN) for why in words if why]
    assert len(told) == 1 and victim in told[0] and "its hash is another" in told[0]


def test_a_pack_is_never_edited(pack: Path) -> None:
    before = _files(pack)
    lines = before["records.jsonl"].decode().splitlines()
    body = json.loads(lines[0])
    body["metrics"]["test.nll"] = 0.25
    lines[0] = json.dumps(body)
    (pack / "records.jsonl").write_text("\n".join(lines) + "\n")
    problems: list[RecordError] = []
    assert [d.metric for d in metrics.recompute(pack, write=True, on_problem=problems.append)] == ["test.nll"]
    assert "never edited" in str(problems[0]) and set(_files(pack)) == set(before)


@pytest.mark.parametrize(("line", "words"), [
    (b"[]", "line 7 is no record"), (b"{", "line 7 is no record"), (b'{"spec": 3}', "line 7 is no record"),
    (b"\xff", "line 7 is no record"), (b"REPEAT", "line 7 repeats "),
])
def test_a_line_that_is_no_record_is_named(pack: Path, line: bytes, words: str) -> None:
    path = pack / "records.jsonl"
    first = path.read_bytes().splitlines()[0]
    path.write_bytes(path.read_bytes() + (first if line == b"REPEAT" else line) + b"\n")
    with pytest.raises(RecordError, match=words):
        store.record_files(pack)


def test_a_damaged_archive_and_a_missing_one_are_a_sentence_each(pack: Path) -> None:
    (pack / "predictions.zip").write_bytes(b"PK")
    one = index.read(pack, index=False)
    assert any("cannot be read (OSError)" in w for n, ws in one.text.items() if n.startswith("unproven") for w in ws)
    (pack / "predictions.zip").unlink()
    two = index.read(pack, index=False)
    assert any("is missing" in w for n, ws in two.text.items() if n.startswith("unproven") for w in ws)


def test_what_may_not_be_published_is_named_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    path = store.record_files(folder)[0]
    good = path.read_text()
    npz = next(p for p in sorted(folder.rglob("*.npz")) if p.name.startswith(path.stem))
    for change, words in (
        (lambda: path.write_text(good.replace('"dirty": false', '"dirty": true')), "a tree with changes"),
        (lambda: path.write_text(good.replace("\n ", "\n  ")), "is not the file that this program writes"),
        (lambda: npz.write_bytes(b"PK"), "is not the file that was stored"),
        (npz.unlink, "cannot be read"),
    ):
        change()  # type: ignore[no-untyped-call]
        with pytest.raises(RecordError, match=words):
            bundling.pack(store.record_files(folder), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        path.write_text(good)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pack", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "6 records" in capsys.readouterr().out
    shutil.rmtree(folder)
    folder.mkdir()
    assert cli.main(["pack", str(folder), "--out", str(tmp_path / "none")]) == 2
    assert "there is no record to pack" in capsys.readouterr().err


@pytest.mark.parametrize("suite", sorted(p.parent.name for p in REFERENCE.glob("*/suite.json")))
def test_the_repositorys_own_runs_are_packed_as_this_program_packs(suite: str, tmp_path: Path) -> None:
    bundling.pack(store.record_files(REFERENCE / suite), tmp_path / "again")
    for name in (packs.RECORDS, packs.FILES):
        assert (tmp_path / "again" / name).read_bytes() == (REFERENCE / suite / name).read_bytes()


def test_an_index_notices_that_the_archive_changed_or_went(pack: Path) -> None:
    for path in pack.iterdir():
        os.utime(path, (1e9, 1e9))
    assert not any(name.startswith("unproven") for name in index.read(pack).text)
    (pack / "predictions.zip").rename(pack / "aside.zip")
    assert any(name.startswith("unproven") for name in index.read(pack).text)
