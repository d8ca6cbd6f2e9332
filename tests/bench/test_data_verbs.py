"""`list datasets` and `data ...` as a user meets them: readable lists, wrong input answered, right input done."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from bench.cli import main
from datasets import registry, standins
from datasets.check import check
from datasets.packages import package_of


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)."""
    try:
        status = main(words)
    except SystemExit as error:
        status = int(error.code or 0)
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_list_of_data_sets_folds_families_into_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(["list", "datasets"], capsys)
    names = [line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "]
    assert len(names) < 90 and len(names) == len(set(names))
    assert {"svhn", "cub", "digits", "food101_<shots>shot_s<list>", "imagenet_c_<corruption>_<severity>",
            "imagenet1k_16shot_s<list>", "domainnet_real_<percent>", "imagenet_a"} <= set(names)
    assert "Few-shot: 75 cards" in out and "95 cards" in out


def test_all_and_json_name_every_card(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = said(["list", "datasets", "--all"], capsys)
    names = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "}
    assert names == set(registry.names())
    _, out, _ = said(["list", "datasets", "--json"], capsys)
    assert {row["name"] for row in json.loads(out)} == set(registry.names())


REFUSED = [
    (["data", "check"], "say which folder to check with --root DIR (or the variable DATA)"),
    (["data", "check", "svhnn", "--root", "."], "no data set is called 'svhnn'; did you mean svhn?"),
    (["data", "check", "svhn", "--root", "FILE"], "is a file"),
    (["data", "convert", "cub", "--root", "."], "say where convert should write with --out DIR"),
    (["data", "convert", "--root", "."], "name the data sets that convert should make"),
    (["data", "convert", "cub", "--root", ".", "--out", "FILE"], "is a file; name a folder"),
    (["data", "convert", "cub", "--root", "EMPTY", "--out", "out"], "images.txt) is missing; expected there: CUB's"),
    (["data", "convert", "imagenet1k", "--root", "EMPTY", "--out", "out"], "needs no conversion"),
    (["data", "vtab1k", "cub", "--root", "EMPTY", "--out", "out"], "cub is no VTAB-1k task; there are: caltech101"),
    (["data", "vtab1k", "caltech101", "--root", "EMPTY", "--out", "out"], "use the community's VTAB-1k export"),
    (["data", "vtab1k", "svhn", "--root", "EMPTY", "--out", "out"], "is missing; expected there: SVHN's cropped"),
    (["data", "standin", "svhn", "--root", "FILE"], "is a file; name a folder"),
    (["data", "check", "svhn", "--root", ".", "--raw"], "--raw goes with standin, not with check"),
    (["data", "check", "--root", ".", "svhn"], "unrecognized arguments: svhn; names stand before options"),
    (["run", "--method", "lora"], "unrecognized arguments: --method lora; did you mean --methods? (see `"),
    (["plan", "--seed=1"], "did you mean --seeds?"),
    (["data", "frob"], "invalid choice: 'frob'"),
]


@pytest.mark.parametrize(("words", "sentence"), REFUSED, ids=[" ".join(words)[5:50] for words, _ in REFUSED])
def test_wrong_input_is_answered_by_a_sentence_and_exit_2(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    (tmp_path / "EMPTY").mkdir()
    status, out, err = said(words, capsys)
    assert status == 2 and sentence in err and err.startswith("regatta: ") and not out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EMPTY", "FILE"], "nothing is written"


def test_raw_form_to_list_layout_to_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, out = str(tmp_path / "raw"), str(tmp_path / "out")
    assert said(["data", "standin", "aircraft", "--raw", "--root", raw], capsys)[0] == 0
    status, told, _ = said(["data", "convert", "aircraft", "--root", f"{raw}/aircraft", "--out", out], capsys)
    assert status == 0 and "aircraft_1shot_s0: written to fgvc-aircraft/ below out/" in told
    assert not [p for p in check("aircraft_1shot_s0", tmp_path / "out") if "does not exist" in p.text]
    status, told, err = said(["data", "convert", "aircraft", "cub", "--root", f"{raw}/aircraft", "--out", out], capsys)
    assert status == 2 and "exists already" in err and "CUB's tables" in err, "all problems at once"


def test_a_set_without_standin_is_told_and_others_are_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told, _ = said(["data", "standin", "digits", "svhn", "svhn", "--root", str(tmp_path)], capsys)
    assert status == 0 and "digits needs no stand-in: nothing: the images ship inside scikit-learn" in told
    assert f"1 stand-in is in {tmp_path.name}/: svhn/" in told
    assert said(["data", "check", "svhn", "--root", str(tmp_path)], capsys)[:2] == (0, "svhn: as promised\n")


def test_fetch_says_what_brings_a_set_and_under_which_terms(capsys: pytest.CaptureFixture[str],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.packages.Package.installed", lambda self: None)
    status, out, _ = said(["data", "fetch", "stamps", "elpv", "cub"], capsys)
    assert status == 0
    stamps, elpv, cub = out.splitlines()
    assert "apt-get install tuxpaint-stamps-default" in stamps and "GPL-2" in stamps
    assert "make real" in elpv and "CC BY-NC-SA 4.0" in elpv
    assert "licence" in cub and registry.get("cub").source in cub
    _, out, _ = said(["data", "fetch"], capsys)
    assert {line.partition(":")[0] for line in out.splitlines()} == {
        c.name for c in registry.cards("real", "text", "captions") if package_of(c)}


def test_hashes_know_a_held_out_image_by_its_bytes_and_by_its_pixels(capsys: pytest.CaptureFixture[str],
                                                                     tmp_path: Path) -> None:
    folder = standins.write("stamps_to_clipart", tmp_path)
    status, out, _ = said(["data", "hashes", "stamps_to_clipart", "--root", str(tmp_path)], capsys)
    rows = [line.split("\t") for line in out.splitlines()]
    card = registry.get("stamps_to_clipart")
    assert status == 0 and len(rows) == sum(len(card.items(tmp_path, split)) for split in ("val", "test"))
    name, split, file, pixels, image = rows[0]
    assert (name, split) == ("stamps_to_clipart", "val")
    path = folder / image
    assert sha256(path.read_bytes()).hexdigest() == file
    with Image.open(path) as picture:
        white = Image.new("RGBA", picture.size, "white")
        shown = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    assert sha256(shown.resize((64, 64), Image.Resampling.BICUBIC).tobytes()).hexdigest() == pixels
