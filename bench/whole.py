"""Whole pictures of a random model of the real size, under budgets: peaks, times, predictions."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from measured import GIB, Scale, Sheet, Values, clean
from ours import asked, drawn
from random_model import write_random_model
from torch import Tensor

from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.api.page import in_words
from sakuga.api.receipt import Plan
from sakuga.api.request import Request
from sakuga.checkpoint.convert import Written
from sakuga.checkpoint.model_index import INDEX
from sakuga.checkpoint.quantising import COMPONENTS
from sakuga.commands.convert import convert
from sakuga.engine.engine import Engine
from sakuga.weights.digests import SETTLED, DigestCache

# side and pictures; the first five are the rows of the seed's own table, which ends there
ROWS = ((512, 4), (768, 2), (1024, 1), (1024, 2), (2048, 1), (1024, 8))
SHRINKING = {
    1024: ("8GB", "4GB", "3GB", "2GB", "1.6GB", "1.2GB"),
    2048: ("16GB", "6GB", "4GB", "3GB"),
}
FEW = 10  # steps; with fewer, how unevenly a host is told of them shows in the time of one
ENGINES = 5  # that each draw a first and a second request
SIZES = ((512, 1), (512, 4), (768, 2), (1024, 1), (1024, 2), (1536, 1), (2048, 1))
# kinds of file, and the storage format of ours that holds one as it is
QUANTISED = {"fp8_scaled": "float8_e4m3", "comfy_int8": "int8"}
FORMS = (("24GB", ""), ("8GB", ""), ("4GB", ""), ("6GB", "int8"))
COMPRESSED = (("24GB", True), ("4GB", True), ("3GB", False))  # whether blocks stay as they are


def measure_budgets(sheet: Sheet, scale: Scale) -> None:
    """The seed's rows under 16 GB, then one picture in less and less, compared to no limit."""
    folder = model_folder(sheet, scale)
    for side, number in ROWS:
        steps = scale.steps if side * side * number <= 2**20 else FEW
        request = asked(scale, scaled(scale, side), number, steps)
        sheet.row(f"16GB {side} x{number}", lambda r=request: under(folder, scale, "16GB", r)[0])
    for side, budgets in SHRINKING.items():
        if scale.quick and side != min(SHRINKING):
            continue
        request = asked(scale, scaled(scale, side), steps=FEW)
        kept: dict[str, Tensor] = {}
        for vram in ("auto", *budgets):
            name = f"one picture {side} {vram}"
            sheet.row(name, lambda r=request, v=vram, k=kept: beside(folder, scale, v, r, k))


def measure_again(sheet: Sheet, scale: Scale) -> None:
    """A second request beside the first, once an engine is warm."""
    folder = model_folder(sheet, scale)
    for vram in ("auto", "16GB", "3GB"):
        sheet.row(f"a second request, {vram}", lambda v=vram: again(folder, scale, v))


def measure_predictions(sheet: Sheet, scale: Scale) -> None:
    """Planned against measured, stage by stage, over sizes, batches, budgets and formats."""
    folder = model_folder(sheet, scale)
    for vram, weights in FORMS:
        engine = open_engine(folder, scale, vram, weights)
        for side, number in SIZES[::5] if scale.quick else SIZES:
            request = asked(scale, scaled(scale, side), number, steps=2)
            name = f"{side} x{number} {vram} {weights or scale.storage}"
            sheet.row(name, lambda r=request, e=engine: told(e, r)[0])
        del engine
        clean()


def measure_quantised(sheet: Sheet, scale: Scale) -> None:
    """The same for files that are quantised as ComfyUI keeps them, compressed and unfolded."""
    plain = model_folder(sheet, scale)
    for kind, form in QUANTISED.items():
        folder = plain.with_name(f"{plain.name}-{kind}")
        if not (folder / INDEX).is_file():
            row = f"writing it as {kind}"
            sheet.row(row, lambda k=kind, f=folder: quantised_copy(plain, f, k))
            time.sleep(SETTLED)
        for vram, compressed in COMPRESSED:
            weights = form if compressed else ""
            engine = open_engine(folder, scale, vram, weights)
            for side, number in ((1024, 1), (768, 2)):
                request = asked(scale, scaled(scale, side), number, steps=2)
                row = f"{kind} {side} x{number} {vram} {weights or 'auto'}"
                sheet.row(row, lambda r=request, e=engine: told(e, r)[0])
            del engine
            clean()


