"""What a job runs: a snapshot of the code, under a profile of its site. No SLURM is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import cli
from bench.dispatch import snapshot
from bench.planning import profile
from bench.planning.profile import Profile
from bench.planning.request import UsageError

ROOT = Path(__file__).resolve().parents[2]


# --- snapshots

@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "bench").mkdir(parents=True)
    (root / "bench" / "a.py").write_text("A = 1\n")
    (root / ".gitignore").write_text("*.log\n/.snapshots/\n")
    (root / "noise.log").write_text("ignored\n")
    git = ["git", "-c", "user.email=a@b", "-c", "user.name=n"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=root, check=True, capture_output=True)
    (root / "bench" / "new.py").write_text("B = 1\n")
    return root


def test_a_snapshot_holds_tracked_and_untracked_files_but_not_ignored_ones(checkout: Path, tmp_path: Path) -> None:
    made = snapshot.make(checkout, checkout / ".snapshots")
    found = {str(p.relative_to(made.folder)) for p in made.folder.rglob("*") if p.is_file()}
    assert found == {".gitignore", "bench/a.py", "bench/new.py", snapshot.NOTE}
    assert snapshot.make(checkout, checkout / ".snapshots") == made, "the same code is copied once"


def test_what_is_edited_after_a_snapshot_does_not_reach_it(checkout: Path) -> None:
    before = snapshot.make(checkout, checkout / ".snapshots")
    (checkout / "bench" / "a.py").write_text("A = 2\n")
    after = snapshot.make(checkout, checkout / ".snapshots")
    assert after.hash != before.hash
    assert (before.folder / "bench" / "a.py").read_text() == "A = 1\n"


def test_a_damaged_snapshot_is_made_anew(checkout: Path) -> None:
    made = snapshot.make(checkout, checkout / ".snapshots")
    (made.folder / "bench" / "a.py").unlink()
    again = snapshot.make(checkout, checkout / ".snapshots")
    assert again == made and (made.folder / "bench" / "a.py").read_text() == "A = 1\n"


# --- profiles

def test_the_example_is_a_valid_file_of_profiles() -> None:
    example = ROOT / "cluster.example.yaml"
    assert profile.load(None, example) == Profile(partition="main", mem_gb=4, parallel=64)
    gpu = profile.load("gpu", example)
    assert (gpu.gpus, gpu.setup[0], gpu.slurm["nice"]) == (1, "module load cuda", "100")
    assert not profile.load("short", example).srun


@pytest.mark.parametrize(("text", "said"), [
    ("profiles: {a: {partiton: x}}", "did you mean partition?"),
    ("profiles: {a: {cpus: many}}", "cpus must be a whole number, not 'many'"),
    ("profiles: {a: {time_min: 5}}", "time_min must be 11 or more"),
    ("profiles: {a: {slurm: {array: 1-3}}}", "the sbatch option 'array' is ours"),
    ("profiles: {a: {mem_gb: 0}}", "mem_gb must be more than 0"),
    ("profile: {}", "must hold `profiles:`"),
    ("profiles: {a: {}}\ndefault: aa", "has no profile 'aa'; did you mean a?"),
    ("a: [", "is not YAML"),
])
def test_a_wrong_profile_is_answered_by_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        profile.load(None, file)
    assert said in str(caught.value)


def test_the_command_line_wins_over_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("profiles: {a: {partition: main, mem_gb: 4, setup: [one], slurm: {exclude: n1, nice: 5}}}")
    words = ["submit", "--partition", "gpu", "--setup", "two", "--slurm", "nice=7", "hold", "--no-srun"]
    found = profile.with_words(profile.load(None, file), cli._parser().parse_args(words))
    assert found == Profile(partition="gpu", mem_gb=4, setup=("one", "two"), srun=False,
                            slurm={"exclude": "n1", "nice": "7", "hold": ""})
