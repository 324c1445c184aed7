"""A1111's text of a drawing, written: what other programs read of a picture of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields

from sakuga.api.infotext import KNOWN, broken_up, quoted
from sakuga.api.options import option_of
from sakuga.api.receipt import AdapterRecord, Receipt
from sakuga.api.request import Request
from sakuga.api.resolved import Resolved

# What is ours is here named as others know it; what has no counterpart keeps its name.
SAMPLERS: Mapping[str, str] = {"euler": "Euler", "heun2": "Heun", "dpm2": "DPM++ 2M"}
SCHEDULES: Mapping[str, str] = {"shifted": "Simple"}
VARIATION = ("Variation seed", "Variation seed strength")
HIRES = ("Hires upscale", "Hires upscaler")
# Fields that others have no word for: they are written where they say something.
OWN = (
    "shift", "renorm", "normalisation", "truncation", "uncond", "text_mode", "system", "verbatim",
    "as_xml", "max_tokens", "weighting", "encoding",
)  # fmt: skip


def _key(name: str) -> str:
    return name.replace("_", " ").capitalize()


# Readers that take a list of hashes apart at its commas see a setting in each name.
RESERVED = frozenset((*KNOWN, *VARIATION, *HIRES, "Version", *map(_key, OWN)))


def write_infotext(receipt: Receipt) -> str:
    """The text of a picture. Values with commas, colons or breaks are quoted as A1111 does."""
    request = receipt.request
    loras = tuple((_lora_name(one), one) for one in receipt.adapters)
    tags = (f"<lora:{name}:{one.strength:g}>" for name, one in loras)
    lines = [" ".join((broken_up(request.prompt), *tags))]
    if request.negative:
        lines.append(f"Negative prompt: {broken_up(request.negative)}")
    hashes = ", ".join(f"{name}: {one.sha256[:10]}" for name, one in loras)
    settings = {
        "Steps": request.steps,
        "Sampler": SAMPLERS.get(request.solver, request.solver),
        "Schedule type": SCHEDULES.get(request.schedule, request.schedule),
        "CFG scale": request.guidance,
        "Seed": receipt.seed,
        **_variation(request, receipt.index),
        "Size": f"{request.width}x{request.height}",
        **_hires(request),
        "Model hash": receipt.weights.get("transformer", "")[:10],
        "Model": receipt.model,
    }
    told = [f"{key}: {quoted(str(value))}" for key, value in settings.items() if value != ""]
    told += [f'Lora hashes: "{hashes}"'] if hashes else []
    told += [f"{_key(name)}: {quoted(str(value))}" for name, value in _own(request)]
    version = f"sakuga {receipt.versions.get('sakuga', '')}".strip()
    told.append(f"Version: {quoted(version)}")
    lines.append(", ".join(told))
    return "\n".join(lines)


def _variation(request: Resolved, index: int) -> dict[str, object]:
    """Where the noise was turned to, as A1111 tells it."""
    seeds = request.seeds(index)
    if not seeds.share:
        return {}
    return dict(zip(VARIATION, (seeds.other, seeds.share), strict=True))


def _hires(request: Resolved) -> dict[str, object]:
    """How much was drawn again, and how it was enlarged before, as A1111 tells it."""
    if request.hires is None:
        return {} if request.strength is None else {"Denoising strength": request.strength}
    told = (request.hires_strength, request.hires.rstrip("xX× "), request.hires_by)
    return dict(zip(("Denoising strength", *HIRES), told, strict=True))


def own_fields(settings: Mapping[str, str]) -> dict[str, str]:
    """The fields of a request that no other program has, by name, as a text of ours has them."""
    return {name: settings[_key(name)] for name in OWN if _key(name) in settings}


def _own(request: Request) -> Iterator[tuple[str, object]]:
    """The fields only sakuga has, where they are not what they would be anyway."""
    for declared in fields(Request):
        value = getattr(request, declared.name)
        usual = option_of(declared).otherwise
        if declared.name in OWN and value not in (None, False) and value != usual:
            yield declared.name, value


def _lora_name(adapter: AdapterRecord) -> str:
    """The name others know an adapter by: its file's stem, fit for a tag and for no setting."""
    stem = re.sub(r"\.(safetensors|pt|bin|ckpt)$", "", adapter.file)
    name = re.sub(r"[<>:,\"\\\s\x00-\x1f\x7f-\x9f\ud800-\udfff]", "_", stem)[:200] or "_"
    return f"{name}_" if name in RESERVED else name
