"""Make the embedded text encoder's weights: questions about drawn sentences, counted in steps, from one seed.

    python -m bench.embedded.train_text --out bench/embedded/text.safetensors --steps 7500

Every batch is drawn afresh. Words that are masked are guessed (Devlin et al., NAACL 2019, arXiv:1810.04805); the other
questions stand in `exercises`. A checkpoint lies in the work folder every two minutes; a run that was stopped goes on
with the same command. Beside the fp16 weights a `.json` says what was learnt, on sentences from other seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from bench.embedded import pretrain, stops, text
from bench.embedded.exercises import NO_LABEL, STATED, Exercises, draw
from bench.embedded.language import FACTS, KINDS
from bench.embedded.muon import Muon

BATCH = 48
LEARNING_RATE = 1e-3
MUON_RATE = 2e-3
CHECKPOINT_S = 120
REPORTS = 12
FEWEST = 3  # facts in a sentence at most, in the first steps
HELD_OUT_SEED = 1 << 40  # far from any step's
WEIGHTS = {"hidden": 1.0, "stated": 1.0, "agree": 2.0, "agree_at": 1.0, "swapped": 1.0, "swapped_at": 0.5,
           "kinds": 0.5}


@dataclass(frozen=True)
class Settings:
    """What decides the weights, apart from the code and the versions of torch and timm."""

    steps: int
    seed: int
    batch: int = BATCH
    held_out: int = 2048


@dataclass
class Progress:
    """How far a run is: steps done, losses by step, CPU seconds of all its pieces, smoothed losses."""

    step: int = 0
    course: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    running: dict[str, float] = field(default_factory=dict)


class Student(nn.Module):
    """The encoder and the linear maps to the answers, which are thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.network = text.create(pretrained=False)
        width, words = self.network.embed_dim, self.network.tower.words
        self.whole = nn.Linear(width, sum(STATED.values()) + 3 * len(FACTS) + 2 + 2 * len(KINDS))
        self.each = nn.Linear(width, 3 + 2)
        self.hidden = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(words))

    def forward(self, batch: Exercises) -> dict[str, tuple[Tensor, Tensor]]:
        """Question -> logits (N, classes) and right answers (N,) of those that are asked; classes vary in `stated`."""
        tokens = self.network.forward_features(batch.ids)
        stated, agree, swapped, kinds = self.whole(tokens[:, 0]).split(
            [sum(STATED.values()), 3 * len(FACTS), 2, 2 * len(KINDS)], dim=1)
        agree_at, swapped_at = self.each(tokens).split([3, 2], dim=2)
        hidden = batch.hidden != NO_LABEL
        words = F.linear(self.hidden(tokens[hidden]), self.network.patch_embed.word.weight, self.bias)
        answers = {"hidden": (words, batch.hidden[hidden]), "agree": (agree.unflatten(1, (-1, 3)), batch.agree),
                   "agree_at": (agree_at, batch.agree_at), "swapped": (swapped, batch.swapped),
                   "swapped_at": (swapped_at, batch.swapped_at), "kinds": (kinds.unflatten(1, (-1, 2)), batch.kinds)}
        answers |= {f"stated.{fact}": (part, batch.stated[:, i])
                    for i, (fact, part) in enumerate(zip(FACTS, stated.split(list(STATED.values()), 1), strict=True))}
        return {name: (logits[wanted != NO_LABEL], wanted[wanted != NO_LABEL])
                for name, (logits, wanted) in answers.items()}


