"""A request with nothing left open: what was asked, then the recipe, the model, the default."""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal, Protocol

from sakuga.api.codec import unknown
from sakuga.api.framing import Limits, enlarged, parse_factor
from sakuga.api.marks import Mark
from sakuga.api.options import check_needs, option_of, settled
from sakuga.api.request import MAX_SEED, RANDOM, RECIPES, Request, as_request
from sakuga.errors import RequestError
from sakuga.printable import cut

UNIT = 16  # pixels; sides of what is drawn are multiples of it, in every model
SENT = 4  # texts; what follows them are marks


@dataclass(frozen=True, slots=True)
class Seeds:
    """The noise of one picture: that of a seed, turned by a share to that of another."""

    seed: int
    other: int = 0
    share: float = 0.0

    @property
    def alone(self) -> dict[str, Any]:
        """The fields of a request that asks for this one picture."""
        turned = self.share > 0
        return {
            "number": 1,
            "seed": self.seed,
            "to_seed": None,
            "variation": self.share if turned else None,
            "variation_seed": self.other if turned else None,
        }


@dataclass(frozen=True, slots=True)
class Resolved(Request):
    """A request that says everything; only `recipe`, `system` and `max_tokens` may be None.

    So may what is said of a picture, where there is none.
    """

    seed: int = field(kw_only=True)
    width: int = field(kw_only=True)
    height: int = field(kw_only=True)
    steps: int = field(kw_only=True)
    guidance: float = field(kw_only=True)
    solver: str = field(kw_only=True)
    shift: float = field(kw_only=True)
    schedule: str = field(kw_only=True)
    renorm: float = field(kw_only=True)
    normalisation: str = field(kw_only=True, default="off")  # older receipts do not say it
    truncation: float = field(kw_only=True)
    uncond: str = field(kw_only=True)
    text_mode: Literal["training", "comfy"] = field(kw_only=True)
    weighting: str = field(kw_only=True, default="off")
    encoding: str = field(kw_only=True, default="whole")
    as_xml: bool = field(kw_only=True, default=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    @property
    def walked(self) -> int:
        """Steps that are walked: of a strength as many as diffusers walks, to the last bit."""
        if self.strength is None:
            return self.steps
        return self.steps - int(max(self.steps - min(self.steps * self.strength, self.steps), 0))

    @property
    def second(self) -> Resolved | None:
        """What is asked of the second pass, as a request of its own; None where there is one."""
        if self.hires is None:
            return None
        width, height = enlarged(self.size, parse_factor(self.hires), UNIT)
        once: dict[str, Any] = {"hires": None, "hires_strength": None, "hires_by": None}
        return replace(self, width=width, height=height, strength=self.hires_strength, **once)

    @property
    def final_size(self) -> tuple[int, int]:
        """(width, height) of what comes out."""
        return (self.second or self).size

    def seeds(self, index: int) -> Seeds:
        """Where the noise of a picture comes from."""
        if self.to_seed is not None:
            return Seeds(self.seed, self.to_seed, index / max(self.number - 1, 1))
        if self.variation:
            return Seeds(self.seed, (self.variation_seed or 0) + index, self.variation)
        return Seeds(self.seed + index)

    @property
    def guided(self) -> bool:
        """Whether the guidance ever looks at the negative side."""
        return self.guidance not in (0, 1) and self.truncation > 0

    @property
    def formula(self) -> str:
        """The guidance as people write it."""
        if not self.guided:
            return "v_cond"
        text = f"v_uncond + {self.guidance:g}·(v_cond - v_uncond)"
        if self.normalisation == "rows":
            text += ", each row as long as in v_cond"
        if self.renorm:
            text += f", norm at most {self.renorm:g}·|v_cond|"
        if self.truncation < 1:
            text += f"; v_cond from t = {self.truncation:g}"
        return text


class Defaults(Limits, Protocol):
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
    def trained_sizes(self) -> str: ...  # noqa: D102
    @property
    def as_xml(self) -> bool: ...  # noqa: D102


def resolve(request: Request | str, defaults: Defaults) -> Resolved:
    """Fill every open field (what was asked, then recipe, model, general default) and check it.

    Raises RequestError before any work.
    """
    request = as_request(request)
    check_needs(Request, request)
    if request.recipe is not None and request.recipe not in tuple(RECIPES):
        raise unknown("recipe", str(request.recipe), tuple(RECIPES))
    recipe = RECIPES[request.recipe].values if request.recipe else {}
    if request.verbatim and request.as_xml is None:
        request = replace(request, as_xml=False)
    values: dict[str, Any] = {}
    for declared in fields(Request):
        name, value = declared.name, getattr(request, declared.name)
        if value is None and _means(request, declared):
            general = option_of(declared).otherwise
            value = recipe.get(name, getattr(defaults, name, general))
        values[name] = value
    for name, wanted in (("seed", True), ("variation_seed", request.variation is not None)):
        if wanted and values[name] in (None, RANDOM):
            values[name] = secrets.randbelow(2**32)
    request = settled(Request(**values))
    if request.image is not None:
        request = _started(request, defaults)
    values = {one.name: _sound(getattr(request, one.name)) for one in fields(Request)}
    resolved = Resolved(**values)
    _check_together(resolved, defaults)
    return resolved


def _means(request: Request, declared: Field[Any]) -> bool:
    """Whether a field that was left open is the request's, not the picture's or without meaning."""
    if request.image is not None and declared.name in ("width", "height"):
        return False
    needs = option_of(declared).needs
    return not needs or any(getattr(request, name) not in (None, False) for name in needs)


def _started(request: Request, defaults: Defaults) -> Request:
    """A request with a picture, with the strength and the size that follow from that."""
    from sakuga.api.start import drawn_size, usual_strength  # noqa: PLC0415  # few have one

    strength = usual_strength(request) if request.strength is None else request.strength
    width, height = drawn_size(request, defaults)
    return replace(request, strength=strength, width=width, height=height)


def _sound(value: Any) -> Any:
    """A text without lone surrogates, which neither an encoder nor a file can hold."""
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else value


def _check_together(request: Resolved, defaults: Defaults) -> None:
    """Raise RequestError for what is wrong of several fields, or of one for this model."""
    check_size(request.width, request.height, defaults)
    _check_seeds(request)
    if 0 < len(request.sent) < SENT:
        raise RequestError(
            "four texts are sent, or none", f"{len(request.sent)}", "Give those of one receipt."
        )
    for mark in request.sent[SENT:]:
        Mark.parse(mark)
    if request.verbatim and request.as_xml:
        raise RequestError(
            "a prompt is sent untouched, or as XML", "--verbatim and --as-xml", "Take one."
        )
    _check_steps(request)
    if request.image is not None and request.hires is not None:
        raise RequestError(
            "hires draws a text first", "a picture to start from",
            "Give a larger --size, from which a picture is drawn enlarged.",
        )  # fmt: skip
    if request.hires_by == "model" and request.upscale is None:
        raise RequestError(
            "hires by a model needs the file of one", "none", "Name it: --upscale FILE."
        )
    if request.second is not None:
        _check_steps(request.second)


def _check_steps(request: Resolved) -> None:
    """Raise RequestError for fewer steps than the solver takes."""
    least = int(request.solver[-1]) if request.solver.startswith("dpm") else 0
    if request.walked < least and (request.walked or request.strength is None):
        walked = "" if request.strength is None else f" of {request.steps} at this strength"
        raise RequestError(
            f"{request.solver} needs at least {least} steps",
            f"{request.walked}{walked}",
            "Ask for more steps or a lower order.",
        )


def _check_seeds(request: Resolved) -> None:
    """Raise RequestError for seeds that are too large, or lead two ways."""
    last = request.seeds(request.number - 1)
    if max(last.seed, last.other) > MAX_SEED:
        named = "seed" if last.seed > MAX_SEED else "variation_seed"
        raise RequestError(
            "the last picture's seed must be at most 2^63-1",
            f"{named} {getattr(request, named)} for {request.number} pictures",
            "Choose a smaller seed.",
        )
    if request.to_seed is not None and (request.number == 1 or request.variation is not None):
        got, fix = (
            ("one picture", "Ask for more: --number 5.") if request.number == 1
            else ("a variation beside it", "Leave one of them out.")
        )  # fmt: skip
        raise RequestError("to_seed is where the last of several pictures ends", got, fix)


def check_size(width: int, height: int, defaults: Defaults) -> None:
    """Raise RequestError for a size that the model cannot draw."""
    unit, low, high = defaults.size_multiple, defaults.min_side, defaults.max_side
    near = [(side + unit // 2 - 1) // unit * unit for side in (width, height)]
    for name, side, other in (("width", width, near[0]), ("height", height, near[1])):
        if side % unit or not low <= side <= high:
            # Nobody is sent to a size that the model can draw and never learned.
            good = low <= side <= high and _is_trained(near[0], near[1], defaults)
            raise RequestError(
                f"{name} must be a multiple of {unit} from {low} to {high}",
                cut(str(side)),
                f"The nearest is {other}." if good
                else f"Leave it out for the model's own, {defaults.width}x{defaults.height}.",
            )  # fmt: skip
    if width * height > defaults.max_pixels:
        raise RequestError(
            f"a picture must have at most {defaults.max_pixels:,} pixels",
            f"{width}x{height} = {width * height:,}",
            "Choose a smaller size.",
        )


def untrained_size(request: Resolved, defaults: Defaults) -> str | None:
    """What to know of a size that the model draws but was not trained on; None where it was."""
    width, height = request.size
    if _is_trained(width, height, defaults):
        return None

    def farness(size: str) -> float:
        across, down = map(int, size.split("x"))
        return abs(math.log(across / width)) + abs(math.log(down / height))

    near = min(defaults.trained_sizes.split(), key=farness)
    return (
        f"The model was not trained on {width}x{height}: figures may repeat or be cut. "
        f"The nearest size that it was trained on is {near}, its own {defaults.width}x"
        f"{defaults.height}."
    )


def _is_trained(width: int, height: int, defaults: Defaults) -> bool:
    """Also where nothing is known of the training."""
    sizes = defaults.trained_sizes.split()
    return not sizes or f"{width}x{height}" in sizes
