"""Make the embedded backbone's weights: attribute learning on generated scenes, counted in steps, from one seed.

    python -m bench.embedded.pretrain --out bench/embedded/weights.safetensors --steps 5000 --seed 0

Every batch is drawn afresh, so no image is seen twice. Many small questions are asked of the class token (what, where,
how many, which way), some again of the patches they belong to, and three drawings are asked back: the whole layout and
the main object's silhouette from the class token, each patch's own 4x4 cover from that patch. The share of easy scenes
falls from first to last step. Beside the fp16 weights a `.json` says what was learnt on held-out scenes.
"""

import argparse
import json
import math
import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn
from tqdm import tqdm

from bench.embedded import model as backbones
from bench.embedded import scenes
from bench.embedded.drawing import NO_LABEL
from bench.embedded.scenes import IMAGE_HEADS, OWN_FRAME, PATCH_HEADS, Scenes

BATCH = 32  # not larger: on a CPU the images per second are the same and the steps are more
CHUNK = 256  # scenes drawn at once
LEARNING_RATE = 1e-3
MUON_RATE = 2e-3
WEIGHT_DECAY = 0.05
NOT_MATRICES = {"network.pos_embed", "network.cls_token"}
WARMUP_STEPS = 100
CLIP = 1.0
EASY_FROM, EASY_TO = 0.75, 0.3  # share of scenes with one large object on plain ground
HELD_OUT_EASY = 0.3
LAYOUT = 144  # 12 x 12 blocks of 4 x 4 pixels
DRAWING_WEIGHT = 3.0  # the mean drawing against the mean question
HELD_OUT_SEED = 1_000_003  # far from any training seed
REPORTS = 10  # held-out checks along the way


@dataclass(frozen=True)
class Settings:
    """What decides the weights, apart from the code and the versions of torch and timm."""

    steps: int
    seed: int
    batch: int = BATCH
    chunk: int = CHUNK
    held_out: int = 2048


class Questions(nn.Module):
    """The heads: linear maps from the class token and from the patches; thrown away after pre-training."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(backbones.WIDTH, sum(IMAGE_HEADS.values()))
        self.patch = nn.Linear(backbones.WIDTH, sum(PATCH_HEADS.values()))
        self.layout = nn.Linear(backbones.WIDTH, LAYOUT)
        self.silhouette = nn.Linear(backbones.WIDTH, OWN_FRAME**2)
        self.fine_layout = nn.Linear(backbones.WIDTH, 16)

    def answers(self, tokens: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(B, 37, D) -> logits (B, classes) of every image head and (B, 36, classes) of every patch head."""
        image = self.image(tokens[:, 0]).split(list(IMAGE_HEADS.values()), dim=-1)
        patch = self.patch(tokens[:, 1:]).split(list(PATCH_HEADS.values()), dim=-1)
        return dict(zip(IMAGE_HEADS, image, strict=True)), dict(zip(PATCH_HEADS, patch, strict=True))

    def drawings(self, tokens: Tensor, batch: Scenes) -> dict[str, tuple[Tensor, Tensor]]:
        """Logits and wanted cover of the three drawings, as pairs of equal shape without unknown entries."""
        known = ~batch.silhouette[:, 0, 0].isnan()
        return {
            "layout": (self.layout(tokens[:, 0]), batch.layout.flatten(1)),
            "silhouette": (self.silhouette(tokens[known, 0]), batch.silhouette[known].flatten(1)),
            "fine_layout": (self.fine_layout(tokens[:, 1:]), batch.fine_layout),
        }