def quantised_copy(plain: Path, folder: Path, kind: str) -> Values:
    """A model with its transformer and its Gemma in a kind; its index comes last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    parts = [convert(plain / name, folder / name, "original", kind) for name in COMPONENTS]
    for name in {each.name for each in plain.iterdir() if each.is_dir()} - {*COMPONENTS}:
        shutil.copytree(plain / name, folder / name, copy_function=os.link)
    shutil.copyfile(plain / INDEX, folder / INDEX)
    return {"bytes": sum(each.bytes for (each,) in parts if isinstance(each, Written))}


def scaled(scale: Scale, side: int) -> int:
    """A side of the table at the size that is measured."""
    return max(side * scale.sides[0] // 1024, scale.spec.drawing.min_side)


def model_folder(sheet: Sheet, scale: Scale) -> Path:
    """The random model's folder, written once for all parts; its index comes last."""
    folder = Path(tempfile.gettempdir()) / f"random-{scale.spec.name}"
    if not (folder / INDEX).is_file():
        sheet.row("writing the model", lambda: {"bytes": write_random_model(folder, scale)})
        time.sleep(SETTLED)  # a digest is remembered of files that have been left alone
    return folder


def open_engine(folder: Path, scale: Scale, vram: str, weights: str = "") -> Engine:
    """An engine within a budget; it remembers digests of files, and no embedding."""
    budget = Budget(vram=vram, weights=weights or "auto")
    spec = EngineSpec(str(folder), device=str(scale.device), budget=budget)
    return Engine.open(spec, digest=DigestCache(folder).of)


def under(folder: Path, scale: Scale, vram: str, request: Request) -> tuple[Values, Tensor]:
    """One drawing within a budget by an engine of its own."""
    return told(open_engine(folder, scale, vram), request)


def told(engine: Engine, request: Request) -> tuple[Values, Tensor]:
    """One drawing beside what its plan says, and its pixels."""
    values, pixels, plan = drawn(engine, request)
    values["limit_gb"] = engine.device.limit and engine.device.limit / 1e9
    values.update(planned(plan, values))
    values["sha256"] = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:12]
    return values, pixels


def beside(
    folder: Path, scale: Scale, vram: str, request: Request, kept: dict[str, Tensor]
) -> Values:
    """One drawing, and how far it is from the first of its row, which had no limit."""
    values, pixels = under(folder, scale, vram, request)
    first = kept.setdefault("first", pixels)
    apart = (pixels.int() - first.int()).abs()
    values["max_level"] = int(apart.max())
    values["identical"] = round(float((apart == 0).float().mean()), 6)
    return values


def planned(plan: Plan, measured: Values) -> Values:
    """The plan on a line, and its peak over the measured one, stage by stage."""
    values: Values = {"stages": [f"{stage.stage} {in_words(stage)}" for stage in plan.stages]}
    for stage in plan.stages:
        got = float(str(measured[f"{stage.stage}_gib"]))
        if got:
            values[f"{stage.stage}_error_%"] = round(100 * (stage.peak_bytes / GIB / got - 1), 2)
    values["planned_gib"] = round(max(stage.peak_bytes for stage in plan.stages) / GIB, 4)
    reserved = max(stage.reserved_bytes for stage in plan.stages)
    values["planned_reserved_gib"] = round(reserved / GIB, 4)
    values["planned_s"] = round(sum(stage.seconds for stage in plan.stages), 3)
    return values


def again(folder: Path, scale: Scale, vram: str) -> Values:
    """Seconds of a first and a second request of their own prompts, after one that warms up.

    By several engines: one pair alone tells how evenly its machine ran. `warm_over_warm`: the
    median of the second over the first.
    """
    firsts, seconds, grown = [], [], []
    for _ in range(1 if scale.quick else ENGINES):
        engine = open_engine(folder, scale, vram)
        for turn, taken in enumerate(([], firsts, seconds)):
            request = asked(scale, scale.sides[0], steps=FEW, begin=f"{turn + 2} girls, ")
            taken.append(float(str(drawn(engine, request)[0]["seconds"])))
            grown.append(torch.cuda.memory_allocated() if scale.on_card else 0)
        del engine
        clean()
    ratios = [second / first for first, second in zip(firsts, seconds, strict=True)]
    return {
        "first_s": firsts,
        "second_s": seconds,
        "warm_over_warm": round(statistics.median(ratios), 4),
        "ratios": [round(ratio, 4) for ratio in ratios],
        "grown_bytes": grown[-1] - grown[-2],
    }
