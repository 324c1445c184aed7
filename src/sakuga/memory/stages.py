"""The stages of a drawing, one row each: whose network it runs, how it is priced, what it may do.

Whoever plans, runs, shows or reports stages reads this table. A new stage is a row here, and
the file with its body in `engine`; the main path says when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sakuga.api.receipt import StagePlan
from sakuga.memory.cards import Card
from sakuga.memory.costs import Costs, Work
from sakuga.memory.prices import decode_ways, denoise_ways, gemma_ways, jina_ways
from sakuga.memory.reasons import BATCHES, FORMAT, PARTS, RECOMPUTE, STREAM, STRIPS, Lever
from sakuga.model.components import (
    AUTOENCODER,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    TRANSFORMER,
    ComponentKind,
)
from sakuga.model.inventory import Inventory, NetworkWeights

Ways = Callable[[Costs, Iterable[str]], Iterator[StagePlan]]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its name in plans, receipts and reports, and the network it runs.

    `ways`: every way to run it, priced. `levers`: what it can do to save memory. `storage`:
    the matrices of its blocks may lie in a storage format. `half`: it stays finite in float16;
    otherwise it computes in float32 where a request computes in float16.
    """

    name: str
    component: ComponentKind
    ways: Ways
    levers: tuple[Lever, ...]
    storage: bool = False
    half: bool = False

    def compute(self, dtype: str) -> str:
        """The dtype it computes in, where the request computes in `dtype`."""
        return "float32" if dtype == "float16" and not self.half else dtype

    def network(self, inventory: Inventory) -> NetworkWeights:
        """The weights of its network."""
        part = getattr(inventory, self.component.field)
        assert isinstance(part, NetworkWeights)
        return part

    def costs(
        self, inventory: Inventory, work: Work, card: Card, dtype: str, pinned: int | None = None
    ) -> Costs:
        """What prices its network; `dtype` is the request's."""
        network, compute = self.network(inventory), self.compute(dtype)
        return Costs(self.name, inventory.spec, network, work, card, compute, pinned)


GEMMA = Stage("gemma", TEXT_ENCODER, gemma_ways, (STREAM, FORMAT), storage=True)
JINA = Stage("jina", TEXT_ENCODER_2, jina_ways, (STREAM,))
DENOISE = Stage(
    "denoise", TRANSFORMER, denoise_ways, (STREAM, PARTS, BATCHES, FORMAT), storage=True, half=True
)
DECODE = Stage("decode", AUTOENCODER, decode_ways, (STRIPS, RECOMPUTE))

STAGES = (GEMMA, JINA, DENOISE, DECODE)  # in the order a drawing runs them
BY_NAME: Mapping[str, Stage] = {stage.name: stage for stage in STAGES}
