"""What it takes to encode texts: every way to run Gemma or Jina on a card, priced.

A test holds the formulas to the real layers, counted by `memory.ledger` at the real size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sakuga.api.receipt import StagePlan
from sakuga.memory.activations import gemma_layer, jina_layer
from sakuga.memory.costs import LAUNCHES, Costs, with_holes


def gemma_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Gemma with none, one ... all of its layers on the card, stored in each of `forms`."""
    spec, texts = costs.spec.gemma, costs.work.gemma_tokens
    for form in forms:
        beside = gemma_layer(spec, max(texts), costs.size, costs.unfolded(form))
        yield from _ways(costs, form, texts, beside, spec.hidden_size)


def jina_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Jina, in the same way."""
    spec, texts = costs.spec.jina, costs.work.jina_tokens
    for form in forms:
        beside = jina_layer(spec, max(texts), costs.size)
        yield from _ways(costs, form, texts, beside, spec.hidden_size)


def _ways(
    costs: Costs, form: str, texts: tuple[int, ...], layer: int, width: int
) -> Iterator[StagePlan]:
    """texts: their lengths in tokens. layer: bytes of one at its peak. width: of a feature."""
    blocks, total = len(costs.network.blocks), sum(costs.weights(form).blocks)
    beside = layer + sum(texts) * width * costs.size + costs.card.workspace
    seconds = 2.0 * sum(texts) * costs.values / costs.card.peak(costs.compute)
    seconds += len(texts) * blocks * LAUNCHES
    seconds += len(texts) * costs.unfolding(form) / (costs.card.memory_gbs * 1e9)
    for level in costs.levels(form):
        yield StagePlan(
            costs.stage,
            form,
            costs.compute,
            resident=level.resident,
            streamed=blocks - level.resident,
            peak_bytes=level.held + beside,
            reserved_bytes=level.held + with_holes(beside),
            seconds=costs.passes(1, seconds, total, level.streamed),
        )
