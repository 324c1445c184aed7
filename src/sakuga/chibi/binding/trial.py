"""What the form of prompts is worth: one small transformer taught three times, by XML, flat, both.

The pictures, the seed and the time are the same; nothing differs but how prompts are written.
Each then draws what is said in both forms, as typed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sakuga.checkpoint.catalog import EMBEDDED_FOLDER
from sakuga.checkpoint.folder import open_checkpoint
from sakuga.checkpoint.save import write_json
from sakuga.chibi.binding import forms
from sakuga.chibi.binding.asks import peers, sparse
from sakuga.chibi.binding.bench import draw_row
from sakuga.chibi.binding.draw import Easel
from sakuga.chibi.binding.heads import open_finder
from sakuga.chibi.binding.rows import Row
from sakuga.chibi.binding.scorers import JudgeScorer
from sakuga.chibi.binding.verdict import Tally
from sakuga.chibi.data import Lesson, draw_renders, prompt_batches, to_unit
from sakuga.chibi.losses import flow_loss
from sakuga.chibi.measure import Painter
from sakuga.chibi.optimise import advance, half_precision, make_optimisers
from sakuga.chibi.package import open_judge
from sakuga.chibi.progress import Pace
from sakuga.chibi.text2velocity import Text2Velocity
from sakuga.engine.networks import Networks
from sakuga.engine.texts import Tokenizers
from sakuga.model.spec import CHIBI
from sakuga.model.vae import VAE

SMALL = replace(
    CHIBI,
    name="chibi-trial",
    transformer=replace(CHIBI.transformer, dim=240, n_layers=6, n_heads=6, n_kv_heads=3),
)
TAUGHT = {"XML alone": ("xml",), "flat alone": ("tags",), "mixed": ("xml", "tags")}
SIZE = (128, 128)  # where one or two can still be told apart, and many are drawn in a minute
_SHARES = (0.6, 0.4)  # of pictures with one, with two
_SEED = 2**30 + 5
_SKIP = ("embed", "adaLN", "final_layer", "pooled_proj", "time_text")
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """How much of everything: pictures to learn from, minutes for each, drawings of each row."""

    pictures: int = 24_000
    workers: int = 15
    minutes: float = 1.4
    batch: int = 512
    lr: float = 4e-3
    drawn: int = 64
    said: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    people: tuple[int, ...] = (1, 2)


SHORT = Trial(pictures=4, workers=0, minutes=0.02, batch=2, drawn=1, said=(2,), people=(2,))


def run_trial(out: Path, trial: Trial, device: torch.device, log: Log) -> dict[str, Any]:
    """Teach and measure all three; figures are kept in `out`/forms.json after each."""
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = open_checkpoint(EMBEDDED_FOLDER)
    vae: VAE = Networks(checkpoint, "float32")["vae"].to(device)
    lesson = lesson_of(vae, trial, device)
    log(f"{trial.pictures} pictures drawn and encoded")
    scorer = JudgeScorer(open_judge().to(device), open_finder().to(device))
    told: dict[str, Any] = {"trial": asdict(trial), "size": f"{SIZE[0]}x{SIZE[1]}", "taught": {}}
    for name, written in TAUGHT.items():
        model, seen, loss = teach(lesson, written, trial, device)
        log(f"{name}: {seen} samples, loss {loss:.4f}")
        painter = Painter.open(EMBEDDED_FOLDER, model.gemma, model.jina, model.transformer, vae)
        easel = Easel(painter, Tokenizers.open(checkpoint), CHIBI.drawing)
        rows = [_counted(easel, scorer, row, trial) for row in trial_rows(trial)]
        told["taught"][name] = {"samples": seen, "loss": loss, "rows": rows}
        write_json(out / "forms.json", told)
        log(", ".join(f"{row['name']}: {row['drawn']['whole']}" for row in rows))
    return told


def lesson_of(vae: VAE, trial: Trial, device: torch.device) -> Lesson:
    """Latents of random pictures of one and two characters, with their truth."""
    loader = DataLoader(_Chunks(trial.pictures), batch_size=None, num_workers=trial.workers)
    latents, codes, boxes = [], [], []
    with torch.inference_mode():
        for pixels, code, box in loader:
            with half_precision(device):
                latents.append(vae.moments(to_unit(pixels.to(device)))[0].to(torch.bfloat16))
            codes.append(code)
            boxes.append(box)
    scaled = (torch.cat(latents) - vae.spec.shift_factor) * vae.spec.scaling_factor
    return Lesson((scaled,), (torch.cat(codes),), (torch.cat(boxes),))


class _Chunks(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Renders, some at once."""

    def __init__(self, pictures: int, chunk: int = 64) -> None:
        self.pictures, self.chunk = pictures, min(chunk, pictures)

    def __len__(self) -> int:
        return math.ceil(self.pictures / self.chunk)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        renders = draw_renders((_SEED, index), self.chunk, SIZE, _SHARES)
        return renders.pixels, renders.codes, renders.boxes


def teach(
    lesson: Lesson, written: Sequence[str], trial: Trial, device: torch.device
) -> tuple[Text2Velocity, int, float]:
    """A transformer and its readers, from nothing; how many samples they saw, the last loss."""
    torch.manual_seed(_SEED)
    model, average = (Text2Velocity(SMALL).to(device) for _ in range(2))
    average.load_state_dict(model.state_dict())
    whereabouts = nn.Linear(SMALL.transformer.dim, 2).to(device)
    optimisers = [
        *make_optimisers(model, skip=_SKIP, lr=trial.lr),
        torch.optim.AdamW(whereabouts.parameters(), lr=1e-3),
    ]
    batches = prompt_batches(lesson, EMBEDDED_FOLDER, trial.batch, _SEED, trial.workers, written)
    seen, loss, first = 0, torch.zeros(()), next(batches)
    pace = Pace(trial.minutes, 0.0, time.monotonic())  # once prompts are there
    while pace.done < 1:
        batch = first.to(device)
        with half_precision(device):
            loss = flow_loss(model, whereabouts, lesson, batch)
        loss.backward()
        advance(model, optimisers, pace.rate(), average, decay=0.998)
        seen, first = seen + len(batch.index), next(batches)
    return average.eval().requires_grad_(False), seen, loss.item()


def trial_rows(trial: Trial) -> Iterator[Row]:
    """What each draws: little of one character, and eight atoms of each, in both forms."""
    for form, write in (("XML", forms.xml), ("flat", forms.flat)):
        for said in trial.said:
            yield Row("said", form, write, sparse, said, 1, SIZE, "as typed")
        for people in trial.people:
            yield Row("who", form, write, peers, 8, people, SIZE, "as typed")


def _counted(easel: Easel, scorer: JudgeScorer, row: Row, trial: Trial) -> dict[str, Any]:
    tally = Tally()
    for one in draw_row(easel, scorer, row, trial.drawn, 256):
        tally.add(one.verdict)
    said = {"form": row.form, "said": row.said, "people": row.people}
    return {"name": f"{row.group}: {row.form}, {row.said}, {row.people}", **said,
            "drawn": asdict(tally)}  # fmt: skip
