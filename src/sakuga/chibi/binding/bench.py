"""The binding benchmark run: rows drawn in batches, judged, counted, the best and worst kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sakuga.chibi.binding.asks import Ask
from sakuga.chibi.binding.draw import Easel, batch_of
from sakuga.chibi.binding.rows import Row
from sakuga.chibi.binding.scorers import Scorer
from sakuga.chibi.binding.truth import Truth
from sakuga.chibi.binding.verdict import Tally, Verdict, judged
from sakuga.chibi.scene import Scene

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture: where it is from, what was typed, its pixels (H, W, 3), and the verdict."""

    row: Row
    ask: Ask
    text: str
    pixels: np.ndarray
    verdict: Verdict


def draw_row(easel: Easel, scorer: Scorer, row: Row, pictures: int, batch: int) -> Iterator[Judged]:
    """Every picture of a row, drawn as many at once as fit."""
    asked = [row.ask(index) for index in range(pictures)]
    step = batch_of(row.size, batch)
    for start in range(0, pictures, step):
        part = asked[start : start + step]
        asks, texts = [ask for ask, _ in part], [text for _, text in part]
        drawn = easel.draw(asks, texts, row)
        sights = scorer.look(drawn, [ask.scene for ask in asks])
        pixels = ((drawn + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for ask, text, picture, sight in zip(asks, texts, pixels, sights, strict=True):
            yield Judged(row, ask, text, picture, judged(ask, sight))


def judge_renders(
    scorer: Scorer, truth: Truth, asks: Sequence[Ask], row: Row, device: torch.device
) -> Tally:
    """What the scorer makes of renders of the same scenes: its own error."""
    tally, scenes = Tally(), [ask.scene for ask in asks]
    pixels = torch.from_numpy(truth.of(scenes, row.size)).permute(0, 3, 1, 2)
    step = batch_of(row.size, 64)
    for start in range(0, len(asks), step):
        pictures = _unit(pixels[start : start + step].to(device))
        sights = scorer.look(pictures, scenes[start : start + step])
        for ask, sight in zip(asks[start : start + step], sights, strict=True):
            tally.add(judged(ask, sight))
    return tally


def _unit(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1


@dataclass(slots=True)
class Bench:
    """A model, a scorer, and how many pictures of each row at once."""

    easel: Easel
    scorer: Scorer
    pictures: int
    batch: int
    log: Log

    @property
    def device(self) -> str:
        """What draws, in words."""
        where = self.easel.painter.device
        return torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"

    def verdicts(self, rows: Sequence[Row]) -> dict[str, list[str]]:
        """The verdict on each picture of these rows, as text."""
        found: dict[str, list[str]] = {}
        for row in rows:
            drawn = draw_row(self.easel, self.scorer, row, self.pictures, self.batch)
            found[row.name] = [one.verdict.code for one in drawn]
            self.log(f"{row.name}: {', '.join(found[row.name])}")
        return found

    def run(
        self, rows: Sequence[Row], truth: Truth, keep: Callable[[Judged], None]
    ) -> Iterator[dict[str, Any]]:
        """The figures of each row in turn; `keep` is shown every picture."""
        for row in rows:
            truth.start(self._scenes(row), row.size)
        device, begun = self.easel.painter.device, time.monotonic()
        for number, row in enumerate(rows, 1):
            tally, asks = Tally(), []
            for one in draw_row(self.easel, self.scorer, row, self.pictures, self.batch):
                tally.add(one.verdict)
                asks.append(one.ask)
                keep(one)
            known = judge_renders(self.scorer, truth, asks, row, device)
            passed = time.monotonic() - begun
            self.log(
                f"{passed:6.1f} s  {number}/{len(rows)}  {row.name}: all right "
                f"{tally.whole}/{tally.pictures}, of renders {known.whole}"
            )
            yield figures(row, tally, known)

    def _scenes(self, row: Row) -> list[Scene]:
        return [row.ask(index)[0].scene for index in range(self.pictures)]


def figures(row: Row, tally: Tally, known: Tally) -> dict[str, Any]:
    """A row as plain values: what it is, what was drawn, what the scorer makes of renders."""
    return {
        "name": row.name,
        "group": row.group,
        "form": row.form,
        "encoding": row.encoding,
        "said": row.said,
        "people": row.people,
        "size": f"{row.size[0]}x{row.size[1]}",
        "drawn": asdict(tally),
        "renders": asdict(known),
    }
