"""YAML files: whatever a person or an editor left in them is answered by a sentence, in both places that read them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from bench import cli
from bench.planning import config, profile, written
from bench.planning.request import UsageError
from bench.verbs import words

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
WRONG = {
    "nested lists": "profiles: " + "[" * 5000, "nested maps": "x: " + "{a: " * 3000, "nested lines": "- " * 4000,
    "a date": "x: 2020-13-45", "no number": "x: !!int abc", "an empty number": "x: !!int ''",
    "no truth": "x: !!bool maybe", "no time": "x: !!timestamp soon",
    "an object": "x: !!python/object/apply:os.system [ls]",
    "bytes": "x: \x07",
    "many digits": "x: " + "9" * 5000, "a list as a key": "? [a, b]\n: 1",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_yaml_is_told(name: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(WRONG[name])
    for call in (lambda: config.config(file), lambda: profile.load("x", file)):
        with pytest.raises(UsageError, match=r"mine\.yaml (is not YAML|is nested too deep)"):
            call()


@pytest.mark.parametrize("key", ["cpus", "mem_gb", "partition", "setup", "slurm", "srun", "time_min"])
def test_one_list_under_many_names_is_not_spelled_out(key: str, tmp_path: Path) -> None:
    """Nine to the eleventh words in half a kilobyte."""
    file = tmp_path / "cluster.yaml"
    file.write_text(BOMB + f"profiles: {{p: {{{key}: *l}}}}\n")
    with pytest.raises(UsageError, match="must hold `profiles:`"):
        profile.load("p", file)
    anchors = "\n".join("    " + line for line in BOMB.splitlines())
    file.write_text(f"profiles:\n  bomb:\n{anchors}\n  p: {{{key}: {'{k: *l}' if key == 'slurm' else '*l'}}}\n")
    with pytest.raises(UsageError, match=f"{key} must be") as told:
        profile.load("p", file)
    assert len(str(told.value)) < 500


def test_nor_in_a_config_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(BOMB + "epochs: *l\nset: {lr: *l}\ndatasets: *l\n")
    with pytest.raises(UsageError) as told:
        config.config(file)
    assert len(str(told.value)) < 6000 and "epochs cannot be" in str(told.value) and "set must be" in str(told.value)


@pytest.mark.parametrize("key", ["cpus", "gpus", "max_array", "parallel", "time_min", "mem_gb", "gpu_mem_gb"])
@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e999", "9" * 4000, "'4'", "[]"])
def test_numbers_of_a_profile_are_finite(key: str, value: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(f"profiles: {{p: {{{key}: {value}}}}}\n")
    with pytest.raises(UsageError, match=f"{key} must be"):
        profile.load("p", file)


def test_a_whole_number_with_a_point_becomes_one(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("profiles: {p: {cpus: 4.0, mem_gb: 2}}\n")
    found = profile.load("p", file)
    assert repr(found.cpus) == "4" and found.mem_gb == 2


@pytest.mark.parametrize("text", ["epochs: 1\nseeds: [0]\nepochs: 2\n", "set: {lr: 1, lr: 2}\n", "1: a\n0x1: b\n",
                                  "a: &a {<<: {x: 1}, x: 2}\nb: {<<: *a, c: 1, c: 2}\n"])
def test_a_key_that_stands_twice_is_told_with_its_lines(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    for call in (config.config, lambda file: profile.load("x", file)):
        with pytest.raises(UsageError, match=r"mine\.yaml has the key \S+ twice, in line \d and in line \d$"):
            call(tmp_path / "mine.yaml")


def test_a_key_may_replace_one_that_is_merged_and_none_in_another_spelling(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("a: &a {<<: {x: 1}, x: 2}\nb: {<<: *a, x: 3}\n")
    assert written.read(file, "it") == {"a": {"x": 2}, "b": {"x": 3}}
    file.write_text("batch-size: 2\nbatch_size: 4\n")
    with pytest.raises(UsageError, match="has the key batch_size twice, with - and with _"):
        config.config(file)


@pytest.mark.parametrize("value", ["[1:30]", "1:30", "[010]", "[1:30.5]"])
def test_no_number_is_read_to_the_base_60_or_8(value: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"seeds: {value}\n")
    with pytest.raises(UsageError, match="seeds takes numbers"):
        config.config(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("[1:30:00, 0123, 0, 10, -7, 0x10, 1.5e-3, 0.5]")
    assert written.read(tmp_path / "mine.yaml", "it") == ["1:30:00", "0123", 0, 10, -7, 16, 1.5e-3, 0.5]


@pytest.mark.parametrize("value", ["-5", "[1]", "two", "true", "1.5", "9" * 30])
def test_jobs_of_a_config_file_are_checked(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(f"jobs: {value}\n")
    assert cli.main(["plan", "--config", str(tmp_path / "mine.yaml")]) == 2
    assert "mine.yaml: jobs " in capsys.readouterr().err


def test_jobs_of_a_config_file_are_used_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("jobs: 7\n")
    for jobs, expected in ((0, 7), (3, 3)):
        assert words.workers(argparse.Namespace(jobs=jobs, config=tmp_path / "mine.yaml")) == expected


def test_a_folder_a_pipe_and_a_long_file_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "long.yaml").write_text("#" * (1 << 21))
    for name, said in (("pipe.yaml", "is no file"), ("long.yaml", "has more than"), (".", "is no file")):
        with pytest.raises(UsageError, match=said):
            config.config(tmp_path / name)
    assert cli.main(["plan", "--config", str(tmp_path / "pipe.yaml")]) == 2
    assert "is no file" in capsys.readouterr().err
