"""How a picture was made: everything that is needed to draw it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sakuga.api.resolved import Resolved
from sakuga.files.pictures import PictureRecord


@dataclass(frozen=True, slots=True)
class StagePlan:
    """How one stage of a drawing is run, by its name (`memory.stages`).

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
    `kernels`: what computes between products, triton or torch; `attention`: which back-ends
    compute attention; what was asked for, until that is decided. `second`: the stages of a
    second pass, if there is one.
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
    kernels: str = "torch"
    attention: str = "torch"
    second: tuple[StagePlan, ...] = ()

    @property
    def deciding(self) -> dict[str, object]:
        """What of it can change a bit of the pixels; where weights wait for their turn cannot."""
        found: dict[str, object] = {
            name: getattr(self, name) for name in ("device", "chip", "dtype", "batch", "threads")
        }
        found |= {"kernels": self.kernels, "attention": self.attention}
        named = [(one.stage, one) for one in self.stages]
        named += [(f"second {one.stage}", one) for one in self.second]
        for name, one in named:
            found |= {f"{name} weights": one.weights, f"{name} dtype": one.dtype}
            found |= {f"{name} parts": one.parts}
            found |= {f"{name} strips": f"{one.strips}{', recomputed' * one.recompute}"}
        return found


@dataclass(frozen=True, slots=True)
class SentTexts:
    """The exact string each encoder read; Jina's are empty for a model without.

    `marks`: which of it had a weight or was read apart, as `api.marks.Mark` writes it.
    """

    gemma: str
    jina: str
    negative_gemma: str
    negative_jina: str
    marks: tuple[str, ...] = ()

    @property
    def as_asked(self) -> tuple[str, ...]:
        """What `Request.sent` takes to have all of it read again."""
        return self.gemma, self.jina, self.negative_gemma, self.negative_jina, *self.marks


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
class UpscalerRecord:
    """Which network enlarged a picture: its file, and how often. `tile`: sides of its tiles."""

    file: str
    sha256: str
    bytes: int
    architecture: str
    scale: int
    tile: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything that is needed to draw one picture again. `index` counts within the request.

    `notes`: what went otherwise than first planned, a sentence each. `adapters`: in the order
    in which they were applied. `image`, `mask`: which pictures it started from. `upscale`: what
    enlarged it.
    """

    model: str
    request: Resolved
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
    image: PictureRecord | None = None
    mask: PictureRecord | None = None
    upscale: UpscalerRecord | None = None
