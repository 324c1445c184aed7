"""What can be asked of a generator: every option once, with its default, range and help.

Command-line flags, JSON Schema and documentation are made from the fields. A Request may leave
open what the model then decides; `api.resolved` fills that in, before any work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass

from sakuga.api.framing import as_factor
from sakuga.api.options import Option, asked, option
from sakuga.errors import RequestError
from sakuga.files.pictures import as_source
from sakuga.printable import cut

SOLVER_NAMES = (
    "euler",
    "midpoint",
    "heun2",
    "heun3",
    "rk4",
    "dpm1",
    "dpm2",
    "dpm3",
    "res_multistep",
)
SCHEDULES = ("shifted", "linear_quadratic")
NORMALISATIONS = ("off", "rows")
UNCONDS = ("empty", "keep-pooled")
TEXT_MODES = ("training", "comfy")
WEIGHTINGS = ("interpolate", "empty", "off")
ENCODINGS = ("whole", "per-character")
HIRES_WAYS = ("lanczos", "latent", "model")
IN_PART = ("mask", "outpaint")  # fields that have a part of a picture drawn
PATH = "PICTURE"
MAX_SEED = 2**63 - 1
RANDOM = -1  # as seeds are left open elsewhere


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


@dataclass(frozen=True, slots=True)
class Drawing:
    """Pictures drawn from a text. None leaves a choice to the recipe, then to the model."""

    prompt: str = option(Option("XML, plain tags or sentences."), default=MISSING)
    negative: str = option(Option("What the picture should not show."), default="")
    seed: int | None = option(
        Option(
            "Where the noise starts; picture i uses seed + i. Random when left out, or -1.",
            low=RANDOM, high=MAX_SEED,
        )
    )  # fmt: skip
    width: int | None = option(Option("Width in pixels.", low=1))
    height: int | None = option(Option("Height in pixels.", low=1))
    number: int = option(
        Option("How many pictures.", low=1, high=10, flags=("--number", "-n")), default=1
    )
    recipe: str | None = option(
        Option("Settings known from elsewhere; other flags win over them.", choices=tuple(RECIPES))
    )
    steps: int | None = option(
        Option("Intervals of the solver, or model evaluations for dpm.", low=1, high=200)
    )
    guidance: float | None = option(
        Option("Strength of the prompt; at 1 or 0 there is no negative branch.", low=0, high=20)
    )
    solver: str | None = option(Option("How the flow is integrated.", choices=SOLVER_NAMES))
    shift: float | None = option(
        Option("How much of the time is spent near the noise.", low=0, high=100, above=True)
    )
    schedule: str | None = option(
        Option("Spacing of the time grid.", choices=SCHEDULES, otherwise="shifted")
    )
    renorm: float | None = option(
        Option(
            "Cap on the guided norm, as a multiple of the conditional one; 0 is off.",
            low=0, high=100, otherwise=0.0,
        )
    )  # fmt: skip
    truncation: float | None = option(
        Option(
            "Guide only while the time (0 noise, 1 picture) is below this; at 1 always.",
            low=0, high=1, otherwise=1.0,
        )
    )  # fmt: skip
    uncond: str | None = option(
        Option(
            "Pooled vector of the negative branch: that of its own text, or the prompt's.",
            choices=UNCONDS, otherwise="empty",
        )
    )  # fmt: skip
    system: str | None = option(Option("System prompt for Gemma instead of the model's own."))
    verbatim: bool = option(
        Option(
            "Send the prompt untouched, not in canonical form.", flags=("--verbatim/--no-verbatim",)
        ),
        default=False,
    )
    text_mode: str | None = option(
        Option(
            "What Jina reads: the user's text, as in training, or Gemma's text, as in ComfyUI.",
            choices=TEXT_MODES, otherwise="training",
        )
    )  # fmt: skip
    max_tokens: int | None = option(
        Option("Cut Gemma's text after this many tokens; whole when left out.", low=1, high=131_072)
    )
    lora: tuple[str, ...] = option(
        Option("FILE[:STRENGTH][:alpha=NUMBER][:BLOCKS=FACTOR]..., repeatable.", metavar="ADAPTER"),
        default=(),
    )
    lora_partial: bool = option(
        Option("Leave out what matches nothing of the model.", flags=("--lora-partial",)),
        default=False,
    )
    long: bool = option(
        Option(
            "Draw a text of more than 8 times the trained length, which takes very long.",
            flags=("--long",),
        ),
        default=False,
    )
    sent: tuple[str, ...] = option(
        Option(
            "Texts the encoders read in place of the prompt's: Gemma, Jina, both of the negative; "
            "then marks of what has a weight in them or is read apart."
        ),
        default=(),
    )
    normalisation: str | None = option(
        Option(
            "The guided norm: as it comes, or of each row of latents that of the conditional "
            "one, as diffusers does for Lumina 2.",
            choices=NORMALISATIONS, otherwise="off",
        )
    )  # fmt: skip
    weighting: str | None = option(
        Option(
            "What (tag:1.2), (tag), [tag] and weight= do: blend with the text without the tag, "
            "with an empty text, or nothing; by the model when left out.",
            choices=WEIGHTINGS, otherwise="off",
        )
    )  # fmt: skip
    encoding: str | None = option(
        Option(
            "Read an XML prompt as one text, or each block by itself.",
            choices=ENCODINGS, otherwise="whole",
        )
    )  # fmt: skip
    as_xml: bool | None = option(
        Option(
            "Draw flat tags and sentences as XML, as `convert-prompt` writes them; by the model "
            "when left out.", otherwise=False, flags=("--as-xml/--no-as-xml",),
        )
    )  # fmt: skip


@asked
@dataclass(frozen=True, slots=True)
class Request(Drawing):
    """Pictures as somebody asks for them: of a text, from a picture, or on the way from another."""

    image: str | None = option(
        Option(
            "A picture to start from: a path; in Python also bytes.", metavar=PATH, read=as_source
        )
    )
    strength: float | None = option(
        Option(
            "Share of the steps that are walked from the picture: 0 keeps it, 1 forgets it. "
            "0.6 when left out, 1 where a part is drawn.", low=0, high=1, needs=("image",),
        )
    )  # fmt: skip
    mask: str | None = option(
        Option("White where the picture changes.", metavar=PATH, needs=("image",), read=as_source)
    )
    mask_invert: bool = option(
        Option("Draw where the mask is black.", flags=("--mask-invert",), needs=("mask",)),
        default=False,
    )
    mask_grow: int | None = option(
        Option("Pixels that the mask grows by.", low=0, high=512, otherwise=0, needs=IN_PART)
    )
    mask_feather: int | None = option(
        Option("Pixels of passage around it.", low=0, high=512, otherwise=8, needs=IN_PART)
    )
    only_masked: bool = option(
        Option("Draw the part around the mask alone.", flags=("--only-masked",), needs=("mask",)),
        default=False,
    )
    mask_padding: int | None = option(
        Option("Pixels around that part.", low=0, high=2048, otherwise=32, needs=("only_masked",))
    )
    outpaint: str | None = option(
        Option("Make it larger: left=128,top=64, or a number.", metavar="SIDES", needs=("image",))
    )
    variation: float | None = option(
        Option(
            "How far the noise is turned towards that of another seed: 0 stays, 1 is the other. "
            "All pictures then have one seed, and picture i turns to variation_seed + i.",
            low=0, high=1,
        )
    )  # fmt: skip
    variation_seed: int | None = option(
        Option(
            "The seed that it turns to; random when left out, or -1.",
            low=RANDOM, high=MAX_SEED, needs=("variation",),
        )
    )  # fmt: skip
    to_seed: int | None = option(
        Option(
            "Pass to this seed: the first picture has seed, the last this.", low=0, high=MAX_SEED
        )
    )
    hires: str | None = option(
        Option(
            "Draw small, enlarge by this, and draw on from there: 2x.", metavar="FACTOR",
            read=as_factor,
        )
    )  # fmt: skip
    hires_strength: float | None = option(
        Option(
            "Share of the steps that the enlarged picture walks again.",
            low=0, high=1, above=True, otherwise=0.5, needs=("hires",),
        )
    )  # fmt: skip
    hires_by: str | None = option(
        Option(
            "How it is enlarged: its pixels, its latents, or by the upscaler.",
            choices=HIRES_WAYS, otherwise="lanczos", needs=("hires",),
        )
    )  # fmt: skip
    regions: float | None = option(
        Option(
            "How much a picture's tokens outside of a character's place are held off its text; "
            "places are <position> or box=\"0,0,0.5,1\". Off when left out.",
            low=0, high=100, above=True,
        )
    )  # fmt: skip
    regions_until: float | None = option(
        Option(
            "Share of the steps in which places count.",
            low=0, high=1, above=True, otherwise=0.5, needs=("regions",),
        )
    )  # fmt: skip
    upscale: str | None = option(
        Option("Enlarge what was drawn with an upscaler: a file of weights.", metavar="FILE")
    )


def as_request(asked: object) -> Request:
    """A request as given, or that of a text. Raises RequestError for anything else."""
    if isinstance(asked, Request):
        return asked
    if isinstance(asked, str):
        return Request(asked)
    raise RequestError(
        "what is drawn is a text or a Request", cut(repr(asked)), 'Give "1girl, smile".'
    )


def parse_size(text: str) -> tuple[int, int] | None:
    """(width, height) of "832x1216" or "1024", None of anything else."""
    match = re.fullmatch(r"(\d+)(?:[xX×](\d+))?", text)
    return (int(match[1]), int(match[2] or match[1])) if match else None