def losses(answers: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Cross-entropy in units of a blind guess, 1 means that nothing is known; of the facts the mean."""
    found = {name: F.cross_entropy(logits, wanted) / math.log(logits.shape[-1])
             for name, (logits, wanted) in answers.items() if len(wanted)}
    facts = [found.pop(name) for name in [*found] if name.startswith("stated.")]
    return found | ({"stated": torch.stack(facts).mean()} if facts else {})


@torch.inference_mode()
def held_out_scores(student: Student, held_out: list[Exercises]) -> dict[str, dict[str, float]]:
    """Balanced accuracy of every question on sentences from other seeds, with its chance: each class alike."""
    student.eval()
    guesses: dict[str, list[Tensor]] = {}
    for batch in held_out:
        for name, (logits, wanted) in student(batch).items():
            guesses.setdefault(name, []).append(torch.stack([logits.argmax(-1), wanted]))
            if name == "agree":
                _by_fact(guesses, batch, logits.argmax(-1))
    student.train()
    scores = {}
    for name, parts in guesses.items():
        guess, wanted = torch.cat(parts, 1)
        classes = wanted.unique()
        share = torch.stack([(guess[wanted == one] == one).float().mean() for one in classes]).mean()
        scores[name] = {"balanced_accuracy": round(share.item(), 4), "chance": round(1 / len(classes), 4)}
    return scores


def _by_fact(guesses: dict[str, list[Tensor]], batch: Exercises, guess: Tensor) -> None:
    """The pair question apart for each fact."""
    asked = batch.agree != NO_LABEL
    facts = torch.arange(len(FACTS)).expand_as(batch.agree)[asked]
    for i, fact in enumerate(FACTS):
        guesses.setdefault(f"agree.{fact}", []).append(
            torch.stack([guess[facts == i], batch.agree[asked][facts == i]]))


def optimizers_of(student: Student) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest; decay on matrices only, tables of words and places left."""
    named = dict(student.named_parameters())
    inner = {name for name, p in named.items() if ".blocks." in name and p.ndim == 2}
    outer = {name for name, p in named.items() if p.ndim == 2 and "patch_embed" not in name} - inner

    def group(names: set[str], decay: float, rate: float) -> dict[str, Any]:
        chosen = [p for name, p in named.items() if name in names]
        return {"params": chosen, "weight_decay": decay, "lr": rate, "full_lr": rate}

    rest = group(named.keys() - inner - outer, 0.0, LEARNING_RATE)
    return [Muon([group(inner, pretrain.WEIGHT_DECAY, MUON_RATE)], MUON_RATE, pretrain.WEIGHT_DECAY),
            torch.optim.AdamW([group(outer, pretrain.WEIGHT_DECAY, LEARNING_RATE), rest], LEARNING_RATE, (0.9, 0.98),
                              fused=True)]


def train(settings: Settings, work: Path) -> tuple[Student, Progress, dict[str, dict[str, float]]]:
    """Train, or go on training where a run of the same settings was stopped; the last scores on other sentences."""
    torch.manual_seed(settings.seed)
    student = Student().train()
    optimizers = optimizers_of(student)
    parameters = list(student.parameters())
    held_out = [draw(256, HELD_OUT_SEED + i) for i in range(max(1, settings.held_out // 256))]
    now = Progress(**stops.found(work, asdict(settings), student, optimizers))
    start, told = time.process_time() - now.seconds, time.monotonic()
    every = max(1, settings.steps // REPORTS)
    for step in tqdm(range(now.step, settings.steps), initial=now.step, total=settings.steps, disable=None):
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["lr"] = group["full_lr"] * pretrain.learning_rate_share(step, settings.steps)
        most = min(len(FACTS), FEWEST + int(len(FACTS) * step / settings.steps))  # all of them from four sevenths on
        found = losses(student(draw(settings.batch, (settings.seed << 32) + step, most)))
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)  # a question may not be asked in a batch
        torch.stack([WEIGHTS[name] * loss for name, loss in found.items()]).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, pretrain.CLIP)
        for optimizer in optimizers:
            optimizer.step()
        now.step, now.seconds = step + 1, time.process_time() - start
        now.running |= {name: 0.98 * now.running.get(name, 1.0) + 0.02 * loss.item() for name, loss in found.items()}
        last = now.step == settings.steps
        if now.step % every == 0 or last:
            scores = {name: score["balanced_accuracy"] for name, score in held_out_scores(student, held_out).items()}
            losses_now = {name: round(value, 4) for name, value in now.running.items()}
            now.course.append({"step": now.step, "cpu_seconds": round(now.seconds, 1), "loss": losses_now,
                               "held_out": scores})
            print(json.dumps(now.course[-1]), flush=True)
        if last or time.monotonic() - told > CHECKPOINT_S:
            told = time.monotonic()
            stops.keep(work, asdict(settings), student, optimizers, asdict(now))
    return student, now, held_out_scores(student, held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="weights file to write (.safetensors)")
    parser.add_argument("--work", type=Path, default=Path(".cache/train_text"), help="where the checkpoint lies")
    parser.add_argument("--steps", type=int, required=True, help=f"steps of {BATCH} examples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = Settings(given.steps, given.seed)
    student, now, scores = train(settings, given.work)
    facts = {"settings": asdict(settings), "example_passes": settings.steps * settings.batch,
             "weights": sum(parameter.numel() for parameter in student.network.parameters()),
             "cpu_seconds": round(now.seconds, 1), "machine": pretrain.machine() + ", no GPU",
             "torch": torch.__version__, "timm": timm.__version__, "held_out": scores, "course": now.course}
    pretrain.save(student.network, given.out, facts, text.NAME)


if __name__ == "__main__":
    main()
