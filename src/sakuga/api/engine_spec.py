"""Which engine: a model, a device, a budget; as data, so that another process can open the same."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from sakuga.api.options import Option, asked, option
from sakuga.errors import RequestError
from sakuga.printable import cut

EMBEDDED = "chibi"  # the model that ships in the package


@asked
@dataclass(frozen=True, slots=True)
class Budget:
    """The memory an engine may use, as people say it.

    On a card "auto" is read anew before every drawing, so that it follows what other programs
    leave free.
    """

    vram: str = option(
        Option(
            "What may be reserved: 8GB, 7.5GiB; auto is what is free on a card, and no limit on a "
            "CPU, which with one simulates a card."
        ),
        default="auto",
    )
    weights: str = option(
        Option("How weights lie on the card: auto, or a storage format."), default="auto"
    )
    allow_lossy: bool = option(
        Option("Let auto round weights to 8 or 4 bits.", flags=("--allow-lossy",)), default=False
    )
    keep_resident: bool = option(
        Option("Keep all on the card if there is room.", flags=("--keep-resident",)), default=False
    )
    pinned: str = option(
        Option("Host memory that may be pinned; auto is half of what is there."), default="auto"
    )


@asked
@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything an engine is opened from; JSON-able by `api.codec`.

    `model`: a name or a folder; None is the embedded one, unless the parts make a whole model:
    all of them, or all but Jina, which not every transformer reads.
    `transformer` ... `vae`: the folder or file of a part from elsewhere. `cache`: a folder that
    keeps embeddings and digests between runs, None keeps nothing. `wait`: seconds that a request
    waits while another is drawn, before it is told that the engine is busy.
    """

    model: str | None = option(
        Option("The folder of a model, or org/name of a hub; chibi, which ships, when left out.")
    )
    transformer: str | None = option(Option("The transformer from elsewhere: its folder or file."))
    gemma: str | None = option(Option("The text encoder Gemma from elsewhere: its folder or file."))
    jina: str | None = option(Option("The text encoder Jina from elsewhere: its folder or file."))
    vae: str | None = option(Option("The autoencoder from elsewhere: its folder or file."))
    lora: tuple[str, ...] = option(
        Option(
            "An adapter of every drawing, before those of the request; may be repeated.",
            metavar="ADAPTER",
        ),
        default=(),
    )
    device: str = option(Option("auto, cpu, cuda or cuda:N."), default="auto")
    dtype: str = option(Option("auto, float32, bfloat16 or float16."), default="auto")
    threads: int | None = option(
        Option(
            "Threads that compute on a CPU; as many as it has cores when left out.",
            low=1,
            high=1024,
        )
    )
    wait: float = option(
        Option("Seconds that a request waits for the one before it.", low=0, high=86_400),
        default=0.0,
    )
    cache: str | None = option(
        Option("Keeps embeddings and digests between runs; the user's cache folder.")
    )
    budget: Budget = field(default_factory=Budget)
    attention: str = option(
        Option("What computes attention on a card: auto measures once; cudnn, flash, flash3, ..."),
        default="auto",
    )

    @property
    def parts(self) -> tuple[str | None, ...]:
        """The parts from elsewhere."""
        return self.transformer, self.gemma, self.jina, self.vae

    @property
    def source(self) -> str | None:
        """The model that gives what no part does; None where the parts are all there is."""
        whole = None not in (self.transformer, self.gemma, self.vae)
        return self.model or (None if whole else EMBEDDED)


def as_model(model: object) -> str | None:
    """A model's name or folder as text; None is the embedded one. Raises RequestError."""
    if model is None or isinstance(model, str):
        return model
    if isinstance(model, os.PathLike):
        return str(os.fspath(model))
    raise RequestError("a model is a name or a folder", cut(repr(model)), "Give text or a Path.")
