"""What can be asked of a generator, and what it answers.

`Request` holds every option once, with its default, range and help; command-line flags,
JSON and documentation are made from its fields. `resolve` fills in what was left open and
refuses what no model could draw, before any work. `Event`s are the answer, in order:

    Queued -> Planned -> Encoded -> Stepped ... -> Decoded -> Finished (one per picture)

with `Warned` anywhere. All of it is frozen and makes a round trip through JSON
(`sakuga.api.codec`), and none of it knows torch.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, Literal, Protocol, TypeAlias

from sakuga.api.codec import plain, typed, unknown
from sakuga.errors import RequestError
from sakuga.files.png import Picture

SOLVERS = ("euler", "midpoint", "heun2", "heun3", "rk4", "dpm1", "dpm2", "dpm3", "res_multistep")
SCHEDULES = ("shifted", "linear_quadratic")
UNCONDS = ("empty", "keep-pooled")
TEXT_MODES = ("training", "comfy")
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Option:
    """What a field of Request accepts. `low` itself is refused when `above` is set.

    `otherwise` is the value of a field left at None when neither the recipe nor the
    model has one; None there means that the model decides.
    """

    help: str
    low: float | None = None
    high: float | None = None
    above: bool = False
    choices: tuple[str, ...] = ()
    otherwise: str | float | None = None

    def refuse(self, name: str, value: Any) -> RequestError | None:
        """The error for a value outside the range or the choices, or None."""
        if self.choices and value not in self.choices:
            return unknown(name, str(value), self.choices)
        if self.low is None and self.high is None:
            return None
        too_low = self.low is not None and (value <= self.low if self.above else value < self.low)
        too_high = self.high is not None and value > self.high
        if too_low or too_high or not math.isfinite(value):
            return RequestError(f"{name} must be {self.range}", str(value), "Choose one in range.")
        return None

    @property
    def range(self) -> str:
        """The range in words: "1 to 200", "above 0", "0 or more"; empty if there is none."""
        if self.low is None:
            return ""
        start = f"above {self.low:g}" if self.above else f"{self.low:g}"
        if self.high is None:
            return start if self.above else f"{start} or more"
        joint = " and at most " if self.above else " to "
        high = f"{self.high:g}" if self.high < 1e6 else "2^63-1"
        return f"{start}{joint}{high}"


def option(rule: Option, default: Any = None) -> Any:
    """A field of Request with its rule; None as default leaves the choice open."""
    return field(default=default, metadata={"option": rule})


def option_of(declared: Field[Any]) -> Option:
    """The rule that `option` put into a field."""
    rule = declared.metadata["option"]
    assert isinstance(rule, Option)
    return rule


@dataclass(frozen=True, slots=True)
class Request:
    """One wish for pictures. None leaves the choice to the recipe, then to the model."""

    prompt: str = option(Option("XML, plain tags or sentences."), default=MISSING)
    negative: str = option(Option("What the picture should not show."), default="")
    seed: int | None = option(Option(
        "Where the noise starts; picture i uses seed + i. Random when left out.",
        low=0, high=MAX_SEED))
    width: int | None = option(Option("Width in pixels.", low=1))
    height: int | None = option(Option("Height in pixels.", low=1))
    number: int = option(Option("How many pictures.", low=1, high=10), default=1)
    recipe: str | None = option(Option("Settings known from elsewhere; other flags win over them."))
    steps: int | None = option(Option(
        "Intervals of the solver, or model evaluations for dpm.", low=1, high=200))
    guidance: float | None = option(Option(
        "Strength of the prompt; at 1 or 0 there is no negative branch.", low=0, high=20))
    solver: str | None = option(Option("How the flow is integrated.", choices=SOLVERS))
    shift: float | None = option(Option(
        "How much of the time is spent near the noise.", low=0, high=100, above=True))
    schedule: str | None = option(Option(
        "Spacing of the time grid.", choices=SCHEDULES, otherwise="shifted"))
    renorm: float | None = option(Option(
        "Cap on the guided norm, as a multiple of the conditional one; 0 is off.",
        low=0, high=100, otherwise=0.0))
    truncation: float | None = option(Option(
        "Guide only while the time (0 noise, 1 picture) is below this; at 1 always.",
        low=0, high=1, otherwise=1.0))
    uncond: str | None = option(Option(
        "Pooled vector of the negative branch: that of its own text, or the prompt's.",
        choices=UNCONDS, otherwise="empty"))
    system: str | None = option(Option("System prompt for Gemma instead of the model's own."))
    verbatim: bool = option(
        Option("Send the prompt untouched, not in canonical form."), default=False)
    text_mode: str | None = option(Option(
        "What Jina reads: the user's text, as in training, or Gemma's text, as in ComfyUI.",
        choices=TEXT_MODES, otherwise="training"))
    max_tokens: int | None = option(Option(
        "Cut Gemma's text after this many tokens; whole when left out.", low=1, high=131_072))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of a resolved request."""
        assert self.width is not None and self.height is not None
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Recipe:
    """A set of values found in the wild, and where."""

    source: str
    values: Mapping[str, str | int | float]


