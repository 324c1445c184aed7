"""What it takes to decode: every way to run the autoencoder's decoder on a card, priced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sakuga.api.receipt import StagePlan
from sakuga.memory.costs import Costs, with_holes
from sakuga.memory.vae_cost import decode_flops, decode_peak, strip_choices

# Measured while decoding: with whole maps a card needs so many times as long; every strip takes
# the host that many seconds.
WHOLE, STRIP = 1.3, 1e-3


def decode_ways(costs: Costs, forms: Iterable[str]) -> Iterator[StagePlan]:
    """Whole, or in every number of strips that is of use."""
    for form in forms:
        for strips, recompute in strip_choices(costs.work.height):
            yield _decode(costs, form, strips, recompute)


def _decode(costs: Costs, form: str, strips: int, recompute: bool) -> StagePlan:
    """One picture after the other, each in `strips`."""
    spec, work, card = costs.spec.vae, costs.work, costs.card
    rest = costs.weights(form).rest
    copied = not card.unified  # by cuDNN, into its own layout
    peak = decode_peak(spec, work.width, work.height, costs.size, strips, recompute, copied)
    operations = decode_flops(spec, work.width, work.height, strips, recompute)
    seconds = operations / card.convolution_peak(costs.compute)
    if strips > 1:
        seconds += strips * STRIP
    elif not card.unified:
        seconds *= WHOLE
    beside = peak + costs.latents(work.batch) + card.workspace
    return StagePlan(
        costs.stage,
        form,
        costs.compute,
        batches=work.batch,
        strips=strips,
        recompute=recompute,
        peak_bytes=rest + beside,
        reserved_bytes=rest + with_holes(beside),
        seconds=costs.copying(rest) + work.batch * seconds,
    )