def _question_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in units of a blind guess: 1 means nothing is known. Zero where no label is given."""
    flat, wanted = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    total = F.cross_entropy(flat, wanted, ignore_index=NO_LABEL, reduction="sum")
    return total / (wanted >= 0).sum().clamp(min=1) / math.log(logits.shape[-1])


def loss_of(tokens: Tensor, batch: Scenes, questions: Questions) -> Tensor:
    image, patch = questions.answers(tokens)
    asked = [_question_loss(logits, batch.labels[name]) for name, logits in image.items()]
    repeated = [_question_loss(logits, batch.patch_labels[name]) for name, logits in patch.items()]
    drawn = [
        F.binary_cross_entropy_with_logits(logits, wanted) / math.log(2)
        for logits, wanted in questions.drawings(tokens, batch).values()
        if len(wanted)
    ]
    return torch.stack(asked).mean() + torch.stack(repeated).mean() + DRAWING_WEIGHT * torch.stack(drawn).mean()


def normalised(images: Tensor) -> Tensor:
    return images * 2 - 1


def _batches(settings: Settings) -> Iterator[Scenes]:
    """Fresh scenes without end; the share of easy ones falls with the step."""
    generator = Generator().manual_seed(settings.seed)
    step = 0
    while True:
        progress = min(1.0, step / max(1, settings.steps))
        easy = EASY_FROM + (EASY_TO - EASY_FROM) * progress
        chunk = scenes.draw(settings.chunk, generator, easy_share=easy)
        for start in range(0, settings.chunk - settings.batch + 1, settings.batch):
            yield _slice(chunk, start, start + settings.batch)
            step += 1


def _slice(batch: Scenes, start: int, stop: int) -> Scenes:
    return batch.each(lambda tensor: tensor[start:stop])


def _to(batch: Scenes, device: torch.device) -> Scenes:
    return batch.each(lambda tensor: tensor.to(device))


def _optimizers(network: nn.Module, questions: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest; decay on matrices only.

    Measured at 500 steps: loss 2.38 with Muon, 2.77 with AdamW alone, for 18 % more time a step.
    """
    named = [(f"network.{name}", p) for name, p in network.named_parameters()]
    named += [(f"questions.{name}", p) for name, p in questions.named_parameters()]
    inner = {name for name, p in named if ".blocks." in name and p.ndim == 2}
    outer = {name for name, p in named if p.ndim >= 2 and name not in inner} - NOT_MATRICES

    def group(names: set[str], decay: float, rate: float) -> dict[str, Any]:
        chosen = [p for name, p in named if name in names]
        return {"params": chosen, "weight_decay": decay, "lr": rate, "full_lr": rate}

    rest = {name for name, _ in named} - inner - outer
    adamw = [group(outer, WEIGHT_DECAY, LEARNING_RATE), group(rest, 0.0, LEARNING_RATE)]
    return [
        torch.optim.Muon([group(inner, WEIGHT_DECAY, MUON_RATE)], lr=MUON_RATE, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adamw, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True),
    ]


def learning_rate_share(step: int, steps: int) -> float:
    """Warm-up, flat until half way, then straight down to zero."""
    return min(1.0, (step + 1) / WARMUP_STEPS, 2 * (1 - step / steps))


@torch.no_grad()
def held_out_scores(
    network: VisionTransformer, questions: Questions, held_out: Scenes, device: torch.device
) -> dict[str, dict[str, float]]:
    """Balanced accuracy of every image head on scenes no step has seen, with its chance and the constant answer."""
    network.eval()
    guesses: dict[str, list[Tensor]] = {name: [] for name in IMAGE_HEADS}
    overlaps: dict[str, list[Tensor]] = {}
    for start in range(0, len(held_out), 256):
        batch = _to(_slice(held_out, start, start + 256), device)
        tokens = network.forward_features(normalised(batch.images))
        for name, logits in questions.answers(tokens)[0].items():
            guesses[name].append(logits.argmax(1).cpu())
        for name, (logits, wanted) in questions.drawings(tokens, batch).items():
            drawn, real = logits > 0, wanted > 0.5
            overlaps.setdefault(name, []).append(torch.stack([(drawn & real).sum(), (drawn | real).sum()]).cpu())
    network.train()
    scores = {}
    for name, classes in IMAGE_HEADS.items():
        labels = held_out.labels[name]
        known = labels >= 0
        right = torch.cat(guesses[name])[known] == labels[known]
        counts = torch.bincount(labels[known], minlength=classes)
        hits = torch.bincount(labels[known], weights=right.float(), minlength=classes)
        seen = counts > 0
        scores[name] = {
            "balanced_accuracy": round((hits[seen] / counts[seen]).mean().item(), 4),
            "chance": round(1 / classes, 4),
            "accuracy": round(right.float().mean().item(), 4),
            "constant_answer_accuracy": round((counts.max() / counts.sum()).item(), 4),
        }
    for name, pairs in overlaps.items():
        common, either = torch.stack(pairs).sum(0).tolist()
        scores[name] = {"intersection_over_union": round(common / max(1, either), 4)}
    return scores


