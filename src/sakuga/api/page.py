"""A receipt as people read it: the rows of `show`, and what differs between two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from sakuga.api.marks import SIDES, marks_of
from sakuga.api.receipt import Plan, Receipt, StagePlan
from sakuga.api.request import Request


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
    apart = {
        "prompt", "negative", "sent", "seed", "width", "height", "number", "lora", "lora_partial",
        "image", "mask", *(("mask_invert", "only_masked") if receipt.mask is None else ()),
    }  # fmt: skip
    for declared in fields(Request):
        value = getattr(request, declared.name)
        if declared.name not in apart and value is not None:
            yield declared.name.replace("_", " "), str(value)
    yield "solver formula", receipt.solver
    yield "guidance formula", receipt.guidance
    yield from _read_by_encoders(receipt)
    for side in SIDES:
        yield from _marked(receipt, side)
    past = f", past the trained {tokens.trained} from {tokens.past!r}" if tokens.past else ""
    jina = f", {tokens.jina} for Jina" if tokens.jina else ""
    yield "tokens", f"{tokens.gemma} for Gemma{past}{jina}"
    yield "plan", f"{plan.device} ({plan.chip}), {plan.dtype}, batch {plan.batch}"
    yield "budget", ", ".join(budget(plan))
    for stage in plan.stages:
        yield f"plan of {stage.stage}", in_words(stage)
    for stage in plan.second:
        yield f"plan of the second {stage.stage}", in_words(stage)
    for note in receipt.notes:
        yield "note", note
    yield "versions", ", ".join(f"{name} {text}" for name, text in receipt.versions.items())
    for name, digest in receipt.weights.items():
        yield f"sha256 of {name}", digest
    for adapter in receipt.adapters:
        alpha = () if adapter.alpha is None else (f"alpha={adapter.alpha:g}",)
        yield "adapter", ":".join((adapter.file, f"{adapter.strength:g}", *alpha, *adapter.blocks))
        yield f"sha256 of {adapter.file}", adapter.sha256
    if receipt.upscale is not None:
        kind = f"{receipt.upscale.architecture}, {receipt.upscale.scale}x"
        yield "enlarged by", f"{receipt.upscale.file} ({kind})"
        yield "sha256 of the upscaler", receipt.upscale.sha256
    for label, picture in (("image", receipt.image), ("mask", receipt.mask)):
        if picture is not None:
            yield label, f"{picture.file}, {picture.bytes:,} bytes"
            yield f"sha256 of the {label}", picture.sha256


def _read_by_encoders(receipt: Receipt) -> Iterator[tuple[str, str]]:
    """What the encoders read, as far as it has not been told: each text stands once."""
    prompt, texts = receipt.request.prompt, receipt.texts
    told = "the prompt"
    if texts.jina and _spaced(texts.jina) != _spaced(prompt):
        yield "Jina read", texts.jina
        told = "what Jina read"
    if _spaced(texts.gemma) in (_spaced(texts.jina), _spaced(prompt)):
        return
    if texts.jina and texts.gemma.endswith(texts.jina):
        yield "Gemma read", f"{texts.gemma.removesuffix(texts.jina).strip()} [and {told}]"
    else:
        yield "Gemma read", texts.gemma


def _marked(receipt: Receipt, side: str) -> Iterator[tuple[str, str]]:
    """What of a text had a weight, and in how many parts it was read."""
    texts = receipt.texts
    text = texts.gemma if side == "prompt" else texts.negative_gemma
    marks = marks_of(texts.marks, side)
    weights = [
        f"{_spaced(text[one.start : one.end])} {one.weight:g}"
        for one in marks if one.weight is not None
    ]  # fmt: skip
    parts = sum(one.weight is None for one in marks)
    if weights:
        yield f"weights in the {side}", "; ".join(weights)
    if parts:
        yield f"parts of the {side}", f"{parts}, each encoded by itself"


def _spaced(text: str) -> str:
    """A text without the white space that means nothing in a prompt."""
    return " ".join(text.split()).replace("> ", ">").replace(" <", "<")


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
                found.append(f"{title} {_shown(key)}: {was} then, {came} now")
    if before.adapters != now.adapters:
        found.append("adapters: other ones, or applied otherwise, than then")
    for name in ("image", "mask", "upscale"):
        first, second = getattr(before, name), getattr(now, name)
        if first and (second is None or second.sha256 != first.sha256):
            found.append(f"{name}: another file than then")
    if before.texts != now.texts:
        found.append("texts: the encoders read other text than then")
    return tuple(found)


def _shown(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "..."
