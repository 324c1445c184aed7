"""What training keeps in its folder: the weights of each stage, and how far it is."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sakuga.checkpoint.save import write_json, write_weights


@dataclass(slots=True)
class Pace:
    """How far a stage is, by the clock: `before` is the share done by earlier runs."""

    minutes: float
    before: float
    start: float

    @property
    def done(self) -> float:
        """Share of the stage that has passed, from 0; 1 and above means finished."""
        return self.before + (time.monotonic() - self.start) / 60 / max(self.minutes, 1e-9)

    def rate(self, warmup: float = 0.01, cooldown: float = 0.6) -> float:
        """Learning rate factor: a short rise, a plateau, a straight line to zero."""
        rise = (time.monotonic() - self.start) / 60 / max(self.minutes, 1e-9) / warmup
        return max(0.0, min(1.0, rise, (1 - self.done) / cooldown))


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """The folder that holds what the stages leave behind."""

    path: Path

    def progress(self) -> dict[str, float]:
        """Share of each stage that is done."""
        path = self.path / "progress.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def pace(self, stage: str, minutes: float) -> Pace:
        """Where `stage` goes on."""
        return Pace(minutes, self.progress().get(stage, 0.0), time.monotonic())

    def save(self, stage: str, done: float, name: str, module: nn.Module) -> None:
        """Keep a module under its name, then note how far the stage is."""
        tensors = {k: v.detach().float().contiguous() for k, v in module.state_dict().items()}
        self.write(f"{name}.safetensors", tensors)
        write_json(self.path / "progress.json", self.progress() | {stage: min(done, 1.0)})

    def write(self, file: str, tensors: dict[str, Tensor]) -> None:
        """Write tensors to a safetensors file, whole or not at all."""
        write_weights(self.path / file, lambda path: save_file(tensors, path))

    def load(self, name: str, module: nn.Module) -> bool:
        """Fill `module` from the folder; False if nothing of that name lies there."""
        path = self.path / f"{name}.safetensors"
        if not path.exists():
            return False
        module.load_state_dict(load_file(path))
        return True