RECIPES: Mapping[str, Recipe] = {
    "comfy": Recipe(
        "ComfyUI's official template for NewBie-image-Exp0.1",
        {"solver": "res_multistep", "steps": 20, "guidance": 5.5, "shift": 6.0,
         "schedule": "shifted", "text_mode": "comfy"},
    ),
    "demo": Recipe(
        "demo.py of NewBieAI-Lab/NewBie-image-Exp0.1 (18 grid points are 17 intervals)",
        {"solver": "midpoint", "steps": 17, "guidance": 5.0, "shift": 6.0,
         "schedule": "shifted", "truncation": 0.25, "renorm": 0.0},
    ),
    "wumingdao": Recipe(
        "WuMingDao/newbie-image-generator, without its RescaleCFG",
        {"solver": "res_multistep", "steps": 28, "guidance": 4.5, "shift": 6.0,
         "schedule": "linear_quadratic", "text_mode": "comfy"},
    ),
}  # fmt: skip


class Habits(Protocol):
    """What a request needs to know of a model; `model.spec.DrawingSpec` is one."""

    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def solver(self) -> str: ...  # noqa: D102
    @property
    def shift(self) -> float: ...  # noqa: D102
    @property
    def guidance(self) -> float: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def height(self) -> int: ...  # noqa: D102
    @property
    def min_side(self) -> int: ...  # noqa: D102
    @property
    def max_side(self) -> int: ...  # noqa: D102
    @property
    def max_pixels(self) -> int: ...  # noqa: D102
    @property
    def size_multiple(self) -> int: ...  # noqa: D102


def resolve(request: Request, habits: Habits) -> Request:
    """Fill every open field (what was asked, then recipe, model, general default) and check it.

    Only `system` and `max_tokens` may stay None. Raises RequestError before any work.
    """
    if request.recipe is not None and request.recipe not in RECIPES:
        raise unknown("recipe", request.recipe, tuple(RECIPES))
    recipe = RECIPES[request.recipe].values if request.recipe else {}
    filled: dict[str, Any] = {}
    for declared in fields(Request):
        name, rule = declared.name, option_of(declared)
        if getattr(request, name) is None:
            general = rule.otherwise
            filled[name] = recipe.get(name, getattr(habits, name, general))
    if request.seed is None:
        filled["seed"] = secrets.randbelow(2**32)
    for name in ("prompt", "negative", "system"):
        filled[name] = _sound(getattr(request, name))
    resolved = replace(request, **filled)
    _check_fields(resolved)
    _check_together(resolved, habits)
    return resolved