def _score_line(step: int, loss: float, scores: dict[str, dict[str, float]]) -> str:
    cells = [
        f"{name} {score['balanced_accuracy']:.2f} ({score['chance']:.2f})"
        if "chance" in score
        else f"{name} {score['intersection_over_union']:.2f} IoU"
        for name, score in scores.items()
    ]
    return f"step {step}: loss {loss:.3f}; balanced accuracy (chance): " + ", ".join(cells)


def machine() -> str:
    """The machine in words, without its name or its user's."""
    chip = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpu_info.read_text(encoding="utf-8"))
        chip = found.group(1) if found else chip
    return f"{os.cpu_count()}-core {chip}, {torch.get_num_threads()} thread(s)"


def save(network: VisionTransformer, out: Path, facts: dict[str, Any], name: str = backbones.NAME) -> None:
    """Weights as fp16, facts beside them; each is written under another name first, so no reader sees a half file."""
    tensors = {key: value.detach().cpu().half().contiguous() for key, value in network.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_suffix(".part")
    save_file(tensors, draft)
    draft.chmod(0o644)  # safetensors writes for the owner alone
    facts = {"name": name, "sha256": backbones.sha256_of(draft), "bytes": draft.stat().st_size, **facts}
    draft_facts = out.with_suffix(".json.part")
    draft_facts.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    draft.replace(out)
    draft_facts.replace(out.with_suffix(".json"))


def pretrain(settings: Settings, out: Path, device: torch.device) -> dict[str, dict[str, float]]:
    """Train, report, save; returns the last held-out scores."""
    torch.manual_seed(settings.seed)
    network = backbones.create(pretrained=False).to(device).train()
    questions = Questions().to(device)
    optimizers = _optimizers(network, questions)
    parameters = [*network.parameters(), *questions.parameters()]
    held_out = scenes.draw(settings.held_out, Generator().manual_seed(HELD_OUT_SEED), easy_share=HELD_OUT_EASY)
    start = time.monotonic()
    running = 0.0
    scores: dict[str, dict[str, float]] = {}
    history: list[dict[str, Any]] = []
    every = max(1, settings.steps // REPORTS)
    bar = tqdm(total=settings.steps, unit="step", disable=None)
    for step, drawn in zip(range(settings.steps), _batches(settings), strict=False):
        batch = _to(drawn, device)
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["lr"] = group["full_lr"] * learning_rate_share(step, settings.steps)
        loss = loss_of(network.forward_features(normalised(batch.images)), batch, questions)
        for parameter in parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, CLIP)
        for optimizer in optimizers:
            optimizer.step()
        running = loss.item() if step == 0 else 0.99 * running + 0.01 * loss.item()
        bar.update()
        if (step + 1) % every and step + 1 < settings.steps:
            continue
        scores = held_out_scores(network, questions, held_out, device)
        bar.write(_score_line(step + 1, running, scores))
        short = {name: next(iter(score.values())) for name, score in scores.items()}
        history.append({"step": step + 1, "loss": round(running, 4), "held_out": short})
        facts = {
            "settings": asdict(settings),
            "steps_done": step + 1,
            "image_passes": (step + 1) * settings.batch,
            "seconds": round(time.monotonic() - start, 1),
            "machine": machine() + (", no GPU" if device.type == "cpu" else f", {device.type}"),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "held_out": scores,
            "history": history,
        }
        save(network, out, facts)
    bar.close()
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="weights file to write (.safetensors)")
    parser.add_argument("--steps", type=int, required=True, help=f"steps of {BATCH} images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pretrain(Settings(arguments.steps, arguments.seed), arguments.out, torch.device(arguments.device))


if __name__ == "__main__":
    main()
