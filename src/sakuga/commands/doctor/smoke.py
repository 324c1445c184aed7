"""One step of a small drawing: the whole path, from the prompt to pixels."""

from __future__ import annotations

import time
from pathlib import Path

from sakuga.api.engine_spec import EngineSpec
from sakuga.api.events import Finished, Warned
from sakuga.api.request import Request
from sakuga.commands.doctor.finding import Diagnosis, green, red, yellow
from sakuga.engine.engine import Engine
from sakuga.model.spec import DrawingSpec

PROMPT = "<character_1><appearance>blue_hair</appearance></character_1>"


def smoke(folder: Path, device: str, dtype: str) -> Diagnosis:
    """Draw a picture of one step, as small as the model allows. Raises what a drawing does."""
    start = time.perf_counter()
    spec = EngineSpec(str(folder), device=device, dtype=dtype)
    # Nobody keeps this picture; to hash the 16 GB that drew it would take longer than all else.
    engine = Engine.open(spec, digest=lambda file: f"{file.name} was not hashed")
    side = least_side(engine.model.drawing)
    request = Request(PROMPT, seed=0, steps=1, width=side, height=side)
    events = list(engine.generate(request))
    (result,) = (event.result for event in events if isinstance(event, Finished))
    # That the smallest size is not what it was trained on, is no news of the model.
    found = [event for event in events if isinstance(event, Warned) and event.code != "size"]
    warned = [event.message for event in found]
    device = result.receipt.plan.device
    took = f"{side}x{side}, 1 step on {device}, {time.perf_counter() - start:.1f} s"
    if len(set(result.picture.rgb)) == 1:
        return red("drawing", f"{took}: one colour alone", f"Run sakuga doctor {folder} --scan.")
    if warned:
        return yellow("drawing", f"{took}: {' '.join(warned)}", "Draw with --dtype float32.")
    return green("drawing", f"{took} with loading")


def least_side(habits: DrawingSpec) -> int:
    """The smallest side of a picture, in pixels, that a model draws."""
    step = habits.size_multiple
    return -(-habits.min_side // step) * step