def needs_negative(request: Request) -> bool:
    """Whether the guidance of a resolved request ever looks at the negative side."""
    assert request.truncation is not None
    return request.guidance not in (0, 1) and request.truncation > 0


def parse_size(text: str) -> tuple[int, int] | None:
    """(width, height) of "832x1216" or "1024", None of anything else."""
    match = re.fullmatch(r"(\d+)(?:[xX×](\d+))?", text)
    return (int(match[1]), int(match[2] or match[1])) if match else None


def _sound(text: str | None) -> str | None:
    """The text without lone surrogates, which neither an encoder nor a file can hold."""
    return None if text is None else re.sub("[\ud800-\udfff]", "\ufffd", text)


def _check_fields(request: Request) -> None:
    for declared in fields(Request):
        value = getattr(request, declared.name)
        error = option_of(declared).refuse(declared.name, value) if value is not None else None
        if error:
            raise error


def _check_together(request: Request, habits: Habits) -> None:
    width, height = request.size
    unit = habits.size_multiple
    for name, side in (("width", width), ("height", height)):
        if side % unit or not habits.min_side <= side <= habits.max_side:
            near = min(max(round(side / unit) * unit, habits.min_side), habits.max_side)
            raise RequestError(
                f"{name} must be a multiple of {unit} from {habits.min_side} to {habits.max_side}",
                str(side),
                f"The nearest is {near}.",
            )
    if width * height > habits.max_pixels:
        raise RequestError(
            f"a picture must have at most {habits.max_pixels:,} pixels",
            f"{width}x{height} = {width * height:,}",
            "Choose a smaller size.",
        )
    assert request.seed is not None and request.steps is not None and request.solver is not None
    if request.seed + request.number - 1 > MAX_SEED:
        raise RequestError(
            "the last picture's seed must be at most 2^63-1",
            f"seed {request.seed} for {request.number} pictures",
            "Choose a smaller seed.",
        )
    if request.solver.startswith("dpm") and request.steps < int(request.solver[-1]):
        raise RequestError(
            f"{request.solver} needs at least {request.solver[-1]} steps",
            str(request.steps),
            "Ask for more steps or a lower order.",
        )


