"""Make the distilled backbone's weights: a small vision transformer learns what EfficientNet-Lite0 sees in pictures.

    python -m bench.embedded.distil --out bench/embedded/distilled.safetensors --steps 8000 --work .cache/distil

Three answers of the teacher are asked for in units of a blind guess: the pooled features from the class token (squared
error and angle), the two maps from the patches they belong to (compare Hinton et al., arXiv:1503.02531, and Romero et
al., "FitNets", ICLR 2015, arXiv:1412.6550). Pictures, rounds of views with their answers and a checkpoint every few
minutes lie in the work folder; a run that was stopped goes on where it was. Beside the fp16 weights a `.json` says what
was learnt, from what, and at which cost; a `.txt` holds the hashes of the pictures that were used.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from tqdm import tqdm

from bench.embedded import collection as pictures
from bench.embedded import model as backbones
from bench.embedded import pretrain, stops, teacher, views
from bench.embedded.muon import Muon
from bench.embedded.teacher import ANSWERS
from results.spoken import many

BATCH = 32
POOLED_WEIGHT, ANGLE_WEIGHT = 2.0, 1.0  # the class token is what is used later; each map counts one
GUESS_LIMIT = 6.0  # standard deviations beyond which an answer is cut, so that no rare channel rules a step
LEARNING_RATE = 1e-3
MUON_RATE = 2e-3
CHECKPOINT_S = 120
REPORTS = 20
APART_VIEWS = 512  # looked at in every report
PARTING = 0.02  # standard deviations of a tensor


@dataclass(frozen=True)
class Settings:
    """What decides the weights, apart from the pictures, the code and the versions of torch and timm."""

    steps: int
    seed: int
    width: int
    depth: int
    heads: int
    start: str  # `scratch`, or `drawn`: from the backbone that was pre-trained on drawn scenes
    rounds: int
    batch: int = BATCH


class Student(nn.Module):
    """The backbone and the three linear maps to the teacher's answers, which are thrown away afterwards."""

    def __init__(self, shape: backbones.Shape) -> None:
        super().__init__()
        self.network = shape.build()
        self.heads = nn.ModuleDict({name: nn.Linear(shape.width, size) for name, size in ANSWERS.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, 64, 64) -> pooled (B, 1280), fine (B, 112, 8, 8), coarse (B, 320, 4, 4), all standardised."""
        tokens = self.network.forward_features(images)
        side = round((tokens.shape[1] - 1) ** 0.5)
        patches = tokens[:, 1:].transpose(1, 2).reshape(len(images), -1, side, side)  # (B, D, 8, 8)
        quarters = F.avg_pool2d(patches, 2)
        return {"pooled": self.heads["pooled"](tokens[:, 0]),
                "fine": self.heads["fine"](patches.movedim(1, 3)).movedim(3, 1),
                "coarse": self.heads["coarse"](quarters.movedim(1, 3)).movedim(3, 1)}


class Lessons:
    """Views and the teacher's answers, all rounds one after another; answers are standardised channel by channel."""

    def __init__(self, rounds: list[dict[str, Tensor]], scale: dict[str, tuple[Tensor, Tensor]] | None = None) -> None:
        self.views = torch.cat([one["views"] for one in rounds])
        self.answers = {name: torch.cat([one[name] for one in rounds]) for name in ANSWERS}
        self.seconds = sum(one["seconds"].item() for one in rounds)  # of CPU
        self.scale = scale or {name: _scale(rounds[0][name].float()) for name in ANSWERS}

    def __len__(self) -> int:
        return len(self.views)

    def batch(self, chosen: Tensor, mirrored: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Images within -1..1 and standardised answers; mirrored ones are mirrored with their maps."""
        images = views.normalised(self.views[chosen])
        wanted = {name: ((value[chosen].float() - self.scale[name][0]) / self.scale[name][1])
                  .clamp(-GUESS_LIMIT, GUESS_LIMIT) for name, value in self.answers.items()}
        if mirrored is not None:
            for tensor in (images, wanted["fine"], wanted["coarse"]):
                tensor[mirrored] = tensor[mirrored].flip(3)
        return images, wanted


def _scale(values: Tensor) -> tuple[Tensor, Tensor]:
    over = (0, 2, 3) if values.ndim == 4 else (0,)
    return values.mean(over, keepdim=True)[0], values.std(over, keepdim=True)[0].clamp(min=1e-3)


def losses(given: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean squared error of every answer and the angle of the pooled one: 1 is a blind guess, 0 the teacher."""
    found = {name: F.mse_loss(given[name], wanted[name]) for name in ANSWERS}
    return found | {"angle": 1 - F.cosine_similarity(given["pooled"], wanted["pooled"]).mean()}


def total(found: dict[str, Tensor]) -> Tensor:
    """The sum that is minimised."""
    return POOLED_WEIGHT * found["pooled"] + ANGLE_WEIGHT * found["angle"] + found["fine"] + found["coarse"]


def start_from_drawn(network: VisionTransformer, drawn: VisionTransformer) -> None:
    """Weights of the smaller backbone in the larger: channels repeated in turn, positions enlarged.

    A map from a channel that stands k times counts 1/k each time, so with a multiple of the width all block outputs are
    the smaller one's, repeated (Chen et al., "Net2Net", ICLR 2016, arXiv:1511.05641); with another width the norms
    see some channels more often and it is a start that is near. A little noise parts the copies.
    """
    if len(network.blocks) != len(drawn.blocks):
        raise SystemExit(f"the drawn backbone has {many(len(drawn.blocks), 'block')}; use --depth {len(drawn.blocks)} "
                         "or --start scratch")
    new = network.state_dict()
    for name, value in drawn.state_dict().items():
        if name == "pos_embed":
            value = _enlarged(value, network.patch_embed.grid_size[0])
        stacked = 3 if "qkv" in name else 1  # three maps on each other, each with its own channels
        if value.ndim in (1, 2, 4):
            value = torch.cat([_repeated(part, 0, new[name].shape[0] // stacked) for part in value.chunk(stacked)])
        if value.ndim in (2, 3):
            value = _repeated(value, value.ndim - 1, new[name].shape[-1], shared=value.ndim == 2)
        noise = PARTING * value.std() * torch.randn(value.shape) if network.embed_dim > drawn.embed_dim else 0.0
        new[name] = value + noise if value.ndim >= 2 else value
    network.load_state_dict(new)


def _repeated(value: Tensor, dim: int, size: int, shared: bool = False) -> Tensor:
    """Entries along a dimension in turn until there are `size`; those that are `shared` add up to what they were."""
    turn = torch.arange(size) % value.shape[dim]
    if shared:
        value = value / torch.bincount(turn, minlength=value.shape[dim])
    return value.index_select(dim, turn)


def _enlarged(positions: Tensor, side: int) -> Tensor:
    """(1, 1 + G*G, D) -> (1, 1 + side*side, D), the class token's kept."""
    grid = round((positions.shape[1] - 1) ** 0.5)
    patches = positions[:, 1:].transpose(1, 2).reshape(1, -1, grid, grid)
    enlarged = F.interpolate(patches, side, mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], enlarged.flatten(2).transpose(1, 2)], dim=1)


@torch.inference_mode()
def apart_losses(student: Student, lessons: Lessons) -> dict[str, float]:
    """Losses on views of pictures that no step learns from."""
    student.eval()
    sums: dict[str, float] = {}
    for chosen in torch.split(torch.arange(len(lessons)), 256):
        images, wanted = lessons.batch(chosen)
        for name, value in losses(student(images), wanted).items():
            sums[name] = sums.get(name, 0.0) + value.item() * len(chosen)
    student.train()
    return {name: round(value / len(lessons), 4) for name, value in sums.items()}


def optimizers_of(student: Student) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest; decay on matrices only."""
    named = dict(student.named_parameters())
    inner = {name for name, p in named.items() if ".blocks." in name and p.ndim == 2}
    outer = {name for name, p in named.items() if p.ndim >= 2} - inner - pretrain.NOT_MATRICES

    def group(names: set[str], decay: float, rate: float) -> dict[str, Any]:
        chosen = [p for name, p in named.items() if name in names]
        return {"params": chosen, "weight_decay": decay, "lr": rate, "full_lr": rate}

    rest = group(named.keys() - inner - outer, 0.0, LEARNING_RATE)
    return [Muon([group(inner, pretrain.WEIGHT_DECAY, MUON_RATE)], MUON_RATE, pretrain.WEIGHT_DECAY),
            torch.optim.AdamW([group(outer, pretrain.WEIGHT_DECAY, LEARNING_RATE), rest], LEARNING_RATE, (0.9, 0.98),
                              fused=True)]


@dataclass
class Progress:
    """How far a run is: steps done, losses by step, CPU seconds of all its pieces, smoothed loss."""

    step: int = 0
    course: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    running: float = 0.0


def train(settings: Settings, lessons: Lessons, apart: Lessons, work: Path) -> tuple[Student, Progress]:
    """Train, or go on training where a run of the same settings was stopped."""
    torch.manual_seed(settings.seed)
    student = Student(replace(backbones.DISTILLED, width=settings.width, depth=settings.depth, heads=settings.heads))
    student.train()
    if settings.start == "drawn":
        start_from_drawn(student.network, backbones.create())
    optimizers = optimizers_of(student)
    parameters = list(student.parameters())
    now = Progress(**stops.found(work, asdict(settings), student, optimizers))
    start, told = time.process_time() - now.seconds, time.monotonic()
    every = max(1, settings.steps // REPORTS)
    for step in tqdm(range(now.step, settings.steps), initial=now.step, total=settings.steps, disable=None):
        images, wanted = lessons.batch(*_turn(settings, len(lessons), step))
        for group in [group for optimizer in optimizers for group in optimizer.param_groups]:
            group["lr"] = group["full_lr"] * pretrain.learning_rate_share(step, settings.steps)
        loss = total(losses(student(images), wanted))
        for parameter in parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, pretrain.CLIP)
        for optimizer in optimizers:
            optimizer.step()
        now.step, now.seconds = step + 1, time.process_time() - start
        now.running = loss.item() if step == 0 else 0.99 * now.running + 0.01 * loss.item()
        last = now.step == settings.steps
        if now.step % every == 0 or last:
            now.course.append({"step": now.step, "loss": round(now.running, 4), "apart": apart_losses(student, apart)})
            print(json.dumps(now.course[-1]), flush=True)
        if last or time.monotonic() - told > CHECKPOINT_S:
            told = time.monotonic()
            stops.keep(work, asdict(settings), student, optimizers, asdict(now))
    return student, now


def _turn(settings: Settings, count: int, step: int) -> tuple[Tensor, Tensor]:
    """Which views a step sees, and which of these mirrored; it follows from the step, so a run can go on anywhere."""
    epoch, place = divmod(step, max(1, count // settings.batch))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(settings.seed + 1000 * epoch))
    chosen = order[place * settings.batch:(place + 1) * settings.batch]
    return chosen, torch.rand(len(chosen), generator=torch.Generator().manual_seed(step)) < 0.5


def prepare(work: Path, rounds: int) -> tuple[pictures.Collection, Lessons, Lessons]:
    """Pictures, the teacher's lessons and those on pictures set apart; what lies in the folder is not made again."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / "collection.npz"
    if not file.is_file():
        pictures.collect(pictures.barred()).save(file)
    collection = pictures.load(file)
    wanted = [(work / "apart.safetensors", collection.rows(apart=True), 10_000)]
    wanted += [(work / f"round-{number:02d}.safetensors", teacher.turn(collection, number), number)
               for number in range(rounds)]
    answer = None
    for out, rows, seed in wanted:
        if not out.is_file():
            answer = answer or teacher.teacher()
            teacher.make_round(collection, rows, seed, answer, out)
    lessons = Lessons([load_file(out) for out, _, _ in wanted[1:]])
    apart = load_file(wanted[0][0])
    few = {name: value[:APART_VIEWS] if value.ndim else value for name, value in apart.items()}
    return collection, lessons, Lessons([few], lessons.scale)


def used(collection: pictures.Collection) -> list[str]:
    """Sorted beginnings of the hashes of the pictures, those set apart too."""
    return sorted(mark[:pictures.PRINT] for mark in collection.prints)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="weights file to write (.safetensors)")
    parser.add_argument("--work", type=Path, default=Path(".cache/distil"), help="pictures, lessons and checkpoints")
    parser.add_argument("--lessons", type=Path, help="folder of pictures and lessons, where another run has made them")
    parser.add_argument("--steps", type=int, required=True, help=f"steps of {BATCH} views")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=backbones.DISTILLED.width)
    parser.add_argument("--depth", type=int, default=backbones.DISTILLED.depth)
    parser.add_argument("--heads", type=int, default=backbones.DISTILLED.heads)
    parser.add_argument("--start", choices=("scratch", "drawn"), default="scratch")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = Settings(given.steps, given.seed, given.width, given.depth, given.heads, given.start, given.rounds)
    collection, lessons, apart = prepare(given.lessons or given.work, given.rounds)
    given.work.mkdir(parents=True, exist_ok=True)
    student, now = train(settings, lessons, apart, given.work)
    facts = {"settings": asdict(settings), "view_passes": settings.steps * settings.batch,
             "weights": sum(parameter.numel() for parameter in student.network.parameters()),
             "cpu_seconds": {"lessons": round(lessons.seconds + apart.seconds, 1), "training": round(now.seconds, 1)},
             "pictures": collection.counts | {"set apart": len(collection.rows(apart=True))},
             "teacher": {"package": teacher.PACKAGE, "sha256": teacher.SHA256},
             "machine": pretrain.machine() + ", no GPU", "torch": torch.__version__, "timm": timm.__version__,
             "course": now.course}
    pretrain.save(student.network, given.out, facts, backbones.DISTILLED.name)
    given.out.with_suffix(".txt").write_text("".join(f"{mark}\n" for mark in used(collection)), encoding="ascii")


if __name__ == "__main__":
    main()
