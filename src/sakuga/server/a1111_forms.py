"""Bodies of A1111's routes as drawings of ours, and our pictures as its answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from sakuga.api.codec import typed
from sakuga.api.parameters import write_infotext
from sakuga.api.receipt import Receipt
from sakuga.api.request import SOLVER_NAMES
from sakuga.api.request import Request as Drawing
from sakuga.errors import RequestError
from sakuga.server.forms import data_url

# A1111's names of methods that are here too; every other name stands for the model's own method.
SAMPLERS: Mapping[str, tuple[str, ...]] = {
    "Euler": ("euler",), "Heun": ("heun2",), "DPM++ 2M": ("dpm2",), "DPM2": ("midpoint",),
    "Res Multistep": ("res_multistep",),
}  # fmt: skip
USUAL = ("Euler a", "Euler A")  # what clients send who do not choose
SCHEDULERS: Mapping[str, str] = {
    "simple": "shifted", "shifted": "shifted", "linear_quadratic": "linear_quadratic",
}  # fmt: skip
UNSAID = ("", "automatic", "normal", "none")
LORA = re.compile(r"<lora:([^:>]{1,120})(?::(-?[\d.]{1,8}))?[^>]{0,80}>")


class TextBody(BaseModel):
    """What is asked of txt2img; the many fields that mean nothing here are ignored."""

    model_config = ConfigDict(extra="allow")

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int | None = None
    n_iter: int | None = None
    send_images: bool | None = None
    enable_hr: bool | None = None


class FromPictureBody(TextBody):
    """What is asked of img2img."""

    init_images: list[str | None] | None = None
    denoising_strength: float | None = None
    mask: str | None = None
    mask_blur: float | None = None
    inpainting_mask_invert: int | bool | None = None
    inpaint_full_res: int | bool | None = None
    inpaint_full_res_padding: int | None = None


@dataclass(slots=True)
class Taken1111:
    """A drawing, and what was made of names that are not ours."""

    drawing: Drawing
    notes: dict[str, str] = field(default_factory=dict)


def drawing_of(body: TextBody, adapters: Sequence[str]) -> Taken1111:
    """A body as a drawing. Raises RequestError for pictures that are addresses."""
    notes: dict[str, str] = {}
    prompt, loras = _loras(body.prompt or "", adapters, notes)
    number = _count(body.batch_size) * _count(body.n_iter)
    fields: dict[str, Any] = {
        "negative": body.negative_prompt, "seed": body.seed, "steps": body.steps,
        "guidance": body.cfg_scale, "width": body.width, "height": body.height,
        "number": number, "solver": _solver(body, notes),
        "schedule": _schedule(body.scheduler, notes), "lora": loras,
    }  # fmt: skip
    if body.enable_hr:
        notes["Hires"] = "There is no second pass; the size asked for was drawn."
    if isinstance(body, FromPictureBody):
        fields |= _from_picture(body)
    given = {name: value for name, value in fields.items() if value is not None}
    return Taken1111(Drawing(prompt, **given), notes)


def _count(given: int | None) -> int:
    """How many, as far as that is a number of pictures; what is out of range is refused later."""
    if given is not None and not 1 <= given <= 10:
        raise RequestError("batch_size and n_iter are 1 to 10", str(given)[:20], "Ask for fewer.")
    return given or 1


def _from_picture(body: FromPictureBody) -> dict[str, Any]:
    images = [one for one in body.init_images or () if one]
    if len(images) != 1:
        raise RequestError("img2img starts from one of init_images", f"{len(images)}", "Send one.")
    found: dict[str, Any] = {
        "image": data_url(images[0], "init_images"), "strength": body.denoising_strength,
    }  # fmt: skip
    if body.mask:
        found |= {
            "mask": data_url(body.mask, "mask"),
            "mask_invert": bool(body.inpainting_mask_invert),
            "mask_feather": None if body.mask_blur is None else int(body.mask_blur),
            "only_masked": bool(body.inpaint_full_res),
        }
        if body.inpaint_full_res:
            found["mask_padding"] = body.inpaint_full_res_padding
    return found


def _solver(body: TextBody, notes: dict[str, str]) -> str | None:
    asked = body.sampler_name or body.sampler_index or ""
    if asked in SOLVER_NAMES:
        return asked
    for name, (solver, *_) in SAMPLERS.items():
        if asked.lower() in (name.lower(), f"k_{name.lower()}"):
            return solver
    if asked:
        notes["Sampler"] = f"{asked[:60]} is not here; the model's own method was used"
    return None


def _schedule(asked: str | None, notes: dict[str, str]) -> str | None:
    name = (asked or "").lower().replace(" ", "_")
    if name in UNSAID:
        return None
    if name not in SCHEDULERS:
        notes["Schedule type"] = f"{name[:60]} is not here; the model's own was used"
    return SCHEDULERS.get(name)


def _loras(
    prompt: str, adapters: Sequence[str], notes: dict[str, str]
) -> tuple[str, tuple[str, ...] | None]:
    """A prompt without the tags of adapters that are here, and those."""
    found = []

    def taken(match: re.Match[str]) -> str:
        if match[1] not in adapters:
            notes["Lora"] = f"{match[1][:60]} is not here and was left out"
        else:
            found.append(f"{match[1]}:{match[2] or '1'}")
        return ""

    return LORA.sub(taken, prompt), tuple(found) or None


def info_of(rows: Sequence[Mapping[str, Any]], notes: Mapping[str, str]) -> str:
    """What is said of pictures: the keys that A1111 gives and its readers want, as JSON."""
    receipts = [typed(Receipt, json.loads(row["receipt"])) for row in rows]
    first, count = receipts[0], len(rows)
    request = first.request
    digest = first.weights.get("transformer", "")[:10]
    return json.dumps({
        "prompt": request.prompt, "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative, "all_negative_prompts": [request.negative] * count,
        "seed": first.seed, "all_seeds": [one.seed for one in receipts],
        "subseed": -1, "all_subseeds": [-1] * count, "subseed_strength": 0,
        "width": request.width, "height": request.height, "sampler_name": request.solver,
        "cfg_scale": request.guidance, "steps": request.steps, "batch_size": count,
        "restore_faces": False, "face_restoration_model": None, "sd_model_name": first.model,
        "sd_model_hash": digest, "sd_vae_name": None, "sd_vae_hash": None,
        "seed_resize_from_w": -1, "seed_resize_from_h": -1,
        "denoising_strength": request.strength, "extra_generation_params": dict(notes),
        "index_of_first_image": 0, "infotexts": [write_infotext(one) for one in receipts],
        "styles": [], "job_timestamp": time.strftime("%Y%m%d%H%M%S"), "clip_skip": 1,
        "is_using_inpainting_conditioning": False,
        "version": f"sakuga {first.versions.get('sakuga', '')}",
    })  # fmt: skip


def samplers() -> list[dict[str, Any]]:
    """The methods there are, under our names, theirs beside them."""
    others: dict[str, list[str]] = {name: [] for name in SOLVER_NAMES}
    for theirs, (ours, *_) in SAMPLERS.items():
        others[ours].append(theirs)
    own = [{"name": name, "aliases": also, "options": {}} for name, also in others.items()]
    return [*own, *({"name": name, "aliases": [], "options": {}} for name in (*SAMPLERS, USUAL[0]))]


def schedulers() -> list[dict[str, Any]]:
    """The time grids there are."""
    names = {"automatic": "Automatic", **{name: name.replace("_", " ").title()
                                          for name in SCHEDULERS}}  # fmt: skip
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1,
         "need_inner_model": False}
        for name, label in names.items()
    ]  # fmt: skip