@dataclass(frozen=True, slots=True)
class StagePlan:
    """How one stage of a drawing is run: gemma, jina, denoise or decode.

    `weights`: their storage format on the card; `dtype`: what it computes in. Of the blocks,
    `resident` stay there during the stage and `streamed` pass through two slots at every
    evaluation. `batches`: groups of pictures run one after the other. `parts`: groups of
    segments that pass each block in turn. `strips`: of a decoded picture; with `recompute`
    they are computed twice where a full-size tensor would be stored. `peak_bytes` of tensors,
    `reserved_bytes` of their allocator and `seconds` are predictions.
    """

    stage: str
    weights: str
    dtype: str = ""
    resident: int = 0
    streamed: int = 0
    batches: int = 1
    parts: int = 1
    strips: int = 1
    recompute: bool = False
    peak_bytes: int = 0
    reserved_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request is run. With the versions it decides every bit of the pixels.

    `batch`: pictures that are denoised together. `limit`: bytes that may be reserved on the
    device, None for no limit. `kept`: networks stay there from stage to stage. `pinned`:
    bytes of host memory that may be pinned for copies, None for as many as are wanted.
    """

    device: str
    chip: str
    dtype: str
    batch: int
    threads: int
    limit: int | None = None
    kept: bool = False
    pinned: int | None = None
    stages: tuple[StagePlan, ...] = ()

    @property
    def deciding(self) -> dict[str, object]:
        """What of it can change a bit of the pixels; where weights wait for their turn cannot."""
        found: dict[str, object] = {
            name: getattr(self, name) for name in ("device", "chip", "dtype", "batch", "threads")
        }
        for one in self.stages:
            found |= {f"{one.stage} weights": one.weights, f"{one.stage} dtype": one.dtype}
            if one.stage == "denoise":
                found["parts"] = one.parts
            if one.stage == "decode":
                found["strips"] = f"{one.strips}{', recomputed' * one.recompute}"
        return found


@dataclass(frozen=True, slots=True)
class SentTexts:
    """The exact string each encoder read."""

    gemma: str
    jina: str
    negative_gemma: str
    negative_jina: str


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens each encoder read. `past` is the first word beyond Gemma's trained length."""

    gemma: int
    jina: int
    negative_gemma: int
    negative_jina: int
    trained: int
    past: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """An adapter that was applied: which file, and how strongly.

    `sha256`: of its weights; `config_sha256`: of the adapter_config.json that told its alpha,
    if one did. `alpha`: the one given by hand, else None. `blocks`: as in `layers.0-11=0.5`.
    """

    file: str
    sha256: str
    strength: float
    alpha: float | None = None
    blocks: tuple[str, ...] = ()
    config_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything that is needed to draw one picture again. `index` counts within the request.

    `notes`: what went otherwise than first planned, a sentence each. `adapters`: in the order
    in which they were applied.
    """

    model: str
    request: Request
    index: int
    seed: int
    texts: SentTexts
    tokens: TokenCounts
    solver: str
    guidance: str
    plan: Plan
    weights: Mapping[str, str]
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    adapters: tuple[AdapterRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """A finished picture, its receipt and the seconds since the request began."""

    picture: Picture
    receipt: Receipt
    seconds: float


@dataclass(frozen=True, slots=True)
class Queued:
    """Accepted; `position` requests are before it."""

    position: int
    event: Literal["queued"] = "queued"


@dataclass(frozen=True, slots=True)
class Planned:
    """The request in full, and how it will be run."""

    request: Request
    plan: Plan
    event: Literal["planned"] = "planned"


@dataclass(frozen=True, slots=True)
class Encoded:
    """The texts are read."""

    tokens: TokenCounts
    event: Literal["encoded"] = "encoded"


@dataclass(frozen=True, slots=True)
class Stepped:
    """Step `index` of `of` is done (1 is the first); one small preview per picture under way.

    Where pictures are denoised in groups, the steps of all groups count.
    """

    index: int
    of: int
    previews: tuple[Picture, ...]
    event: Literal["stepped"] = "stepped"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels are there."""

    event: Literal["decoded"] = "decoded"


@dataclass(frozen=True, slots=True)
class Finished:
    """One picture; the last one ends the request."""

    result: Result
    event: Literal["finished"] = "finished"


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that stopped nothing."""

    code: str
    message: str
    event: Literal["warned"] = "warned"


Event: TypeAlias = Queued | Planned | Encoded | Stepped | Decoded | Finished | Warned

EVENTS: Mapping[str, type[Event]] = {
    "queued": Queued, "planned": Planned, "encoded": Encoded, "stepped": Stepped,
    "decoded": Decoded, "finished": Finished, "warned": Warned,
}  # fmt: skip


def event_from(data: Mapping[str, Any]) -> Event:
    """An event from its JSON form (`codec.plain`). Raises RequestError."""
    name = str(data.get("event"))
    if name not in EVENTS:
        raise unknown("event", name, tuple(EVENTS))
    return typed(EVENTS[name], data)


def summary(event: Event) -> dict[str, Any]:
    """JSON form of an event for a log: all but the pixels."""
    if isinstance(event, Stepped):
        return {"event": event.event, "index": event.index, "of": event.of}
    if isinstance(event, Finished):
        receipt = plain(event.result.receipt)
        return {"event": event.event, "seconds": event.result.seconds, "receipt": receipt}
    return {"event": event.event, **plain(event)}


class ImageGenerator(Protocol):
    """The one seam: engine and cluster offer it, command line and server use it."""

    def generate(self, request: Request) -> Iterator[Event]:
        """Draw. The consumer may stop iterating after any event; everything is released then."""
        ...
