"""What a picture says about itself: the texts inside its PNG, and the page `show` prints.

Two texts go into the file. `sakuga` is the Receipt as JSON and is what we read back.
`parameters` is the text that A1111's web UI and its many readers expect: the prompt,
`Negative prompt: ...`, and one line of settings. Those readers split at line breaks, so
breaks inside a prompt are escaped there; otherwise a prompt could forge settings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields

from sakuga.api.codec import plain, typed
from sakuga.api.receipt import Plan, Receipt, StagePlan
from sakuga.api.request import Request
from sakuga.errors import RequestError

RECEIPT_KEY = "sakuga"
PARAMETERS_KEY = "parameters"


def texts_of(receipt: Receipt) -> dict[str, str]:
    """The texts to write into a picture, by PNG keyword."""
    form = json.dumps(plain(receipt), ensure_ascii=False, separators=(",", ":"))
    return {PARAMETERS_KEY: parameters(receipt), RECEIPT_KEY: form}


def receipt_from(texts: Mapping[str, str], name: str) -> Receipt:
    """The Receipt in the texts of the picture `name`. Raises RequestError."""
    if RECEIPT_KEY not in texts:
        raise RequestError(
            "the picture must carry a receipt",
            f"{name} without one",
            "Use a PNG that sakuga has written and no other program has saved again.",
        )
    try:
        data = json.loads(texts[RECEIPT_KEY])
    except (ValueError, RecursionError):
        raise RequestError(
            "a receipt must be JSON", f"{name}: {texts[RECEIPT_KEY][:40]!r}", "Use another picture."
        ) from None
    return typed(Receipt, data)


def parameters(receipt: Receipt) -> str:
    """A1111's text form. Values with commas, colons or breaks are quoted as A1111 quotes them."""
    request = receipt.request
    lines = [_one_line(request.prompt)]
    if request.negative:
        lines.append(f"Negative prompt: {_one_line(request.negative)}")
    width, height = request.size
    settings = {
        "Steps": request.steps,
        "Sampler": request.solver,
        "Schedule type": request.schedule,
        "CFG scale": request.guidance,
        "Seed": receipt.seed,
        "Size": f"{width}x{height}",
        "Model hash": receipt.weights.get("transformer", "")[:10],
        "Model": receipt.model,
        "Shift": request.shift,
        "Version": f"sakuga {receipt.versions.get('sakuga', '')}".strip(),
    }
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items()))
    return "\n".join(lines)


def describe_picture(receipt: Receipt) -> Iterator[tuple[str, str]]:
    """The receipt as (label, text) rows for people."""
    request, plan, tokens = receipt.request, receipt.plan, receipt.tokens
    width, height = request.size
    yield "model", receipt.model
    yield "size", f"{width} x {height}"
    yield "seed", str(receipt.seed)
    if request.number > 1:
        yield "picture", f"{receipt.index + 1} of {request.number}"
    yield "prompt", request.prompt
    yield "negative", request.negative or "(none)"
    # Each of these has a line of its own; what became of adapters is told below.
    apart = {"prompt", "negative", "seed", "width", "height", "number", "lora", "lora_partial"}
    for declared in fields(Request):
        value = getattr(request, declared.name)
        if declared.name not in apart and value is not None:
            yield declared.name.replace("_", " "), str(value)
    yield "solver formula", receipt.solver
    yield "guidance formula", receipt.guidance
    yield "Gemma read", receipt.texts.gemma
    yield "Jina read", receipt.texts.jina
    past = f", past the trained {tokens.trained} from {tokens.past!r}" if tokens.past else ""
    yield "tokens", f"{tokens.gemma} for Gemma{past}, {tokens.jina} for Jina"
    yield "plan", f"{plan.device} ({plan.chip}), {plan.dtype}, batch {plan.batch}"
    yield "budget", ", ".join(budget(plan))
    for stage in plan.stages:
        yield f"plan of {stage.stage}", in_words(stage)
    for note in receipt.notes:
        yield "note", note
    yield "versions", ", ".join(f"{name} {text}" for name, text in receipt.versions.items())
    for name, digest in receipt.weights.items():
        yield f"sha256 of {name}", digest
    for adapter in receipt.adapters:
        alpha = () if adapter.alpha is None else (f"alpha={adapter.alpha:g}",)
        yield "adapter", ":".join((adapter.file, f"{adapter.strength:g}", *alpha, *adapter.blocks))
        yield f"sha256 of {adapter.file}", adapter.sha256


def budget(plan: Plan) -> Iterator[str]:
    """What memory a drawing was allowed, in words."""
    yield "no limit" if plan.limit is None else f"{plan.limit / 1e9:.2f} GB"
    if plan.kept:
        yield "networks stay from stage to stage"
    if plan.pinned is not None:
        yield f"at most {plan.pinned / 1e9:.2f} GB of the host pinned"


def in_words(stage: StagePlan) -> str:
    """What a stage does to fit, in a few words."""
    words = [stage.weights]
    if stage.dtype not in ("", stage.weights):
        words.append(f"computed in {stage.dtype}")
    if stage.streamed:
        words.append(f"{stage.resident} blocks stay, {stage.streamed} stream")
    levers = (("groups", stage.batches), ("parts", stage.parts), ("strips", stage.strips))
    words += [f"{count} {name}" for name, count in levers if count > 1]
    words += ["recomputed"] * stage.recompute
    return f"{', '.join(words)}; {stage.peak_bytes / 1e9:.2f} GB at most"


def differences(before: Receipt, now: Receipt) -> tuple[str, ...]:
    """What could make the pixels of two drawings of one request differ, in words."""
    found = []
    for title, old, new in (
        ("version of", before.versions, now.versions),
        ("plan:", before.plan.deciding, now.plan.deciding),
        ("weights of", before.weights, now.weights),
    ):
        for key in sorted({*old, *new}):
            unsaid = title == "plan:" and key not in old  # by the version that drew it then
            if old.get(key) != new.get(key) and not unsaid:
                was, came = (_shown(side.get(key)) for side in (old, new))
                found.append(f"{title} {key}: {was} then, {came} now")
    if before.adapters != now.adapters:
        found.append("adapters: other ones, or applied otherwise, than then")
    if before.texts != now.texts:
        found.append("texts: the encoders read other text than then")
    return tuple(found)


def _shown(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "..."


def _one_line(text: str) -> str:
    """The text without anything a reader could take for a line break, or for a negative."""
    line = re.sub(
        r"[\x00-\x1f\x7f\x85\u2028\u2029]",
        lambda match: json.dumps(match[0]).strip('"').replace("\x7f", "\\u007f"),
        text.strip(),
    )
    return re.sub("^Negative prompt:", "Negative prompt\\:", line)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text
